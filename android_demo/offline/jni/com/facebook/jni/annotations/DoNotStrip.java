package com.facebook.jni.annotations;

import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;

/** Marks what native code looks up by name. */
@Retention(RetentionPolicy.CLASS)
public @interface DoNotStrip {}
