plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

// A folder with an ExecuTorch of one's own that exports its C++ symbols: executorch.aar, include/ and jni/ABI/. `skip`
// programs need it, for their operator registers by those symbols; Maven Central's build exports JNI's alone.
val ownExecutorch: String? = providers.gradleProperty("fedgate.executorch").orNull

android {
    namespace = "org.fedgate.demo"
    compileSdk = 34
    ndkVersion = "27.1.12297006"

    defaultConfig {
        applicationId = "org.fedgate.demo"
        minSdk = 26
        targetSdk = 34
        versionCode = 1
        versionName = "0.1.0"
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
        if (ownExecutorch != null) {
            externalNativeBuild {
                cmake {
                    arguments += listOf("-DANDROID_STL=c++_static", "-DEXECUTORCH_ROOT=$ownExecutorch")
                }
            }
        }
    }

    if (ownExecutorch != null) {
        externalNativeBuild {
            cmake {
                path = file("src/main/cpp/CMakeLists.txt")
            }
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    packaging {
        jniLibs {
            // fbjni and an ExecuTorch of one's own may both bring it.
            pickFirsts += "**/libc++_shared.so"
        }
    }
}

kotlin {
    compilerOptions {
        jvmTarget = org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_17
    }
}

dependencies {
    if (ownExecutorch != null) {
        implementation(files("$ownExecutorch/executorch.aar"))
        implementation("com.facebook.fbjni:fbjni:0.7.0")
        implementation("com.facebook.soloader:nativeloader:0.10.5")
    } else {
        implementation("org.pytorch:executorch-android:1.4.1")
    }
}
