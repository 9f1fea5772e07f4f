"""`edgellm package ios`: what it writes and refuses, as far as it can be judged without a Mac."""

from __future__ import annotations

import hashlib
import json
import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgellm.bundle import Bundle
from edgellm.bundle.manifest import MANIFEST_NAME
from edgellm.errors import EdgeLLMError, UnsupportedError, UsageError
from edgellm.package.ios import BUNDLE_FOLDER, MADE, package_ios
from tests.ios.software import OBJECTIVE_C
from tests.ios.test_apple import PLATFORMS, clang, platform_of
from tests.native.programs import FLAGS
from tests.package.test_android import copy_without, png, tree
from tests.support import require

ROOT = Path(__file__).parents[2]
ICONS = "App/Assets.xcassets/AppIcon.appiconset"


@pytest.fixture(scope="module")
def project(demo_phone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ios") / "project"
    package_ios(demo_phone, out)
    return out


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgellm", "package", "ios", *map(str, arguments)],
        env=os.environ, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def settings(project: Path) -> dict[str, str]:
    found = described(project)["targets"]["Chat"]["settings"]["base"]
    assert isinstance(found, dict)
    return found


def described(project: Path) -> dict[str, dict[str, dict[str, dict[str, dict[str, str]]]]]:
    require(module="yaml", reason="it reads project.yml: pip install pyyaml")
    import yaml

    found = yaml.safe_load((project / "App/project.yml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_every_file_is_listed_and_accounted_for(project: Path, demo_phone: Path) -> None:
    """As in ios/, native/ or the bundle, or written for this app."""
    files = tree(project)
    listed = json.loads(files.pop("edgellm-app.json"))
    assert {one["path"]: (one["bytes"], one["sha256"]) for one in listed["files"]} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    assert (listed["system"], listed["id"], listed["bundle"]) == ("ios", "com.example.demo", BUNDLE_FOLDER)
    own = {"App/project.yml", "App/Model/chat.json", "native/Package.swift"}
    for name, data in files.items():
        if name in own:
            continue
        source = ROOT / "ios" / name.removeprefix("EdgeLLM/")
        if name.startswith("native/") or name == "LICENSE":
            source = ROOT / name
        elif name.startswith(f"{BUNDLE_FOLDER}/"):
            source = demo_phone / name.removeprefix(f"{BUNDLE_FOLDER}/")
        assert source.read_bytes() == data, name
    assert {
        name.removeprefix(f"{BUNDLE_FOLDER}/") for name in files if name.startswith(BUNDLE_FOLDER)
    } == set(tree(demo_phone))
    command = ["git", "-C", str(ROOT), "ls-files", "ios", "native/include", "native/src"]
    kept = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    for name in kept:
        name = name.removeprefix("ios/")
        assert name in files or f"EdgeLLM/{name}" in files
    here = [str(Path.cwd()).encode(), str(project.parent).encode()]
    assert not [name for name, data in files.items() if any(path in data for path in here)]


def test_what_the_project_names_exists(project: Path) -> None:
    app = project / "App"
    text = described(project)
    assert (app / text["packages"]["EdgeLLM"]["path"]).resolve() == project / "EdgeLLM"  # type: ignore[arg-type]
    target = text["targets"]["Chat"]
    for source in target["sources"]:
        assert (app / source["path"]).exists()  # type: ignore[index]
    named = {source["path"] for source in target["sources"]}  # type: ignore[index]
    base = settings(project)
    named |= {base["CODE_SIGN_ENTITLEMENTS"], base["INFOPLIST_FILE"], "project.yml"}
    assert {entry.name for entry in app.iterdir()} == named  # nothing lies there that no one uses
    [model] = [source for source in target["sources"] if source["path"] == "Model"]  # type: ignore[index]
    assert (model["type"], model["buildPhase"]) == ("folder", "resources")  # type: ignore[index]
    # The bundle is where the app looks for it, and its chat format where the core does.
    assert '"Model/bundle"' in (app / "Sources/ChatModel.swift").read_text()
    assert Bundle.open(app / "Model/bundle").manifest.target == "apple-iphone"
    assert json.loads((app / "Model/chat.json").read_text())
    for package in ("EdgeLLM", "native"):
        manifest = (project / package / "Package.swift").read_text()
        for path in re.findall(r'path: "([^"]+)"', manifest):
            assert (project / package / path).is_dir()
    assert "exclude: metal," in (project / "native/Package.swift").read_text()
    assert (project / "EdgeLLM/Sources/EdgeLLM/Engine.swift").is_file()


def test_property_lists_and_asset_catalogues_are_valid(project: Path) -> None:
    endings = {".plist", ".entitlements", ".xcprivacy"}
    lists = {
        path.relative_to(project / "App").as_posix(): plistlib.loads(path.read_bytes())
        for path in (project / "App").rglob("*")
        if path.suffix in endings
    }
    assert lists["Chat.entitlements"] == {
        "com.apple.developer.kernel.extended-virtual-addressing": True,
        "com.apple.developer.kernel.increased-memory-limit": True,
    }
    # Every setting of Xcode's that Info.plist names is one of the project's or of Xcode's own.
    used = set(re.findall(r"\$\((\w+)\)", (project / "App/Info.plist").read_text()))
    assert used - set(settings(project)) == {"EXECUTABLE_NAME", "PRODUCT_BUNDLE_PACKAGE_TYPE"}
    assert lists["PrivacyInfo.xcprivacy"]["NSPrivacyTracking"] is False
    catalogue = project / "App/Assets.xcassets"
    folders = [catalogue, *(path for path in catalogue.iterdir() if path.is_dir())]
    for folder in folders:
        contents = json.loads((folder / "Contents.json").read_text())
        assert contents["info"] == {"author": "xcode", "version": 1}
    named = {"ASSETCATALOG_COMPILER_APPICON_NAME", "ASSETCATALOG_COMPILER_GLOBAL_ACCENT_COLOR_NAME"}
    assert {settings(project)[key] for key in named} == {folder.stem for folder in folders[1:]}


def test_the_written_core_compiles_for_iphones(project: Path, tmp_path: Path) -> None:
    require(module="ziglang", reason="compiles for other systems: pip install 'edgellm[tvm]'")
    native = project / "native"
    own = ("-DELL_METAL", f"-I{native / 'include'}", f"-I{native / 'src'}")
    called = [*clang("ios"), *FLAGS, *own]
    c, objective_c = (sorted((native / "src").glob(f"*.{ending}")) for ending in ("c", "m"))
    subprocess.run([*called, "-c", *c], cwd=tmp_path, check=True)
    extra = ("-Wno-pedantic", *OBJECTIVE_C, "-fobjc-arc")
    subprocess.run([*called, *extra, "-c", *objective_c], cwd=tmp_path, check=True)
    objects = sorted(tmp_path.glob("*.o"))
    assert len(objects) == len(c) + len(objective_c) > 20
    assert {platform_of(file) for file in objects} == {PLATFORMS["ios"]}


def test_arithmetic_is_not_fused_on_apples_processors(project: Path, tmp_path: Path) -> None:
    """Xcode's compiler fuses products and sums unless the source forbids it; tokens would then differ."""
    require(module="ziglang", reason="compiles for other systems: pip install 'edgellm[tvm]'")
    native = project / "native"
    own = (f"-I{native / 'include'}", f"-I{native / 'src'}", "-O2", "-ffp-contract=on")
    assembly = tmp_path / "sampler.s"
    called = [*clang("ios"), *FLAGS, *own, "-S", native / "src/sampler.c", "-o", assembly]
    subprocess.run(called, check=True)
    text = assembly.read_text(encoding="latin-1")  # the compiler's comments hold any bytes
    assert "fmul" in text
    assert not re.search(r"\bfn?m(add|sub|la|ls)\b", text)


def test_swift_names_what_the_core_has(project: Path) -> None:
    """Functions, and members of its structs that Swift fills and reads."""
    header = (project / "native/include/edgellm.h").read_text()
    swift = "".join(file.read_text() for file in (project / "EdgeLLM/Sources").rglob("*.swift"))
    assert set(re.findall(r"\bell_\w+", swift)) <= set(re.findall(r"\bell_\w+", header))
    assert set(re.findall(r"\bELL_\w+", swift)) <= set(re.findall(r"\bELL_\w+", header))
    members = set(
        re.findall(r"\b(?:given|info|own|prompt|prompt\.settings|usage)\.([a-z]+_[a-z_]+)\b", swift)
    )
    assert {"check_hashes", "max_tokens", "cached_tokens"} <= members
    assert members <= set(re.findall(r"\b\w+\b", re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)))


def test_options_reach_the_app(demo_phone: Path, tmp_path: Path) -> None:
    (tmp_path / "icon.png").write_bytes(png(1024, 1024, 2))
    name = "A: & <b> \"c\" 'd' \\e #é"
    made = package_ios(
        demo_phone,
        tmp_path / "app",
        id="org.example.my-new.app",
        name=name,
        version="2.30",
        icon=tmp_path / "icon.png",
        team="ABCDE12345",
    )
    base = settings(made.path)
    assert {
        key: base[key] for key in ("APP_DISPLAY_NAME", "PRODUCT_BUNDLE_IDENTIFIER", "DEVELOPMENT_TEAM")
    } == {
        "APP_DISPLAY_NAME": name,
        "PRODUCT_BUNDLE_IDENTIFIER": "org.example.my-new.app",
        "DEVELOPMENT_TEAM": "ABCDE12345",
    }
    assert (base["MARKETING_VERSION"], base["CURRENT_PROJECT_VERSION"]) == ("2.30.0", "2030000")
    [image] = json.loads((made.path / ICONS / "Contents.json").read_text())["images"]
    assert (made.path / ICONS / image["filename"]).read_bytes() == png(1024, 1024, 2)
    assert image["size"] == "1024x1024"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "demo"}, "--id demo"),
        ({"id": "com.example.my_app"}, "--id"),
        ({"name": "a\nb"}, "--name"),
        ({"name": "$(HOME)"}, "--name"),
        ({"version": "1.x"}, "--app-version"),
        ({"team": "abc"}, "--team abc"),
        ({"team": "ABCDE12345\n"}, "--team"),
    ],
)
def test_wrong_options_are_refused(
    demo_phone: Path, tmp_path: Path, options: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        package_ios(demo_phone, tmp_path / "app", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("side", "kind"), [(1024, 6), (1025, 2), (512, 2)])
def test_icons_are_what_apple_takes(demo_phone: Path, tmp_path: Path, side: int, kind: int) -> None:
    (tmp_path / "icon.png").write_bytes(png(side, side, kind))
    with pytest.raises(UsageError, match="1024"):
        package_ios(demo_phone, tmp_path / "app", icon=tmp_path / "icon.png")
    assert not (tmp_path / "app").exists()


def test_a_bundle_for_something_else_is_refused(demo_phone: Path, tmp_path: Path) -> None:
    copy_without(demo_phone, tmp_path / "other", "", target="adreno")
    done = run(tmp_path / "other", "--out", tmp_path / "app")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "built for adreno" in done.stderr and "--target apple-iphone" in done.stderr
    copy_without(demo_phone, tmp_path / "empty", "tvm")
    with pytest.raises(UnsupportedError, match="no program that iOS runs"):
        package_ios(tmp_path / "empty", tmp_path / "app")
    copy_without(demo_phone, tmp_path / "base", "chat_template.jinja", chat_template=None)
    with pytest.raises(EdgeLLMError, match="no chat template"):
        package_ios(tmp_path / "base", tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_the_same_again_changes_nothing_and_elsewhere_gives_the_same_bytes(
    demo_phone: Path, project: Path, tmp_path: Path
) -> None:
    before = {file: file.stat().st_mtime_ns for file in project.rglob("*")}
    done = run(demo_phone, "--out", project, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["unchanged"] is True and report["files"] == len(tree(project))
    manifest = f"{BUNDLE_FOLDER}/{MANIFEST_NAME}"
    assert report["source_bytes"] + sum(report["bundle_bytes"].values()) == sum(
        len(data) for name, data in tree(project).items() if name not in ("edgellm-app.json", manifest)
    )
    assert {file: file.stat().st_mtime_ns for file in project.rglob("*")} == before
    package_ios(demo_phone, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(project)


def test_what_a_developer_did_is_not_lost_by_chance(demo_phone: Path, tmp_path: Path) -> None:
    out = tmp_path / "app"
    package_ios(demo_phone, out)
    for made in MADE:  # what Xcode makes is no change
        (out / "App" / made).mkdir()
        (out / "App" / made / "x").write_text("x")
    assert package_ios(demo_phone, out).unchanged
    changed = out / "App/Sources/Chat.swift"
    changed.write_text("mine")
    with pytest.raises(EdgeLLMError, match=r"changed \(App/Sources/Chat.swift\).*--force"):
        package_ios(demo_phone, out)
    assert changed.read_text() == "mine"
    added = out / "App/Sources/Mine.swift"
    added.write_text("mine")
    with pytest.raises(EdgeLLMError, match="did not write"):
        package_ios(demo_phone, out, force=True)
    added.unlink()
    assert not package_ios(demo_phone, out, force=True).unchanged
    assert changed.read_text() != "mine"
