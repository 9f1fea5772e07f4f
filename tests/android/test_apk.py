"""An APK as `edgellm package android --apk` makes it: what Android's own tools and androguard say of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgellm.bundle import Bundle
from edgellm.errors import EdgeLLMError, MissingDependencyError, UsageError
from edgellm.package.apk import LIBRARY_PATH, sign
from edgellm.package.apk_key import given_key
from edgellm.package.apk_tools import find_tools
from edgellm.package.apk_zip import PAGE_BYTES, data_offset
from edgellm.package.native_build import ANDROID_EXPORTS
from tests.android import toolbox
from tests.android.toolbox import checker, run, sdk_environment
from tests.package.elf import AARCH64, read_elf
from tests.support import require

ID = "org.example.chat_app"
NAME = 'Bob\'s "chat" & more'


def package(bundle: Path, out: Path, config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellm", "package", "android", bundle, "--out", out, "--apk", *options]
    return subprocess.run(
        [str(part) for part in command], env=sdk_environment() | {"EDGELLM_CONFIG": str(config)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@pytest.fixture(scope="module")
def told(demo_adreno: Path, config: Path) -> dict[str, object]:
    """What --json says of the APK of the demo model."""
    toolbox.tools()
    out = demo_adreno.parent / "project"
    done = package(
        demo_adreno, out, config, "--id", ID, "--name", NAME, "--app-version", "1.2.3", "--json", "--force"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


@pytest.fixture(scope="module")
def apk(told: dict[str, dict[str, str]]) -> Path:
    return Path(told["apk"]["path"])


@pytest.fixture(scope="module")
def library(apk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with zipfile.ZipFile(apk) as opened:
        return Path(opened.extract(LIBRARY_PATH, tmp_path_factory.mktemp("library")))


def test_the_report(told: dict[str, object], apk: Path) -> None:
    about = told["apk"]
    assert isinstance(about, dict)
    with zipfile.ZipFile(apk) as opened:
        assert about["library_bytes"] == opened.getinfo(LIBRARY_PATH).file_size
        assert about["dex_bytes"] == opened.getinfo("classes.dex").file_size
    assert about["bytes"] == apk.stat().st_size < 4 << 20
    assert apk.name == f"{ID}-1.2.3.apk"
    assert (told["id"], told["name"], told["weights"]) == (ID, NAME, "assets")


def test_its_signature(apk: Path, tmp_path: Path) -> None:
    """Schemes 2 and 3, and that a changed byte is noticed."""
    said = run(checker("apksigner"), "verify", "--verbose", "--min-sdk-version", "26", apk)
    for scheme in ("v2 scheme (APK Signature Scheme v2)", "v3 scheme (APK Signature Scheme v3)"):
        assert f"Verified using {scheme}: true" in said
    assert "Number of signers: 1" in said
    damaged = tmp_path / "damaged.apk"
    data = bytearray(apk.read_bytes())
    data[data_offset(apk, LIBRARY_PATH) + 1000] ^= 1
    damaged.write_bytes(data)
    done = subprocess.run([checker("apksigner"), "verify", str(damaged)], capture_output=True, check=False)
    assert done.returncode != 0


def test_what_a_phone_reads_of_it(apk: Path) -> None:
    said = run(checker("aapt"), "dump", "badging", apk)
    for line in (
        f"package: name='{ID}' versionCode='1002003' versionName='1.2.3'",
        "sdkVersion:'26'",
        "targetSdkVersion:'36'",
        r"""application-label:'Bob's \"chat\" & more'""",
        "launchable-activity: name='org.edgellm.chat.ChatActivity'",
        "native-code: 'arm64-v8a'",
    ):
        assert line in said
    assert "uses-permission" not in said
    tree = run(checker("aapt"), "dump", "xmltree", apk, "AndroidManifest.xml")
    opencl = tree.split("E: uses-native-library")[1].split("E: ")[0]
    assert '="libOpenCL.so"' in opencl and "android:required(0x0101028e)=(type 0x12)0x0" in opencl
    assert "android:extractNativeLibs(0x010104ea)=(type 0x12)0x0" in tree


def test_libraries_and_weights_can_be_mapped(apk: Path) -> None:
    assert data_offset(apk, LIBRARY_PATH) % PAGE_BYTES == 0
    run(checker("zipalign"), "-c", "-p", "4", apk)
    with zipfile.ZipFile(apk) as opened:
        infos = {info.filename: info for info in opened.infolist()}
    stored = {name for name, info in infos.items() if info.compress_type == zipfile.ZIP_STORED}
    assert stored == {LIBRARY_PATH, "resources.arsc", "assets/edgellm/bundle/tvm/weights-000.bin"}
    assert all(data_offset(apk, name) % 4 == 0 for name in stored)


def test_the_native_library(library: Path) -> None:
    """It needs what every Android has, exports what Java calls, and is laid out for pages of 16 KB."""
    elf = read_elf(library)
    assert elf.machine == AARCH64 and elf.soname == library.name
    assert set(elf.alignments) == {PAGE_BYTES} and elf.congruent
    assert set(elf.needed) == {"libc.so", "libm.so", "libdl.so"}
    assert elf.imported <= {name for one in elf.needed for name in ANDROID_EXPORTS[one].split()}
    assert {"dlopen", "dlsym", "mmap", "pthread_create"} <= elf.imported
    # Nothing that talks to a network, starts a program or loads code but OpenCL's.
    assert not {"socket", "connect", "execve", "system", "fork", "mprotect"} & elf.imported
    assert {name for name in elf.exported if not name.startswith("ell_")} == {"JNI_OnLoad"}
    assert not (elf.writable_code or elf.executable_stack or elf.text_relocations)


def test_its_code(apk: Path) -> None:
    """Nothing that Android 8 does not know, and the classes of library and app."""
    listing = run(checker("dexdump"), "-d", apk)
    assert "invoke-virtual" in listing
    assert "invoke-custom" not in listing and "invoke-polymorphic" not in listing
    assert "java/lang/invoke" not in listing
    for name in ("org/edgellm/Engine", "org/edgellm/android/PackagedModel", "org/edgellm/chat/ChatActivity"):
        assert f"Class descriptor  : 'L{name};'" in listing


def test_androguard_reads_it(apk: Path) -> None:
    require(module="androguard", reason="reads APKs: pip install 'edgellm[test]'")
    from androguard.core.apk import APK
    from androguard.core.dex import DEX
    from loguru import logger

    logger.disable("androguard")
    read = APK(str(apk))
    assert read.is_valid_APK() and read.is_signed_v2() and read.is_signed_v3()
    assert (read.get_package(), read.get_app_name()) == (ID, NAME)
    assert read.get_permissions() == [] and read.get_libraries() == []
    assert read.get_main_activity() == "org.edgellm.chat.ChatActivity"
    [certificate] = read.get_certificates_v3()
    assert "Android Debug" in certificate.subject.human_friendly
    dex = DEX(read.get_dex())
    natives = {
        f"{method.get_class_name()}{method.get_name()}"
        for method in dex.get_encoded_methods()
        if "native" in method.get_access_flags_string()
    }
    sources = (toolbox.LIBRARY / "cpp/edgellm_jni.c").read_text()
    declared = {line.split('"')[1] for line in sources.splitlines() if line.startswith('    {"')}
    assert natives == {f"Lorg/edgellm/Native;{name}" for name in declared} and len(declared) == 12


def test_the_bundle_in_it_is_whole(apk: Path, demo_adreno: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(apk) as opened:
        for name in opened.namelist():
            if name.startswith("assets/edgellm/"):
                opened.extract(name, tmp_path)
    model = tmp_path / "assets/edgellm"
    Bundle.open(model / "bundle", check_hashes=True)
    listed = {line.split()[2] for line in (model / "files.txt").read_text().splitlines()}
    assert listed == {p.relative_to(demo_adreno).as_posix() for p in demo_adreno.rglob("*") if p.is_file()}


def test_the_same_again_gives_the_same_bytes(apk: Path, demo_adreno: Path, config: Path) -> None:
    before = apk.read_bytes()
    options = ("--id", ID, "--name", NAME, "--app-version", "1.2.3", "--json")
    done = package(demo_adreno, apk.parents[1], config, *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unchanged"] is True
    assert apk.read_bytes() == before
    assert [file.name for file in apk.parent.iterdir()] == [apk.name]


def test_a_key_of_ones_own(apk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = toolbox.tools()
    store = tmp_path / "mine.keystore"
    run(
        *(tools.keytool, "-genkeypair", "-keystore", store, "-alias", "mine", "-storepass", "secret1"),
        *("-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=Mine", "-validity", "9999"),
    )
    with pytest.raises(UsageError, match="EDGELLM_KEYSTORE_PASSWORD"):
        given_key(store, None)
    with pytest.raises(UsageError, match="is not there"):
        given_key(tmp_path / "other", None)
    monkeypatch.setenv("EDGELLM_KEYSTORE_PASSWORD", "wrong")
    with pytest.raises(EdgeLLMError, match="signing: apksigner failed"):
        sign(apk, tmp_path / "mine.apk", tools, given_key(store, None))
    monkeypatch.setenv("EDGELLM_KEYSTORE_PASSWORD", "secret1")
    mine = sign(apk, tmp_path / "mine.apk", tools, given_key(store, "mine"))
    said = run(checker("apksigner"), "verify", "--print-certs", "--min-sdk-version", "26", mine)
    assert "certificate DN: CN=Mine" in said
    assert data_offset(mine, LIBRARY_PATH) % PAGE_BYTES == 0


def test_what_is_missing_is_named_before_anything_is_written(demo_adreno: Path, tmp_path: Path) -> None:
    environment = {
        "PATH": str(tmp_path),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(tmp_path),
    }
    shutil.copytree(demo_adreno, tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-m", "edgellm", "package", "android", "bundle", "--out", "app", "--apk"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    for word in ("javac", "keytool", "jni.h", "apt install", "default-jdk-headless", "ANDROID_HOME"):
        assert word in done.stderr
    assert not (tmp_path / "app").exists()


def test_tools_of_an_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of an Android SDK; d8 before dx."""
    monkeypatch.setattr("edgellm.package.apk_tools.DEBIAN_SDK", tmp_path / "none")
    with pytest.raises(MissingDependencyError) as missing:
        find_tools({"PATH": str(tmp_path)})
    said = "javac, keytool, jni.h, aapt2, apksigner, d8 or dx, android.jar"
    assert said in str(missing.value) and "aapt apksigner dalvik-exchange" in str(missing.value)

    def put(path: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o755)
        return file

    for version in ("9.0.0", "35.0.1", "35.0.0"):
        for name in ("aapt2", "apksigner", "lib/dx.jar"):
            put(f"sdk/build-tools/{version}/{name}")
    put("sdk/platforms/android-9/android.jar")
    jar = put("sdk/platforms/android-36/android.jar")
    for name in ("bin/javac", "bin/java", "bin/keytool", "include/jni.h", f"include/{sys.platform}/jni_md.h"):
        put(f"jdk/{name}")
    environment = {
        "PATH": str(tmp_path),
        "ANDROID_HOME": str(tmp_path / "sdk"),
        "JAVA_HOME": str(tmp_path / "jdk"),
    }
    tools = find_tools(environment)
    newest = tmp_path / "sdk/build-tools/35.0.1"
    assert (tools.aapt2, tools.android_jar, tools.is_d8) == (str(newest / "aapt2"), jar, False)
    assert str(newest / "lib/dx.jar") in tools.dexer
    d8 = put("sdk/build-tools/35.0.0/lib/d8.jar")
    tools = find_tools(environment)
    assert tools.is_d8 and str(d8) in tools.dexer and tools.jni_headers[0] == tmp_path / "jdk/include"
