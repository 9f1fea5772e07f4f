"""resolve_model: directories, the shipped model, and downloads from a small hub served here.

huggingface_hub reads its environment when it is imported, so each download runs in its own process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgellm.checkpoint import Checkpoint, resolve_model
from edgellm.errors import UsageError
from edgellm.resources import data_dir
from tests.checkpoint.small_hub import SmallHub, serving
from tests.make_checkpoints import make_checkpoint

_SCRIPT = """
import json, sys
from edgellm.checkpoint import Checkpoint, resolve_model
from edgellm.errors import EdgeLLMError
model, options = sys.argv[1], json.loads(sys.argv[2])
seen = []
progress = (lambda done, total: seen.append((done, total))) if options.pop("report", False) else None
try:
    found = resolve_model(model, progress=progress, **options)
    with Checkpoint.open(found.path, name=found.name, revision=found.revision) as checkpoint:
        weights = len([checkpoint.weights.read(name) for name in checkpoint.weights.names()])
    print(json.dumps({"path": str(found.path), "name": found.name, "revision": found.revision,
                      "weights": weights, "progress": seen[-1:], "torch": "torch" in sys.modules}))
except EdgeLLMError as error:
    print(json.dumps({"error": str(error), "kind": type(error).__name__}))
"""


class Client:
    """Resolves models in fresh processes that share one cache."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self.endpoint = endpoint
        self.home = home

    def __call__(self, model: str, env: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        hidden = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        settings = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_ETAG_TIMEOUT": "5",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            **(env or {}),
        }
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, model, json.dumps(options)],
            capture_output=True,
            text=True,
            timeout=120,
            env=hidden | settings,
            cwd=self.home,
            check=False,
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result


@pytest.fixture
def hub() -> SmallHub:
    return SmallHub()


@pytest.fixture
def client(hub: SmallHub, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "home").mkdir()
    with serving(hub) as endpoint:
        yield Client(endpoint, tmp_path / "home")


def add_model(hub: SmallHub, tmp_path: Path, name: str = "tiny-org/tiny.model-1", **options: Any) -> str:
    directory = make_checkpoint(tmp_path / "source" / name, **{"shards": 2, **options})
    (directory / "pytorch_model.bin").write_bytes(b"never")
    (directory / "modeling_x.py").write_text("raise SystemExit")
    (directory / "original").mkdir(exist_ok=True)
    (directory / "original" / "params.json").write_text("{}")
    (directory / "README.md").write_text("---\nlicense: mit\n---\n")
    return hub.add(name, directory)


MODEL = "tiny-org/tiny.model-1"


def test_a_download_then_the_cache_alone(hub: SmallHub, client: Client, tmp_path: Path) -> None:
    commit = add_model(hub, tmp_path)
    first = client(MODEL, report=True)
    assert (first["name"], first["revision"]) == (MODEL, commit)
    assert first["weights"] == 30 and not first["torch"]
    done, total = first["progress"][0]
    assert done == total > 500_000
    files = {path.name for path in Path(first["path"]).iterdir()}
    assert {"config.json", "tokenizer.json", "README.md", "model.safetensors.index.json"} <= files
    assert not files & {"pytorch_model.bin", "modeling_x.py", "original"}
    hub.requests.clear()
    assert client(MODEL)["path"] == first["path"]
    assert client(MODEL, offline=True)["path"] == first["path"]
    assert client(MODEL, env={"HF_HUB_OFFLINE": "1"})["path"] == first["path"]
    assert hub.requests == []


def test_revisions(hub: SmallHub, client: Client, tmp_path: Path) -> None:
    old = add_model(hub, tmp_path)
    new = hub.add(MODEL, make_checkpoint(tmp_path / "new", seed=5), "v2/tuned")
    assert client(MODEL, revision="v2/tuned")["revision"] == new
    assert client(MODEL, revision=old)["revision"] == old
    assert client(MODEL, revision=new)["revision"] == new
    error = client(MODEL, revision="v9")
    assert error["kind"] == "CheckpointError" and f"{MODEL} has no revision v9" in error["error"]


BIG = {"shards": 1, "intermediate_size": 8192}  # 19 MB; huggingface_hub writes 10 MB at a time


def ranges(hub: SmallHub) -> list[int]:
    """Where the requests for a part of a file began."""
    return [int(asked[6:].split("-")[0]) for _, _, asked in hub.requests if asked]


def test_a_cut_connection_resumes_where_it_stopped(hub: SmallHub, client: Client, tmp_path: Path) -> None:
    add_model(hub, tmp_path, **BIG)
    hub.cut_after, hub.cuts_left = 12_000_000, 1
    assert client(MODEL)["weights"] == 30
    assert hub.cuts_left == 0 and len(ranges(hub)) == 1
    assert 10_000_000 <= ranges(hub)[0] <= 12_000_000


def test_a_download_that_was_given_up_is_finished_later(
    hub: SmallHub, client: Client, tmp_path: Path
) -> None:
    add_model(hub, tmp_path, **BIG)
    hub.cut_after, hub.cuts_left = 0, 1000
    error = client(MODEL)
    assert error["kind"] == "CheckpointError" and "cannot be downloaded" in error["error"]
    offline = client(MODEL, offline=True)
    assert "not (completely) in the cache" in offline["error"]
    hub.cuts_left = 0
    assert client(MODEL)["weights"] == 30


def test_offline_and_never_downloaded(hub: SmallHub, client: Client, tmp_path: Path) -> None:
    add_model(hub, tmp_path)
    error = client(MODEL, offline=True)
    assert error["kind"] == "CheckpointError" and "without --offline" in error["error"]
    assert hub.requests == []


def test_a_model_that_is_not_there(hub: SmallHub, client: Client) -> None:
    error = client("tiny-org/none")
    assert error["kind"] == "CheckpointError"
    assert "tiny-org/none does not exist" in error["error"] and "\n" not in error["error"]


def test_a_gated_model_says_how_to_log_in(hub: SmallHub, client: Client, tmp_path: Path) -> None:
    add_model(hub, tmp_path)
    hub.gated.add(MODEL)
    error = client(MODEL)
    assert "is gated" in error["error"] and "hf auth login" in error["error"] and "HF_TOKEN" in error["error"]
    assert client(MODEL, env={"HF_TOKEN": "hf_good"})["weights"] == 30


def test_no_network(client: Client) -> None:
    client.endpoint = "http://127.0.0.1:9"  # nobody listens on the discard port
    error = client(MODEL)
    assert error["kind"] == "CheckpointError"
    assert "cannot be downloaded from http://127.0.0.1:9" in error["error"] and len(error["error"]) < 600


def test_a_model_without_tokenizer_is_refused_after_the_download(
    hub: SmallHub, client: Client, tmp_path: Path
) -> None:
    directory = make_checkpoint(tmp_path / "source")
    (directory / "tokenizer.json").unlink()
    hub.add(MODEL, directory)
    assert "tokenizer.json is missing" in client(MODEL)["error"].replace(
        "cannot be read: No such file", "is missing"
    )


@pytest.mark.parametrize(
    "model",
    [
        "a",
        "a/b/c",
        "../nowhere",
        "a/../b",
        "./nowhere",
        "/nowhere/x",
        "a b/c",
        "org/na--me",
        "org/.hidden",
        "é/b",
    ],
)
def test_names_that_are_no_models(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="neither a directory nor a Hugging Face id"):
        resolve_model(model)


@pytest.mark.parametrize("revision", ["../x", "a b", "", "x" * 200, "-x"])
def test_revisions_that_are_none(revision: str) -> None:
    with pytest.raises(UsageError, match="is not a branch"):
        resolve_model(MODEL, revision=revision)


def test_an_empty_name() -> None:
    with pytest.raises(UsageError, match="is empty"):
        resolve_model("")


def test_directories_and_files(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "my-model")
    found = resolve_model(directory)
    assert (found.path, found.name, found.revision) == (directory, "my-model", None)
    with pytest.raises(UsageError, match=r"needs a Hugging Face id"):
        resolve_model(directory, revision="main")
    with pytest.raises(UsageError, match="is a file"):
        resolve_model(directory / "config.json")


@pytest.mark.parametrize("name", ["demo", "models/demo"])
def test_the_shipped_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = resolve_model(name)
    assert (found.path, found.name) == (data_dir("models") / "demo", "demo")
    with Checkpoint.open(found.path) as checkpoint:
        assert checkpoint.config.family == "llama" and checkpoint.chat_template
