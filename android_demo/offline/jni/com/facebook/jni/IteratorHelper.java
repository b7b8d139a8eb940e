package com.facebook.jni;

import java.util.Iterator;

/** How C++ walks over an Iterable: it calls `hasNext`, then reads the field. */
public class IteratorHelper {
  private final Iterator<?> mIterator;
  private Object mElement;

  public IteratorHelper(Iterable<?> iterable) {
    mIterator = iterable.iterator();
  }

  boolean hasNext() {
    boolean more = mIterator.hasNext();
    mElement = more ? mIterator.next() : null;
    return more;
  }
}
