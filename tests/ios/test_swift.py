"""The Swift package and the sample app: all parses; with a Swift compiler, types, and tests over the core."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgellm.package.chat_format import compile_chat_format
from edgellm.package.ios import package_ios
from tests.ios.software import environment, runtime
from tests.ios.swift_tools import REPOSITORY, Swift, swift_tools
from tests.support import require

IOS = REPOSITORY / "ios"
OWN_TESTS = Path(__file__).with_name("swift")
FILES = [
    *sorted(IOS.rglob("*.swift")),
    *sorted(OWN_TESTS.glob("*.swift")),
    REPOSITORY / "native/Package.swift",
]
_HERE = ("--disable-sandbox", "-j", "2")
MODES = ("5", "6")
"""Versions of the language: the package says 5, and what uses it may say 6."""


@pytest.fixture(scope="session")
def swift() -> Swift:
    return swift_tools()


@pytest.fixture
def grammar():  # type: ignore[no-untyped-def]
    """A parser that knows Swift's grammar, without a compiler."""
    require(module="tree_sitter_swift", reason="it parses Swift: pip install 'edgellm[test]'")
    import tree_sitter
    import tree_sitter_swift

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))


def test_every_file_parses(grammar) -> None:  # type: ignore[no-untyped-def]
    wrong = [file for file in FILES if grammar.parse(file.read_bytes()).root_node.has_error]
    assert not wrong
    text = (IOS / "Sources/EdgeLLM/Engine.swift").read_bytes()
    assert grammar.parse(text.replace(b"async throws {", b"async throws ", 1)).root_node.has_error


def test_only_screens_need_apples_frameworks() -> None:
    """All else is Foundation's and the core's, and so can be tried here."""
    allowed = {"Foundation", "EdgeLLM", "CEdgeLLM", "XCTest", "Chat", "PackageDescription"}
    for file in FILES:
        imported = set(re.findall(r"(?m)^(?:@testable )?import (\w+)", file.read_text()))
        if file.parent.name == "Sources":  # of the app
            allowed_here = allowed if file.name == "Chat.swift" else {"SwiftUI", "EdgeLLM"}
        else:
            # os has the memory that iOS leaves to an app, behind a condition.
            allowed_here = allowed | ({"os"} if file.name == "Memory.swift" else set())
        assert imported <= allowed_here, file


@pytest.mark.parametrize("mode", MODES)
def test_types(swift: Swift, mode: str, tmp_path: Path) -> None:
    """With Swift's own parser for the screens, and warnings as errors for all else."""
    common = ["swiftc", "-swift-version", mode, "-strict-concurrency=complete", "-warnings-as-errors"]
    core = ["-I", REPOSITORY / "native/include"]
    package = sorted((IOS / "Sources/EdgeLLM").glob("*.swift"))
    module = [
        "-emit-module",
        "-module-name",
        "EdgeLLM",
        "-emit-module-path",
        tmp_path / "EdgeLLM.swiftmodule",
    ]
    app = [IOS / "App/Sources/Chat.swift", "-module-name", "Chat"]
    screens = [file for file in (IOS / "App/Sources").glob("*.swift") if file.name != "Chat.swift"]
    for command in (
        [*common, *core, *module, *package],
        [*common, *core, "-I", tmp_path, "-typecheck", *app],
        [*common, "-parse", *screens],
    ):
        done = swift.run(command, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_types_are_found(swift: Swift, tmp_path: Path) -> None:
    text = (IOS / "Sources/EdgeLLM/Stream.swift").read_text()
    changed = text.replace("var size = 0", 'var size = "0"')
    assert changed != text
    (tmp_path / "Stream.swift").write_text(changed)
    others = [file for file in (IOS / "Sources/EdgeLLM").glob("*.swift") if file.name != "Stream.swift"]
    core = ["-I", REPOSITORY / "native/include"]
    done = swift.run(["swiftc", "-typecheck", *core, *others, tmp_path / "Stream.swift"], tmp_path)
    assert done.returncode != 0 and "error:" in done.stderr


@pytest.mark.parametrize("where", ["repository", "project"])
def test_the_package_builds_with_the_core(swift: Swift, where: str, demo_phone: Path, tmp_path: Path) -> None:
    """As its manifests say: on Linux without Metal's files."""
    if where == "project":
        package = package_ios(demo_phone, tmp_path / "app").path / "EdgeLLM"
    else:
        package = tmp_path / "ios"
        for name in ("native", "ios"):
            ignored = shutil.ignore_patterns(".build", "App")
            shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignored)
    assert "warning:" not in _build(swift, package)


def test_the_api_and_the_app_answer_through_metal(
    swift: Swift, metal: Path, demo_phone: Path, demo_kernels: Path, tmp_path: Path
) -> None:
    """The tests of both, over the software Metal, which also finds what they leave behind."""
    package = tmp_path / "phone"
    _lay_out(package, metal)
    model = package / "Model"
    shutil.copytree(demo_phone, model / "bundle")
    (model / "chat.json").write_bytes(compile_chat_format(demo_phone).encode())
    shutil.copytree(demo_kernels, package / "kernels")
    libraries = str(package / "lib")
    links = ("-Xlinker", f"-L{libraries}", "-Xlinker", f"-rpath={libraries}")
    _build(swift, package, "--build-tests", *links)
    settings = _settings(package) | {"EDGELLM_BUNDLE": str(model / "bundle")}
    done = swift.run(["swift-test", "--skip-build", *_HERE, *links], package, settings)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-4000:]
    executed, skipped = _counts(told)
    assert (executed, skipped) == (_tests_in(IOS / "Tests/EdgeLLMTests") + _tests_in(OWN_TESTS), 0)


def test_the_api_answers_as_the_core_does(
    swift: Swift, metal: Path, demo_phone: Path, demo_kernels: Path, tmp_path: Path
) -> None:
    """The first lines of the README, as a program."""
    package = tmp_path / "answer"
    _lay_out(package, metal)
    source = package / "main.swift"
    source.write_text(
        """
        import EdgeLLM
        import Foundation

        func answer() async throws {
            let engine = try await Engine(bundle: URL(fileURLWithPath: CommandLine.arguments[1]))
            var settings = engine.defaults
            settings.temperature = 0
            settings.maxTokens = 12
            for try await text in engine.stream(prompt: "What is a bundle?", settings: settings) {
                print(text, terminator: "")
            }
            print()
        }
        try await answer()
        """
    )
    shutil.copytree(demo_phone, package / "bundle")
    shutil.copytree(demo_kernels, package / "kernels")
    common = ["swiftc", "-O", "-I", package / "Sources/CEdgeLLM", "-I", package]
    library = [*common, "-emit-module", "-emit-library", "-module-name", "EdgeLLM"]
    links = ["-L", package / "lib", "-L", package, "-lEdgeLLM", "-Xlinker", f"-rpath={package / 'lib'}"]
    for command in (
        [*library, *sorted((package / "Sources/EdgeLLM").glob("*.swift")), *links[:2], "-lobjc"],
        [*common, source, "-o", "answer", *links, "-Xlinker", f"-rpath={package}"],
    ):
        done = swift.run(command, package)
        assert done.returncode == 0, done.stdout + done.stderr
    done = swift.run([package / "answer", package / "bundle"], package, _settings(package))
    assert done.returncode == 0, done.stderr
    command = [metal / "edgellm-native", demo_phone, "--prompt", "What is a bundle?"]
    core = subprocess.run(
        [*command, "--temperature", "0", "--max-tokens", "12"],
        capture_output=True, text=True, check=True, env=environment([demo_kernels]),
    )  # fmt: skip
    assert done.stdout == core.stdout and len(done.stdout) > 10


def _build(swift: Swift, package: Path, *options: str) -> str:
    """What building a package says."""
    done = swift.run(["swift-build", *_HERE, *options], package)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout + done.stderr


def _lay_out(package: Path, metal: Path) -> None:
    """A package of the API, the app's conversation and all tests, and the core's library."""
    sources, tests = package / "Sources", package / "Tests"
    for folder, files in (
        (sources / "EdgeLLM", (IOS / "Sources/EdgeLLM").glob("*.swift")),
        (sources / "Chat", [IOS / "App/Sources/Chat.swift"]),
        (sources / "CEdgeLLM", [REPOSITORY / "native/include/edgellm.h"]),
        (tests / "EdgeLLMTests", (IOS / "Tests/EdgeLLMTests").glob("*.swift")),
        (tests / "ChatTests", [OWN_TESTS / "ChatTests.swift"]),
        (package, [OWN_TESTS / "Package.swift"]),
        (package / "lib", [metal / "libedgellm.so"]),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / file.name)
    objective_c = runtime()
    for name in (objective_c.name, "libobjc.so"):
        shutil.copyfile(objective_c, package / "lib" / name)
    (sources / "CEdgeLLM/module.modulemap").write_text(
        'module CEdgeLLM [system] {\n    header "edgellm.h"\n    link "edgellm"\n    export *\n}\n'
    )


def _settings(package: Path) -> dict[str, str]:
    """What finds the software Metal and its libraries, beside what Swift's tools need."""
    told = environment([package / "kernels"])
    found = {name: value for name, value in told.items() if name.startswith("SOFTWARE_METAL")}
    return found | {"LD_LIBRARY_PATH": str(package / "lib")}


def _tests_in(folder: Path) -> int:
    return sum(len(re.findall(r"func test\w+\(", file.read_text())) for file in folder.glob("*Tests.swift"))


def _counts(told: str) -> tuple[int, int]:
    """Tests that XCTest executed and skipped, in all."""
    last = re.findall(r"Executed (\d+) tests?, with (?:(\d+) tests? skipped and )?", told)[-1]
    return int(last[0]), int(last[1] or 0)
