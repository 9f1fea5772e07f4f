"""Record `<case>.npz` for every case with the reference implementation.

    pip install torch transformers safetensors tokenizers numpy
    python -m tests.golden.record [CASE ...]          # from the top of the repository

Run once, with torch 2.13.0 and transformers 5.23.0; the tests need only what it wrote. A seed is taken for
which the greedy choice is never close, so that another correct implementation must choose the same tokens.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.golden.cases import CASES, DIRECTORY, NEW_TOKENS, Case

MARGIN = 0.01
MAX_SEEDS = 200


def record(name: str, case: Case) -> None:
    """Try seeds until the margin is wide enough and the answer is no short loop, then write the file."""
    for seed in range(MAX_SEEDS):
        with tempfile.TemporaryDirectory() as directory:
            path = case.make(Path(directory), seed)
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, attn_implementation="eager"
            )
        prompt = np.random.default_rng(seed).integers(5, 380, case.prompt)
        tokens, margin = greedy(model, prompt.tolist())
        if margin < MARGIN or len(set(tokens[-32:])) < case.variety:
            continue
        sequence = torch.tensor([[*prompt.tolist(), *tokens]])
        with torch.inference_mode():
            logits = model(sequence, use_cache=False).logits[0].numpy()
        last = sequence.shape[1] - 1
        positions = np.array([0, 9, case.prompt - 1, case.prompt, 47, 63, last - 1, last], np.int32)
        np.savez_compressed(
            DIRECTORY / f"{name}.npz",
            seed=np.int64(seed),
            prompt=prompt.astype(np.int32),
            tokens=np.array(tokens, np.int32),
            margin=np.float32(margin),
            positions=positions,
            logits=logits[positions].astype(np.float32),
        )
        print(f"{name}: seed {seed}, margin {margin:.4f}, {len(set(tokens))} different tokens", flush=True)
        return
    raise SystemExit(f"{name}: no seed below {MAX_SEEDS} keeps a margin of {MARGIN}")


def greedy(model: torch.nn.Module, prompt: list[int]) -> tuple[list[int], float]:
    """64 tokens, each from a pass over the whole sequence, and the smallest margin between the two best."""
    sequence, smallest = list(prompt), float("inf")
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            best = model(torch.tensor([sequence]), use_cache=False).logits[0, -1].topk(2)
            smallest = min(smallest, float(best.values[0] - best.values[1]))
            if smallest < MARGIN:
                break
            sequence.append(int(best.indices[0]))
    return sequence[len(prompt) :], smallest


def main() -> None:
    torch.manual_seed(0)
    for name in sys.argv[1:] or CASES:
        record(name, CASES[name])


if __name__ == "__main__":
    main()
