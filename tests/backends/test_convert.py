"""What the build writes: the same bytes each time, little memory, and nothing it cannot express."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgellm.backends import get_backend
from edgellm.backends.base import BuildPlan
from edgellm.backends.ctranslate2.backend import backend, kv_bytes_per_token
from edgellm.backends.ctranslate2.vocabulary import distinct_tokens
from edgellm.checkpoint.checkpoint import Checkpoint
from edgellm.errors import CheckpointError
from tests.backends.build import build, checkpoint, generate, model
from tests.golden.cases import CONTEXT, golden
from tests.make_checkpoints import make_checkpoint, random_tensors, write_safetensors, write_tensors

REPOSITORY = Path(__file__).resolve().parents[2]


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("quant", ["int8", "fp32"])
@pytest.mark.parametrize("name", ["llama-tied", "gemma3", "qwen2"])
def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path, name: str, quant: str) -> None:
    build(checkpoint(name), tmp_path / "one", quant)
    build(checkpoint(name), tmp_path / "two", quant)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert set(files(tmp_path / "one")) == {"model.bin", "config.json", "vocabulary.json"}


@pytest.mark.parametrize("quant", ["int8", "fp32"])
@pytest.mark.parametrize("name", ["llama-tied", "phi3-partial-rotary", "qwen2"])
def test_the_stream_is_what_the_library_itself_would_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, quant: str
) -> None:
    from edgellm.backends.ctranslate2 import model_file

    build(checkpoint(name), tmp_path / "streamed", quant)
    monkeypatch.setattr(model_file, "_VERSION", -1)  # as if the library's format were another one
    build(checkpoint(name), tmp_path / "library", quant)
    assert files(tmp_path / "streamed") == files(tmp_path / "library")


def test_many_small_chunks_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgellm.backends.ctranslate2 import variables

    build(checkpoint("llama-biases"), tmp_path / "whole", "int8")
    monkeypatch.setattr(variables, "_CHUNK_VALUES", 7 * 64)
    build(checkpoint("llama-biases"), tmp_path / "pieces", "int8")
    assert files(tmp_path / "whole") == files(tmp_path / "pieces")


def test_shards_and_generations_of_files_give_the_same_weights(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "a", "llama", dtype="F16")
    make_checkpoint(tmp_path / "b", "llama", dtype="F16", shards=3, generation=5)
    build(tmp_path / "a", tmp_path / "a8", "int8")
    build(tmp_path / "b", tmp_path / "b8", "int8")
    assert files(tmp_path / "a8")["model.bin"] == files(tmp_path / "b8")["model.bin"]


def test_sizes_and_facts() -> None:
    for name, quant, bytes_per_weight in (
        ("llama", "fp32", 4),
        ("llama", "int8", 1),
        ("llama-tied", "int8", 1),
    ):
        built = model(name, quant)
        with Checkpoint.open(checkpoint(name)) as opened:
            parameters = sum(np.prod(opened.weights.shape(name)) for name in opened.weights.names())
        size = (built.directory / "model.bin").stat().st_size
        assert built.built.weight_bytes == size
        assert parameters * bytes_per_weight < size < parameters * bytes_per_weight * 1.12 + 8192
        assert built.built.batching == "request"
        assert built.built.backend_version.startswith("4.")
    assert kv_bytes_per_token(model("llama").config) == 2 * 3 * 4 * 16 * 4


def test_progress_reaches_the_whole(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (tmp_path / "out").mkdir()
    with Checkpoint.open(checkpoint("llama-tied")) as opened:
        backend.build(
            opened, BuildPlan("x86-64", "int8", 64), tmp_path / "out", lambda stage, *at: seen.append(at)
        )
        total = opened.weights.total_bytes()
    assert len(seen) > 10
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {all_ for _, all_ in seen} == {total}
    assert seen[-1] == (total, total)


def test_a_nan_weight_stops_the_build(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "bad", "llama")
    tensors = random_tensors("llama", json.loads((directory / "config.json").read_text()), 0)
    tensors["model.layers.1.mlp.up_proj.weight"][7, 5] = np.nan
    write_tensors(directory, tensors, "F32")
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight holds a NaN"):
        build(directory, tmp_path / "out", "int8")


def test_an_adapter_is_in_the_built_weights(tmp_path: Path) -> None:
    """Built with an adapter and built from weights merged beforehand: the same file."""
    source = make_checkpoint(tmp_path / "base", "phi3", num_hidden_layers=2, pad_token_id=0)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    rng = np.random.default_rng(5)
    pairs = {"self_attn.qkv_proj": (64, 128), "mlp.down_proj": (96, 64)}
    tensors: dict[str, np.ndarray] = {}
    config = json.loads((source / "config.json").read_text())
    merged = random_tensors("phi3", config, 0)
    for layer in range(2):
        for module, (inputs, outputs) in pairs.items():
            a = rng.integers(-3, 4, (4, inputs)).astype(np.float32) / 64  # exact in float32 in any order
            b = rng.integers(-3, 4, (outputs, 4)).astype(np.float32) / 64
            name = f"model.layers.{layer}.{module}"
            tensors[f"base_model.model.{name}.lora_A.weight"] = a
            tensors[f"base_model.model.{name}.lora_B.weight"] = b
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + 2 * b @ a
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    beforehand = make_checkpoint(tmp_path / "merged", "phi3", num_hidden_layers=2, pad_token_id=0)
    write_tensors(beforehand, merged, "F32")
    build(source, tmp_path / "with", "int8", adapters=[adapter])
    build(beforehand, tmp_path / "before", "int8")
    build(source, tmp_path / "without", "int8")
    with_adapter = files(tmp_path / "with")["model.bin"]
    assert with_adapter == files(tmp_path / "before")["model.bin"]
    assert with_adapter != files(tmp_path / "without")["model.bin"]


def test_longrope_takes_one_table_for_the_whole_context() -> None:
    """Below the original context the short table, beyond it the long one, as recorded in either case."""
    reference = golden("phi3-longrope-short")
    assert generate(model("phi3-longrope-short").executor, [reference.prompt]) == [reference.tokens]
    beyond = model("phi3-longrope-short", context=1024).executor
    assert generate(beyond, [reference.prompt]) != [reference.tokens]


# -- the vocabulary


def test_every_id_has_a_token_of_its_own() -> None:
    vocab = {"a": 0, "b": 1, "<extra_id_2>": 4, "twin": 1, "beyond": 6, "": 5}
    expected = ["a", "b", "<extra_id_2>_", "<extra_id_3>", "<extra_id_2>", ""]
    assert distinct_tokens(vocab, 6) == expected


def test_a_padded_vocabulary_works(tmp_path: Path) -> None:
    """More rows in the embeddings than tokens in the tokenizer: those ids can be fed and come out."""
    from edgellm.backends.base import LoadOptions
    from edgellm.backends.ctranslate2.backend import load_directory

    source = make_checkpoint(tmp_path / "c", "llama", vocab_size=500)
    build(source, tmp_path / "o", "fp32")
    tokens = json.loads((tmp_path / "o" / "vocabulary.json").read_text())
    assert len(tokens) == len(set(tokens)) == 500
    with Checkpoint.open(source) as opened:
        executor = load_directory(tmp_path / "o", opened.config, "fp32", CONTEXT, LoadOptions(threads=1))
    rows = generate(executor, [[499, 450, 7]], tokens=60)
    assert max(rows[0]) > 384


# -- refusals


def test_what_cannot_be_built_is_refused_with_the_nearest_that_can() -> None:
    config = model("qwen3").config
    plan = BuildPlan("x86-64", "int8", CONTEXT)
    assert backend.refuse(config, plan) is None
    refusal = backend.refuse(config, BuildPlan("x86-64", "int4", CONTEXT)) or ""
    assert "--quant int4" in refusal and "int8" in refusal
    partial = msgspec.structs.replace(config, rope=msgspec.structs.replace(config.rope, dim=16))
    assert "partial_rotary_factor" in (backend.refuse(partial, plan) or "")


def test_a_refusal_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from edgellm.backends import get_backend\n"
        "backend = get_backend('ctranslate2')\n"
        "assert backend.missing() is None\n"
        "assert 'ctranslate2' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=60)


def test_a_missing_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'edgellm[ctranslate2]'" in (get_backend("ctranslate2").missing() or "")


def test_an_old_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.6.0")
    assert "ctranslate2 4.6.0 is too old; pip install" in (get_backend("ctranslate2").missing() or "")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.10.0rc1")
    assert get_backend("ctranslate2").missing() is None


# -- memory

_MEASURE = """
import sys
from pathlib import Path
from edgellm.backends.base import BuildPlan
from edgellm.backends.ctranslate2.backend import backend
from edgellm.checkpoint.checkpoint import Checkpoint

source, out, quant = sys.argv[1:]
with Checkpoint.open(Path(source)) as opened:
    backend.build(opened, BuildPlan("x86-64", quant, 512), Path(out), lambda *at: None)
# The high-water mark of this program alone: what getrusage gives counts the parent before exec.
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 150 MB in fp16, most of it in one matrix, as in small models with large vocabularies."""
    return make_checkpoint(
        tmp_path_factory.mktemp("large") / "c",
        "llama",
        dtype="F16",
        vocab_size=50_000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=2,
        num_attention_heads=16,
        tie_word_embeddings=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("quant", ["int8", "fp32"])
def test_peak_memory_stays_below_the_promise(large: Path, tmp_path: Path, quant: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(large), str(tmp_path), quant],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    size = (large / "model.safetensors").stat().st_size
    assert 120e6 < size < 220e6
    assert int(done.stdout) <= 1.3 * size
