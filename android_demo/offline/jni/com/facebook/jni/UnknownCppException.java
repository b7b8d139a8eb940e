package com.facebook.jni;

/** Something that C++ threw and that is no std::exception. */
public class UnknownCppException extends CppException {
  public UnknownCppException() {
    super("Unknown");
  }

  public UnknownCppException(String message) {
    super(message);
  }
}
