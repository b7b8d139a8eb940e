"""Picture files: which files are pictures, how one is decoded, and how it becomes the pixels of a network's input.

Training, calibration, prediction, fine-tuning and the clients on other machines all read pictures with this package;
the Android app does the same arithmetic in Kotlin.
"""
