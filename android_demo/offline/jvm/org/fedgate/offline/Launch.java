package org.fedgate.offline;

import com.facebook.soloader.nativeloader.NativeLoader;
import com.facebook.soloader.nativeloader.SystemDelegate;
import java.lang.reflect.InvocationTargetException;
import java.util.Arrays;

/** Runs another class's main that may load Android's libraries, and ends the JVM before their destructors run. */
public final class Launch {
  private Launch() {}

  public static void main(String[] arguments) {
    int status = 1;
    try {
      NativeLoader.init(new SystemDelegate());
      String[] rest = Arrays.copyOfRange(arguments, 1, arguments.length);
      Class.forName(arguments[0]).getMethod("main", String[].class).invoke(null, (Object) rest);
      status = 0;
    } catch (InvocationTargetException thrown) {
      thrown.getCause().printStackTrace();
    } catch (ReflectiveOperationException | LinkageError wrong) {
      System.err.println(wrong);
    }
    System.out.flush();
    System.err.flush();
    Runtime.getRuntime().halt(status);
  }
}
