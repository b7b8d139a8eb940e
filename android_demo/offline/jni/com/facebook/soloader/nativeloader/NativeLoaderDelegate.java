package com.facebook.soloader.nativeloader;

/** One way to load a native library. */
public interface NativeLoaderDelegate {
  boolean loadLibrary(String name, int flags);
}
