"""Writing: a bundle directory either does not exist or is whole, and nobody's files are lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgellm.bundle import Bundle, BundleWriter, place, verify
from edgellm.bundle.place import exchange, foreign_files
from edgellm.errors import BundleError
from tests.bundle.example import FILES, manifest, write_example

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys, pathlib
from edgellm.bundle import BundleWriter
with BundleWriter(sys.argv[1], force=True) as writer:
    (writer.path / "part").write_bytes(b"x" * 1000)
    print("ready", flush=True)
    sys.stdin.read()
"""


def hidden(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir() if entry.name.startswith(".")]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process in the middle of building `tmp_path/b`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "b")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write_example(tmp_path / "one"), write_example(tmp_path / "elsewhere" / "two")
    for name in ("edgellm.json", *FILES):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert str(tmp_path) not in (one.path / "edgellm.json").read_text()


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.folder("ctranslate2")
        for name, data in FILES.items():
            writer.add(name, data)
        assert not (tmp_path / "b").exists()
        assert writer.path.parent == tmp_path and writer.path.name.startswith(".b.building-")
        writer.commit(manifest())
        assert verify(tmp_path / "b") == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_error_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), BundleWriter(tmp_path / "deep" / "er" / "b") as writer:
        writer.add("tokenizer.json", b"{}")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_manifest_is_not_put_in_place(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json"), BundleWriter(tmp_path / "b") as writer:
        writer.add("LICENSE", b"x")
        writer.commit(manifest())
    assert list(tmp_path.iterdir()) == []


def test_file_names_that_no_bundle_may_have(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer, pytest.raises(BundleError, match="leaves the bundle"):
        writer.add("../evil", b"")


def test_an_existing_bundle_needs_force(tmp_path: Path) -> None:
    write_example(tmp_path / "b")
    with pytest.raises(BundleError, match="--force"):
        write_example(tmp_path / "b")
    changed = FILES | {"LICENSE": b"other\n"}
    bundle = write_example(tmp_path / "b", force=True, files=changed)
    assert verify(bundle) == [] and bundle.file("LICENSE").read_bytes() == b"other\n"
    assert hidden(tmp_path) == []


def test_an_empty_directory_is_a_fine_place(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    assert verify(write_example(tmp_path / "b")) == []


@pytest.mark.parametrize("force", [False, True])
def test_places_that_are_not_ours(tmp_path: Path, force: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    for out, says in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "home", "not a bundle"),
        (Path("/"), "root"),
    ):
        with pytest.raises(BundleError, match=says):
            write_example(out, force=force)
    with pytest.raises(BundleError, match=r"cannot write in .*file"):
        write_example(tmp_path / "file" / "sub" / "b", force=force)
    bundle = write_example(tmp_path / "b")
    monkeypatch.chdir(bundle.path / "ctranslate2")
    with pytest.raises(BundleError, match="current directory"):
        write_example(bundle.path, force=force)
    assert (tmp_path / "home" / "letter.txt").read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "file", "home"]


@pytest.mark.parametrize("name", ["notes.txt", "ctranslate2/mine.txt", "photos/one.jpg", "LICENSE-link"])
def test_force_never_takes_a_users_files(tmp_path: Path, name: str) -> None:
    bundle = write_example(tmp_path / "b")
    file = bundle.path / name
    file.parent.mkdir(exist_ok=True)
    if name.endswith("link"):
        file.symlink_to(tmp_path)
    else:
        file.write_text("mine")
    with pytest.raises(BundleError, match="not the bundle's"):
        write_example(tmp_path / "b", force=True)
    assert file.exists() and verify(bundle)[0].problem != ""


def test_force_replaces_a_damaged_bundle(tmp_path: Path) -> None:
    bundle = write_example(tmp_path / "b")
    (bundle.path / "edgellm.json").write_bytes(b"\0garbage")
    assert foreign_files(bundle.path) == []
    assert verify(write_example(tmp_path / "b", force=True)) == []


def test_files_that_appear_during_the_build_survive(tmp_path: Path) -> None:
    write_example(tmp_path / "b")
    with (
        pytest.raises(BundleError, match="not the bundle's"),
        BundleWriter(tmp_path / "b", force=True) as writer,
    ):
        writer.add("tokenizer.json", b"{}")
        (tmp_path / "b" / "thesis.tex").write_text("mine")
        writer.commit(manifest(chat_template=None))
    assert (tmp_path / "b" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "b" / "LICENSE").exists() and hidden(tmp_path) == []


def test_a_directory_that_appears_during_the_build_is_left(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="somebody else"), BundleWriter(tmp_path / "b") as writer:
        writer.add("tokenizer.json", b"{}")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "thesis.tex").write_text("mine")
        writer.commit(manifest(chat_template=None))
    assert (tmp_path / "b" / "thesis.tex").read_text() == "mine" and hidden(tmp_path) == []


def test_a_link_to_another_place_is_followed(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "big-disk" / "b")
    bundle = write_example(tmp_path / "link")
    assert bundle.path == tmp_path / "big-disk" / "b" and verify(tmp_path / "link") == []


def test_a_living_builder_is_left_alone(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(BundleError, match=rf"another build \(process {holder.pid}\)"):
        write_example(tmp_path / "b")
    (part,) = hidden(tmp_path)
    assert (tmp_path / part / "part").exists()
    write_example(tmp_path / "b2")  # another bundle in the same directory is nobody's business


def test_a_killed_builders_leftovers_are_removed(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    assert len(hidden(tmp_path)) == 1 and not (tmp_path / "b").exists()
    write_example(tmp_path / "b2")
    assert len(hidden(tmp_path)) == 1, "another bundle's leftovers are not ours to remove"
    write_example(tmp_path / "b")
    assert hidden(tmp_path) == []


def test_names_that_only_look_like_leftovers_stay(tmp_path: Path) -> None:
    (tmp_path / ".b.building-notes").mkdir()
    (tmp_path / ".b.building-12-0123abcd").write_text("a file")
    write_example(tmp_path / "b")
    assert len(hidden(tmp_path)) == 2


def test_two_builders_at_once_one_wins(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom tests.bundle.example import write_example\n"
        "from edgellm.errors import BundleError\nsys.stdin.readline()\n"
        "try: write_example(pathlib.Path(sys.argv[1]))\n"
        "except BundleError as error: print(error); sys.exit(3)"
    )
    for attempt in range(3):
        out = tmp_path / str(attempt)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(out)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            for _ in range(2)
        ]
        time.sleep(0.5)
        for process in both:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[0].decode() for process in both]
        assert sorted(process.returncode for process in both) == [0, 3], said
        assert verify(out) == []
    assert hidden(tmp_path) == []


def test_exchange_is_atomic_where_the_system_can(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "old").touch()
    if sys.platform.startswith("linux"):
        assert exchange(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b" / "old").exists()
    with pytest.raises(OSError, match=r"[Nn]o such file"):
        exchange(tmp_path / "none", tmp_path / "b")


def test_replacing_without_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgellm.bundle.writer.exchange", lambda one, other: False)
    write_example(tmp_path / "b")
    assert verify(write_example(tmp_path / "b", force=True)) == []
    assert hidden(tmp_path) == []


def test_the_old_bundle_comes_back_after_a_kill_between_two_renames(tmp_path: Path) -> None:
    bundle = write_example(tmp_path / "b")
    bundle.path.rename(place.new_name(bundle.path, "replaced"))
    with pytest.raises(RuntimeError), BundleWriter(tmp_path / "b", force=True):
        raise RuntimeError("the next build fails too")
    assert verify(tmp_path / "b") == [] and hidden(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="directory permissions of POSIX")
def test_a_directory_that_may_not_be_written() -> None:
    code = (
        "import os, sys, pathlib\nfrom tests.bundle.example import write_example\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "try: write_example(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    # Not tmp_path: another user, whom root becomes here, may not even look into that.
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder)
        closed.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", code, str(closed / "b")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.startswith("BundleError cannot write in "), done
        assert "ermission denied" in done.stdout
        assert list(closed.iterdir()) == []
        closed.chmod(0o755)


def test_too_little_space_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="free some space"), BundleWriter(tmp_path / "b", need_bytes=10**18):
        pytest.fail("must not be reached")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_opens_from_any_kind_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    assert Bundle.open("b").path == Bundle.open(tmp_path / "x" / ".." / "b").path == tmp_path / "b"
