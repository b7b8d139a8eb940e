package com.facebook.jni;

import java.lang.ref.PhantomReference;
import java.lang.ref.ReferenceQueue;
import java.util.Collections;
import java.util.HashSet;
import java.util.Set;

/** Frees the C++ halves of objects that have been collected. */
final class DestructorThread {
  private static final ReferenceQueue<Object> COLLECTED = new ReferenceQueue<>();
  // a phantom reference that nobody holds is collected itself, and never queued
  private static final Set<Destructor> HELD = Collections.synchronizedSet(new HashSet<Destructor>());

  private DestructorThread() {}

  abstract static class Destructor extends PhantomReference<Object> {
    Destructor(Object referent) {
      super(referent, COLLECTED);
      HELD.add(this);
    }

    abstract void destruct();
  }

  static void forget(Destructor destructor) {
    HELD.remove(destructor);
  }

  static {
    Thread thread = new Thread(new Sweeper(), "HybridData DestructorThread");
    thread.setDaemon(true);
    thread.start();
  }

  private static final class Sweeper implements Runnable {
    @Override
    public void run() {
      while (true) {
        try {
          ((Destructor) COLLECTED.remove()).destruct();
        } catch (InterruptedException stopped) {
          return;
        }
      }
    }
  }
}
