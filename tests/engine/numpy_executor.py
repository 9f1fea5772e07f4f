"""A step executor in plain numpy: a tiny random transformer over a paged key/value cache.

It is the reference that the engine's step mode is tested with. It computes each sequence by itself, in
float64, and reads keys and values only through the block tables, so a scheduling or block mistake changes
its logits at once. The cache starts as NaN, so reading a slot that was never written is seen as well.
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from edgellm.backends.executor import Cohort, ExecutorLimits, Float32s, StepInput, TokenCallback


class NumpyExecutor:
    """Two layers, two heads, rotary-free positions added to the embedding; weights from a seed."""

    mode: Literal["step"] = "step"
    memory = None

    def __init__(
        self,
        *,
        vocab_size: int = 61,
        context: int = 64,
        max_batch: int = 4,
        block_size: int = 4,
        num_blocks: int = 40,
        max_step_tokens: int = 16,
        seed: int = 0,
    ) -> None:
        self.limits = ExecutorLimits(
            vocab_size=vocab_size,
            context=context,
            max_batch=max_batch,
            block_size=block_size,
            num_blocks=num_blocks,
            max_step_tokens=max_step_tokens,
        )
        rng = np.random.default_rng(seed)
        width, self.heads = 16, 2
        self.embed = rng.standard_normal((vocab_size, width))
        self.head = rng.standard_normal((vocab_size, width))
        self.places = rng.standard_normal((context + 1, width))
        self.layers = [
            {name: rng.standard_normal((width, width)) / 4 for name in ("q", "k", "v", "o", "mlp")}
            for _ in range(2)
        ]
        self.cache = np.full((2, 2, num_blocks * block_size, width), np.nan)
        self.closed = False
        self.fail_next: Exception | None = None
        self.log: list[StepInput] = []
        self.copies = 0

    def step(self, step: StepInput) -> Float32s:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        self.log.append(step)
        limits = self.limits
        batch = len(step.context_lens)
        assert batch <= limits.max_batch and len(step.token_ids) <= limits.max_step_tokens
        out = np.empty((len(step.token_ids), len(self.embed[0])))
        for i in range(batch):
            first, last = step.seq_starts[i], step.seq_starts[i + 1]
            positions = step.positions[first:last]
            assert last > first and positions[-1] + 1 == step.context_lens[i]
            assert (np.diff(positions) == 1).all()
            used = np.arange(step.context_lens[i])
            blocks = step.block_tables[i][used // limits.block_size]
            assert (blocks >= 0).all() and len(set(blocks.tolist())) == -(-len(used) // limits.block_size)
            slots = blocks * limits.block_size + used % limits.block_size
            out[first:last] = self._forward(step.token_ids[first:last], positions, slots)
        return (out[step.logits_rows] @ self.head.T).astype(np.float32)

    def _forward(self, token_ids: np.ndarray, positions: np.ndarray, slots: np.ndarray) -> np.ndarray:
        x = self.embed[token_ids] + self.places[positions]
        for index, layer in enumerate(self.layers):
            keys, values = self.cache[index]
            new = slots[positions]
            keys[new], values[new] = x @ layer["k"], x @ layer["v"]
            queries = (x @ layer["q"]).reshape(len(x), self.heads, -1)
            past_keys = keys[slots].reshape(len(slots), self.heads, -1)
            past_values = values[slots].reshape(len(slots), self.heads, -1)
            for row, position in enumerate(positions):
                seen = slice(0, position + 1)
                scores = np.einsum("hd,shd->hs", queries[row], past_keys[seen]) / 3
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                weights /= weights.sum(axis=1, keepdims=True)
                x[row] += np.einsum("hs,shd->hd", weights, past_values[seen]).ravel() @ layer["o"]
            x = x + np.tanh(x @ layer["mlp"])
            x /= np.linalg.norm(x, axis=1, keepdims=True) / 4
        return x

    def copy_block(self, source: int, target: int) -> None:
        size = self.limits.block_size
        self.copies += 1
        self.cache[:, :, target * size : (target + 1) * size] = self.cache[
            :, :, source * size : (source + 1) * size
        ]

    def close(self) -> None:
        self.closed = True

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """Reference continuation: the whole text recomputed for each token, with no engine in between."""
        fresh = type(self)(
            vocab_size=self.limits.vocab_size,
            context=self.limits.context,
            block_size=1,
            num_blocks=self.limits.context + 1,
        )
        fresh.embed, fresh.head, fresh.places, fresh.layers = self.embed, self.head, self.places, self.layers
        tokens = list(prompt)
        for _ in range(count):
            positions = np.arange(len(tokens))
            hidden = fresh._forward(np.array(tokens), positions, positions)
            tokens.append(int((hidden[-1] @ fresh.head.T).astype(np.float32).argmax()))
        return tokens[len(prompt) :]


class NumpyRequestExecutor:
    """The same model as a request-level executor: runs cohorts greedily, one token of each row at a time."""

    mode: Literal["request"] = "request"
    memory = None
    supported = frozenset({"logprobs", "seed"})
    costly: frozenset[str] = frozenset()

    def __init__(
        self, model: NumpyExecutor, *, max_batch: int = 4, workers: int = 2, pause: float = 0.0
    ) -> None:
        self.limits = ExecutorLimits(
            vocab_size=model.limits.vocab_size,
            context=model.limits.context,
            max_batch=max_batch,
            workers=workers,
        )
        self.model = model
        self.pause = pause
        self.cohorts: list[Cohort] = []
        self.fail_next: Exception | None = None
        self.closed = False

    def run(self, cohort: Cohort, on_token: TokenCallback) -> None:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        self.cohorts.append(cohort)
        answers = {
            row: iter(self.model.greedy(list(prompt), count))
            for row, (prompt, count) in enumerate(zip(cohort.prompts, cohort.max_tokens, strict=True))
        }
        while answers:
            time.sleep(self.pause)
            for row, answer in list(answers.items()):
                token = next(answer, None)
                if token is None or token in cohort.end_ids or on_token(row, token, None):
                    del answers[row]

    def close(self) -> None:
        self.closed = True
