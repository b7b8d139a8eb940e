package com.facebook.jni;

import com.facebook.soloader.nativeloader.NativeLoader;

/** Runs C++ functions of threads that C++ made with the application's class loader on the stack. */
public class ThreadScopeSupport {
  static {
    NativeLoader.loadLibrary("fbjni");
  }

  private static void runStdFunction(long pointer) {
    runStdFunctionImpl(pointer);
  }

  private static native void runStdFunctionImpl(long pointer);
}
