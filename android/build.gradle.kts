// The Android plugin compiles Kotlin itself from version 9 on: no Kotlin plugin is named.
plugins {
    id("com.android.application") version "9.3.1" apply false
    id("com.android.library") version "9.3.1" apply false
}
