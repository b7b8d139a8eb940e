package com.facebook.soloader.nativeloader;

/** Loads native libraries by the delegate that the application chose once. */
public final class NativeLoader {
  private static NativeLoaderDelegate delegate;

  private NativeLoader() {}

  public static synchronized boolean isInitialized() {
    return delegate != null;
  }

  public static synchronized void init(NativeLoaderDelegate chosen) {
    if (delegate != null) {
      throw new IllegalStateException("NativeLoader has its delegate already");
    }
    delegate = chosen;
  }

  public static boolean loadLibrary(String name) {
    NativeLoaderDelegate chosen;
    synchronized (NativeLoader.class) {
      if (delegate == null) {
        throw new IllegalStateException("NativeLoader has no delegate yet");
      }
      chosen = delegate;
    }
    return chosen.loadLibrary(name, 0);
  }
}
