"""`edgellm package android`: what it writes and refuses. The APK is tested in tests/android."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import msgspec
import pytest

from edgellm.bundle import Bundle, BundleWriter
from edgellm.errors import EdgeLLMError, UnsupportedError, UsageError
from edgellm.package import android
from edgellm.package.android import ASSETS, BUNDLE_FOLDER, package_android
from edgellm.package.project import read_project


@pytest.fixture
def bundle(demo_adreno: Path) -> Path:
    return demo_adreno


@pytest.fixture(scope="module")
def project(demo_adreno: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("android") / "project"
    package_android(demo_adreno, out)
    return out


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgellm", "package", "android", *map(str, arguments)],
        env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def tree(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def copy_without(bundle: Path, out: Path, left_out: str, **changes: str | None) -> None:
    """Write a bundle like another, without files whose paths begin so, and with another manifest."""
    manifest = Bundle.open(bundle).manifest
    with BundleWriter(out) as writer:
        for entry in manifest.files:
            if not left_out or not entry.path.startswith(left_out):
                (writer.path / entry.path).parent.mkdir(parents=True, exist_ok=True)
                writer.add(entry.path, (bundle / entry.path).read_bytes())
        writer.commit(msgspec.structs.replace(manifest, **changes))


def properties(data: bytes) -> dict[str, str]:
    lines = [line for line in data.decode().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def png(width: int, height: int, kind: int = 6) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    channels = {0: 1, 2: 3, 6: 4}[kind]
    rows = zlib.compress(b"".join(b"\0" + bytes([200]) * (width * channels) for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_every_file_is_listed_with_its_hash(project: Path) -> None:
    files = tree(project)
    listed = json.loads(files.pop("edgellm-app.json"))
    assert {one["path"]: (one["bytes"], one["sha256"]) for one in listed["files"]} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    assert (listed["system"], listed["id"], listed["bundle"]) == (
        "android",
        "com.example.demo",
        BUNDLE_FOLDER,
    )
    assert "README.md" in files and "LICENSE" in files
    here = [str(Path.cwd()).encode(), str(project.parent).encode()]
    assert not [name for name, data in files.items() if any(path in data for path in here)]


def test_it_is_the_shipped_project_and_what_knows_the_model(project: Path, bundle: Path) -> None:
    """Every file is accounted for: as in android/, native/ or the bundle, or written for this app."""
    root = Path(__file__).parents[2]
    files = tree(project)
    own = {"app.properties", "app/src/main/res/values/app.xml", "app/src/main/AndroidManifest.xml"}
    written = {
        "edgellm-app.json",
        *(f"{ASSETS}/{one}" for one in ("model.properties", "files.txt", "chat.json")),
    }
    for name, data in files.items():
        if name in own | written:
            continue
        source = root / "android" / name
        if name.startswith("native/") or name == "LICENSE":
            source = root / name
        elif name.startswith(f"{BUNDLE_FOLDER}/"):
            source = bundle / name.removeprefix(f"{BUNDLE_FOLDER}/")
        assert source.read_bytes() == data, name
    command = ["git", "-C", str(root), "ls-files", "android", "native/include", "native/src"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    kept = {name.removeprefix("android/") for name in listed if (root / name).is_file()}
    assert kept <= set(files)


def test_what_the_app_knows_of_its_model(project: Path, bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    about = properties((project / ASSETS / "model.properties").read_bytes())
    assert about == {
        "name": "demo",
        "quant": "int4",
        "weights": "ASSETS",
        "context": "1024",
        "weight_bytes": str(manifest.memory.weight_bytes),
        "bytes_per_token": str(manifest.memory.kv_bytes_per_token),
        "runtime_bytes": str(manifest.memory.runtime_bytes),
    }
    lines = [line.split(" ") for line in (project / ASSETS / "files.txt").read_text().splitlines()]
    assert {path: (digest, int(size)) for digest, size, path in lines} == {
        name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in tree(bundle).items()
    }
    app = properties((project / "app.properties").read_bytes())
    assert app == {"id": "com.example.demo", "versionName": "1.0.0", "versionCode": "1000000"}


def test_options_reach_the_app(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "icon.png").write_bytes(png(256, 256))
    name = "?A & <b> \"c\" 'd' \\e"
    made = package_android(
        bundle,
        tmp_path / "app",
        id="org.example.my_app",
        name=name,
        version="2.30",
        icon=tmp_path / "icon.png",
    )
    files = tree(made.path)
    assert properties(files["app.properties"]) == {
        "id": "org.example.my_app",
        "versionName": "2.30.0",
        "versionCode": "2030000",
    }
    text = ET.fromstring(files["app/src/main/res/values/app.xml"]).findtext("string")
    assert text == "\\?A & <b> \\\"c\\\" \\'d\\' \\\\e"
    icons = [path for path in files if "ic_launcher" in path or "ic_foreground" in path]
    assert icons == ["app/src/main/res/mipmap-xxxhdpi/ic_launcher.png"]
    assert files[icons[0]] == png(256, 256)


def test_the_network_is_asked_for_only_to_download(project: Path, bundle: Path, tmp_path: Path) -> None:
    made = package_android(bundle, tmp_path / "app", url="https://example.org/models/demo/")
    about = properties((made.path / ASSETS / "model.properties").read_bytes())
    assert (made.weights, about["weights"], about["url"]) == (
        "download",
        "DOWNLOAD",
        "https://example.org/models/demo/",
    )
    asked = (made.path / "app/src/main/AndroidManifest.xml").read_text()
    assert "android.permission.INTERNET" in asked
    assert not (made.path / BUNDLE_FOLDER).exists() and (made.path / ASSETS / "files.txt").is_file()
    silent = (project / "app/src/main/AndroidManifest.xml").read_text()
    assert "permission" not in silent and ET.fromstring(silent).find("application") is not None


@pytest.mark.parametrize(
    "url",
    ["https://[2001:db8::1]:8443/a", "HTTPS://Example.org", "https://a-b.example/m/v1.0/x%20y/~z(1)@2/"],
)
def test_addresses_of_the_directory(bundle: Path, tmp_path: Path, url: str) -> None:
    made = package_android(bundle, tmp_path / "app", url=url)
    assert properties((made.path / ASSETS / "model.properties").read_bytes())["url"] == url


def test_a_bundle_that_is_pushed(bundle: Path, tmp_path: Path) -> None:
    """The script, with a stand-in for adb that notes what it is told."""
    made = package_android(bundle, tmp_path / "app", weights="push", id="org.example.app")
    assert not (made.path / BUNDLE_FOLDER).exists()
    adb = tmp_path / "bin/adb"
    adb.parent.mkdir()
    adb.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path / "told"}\n[ "$2" != pm ] || cat {tmp_path / "installed"}\n'
    )
    adb.chmod(0o755)
    script = made.path / "push-model.sh"
    environment = os.environ | {"PATH": f"{adb.parent}:{os.environ['PATH']}"}
    done = subprocess.run([script, tmp_path], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage" in done.stderr and not (tmp_path / "told").exists()
    (tmp_path / "installed").touch()
    done = subprocess.run([script, bundle], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "install the app first" in done.stderr
    (tmp_path / "installed").write_text("package:/data/app/base.apk\n")
    subprocess.run([script, bundle], env=environment, check=True, capture_output=True)
    place = "/sdcard/Android/data/org.example.app/files/bundle"
    assert (tmp_path / "told").read_text().splitlines() == [
        *["shell pm path org.example.app"] * 2,
        f"shell rm -rf {place} && mkdir -p {place}",
        f"push {bundle}/. {place}/",
    ]
    assert package_android(bundle, tmp_path / "app", weights="push", id="org.example.app").unchanged


def test_large_bundles_do_not_travel_with_the_app(bundle: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(android, "SMALL_BYTES", 1_000_000)
        assert package_android(bundle, tmp_path / "one").weights == "push"
        assert package_android(bundle, tmp_path / "two", weights="assets").weights == "assets"
        patch.setattr(android, "MAX_ASSETS_BYTES", 1_000_000)
        with pytest.raises(EdgeLLMError, match="an app holds"):
            package_android(bundle, tmp_path / "three", weights="assets")
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "demo"}, "--id demo"),
        ({"id": "com.example.new"}, "new is a word of Java"),
        ({"id": "com.1example.app"}, "--id"),
        ({"id": "com.exa-mple.app"}, "--id"),
        ({"id": "com.example.app\n"}, "--id"),
        ({"name": ""}, "--name"),
        ({"name": "x" * 51}, "--name"),
        ({"name": "two\nlines"}, "--name"),
        ({"version": "1.2.3.4"}, "--app-version"),
        ({"version": "1000"}, "--app-version"),
        ({"version": "1.x"}, "--app-version"),
        ({"weights": "download"}, "belong together"),
        ({"weights": "push", "url": "https://example.org/"}, "belong together"),
        ({"url": "http://example.org/"}, "must be https"),
        ({"url": "https://example.org/?a=1"}, "must be https"),
        ({"url": "https:///x"}, "must be https"),
        ({"url": "https://[::1/x"}, "must be https"),
        ({"url": "https://[:::::]/x"}, "must be https"),
        ({"url": "https://user:secret@example.org/"}, "must be https"),
        ({"url": "https://example.org:99999/"}, "must be https"),
        ({"url": "https://example.org:0/"}, "must be https"),
        ({"url": "https://example.org/a b"}, "%20 for a space"),
        ({"url": "https://example.org/\nweights=ASSETS"}, r"/\\nweights=ASSETS' must be https"),
        ({"url": "https://example.org/\n"}, "must be https"),
        ({"url": "https://example.org/%4"}, "must be https"),
        ({"url": "https://example.org/é"}, "must be https"),
    ],
)
def test_wrong_options_are_refused(bundle: Path, tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        package_android(bundle, tmp_path / "app", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "cannot be read"),
        (b"GIF89a", "not a whole PNG"),
        (png(256, 256)[:-20], "not a whole PNG"),
        (png(256, 256).replace(b"IDAT", b"IDAX"), "not a whole PNG"),
        (png(256, 255), "256 x 255 pixels"),
        (png(64, 64), "64 x 64 pixels"),
        (png(256, 256) + bytes(5 << 20), "more than"),
    ],
)
def test_icons_are_square_pngs(bundle: Path, tmp_path: Path, data: bytes | None, said: str) -> None:
    icon = tmp_path / "icon.png"
    if data is not None:
        icon.write_bytes(data)
    with pytest.raises(UsageError, match=said):
        package_android(bundle, tmp_path / "app", icon=icon)
    assert not (tmp_path / "app").exists()


def test_a_bundle_for_something_else_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy_without(bundle, tmp_path / "other", "", target="intel-gpu")
    done = run(tmp_path / "other", "--out", tmp_path / "app")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "built for intel-gpu" in done.stderr and "--target adreno or --target mali" in done.stderr
    copy_without(bundle, tmp_path / "empty", "tvm")
    with pytest.raises(UnsupportedError, match="no program that Android runs"):
        package_android(tmp_path / "empty", tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_a_model_without_a_chat_template_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy_without(bundle, tmp_path / "base", "chat_template.jinja", chat_template=None)
    with pytest.raises(EdgeLLMError, match="no chat template"):
        package_android(tmp_path / "base", tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_the_same_again_changes_nothing_and_elsewhere_gives_the_same_bytes(
    bundle: Path, project: Path, tmp_path: Path
) -> None:
    before = {file: file.stat().st_mtime_ns for file in project.rglob("*")}
    done = run(bundle, "--out", project, "--json")
    report = json.loads(done.stdout)
    assert report["unchanged"] is True and report["apk"] is None
    assert report["source_bytes"] + sum(report["bundle_bytes"].values()) == sum(
        len(data) for name, data in tree(project).items() if name not in ("edgellm-app.json", _MANIFEST)
    )
    assert {file: file.stat().st_mtime_ns for file in project.rglob("*")} == before
    package_android(bundle, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(project)


def test_what_a_developer_did_is_not_lost_by_chance(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "app"
    package_android(bundle, out)
    # What Android Studio makes is no change.
    for made in ("build/x", "app/build/y", ".gradle/z", ".idea/w", "local.properties", "app/app.iml"):
        (out / made).parent.mkdir(parents=True, exist_ok=True)
        (out / made).write_text("x")
    assert package_android(bundle, out).unchanged
    assert (out / "build/x").exists()
    changed = out / "app/src/main/java/org/edgellm/chat/ChatActivity.java"
    changed.write_text("mine")
    with pytest.raises(EdgeLLMError, match=r"changed \(app/src/main/java/.*ChatActivity.java\).*--force"):
        package_android(bundle, out)
    assert changed.read_text() == "mine"
    added = out / "app/src/main/java/Mine.java"
    added.write_text("mine")
    with pytest.raises(EdgeLLMError, match=r"Mine\.java"):
        package_android(bundle, out, force=True)
    added.unlink()
    assert not package_android(bundle, out, force=True).unchanged
    assert changed.read_text() != "mine" and not (out / "build").exists()
    done = run(bundle, "--out", out, "--app-version", "2")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "--force replaces it" in done.stderr
    project = read_project(out)
    assert project is not None and project.version == "1.0.0"
    assert [entry.name for entry in tmp_path.iterdir()] == ["app"]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("file", "is a file"),
        ("full", "is not such a project"),
        ("bundle/app", "lies in the bundle"),
        (".", "current"),
    ],
)
def test_a_wrong_place_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, said: str
) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(EdgeLLMError, match=said):
        package_android("bundle", out, force=True)
    assert tree(tmp_path) == before


def test_a_damaged_shard_leaves_nothing_behind(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    shard = copy / "tvm/weights-000.bin"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    done = run(copy, "--out", tmp_path / "deep/app")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "weights-000.bin" in done.stderr
    monkeypatch.setattr("edgellm.bundle.bundle._HASHED_AT_OPEN", 0)
    with pytest.raises(EdgeLLMError, match=r"weights-000\.bin is damaged"):
        package_android(copy, tmp_path / "deep/app")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_options_of_keys_need_an_apk(bundle: Path, tmp_path: Path) -> None:
    done = run(bundle, "--out", tmp_path / "app", "--keystore", "mine")
    assert (done.returncode, done.stderr.count("\n")) == (
        2,
        1,
    ) and "--keystore goes with --apk" in done.stderr
    assert not (tmp_path / "app").exists()


_MANIFEST = f"{BUNDLE_FOLDER}/edgellm.json"
