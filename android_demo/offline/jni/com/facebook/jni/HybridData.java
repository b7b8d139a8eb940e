package com.facebook.jni;

import com.facebook.soloader.nativeloader.NativeLoader;

/** A Java object's C++ half. libfbjni.so finds the field names below, and registers `deleteNative`. */
public class HybridData {
  static {
    NativeLoader.loadLibrary("fbjni");
  }

  private final Destructor mDestructor = new Destructor(this);

  /** Frees the C++ half at once, instead of when this object has been collected. */
  public synchronized void resetNative() {
    mDestructor.destruct();
  }

  public boolean isValid() {
    return mDestructor.mNativePointer != 0;
  }

  public static class Destructor extends DestructorThread.Destructor {
    volatile long mNativePointer;

    Destructor(Object referent) {
      super(referent);
    }

    @Override
    final void destruct() {
      // a C++ half is freed once, whoever comes first
      DestructorThread.forget(this);
      deleteNative(mNativePointer);
      mNativePointer = 0;
    }

    static native void deleteNative(long pointer);
  }
}
