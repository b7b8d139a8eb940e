"""The app built and tested without Google's SDK: from packages of Debian and npm alone.

tools        how other programs are run
fetch        packages of npm, pinned by version and hash, into the user's cache
debian       the same for three of Debian
library      copies of Android's native libraries that load on a desktop JVM
ops          libfedgate_ops.so, the operator of skip programs
compile      Kotlin and Java compiled
classes      class files made fit for dx
dex          classes to dex, and back
gradle       what the Gradle project says
app          the app's classes, resources and dex
apk          the APK: aligned, signed, verified
arm64        an arm64 JVM under qemu-user
harness      the app's plain Kotlin run on a JVM against Android's ExecuTorch library
"""
