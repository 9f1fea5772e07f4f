"""`edgellm package web`: what it writes, refuses and serves. The page itself is tested in webgpu/."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgellm
from edgellm.bundle import BundleWriter
from edgellm.errors import EdgeLLMError, MissingDependencyError
from edgellm.package import page, web
from edgellm.package import site as sites
from edgellm.package.serve import SiteServer
from tests.support import WEBGPU, npm_packages, require


@pytest.fixture(scope="module", autouse=True)
def page_packages() -> None:
    """What the page is built with is installed."""
    npm_packages()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model for browsers."""
    require(module="tvm", reason="it builds programs: pip install 'edgellm[tvm]'")
    out = tmp_path_factory.mktemp("web") / "bundle"
    edgellm.build("demo", target="webgpu", out=out)
    return out


@pytest.fixture(scope="module")
def site(bundle: Path) -> Path:
    out = bundle.parent / "site"
    web.package_web(bundle, out, name="A <model>", title='"Chat"')
    return out


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgellm", "package", "web", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def tree(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def test_every_file_is_listed_with_its_hash(site: Path) -> None:
    files = tree(site)
    listed = json.loads(files.pop("site.json"))
    entries = [*listed["page"], listed["worker"], *listed["model"]]
    assert {entry["path"]: entry["sha256"] for entry in entries} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert {entry["path"]: entry["bytes"] for entry in entries} == {n: len(data) for n, data in files.items()}
    assert listed["version"].encode() in files["sw.js"]
    assert not [name for name in files if b"__EDGELLM_" in files[name]]


def test_the_bundle_in_it_is_whole(site: Path) -> None:
    assert web.Bundle.open(site / "model", check_hashes=True).manifest.target == "webgpu"


def test_the_page_has_a_policy_and_its_names_as_text(site: Path) -> None:
    text = (site / "index.html").read_text("utf-8")
    policy = text.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.replace("&#x27;", "'") == sites.PAGE_POLICY
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "A &lt;model&gt;</h1>" in text
    assert "<title>&quot;Chat&quot;</title>" in text
    # Nothing inline, and nothing from elsewhere: the policy would refuse it.
    assert "<style" not in text
    assert 'src="//' not in text
    assert 'src="http' not in text
    assert "<script>" not in text


def test_the_same_again_changes_nothing_and_elsewhere_gives_the_same_bytes(
    bundle: Path, site: Path, tmp_path: Path
) -> None:
    before = {file: file.stat().st_mtime_ns for file in site.rglob("*")}
    assert web.package_web(bundle, site, name="A <model>", title='"Chat"').unchanged
    assert {file: file.stat().st_mtime_ns for file in site.rglob("*")} == before
    web.package_web(bundle, tmp_path / "again", name="A <model>", title='"Chat"')
    assert tree(tmp_path / "again") == tree(site)


def test_another_site_is_replaced_with_force_and_only_if_nothing_else_is_in_it(
    bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    web.package_web(bundle, out)
    done = run(bundle, "--out", out, "--title", "Other")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--force replaces it" in done.stderr
    assert not web.package_web(bundle, out, title="Other", force=True).unchanged
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(EdgeLLMError, match=r"mine\.txt"):
        web.package_web(bundle, out, title="Third", force=True)
    (out / "mine.txt").unlink()
    # A damaged file is not the same site; it is mended.
    (out / "icon.svg").write_text("<svg/>")
    assert not web.package_web(bundle, out, title="Other", force=True).unchanged
    assert [entry.name for entry in tmp_path.iterdir()] == ["site"]


def test_a_bundle_without_a_program_for_browsers_is_refused(bundle: Path, tmp_path: Path) -> None:
    manifest = web.Bundle.open(bundle).manifest
    with BundleWriter(tmp_path / "other") as writer:
        for name in ("tokenizer.json", "chat_template.jinja"):
            writer.add(name, (bundle / name).read_bytes())
        writer.commit(web.msgspec.structs.replace(manifest, target="x86-64"))
    done = run(tmp_path / "other", "--out", tmp_path / "site")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "built for x86-64" in done.stderr
    assert "--target webgpu" in done.stderr
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("file", "is a file"),
        ("full", "is not a site"),
        ("bundle/site", "lies in the bundle"),
        (".", "current"),
    ],
)
def test_a_wrong_place_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, said: str
) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(EdgeLLMError, match=said):
        web.package_web("bundle", out, force=True)
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
    done = run(copy, "--out", tmp_path / "deep/site")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "weights-000.bin" in done.stderr
    # Large files are not hashed when a bundle is opened, but as they are copied.
    monkeypatch.setattr("edgellm.bundle.bundle._HASHED_AT_OPEN", 0)
    with pytest.raises(EdgeLLMError, match=r"weights-000\.bin is damaged"):
        web.package_web(copy, tmp_path / "deep/site")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 121, "\x1b[31m"])
def test_a_name_is_one_printable_line(bundle: Path, tmp_path: Path, name: str) -> None:
    done = run(bundle, "--out", tmp_path / "site", "--name", name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_report_for_machines(bundle: Path, site: Path) -> None:
    done = run(bundle, "--out", site, "--name", "A <model>", "--title", '"Chat"', "--json")
    report = json.loads(done.stdout)
    assert report["unchanged"] is True
    assert report["url"] is None
    assert report["page_bytes"] + report["model_bytes"] == sum(
        len(data) for name, data in tree(site).items() if name != "site.json"
    )


@pytest.mark.parametrize(("hide", "said"), [("npm", "needs npm"), ("vite", "run npm ci in")])
def test_what_building_the_page_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hide: str, said: str
) -> None:
    sources = tmp_path / "webgpu"
    ignored = shutil.ignore_patterns("node_modules", "dist*", ".cache", "test-results")
    shutil.copytree(WEBGPU, sources, ignore=ignored)
    theme = tmp_path / page._THEME
    theme.parent.mkdir(parents=True)
    shutil.copy(WEBGPU.parent / page._THEME, theme)
    monkeypatch.setenv("EDGELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(page, "data_dir", lambda name: tmp_path / name)
    if hide == "npm":
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=said):
        page.built_page()


def test_an_installation_without_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "data_dir", lambda name: tmp_path / name)
    with pytest.raises(MissingDependencyError, match="has no chat page"):
        page.built_page()


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[tuple[str, int]]:
    manifest = sites.read_site(site)
    assert manifest is not None
    server = SiteServer(site, manifest, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.server_address[0], server.server_address[1]
    server.shutdown()
    server.server_close()


def get(
    served: tuple[str, int], path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*served, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_it_is_served_with_its_headers_and_ranges(site: Path, served: tuple[str, int]) -> None:
    assert served[0] == "127.0.0.1"
    status, headers, body = get(served, "/")
    assert (status, body) == (200, (site / "index.html").read_bytes())
    assert headers.items() >= sites.HEADERS.items()
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    shard = (site / "model/tvm/weights-000.bin").read_bytes()
    path = "/model/tvm/weights-000.bin"
    assert get(served, path)[2] == shard
    status, headers, body = get(served, path, Range="bytes=1000-")
    assert (status, body) == (206, shard[1000:])
    assert headers["Content-Range"] == f"bytes 1000-{len(shard) - 1}/{len(shard)}"
    assert get(served, path, Range="bytes=5-9")[2] == shard[5:10]
    assert get(served, path, Range=f"bytes={len(shard)}-")[0] == 416
    assert get(served, path, Range="bytes=x")[0] == 200
    status, headers, body = get(served, path, method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(shard)))


@pytest.mark.parametrize(
    "path",
    ["/../bundle/edgellm.json", "/%2e%2e/bundle/edgellm.json", "//etc/passwd", "/model/", "/%00"],
)
def test_nothing_but_the_sites_files_is_served(served: tuple[str, int], path: str) -> None:
    assert get(served, path)[0] == 404


def test_a_taken_port_is_told_in_one_line(bundle: Path, site: Path, served: tuple[str, int]) -> None:
    done = run(
        bundle, "--out", site, "--name", "A <model>", "--title", '"Chat"', "--serve", "--port", str(served[1])
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--port 0" in done.stderr


def test_a_site_of_a_link_is_not_read(tmp_path: Path, site: Path) -> None:
    (tmp_path / "site.json").symlink_to(site / "site.json")
    assert sites.read_site(tmp_path) is None
    assert os.path.lexists(tmp_path / "site.json")
