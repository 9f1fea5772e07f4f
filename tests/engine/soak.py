"""A load test of the engine in step mode: random arrivals, cancels and lengths.

    python tests/engine/soak.py --seconds 1200

The cache is too small for them. Prompts begin alike, go on from each other's answers and fork in the middle
of a block; blocks, batch and tokens of a step change from round to round. Every request must end with the
tokens that it has alone, computed before without prefix cache and company; what was cancelled must have a
beginning of them; all blocks must return. The exit status is 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgellm.backends import LoadOptions, get_backend
from edgellm.backends.params import SamplingParams
from edgellm.bundle import Bundle
from edgellm.engine import Engine

CONTEXT = 384
LONGEST_ANSWER = 96
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Work:
    """A request and the tokens it has alone."""

    prompt: tuple[int, ...]
    params: SamplingParams
    expected: tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """How much the engine gets: always room for one context, seldom for all that runs."""

    blocks: int
    max_batch: int
    step_tokens: int
    prefix_cache: bool = True
    kv: str | None = None


@dataclass
class Tally:
    """What the clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, outcome: str, problem: str | None = None) -> None:
        self.outcomes[outcome] += 1
        if problem is not None:
            self.problems.append(problem)


def open_engine(bundle: Path, setting: Setting) -> Engine:
    """An engine over a real executor that is told to have no more than `setting`."""
    opened = Bundle.open(bundle)
    loading = LoadOptions(context=CONTEXT, max_batch=setting.max_batch, kv=setting.kv)
    executor: Any = get_backend(opened.manifest.backend).load(opened, loading)
    executor.limits = replace(
        executor.limits,
        num_blocks=min(setting.blocks, executor.limits.num_blocks),
        max_step_tokens=setting.step_tokens,
    )
    return Engine(opened, executor=executor, max_queue=10_000, prefix_cache=setting.prefix_cache)


def make_work(bundle: Path, count: int, seed: int, kv: str | None) -> list[Work]:
    """Requests, each alone on an engine without prefix cache. Later prompts go on from earlier answers."""
    rng = random.Random(seed)
    work: list[Work] = []
    with open_engine(bundle, Setting(1000, 1, 256, False, kv)) as engine:
        vocab = engine.executor.limits.vocab_size
        starts = [[rng.randrange(5, vocab) for _ in range(rng.randrange(1, 90))] for _ in range(5)]
        while len(work) < count:
            prompt = list(rng.choice(starts))
            if work and rng.random() < 0.7:
                before = rng.choice(work)
                prompt = [*before.prompt, *before.expected]
                if rng.random() < 0.4:
                    prompt = prompt[: rng.randrange(1, len(prompt) + 1)]
            prompt += [rng.randrange(5, vocab) for _ in range(rng.randrange(0, 30))]
            prompt = prompt[: CONTEXT - LONGEST_ANSWER]
            params = engine.params(
                max_tokens=rng.choice([1, 2, 7, 30, LONGEST_ANSWER]),
                temperature=rng.choice([0.0, 0.0, 0.0, 0.8]),
                seed=rng.randrange(1000),
                ignore_eos=rng.random() < 0.7,
            )
            expected = engine.submit(prompt, params).result().token_ids
            work.append(Work(tuple(prompt), params, expected))
    return work


def client(engine: Engine, work: list[Work], seed: int, end: float, tally: Tally) -> None:
    """Asks until `end`, at random times; leaves a fifth of its answers at a random token."""
    rng = random.Random(seed)
    while time.monotonic() < end:
        time.sleep(rng.expovariate(50.0))
        mine = rng.choice(work)
        leave_after = rng.randrange(0, 20) if rng.random() < 0.2 else None
        got: list[int] = []
        generation = engine.submit(mine.prompt, mine.params)
        # A request that never ends is a problem, too, and must not keep the others from being judged.
        watchdog = threading.Timer(PATIENCE_S, generation.cancel)
        watchdog.start()
        for chunk in generation:
            got += chunk.token_ids
            if leave_after is not None and len(got) >= leave_after:
                generation.cancel()
        watchdog.cancel()
        reason = generation.result().finish_reason
        if reason == "cancelled" and leave_after is None:
            tally.note("lost", f"{mine.params}: nothing for {PATIENCE_S} s after {len(got)} tokens")
        elif tuple(got) != mine.expected[: len(got)] or (
            reason != "cancelled" and len(got) != len(mine.expected)
        ):
            tally.note("wrong", f"{mine.params}, {len(mine.prompt)} tokens: {got} not {mine.expected}")
        else:
            tally.note("left" if reason == "cancelled" else "completed")


def one_round(
    bundle: Path, work: list[Work], setting: Setting, clients: int, seconds: float, seed: int
) -> tuple[Tally, dict[str, int]]:
    """Load one engine; what the clients saw, and what the engine counted."""
    tally = Tally()
    with open_engine(bundle, setting) as engine:
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=client, args=(engine, work, seed * 1000 + i, end, tally))
            for i in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 5
        while (stats := engine.stats()).running + stats.waiting and time.monotonic() < deadline:
            time.sleep(0.01)
    cache = stats.cache
    assert cache is not None
    if stats.running or stats.waiting or stats.failed:
        tally.problems.append(f"still there, or failed: {stats}")
    if cache.blocks_in_use or cache.unused_slots:
        tally.problems.append(f"{cache.blocks_in_use} of {cache.blocks} blocks did not return")
    counted = {
        "preemptions": cache.preemptions,
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "generated_tokens": stats.generated_tokens,
    }
    return tally, counted


def soak(
    bundle: Path, seconds: float, *, round_seconds: float = 60, clients: int = 16, kv: str | None = None
) -> dict[str, Any]:
    """Rounds of load; what was measured, with the list `problems`."""
    work = make_work(bundle, 120, 1, kv)
    rng = random.Random(2)
    outcomes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    problems: list[str] = []
    rounds = 0
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0.5 and not problems:
        least = -(-CONTEXT // 16)
        setting = Setting(
            blocks=rng.randrange(least, 3 * least) if rounds else least,
            max_batch=rng.choice([3, 6, 12]) if rounds else 12,
            step_tokens=rng.choice([12, 40, 256]),
            kv=kv,
        )
        tally, counted = one_round(bundle, work, setting, clients, min(round_seconds, left), rounds)
        outcomes.update(tally.outcomes)
        counts.update(counted)
        problems += [f"{setting}: {problem}" for problem in tally.problems[:5]]
        rounds += 1
    return {
        "seconds": round(seconds),
        "clients": clients,
        "rounds": rounds,
        **{name: outcomes[name] for name in ("completed", "left", "lost", "wrong")},
        **counts,
        "problems": problems,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bundle", type=Path, help="default: the demo model in int4, built for this")
    parser.add_argument("--kv", help="what the key/value cache holds; default: the bundle's first")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = chosen.bundle
        if bundle is None:
            import edgellm

            bundle = edgellm.build("demo", quant="int4", out=Path(scratch) / "demo").path
        found = soak(bundle, chosen.seconds, clients=chosen.clients, kv=chosen.kv)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["problems"] else 0)


if __name__ == "__main__":
    main()
