package com.facebook.soloader.nativeloader;

/** Loads by System.loadLibrary. */
public class SystemDelegate implements NativeLoaderDelegate {
  @Override
  public boolean loadLibrary(String name, int flags) {
    System.loadLibrary(name);
    return true;
  }
}
