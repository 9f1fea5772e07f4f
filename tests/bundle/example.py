"""A small bundle written by the real writer, with invented contents: for tests of the format alone."""

from __future__ import annotations

from pathlib import Path

from edgellm.bundle import Bundle, BundleWriter
from edgellm.bundle.manifest import (
    FileEntry,
    Manifest,
    MemoryFacts,
    SamplingDefaults,
    Source,
    TokenizerFacts,
)
from edgellm.bundle.model_config import ModelConfig, Rope

FILES = {
    "LICENSE": b"free\n",
    "chat_template.jinja": b"{{ messages }}",
    "ctranslate2/config.json": b"{}",
    "ctranslate2/model.bin": bytes(range(256)) * 40,
    "tokenizer.json": b'{"version": "1.0"}',
}


def manifest(**changes: object) -> Manifest:
    """A valid manifest whose file list the writer fills in."""
    fields: dict[str, object] = {
        "format": 1,
        "edgellm": "0.1.0",
        "target": "x86-64",
        "backend": "ctranslate2",
        "backend_version": "4.8.5",
        "quant": "int8",
        "batching": "request",
        "context": 512,
        "model": ModelConfig(
            family="llama",
            hidden_size=64,
            intermediate_size=128,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            vocab_size=300,
            context_length=512,
            norm_eps=1e-5,
            rope=Rope(theta=10000.0, dim=16),
        ),
        "tokenizer": TokenizerFacts(size=300, eos_ids=(2,), bos_id=1),
        "chat_template": "chat_template.jinja",
        "sampling": SamplingDefaults(temperature=0.7),
        "source": Source("example/tiny", revision="main", license="mit"),
        "memory": MemoryFacts(weight_bytes=10_000, kv_bytes_per_token=256, runtime_bytes=5_000),
        "files": (FileEntry("tokenizer.json", 0, "0" * 64),),
    }
    return Manifest(**(fields | changes))  # type: ignore[arg-type]


def write_example(out: Path, *, force: bool = False, files: dict[str, bytes] = FILES) -> Bundle:
    """Write the example to `out`."""
    with BundleWriter(out, force=force) as writer:
        writer.folder("ctranslate2")
        for name, data in files.items():
            writer.add(name, data)
        return writer.commit(manifest())
