package com.facebook.jni;

/** The base of Java classes that are their own C++ half's holder. */
public abstract class HybridClassBase extends HybridData {}
