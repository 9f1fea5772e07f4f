"""The Gradle project, as far as it can be judged without Gradle: what it names exists, nothing is idle."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from edgellm.package.apk import MIN_SDK, TARGET_SDK, merged_manifest
from tests.android import toolbox
from tests.android.toolbox import ANDROID, APP, LIBRARY, run
from tests.package.elf import read_elf
from tests.support import require

ANDROID_XML = "{http://schemas.android.com/apk/res/android}"
NAME, REQUIRED = f"{ANDROID_XML}name", f"{ANDROID_XML}required"


def text(path: str) -> str:
    return (ANDROID / path).read_text(encoding="utf-8")


def resources() -> set[str]:
    """Names of all resources, as R.KIND.NAME has them."""
    found = set()
    for file in (APP / "res").rglob("*.*"):
        kind = file.parent.name.split("-")[0]
        if kind != "values":
            found.add(f"{kind}.{file.stem}")
            continue
        for item in ET.parse(file).getroot():
            found.add(f"{item.tag}.{item.attrib['name'].replace('.', '_')}")
    for file in (APP / "res/layout").glob("*.xml"):
        found |= {f"id.{name}" for name in re.findall(r"@\+id/(\w+)", file.read_text())}
    return found


def test_modules_and_their_sources() -> None:
    modules = re.findall(r'":(\w+)"', text("settings.gradle.kts").split("include(")[1])
    assert sorted(modules) == ["app", "edgellm"]
    for module in modules:
        script = text(f"{module}/build.gradle.kts")
        [namespace] = re.findall(r'namespace = "([\w.]+)"', script)
        main = ANDROID / module / "src/main"
        assert (main / "java" / namespace.replace(".", "/")).is_dir()
        for file in [*main.rglob("*.java"), *main.rglob("*.kt")]:
            [package] = re.findall(r"^package ([\w.]+)", file.read_text(), re.MULTILINE)
            assert file.parent == file.parents[package.count(".") + 1] / package.replace(".", "/")
            assert package.startswith("org.edgellm")
    everything = {path.relative_to(ANDROID).as_posix() for path in ANDROID.rglob("*") if path.is_file()}
    kinds = (
        r"[\w.]+/src/main/(java|kotlin)/[\w/]+\.(java|kt)",
        r"edgellm/src/main/cpp/(CMakeLists\.txt|edgellm_jni\.c)",
        r"app/src/main/res/[\w-]+/\w+\.xml",
        r"\w+/src/main/AndroidManifest\.xml",
        r"(app/|edgellm/|)build\.gradle\.kts|settings\.gradle\.kts|gradle\.properties|app\.properties",
        r"gradle/wrapper/gradle-wrapper\.properties|edgellm/consumer-rules\.pro|README\.md|\.gitignore",
    )
    strange = [path for path in everything if not any(re.fullmatch(kind, path) for kind in kinds)]
    assert not [path for path in strange if path.split("/")[0] not in ("build", ".gradle", ".idea")]


def test_versions_agree_with_the_apk() -> None:
    for module in ("app", "edgellm"):
        assert f"minSdk = {MIN_SDK}\n" in text(f"{module}/build.gradle.kts")
    assert f"targetSdk = {TARGET_SDK}\n" in text("app/build.gradle.kts")
    plugins = re.findall(r'id\("com.android.\w+"\) version "([\d.]+)"', text("build.gradle.kts"))
    assert len(plugins) == 2 and len(set(plugins)) == 1
    assert re.search(
        r"gradle-[\d.]+-bin\.zip$", text("gradle/wrapper/gradle-wrapper.properties"), re.MULTILINE
    )


def test_the_manifests(tmp_path: Path) -> None:
    root = ET.fromstring(merged_manifest(ANDROID, "org.example.app"))
    assert root.attrib["package"] == "org.example.app"
    [application] = root.findall("application")
    [activity] = application.findall("activity")
    source = APP / "java" / (activity.attrib[NAME].replace(".", "/") + ".java")
    assert source.is_file()
    drivers = application.findall("uses-native-library")
    assert [one.attrib[NAME] for one in drivers] == [f"libOpenCL{one}.so" for one in ("", "-pixel", "-car")]
    assert {one.attrib[REQUIRED] for one in drivers} == {"false"}
    assert [one.attrib[NAME] for one in root.findall("uses-permission")] == ["android.permission.INTERNET"]


def test_every_resource_is_used_and_every_used_one_exists() -> None:
    there = resources()
    used = {"mipmap.ic_launcher"} if "mipmap.ic_launcher" in there else set()
    for file in (APP / "java").rglob("*.java"):
        # Members of R, but not of android.R.
        used |= {f"{kind}.{name}" for kind, name in re.findall(r"\bR\.(\w+)\.(\w+)", file.read_text())}
    for file in [*(APP / "res").rglob("*.xml"), APP / "AndroidManifest.xml"]:
        for kind, name in re.findall(r"@(\w+)/([\w.]+)", file.read_text()):
            used.add(f"{kind}.{name.replace('.', '_')}")
    assert used == there


def test_what_the_native_library_finds_by_name() -> None:
    """Java's methods, the C table and the rules that keep names agree."""
    java = (LIBRARY / "java/org/edgellm/Native.java").read_text()
    declared = re.findall(r"static native [\w\[\]]+ (\w+)\(", java)
    table = re.findall(r'^ {4}\{"(\w+)", "', (LIBRARY / "cpp/edgellm_jni.c").read_text(), re.MULTILINE)
    assert sorted(declared) == sorted(table) and len(table) == 12
    rules = text("edgellm/consumer-rules.pro")
    assert "org.edgellm.Native {" in rules and "org.edgellm.EngineException {" in rules


def test_cmake_builds_the_library_as_gradle_would(tmp_path: Path) -> None:
    """With this machine's compiler in place of the NDK's."""
    require(program="cmake", reason="it builds the library for Gradle: apt install cmake")
    require(program="cc", reason="it compiles the library: apt install gcc libc6-dev")
    include = " ".join(f"-I{folder}" for folder in toolbox.tools().jni_headers)
    options = ["-DEDGELLM_PROGRAMS=OFF", "-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_C_FLAGS={include} -O0 -Werror"]
    options += ["-DCMAKE_C_COMPILER=cc", "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--hash-style=both"]
    run("cmake", "-S", LIBRARY / "cpp", "-B", tmp_path, *options)
    run("cmake", "--build", tmp_path, "-j2")
    exported = read_elf(tmp_path / "libedgellm.so").exported
    assert {name for name in exported if not name.startswith("ell_")} == {"JNI_OnLoad"}
