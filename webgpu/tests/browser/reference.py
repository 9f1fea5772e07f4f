"""Builds the demo bundle and answers prompts with the Python wgpu host; what the browser must give too.

Nothing is done where the folder holds what this version of the sources gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgellm.engine import Engine
    from edgellm.text import Tokenizer

ROOT = Path(__file__).parents[3]
PROGRAM = "wgsl-fp32"
PROMPTS = (
    "What is a bundle?", "What is the capital of France?", "How much is 17 plus 25?", "Hello there!",
    "Can I run this on my phone?", "Who wrote Hamlet?", "What money is used in Poland?", "What is 6 x 10?",
    "Define perplexity.", "What comes before 67?", "even or odd: 59", "How do I talk to the model?",
    "What is --port for?", "Tell me the opposite of day.", "Tell me where Argentina is.", "many prompts",
    "Why use edgellm and not llama.cpp?", "What was the month before June?", "Not true!", "How do I start?",
)  # fmt: skip
MAX_TOKENS = 24
TEXTS = (
    "", " ", "Hello", " two  spaces and\n\nlines\t", "naïve café, 東京 и Москва", "emoji 👩‍👩‍👧‍👦 and 🇫🇷!",
    "<|im_start|>user\nhi<|im_end|>\n", "it's 1234567 don't", "\u0000\u00e9\u0301 \u200b", "a" * 300,
)  # fmt: skip


def main(out: Path) -> None:
    """Write `demo`, its variants, `step` and `reference.json` into `out`."""
    done = out / "reference.key"
    key = _key()
    if done.exists() and done.read_text() == key:
        return
    os.environ["EDGELLM_PROGRAM"] = PROGRAM
    from variants import write_variants

    import edgellm
    from edgellm.adapters import list_adapters
    from edgellm.bundle import Bundle
    from edgellm.engine import Engine

    software = [one for one in list_adapters() if one.through == "wgpu"]
    os.environ.setdefault("EDGELLM_ADAPTER", str(software[-1].number))

    out.mkdir(parents=True, exist_ok=True)
    edgellm.build(ROOT / "models/demo", target="webgpu", quant="int4", out=out / "demo", force=True)
    write_variants(Bundle.open(out / "demo"), out)
    _write_step(out / "step")
    with Engine(out / "demo") as engine:
        answers = [_answer(engine, prompt) for prompt in PROMPTS]
        tokenized = [_tokenized(engine.tokenizer, text) for text in TEXTS]
    text = json.dumps({"answers": answers, "tokenized": tokenized, "tokenizers": _tokenizers()})
    (out / "reference.json").write_text(text, encoding="utf-8")
    done.write_text(key)


def _write_step(out: Path) -> None:
    """The plan of the 22-layer shape, with kernels that return at once and weights of a few bytes."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from host_time import lowered

    from edgellm.compile.plan.codec import encode_plan
    from edgellm.compile.plan.plan import PLAN_NAME

    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        plan, sources = lowered("llama-1b", "wgsl", Path(folder) / "program")
    out.mkdir()
    (out / PLAN_NAME).write_bytes(encode_plan(plan))
    for name, text in sources.items():
        (out / name).write_text(text, "utf-8")


def _answer(engine: Engine, prompt: str) -> dict[str, object]:
    ids = engine.encode_prompt(prompt)
    params = engine.params(temperature=0.0, max_tokens=MAX_TOKENS, logprobs=2)
    result = engine.submit(ids, params).result()
    margins = [float(np.subtract(*[value for _, value in one.top])) for one in result.logprobs]
    return {
        "prompt": prompt, "promptIds": ids, "tokenIds": result.token_ids, "margins": margins,
        "text": result.text,
    }  # fmt: skip


def _tokenized(tokenizer: Tokenizer, text: str) -> dict[str, object]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return {"text": text, "ids": ids, "decoded": tokenizer.decode(ids)}


def _tokenizers() -> list[dict[str, object]]:
    """Small ones of the kinds that checkpoints have, with the texts."""
    from edgellm.bundle.manifest import TokenizerFacts
    from edgellm.text import Tokenizer
    from tests.make_tokenizers import byte_level, metaspace

    found: list[dict[str, object]] = []
    for kind, backend in {"byte level": byte_level(), "metaspace": metaspace()}.items():
        tokenizer = Tokenizer(backend, TokenizerFacts(backend.get_vocab_size(), ()))
        cases = [_tokenized(tokenizer, text) for text in TEXTS]
        found.append({"kind": kind, "json": backend.to_str(), "cases": cases})
    return found


def _key() -> str:
    """Hash of everything that the result depends on."""
    digest = hashlib.sha256()
    folders = ("edgellm", "benchmarks", "models/demo", "targets", "webgpu/tests/browser")
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".json", ".safetensors", ".jinja"):
                digest.update(path.relative_to(ROOT).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
