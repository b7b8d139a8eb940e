"""The app built and tested without Google's SDK: from packages of Debian and npm alone.

fetch        packages, pinned by version and hash, into the user's cache
library      copies of Android's native libraries that load on a desktop JVM
ops          libfedgate_ops.so, the operator of skip programs
classes      class files made fit for dx; Kotlin and Java compiled
harness      the app's plain Kotlin run on a JVM against Android's ExecuTorch library
"""
