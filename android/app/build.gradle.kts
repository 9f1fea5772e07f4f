import java.util.Properties

plugins {
    id("com.android.application")
}

val app = Properties().apply { rootProject.file("app.properties").reader().use { load(it) } }

android {
    namespace = "org.edgellm.chat"
    compileSdk = 36

    defaultConfig {
        applicationId = app.getProperty("id")
        versionName = app.getProperty("versionName")
        versionCode = app.getProperty("versionCode").toInt()
        minSdk = 26
        targetSdk = 36
    }
    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
    androidResources {
        // Weights hardly get smaller, and are copied faster as they are.
        noCompress += "bin"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
}

dependencies {
    implementation(project(":edgellm"))
}
