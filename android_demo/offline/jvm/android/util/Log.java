package android.util;

/** What the ExecuTorch classes log with, on a JVM without Android. */
public final class Log {
  private Log() {}

  public static int e(String tag, String message) {
    return e(tag, message, null);
  }

  public static int e(String tag, String message, Throwable cause) {
    System.err.println("E/" + tag + ": " + message + (cause == null ? "" : ": " + cause));
    return 0;
  }
}
