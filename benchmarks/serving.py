#!/usr/bin/env python3
"""Measure how a bundle serves: late arrivals, the engine's own cost, memory, chat turns and the start.

    python benchmarks/serving.py BUNDLE [--threads 2]

For bundles in step mode. Writes a line about the machine and one for each of these to
`benchmarks/results/serving-QUANT-DATE.jsonl`, and prints them:

- arrivals: 16 requests that arrive at random while others are decoded, against the same 16 started together
- late: the first token of a request that arrives amid decodes, against its own prefill and two of their steps
- overhead: a step of the engine against the same step of the bare executor
- memory: most resident memory against the plan's weights, cache and 150 MB
- turn: the second turn of a chat of 400 tokens against the same prompt computed from its start
- start: `edgellm generate` from the start of its process to its first token, less prefill

Only a quiet machine gives figures worth keeping. Takes two to three minutes with 1.1 billion parameters.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgellm.backends import LoadOptions, get_backend
from edgellm.backends.executor import StepInput
from edgellm.bench.cases import peak_rss_mb, prompt_ids
from edgellm.bundle import Bundle
from edgellm.engine import Engine, Result

RESULTS = Path(__file__).parent / "results"
PROMPT, NEW, REQUESTS = 64, 96, 16
TURN_TOKENS = 400


def greedy(engine: Engine, new: int) -> Any:
    return engine.params(temperature=0.0, max_tokens=new, ignore_eos=True)


def prompt(engine: Engine, row: int, length: int) -> list[int]:
    return prompt_ids(row, length, engine.executor.limits.vocab_size)


def milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)


def arrivals(bundle: Bundle, options: LoadOptions, rounds: int) -> dict[str, Any]:
    """Throughput of requests that arrive one by one, as a part of that of the same ones started together.

    They arrive at random over the first half of the time that all of them together take, so that each finds
    others in the middle of their answers; both throughputs count from the first arrival to the last token.
    """
    rng = random.Random(3)

    def run(engine: Engine, pauses: list[float]) -> tuple[float, list[Result]]:
        params = greedy(engine, NEW)
        began = time.perf_counter()
        started = []
        for row, pause in enumerate(pauses):
            time.sleep(max(0.0, began + pause - time.perf_counter()))
            started.append(engine.submit(prompt(engine, row, PROMPT), params))
        results = [generation.result() for generation in started]
        return time.perf_counter() - began, results

    ratios, first, together_s = [], [], []
    with Engine(bundle, threads=options.threads, max_batch=REQUESTS, prefix_cache=False) as engine:
        run(engine, [0.0] * REQUESTS)
        for _ in range(rounds):
            together, _ = run(engine, [0.0] * REQUESTS)
            pauses = sorted(rng.uniform(0, together / 2) for _ in range(REQUESTS - 1))
            apart, results = run(engine, [0.0, *pauses])
            ratios.append(together / apart)
            together_s.append(together)
            first += [result.ttft_s for result in results[1:]]
    tokens = REQUESTS * NEW
    return {
        "requests": REQUESTS,
        "prompt": PROMPT,
        "new": NEW,
        "together_tokens_per_second": round(tokens / statistics.median(together_s), 1),
        "throughput_ratio": round(statistics.median(ratios), 3),
        "throughput_ratios": [round(ratio, 3) for ratio in ratios],
        "first_token_ms_p50": milliseconds(statistics.median(first)),
        "first_token_ms_max": milliseconds(max(first)),
    }


def late(bundle: Bundle, options: LoadOptions, rounds: int) -> dict[str, Any]:
    """First token of one request that arrives at a random moment while seven others are decoded."""
    rng = random.Random(4)
    found: dict[str, Any] = {"decoding": 7}
    with Engine(bundle, threads=options.threads, max_batch=8, prefix_cache=False) as engine:
        engine.submit(prompt(engine, 0, 256), greedy(engine, 2)).result()
        for length in (PROMPT, 256):
            alone, waited, steps = [], [], []
            for _ in range(rounds):
                alone.append(engine.submit(prompt(engine, 9, length), greedy(engine, 1)).result().ttft_s)
                others = engine.submit_many(
                    [prompt(engine, row, 32) for row in range(7)], greedy(engine, 512)
                )
                for other in others:
                    next(iter(other))
                before = time.perf_counter(), engine.steps
                time.sleep(0.4)
                steps.append((time.perf_counter() - before[0]) / (engine.steps - before[1]))
                time.sleep(rng.uniform(0, 0.05))
                waited.append(engine.submit(prompt(engine, 8, length), greedy(engine, 1)).result().ttft_s)
                for other in others:
                    other.cancel()
            prefill, step = statistics.median(alone), statistics.median(steps)
            found[f"prompt_{length}"] = {
                "prefill_alone_ms": milliseconds(prefill),
                "step_ms": milliseconds(step),
                "first_token_ms": milliseconds(statistics.median(waited)),
                "first_token_ms_max": milliseconds(max(waited)),
                "allowed_ms": milliseconds(prefill + 2 * step),
            }
    return found


def overhead(bundle: Bundle, options: LoadOptions, rounds: int) -> dict[str, Any]:
    """What scheduling, sampling, text and streams add to a step: the same steps with and without them."""
    executor: Any = get_backend(bundle.manifest.backend).load(
        bundle, LoadOptions(threads=options.threads, max_batch=8)
    )
    found: dict[str, Any] = {}
    steps, start = 48, 64

    def bare(batch: int) -> float:
        """Seconds of a decode step, tokens fed from nowhere."""
        size = executor.limits.block_size
        each = -(-(start + steps) // size)
        tables = np.arange(batch * each, dtype=np.int32).reshape(batch, each)
        inputs = [
            StepInput(
                np.full(batch, 100 + at % 50, np.int32),
                np.full(batch, at, np.int32),
                np.arange(batch + 1, dtype=np.int32),
                np.full(batch, at + 1, np.int32),
                tables,
                np.arange(batch, dtype=np.int32),
            )
            for at in range(start, start + steps)
        ]
        began = time.perf_counter()
        for step in inputs:
            executor.step(step)
        return (time.perf_counter() - began) / steps

    with Engine(bundle, executor=executor, prefix_cache=False) as engine:

        def through(batch: int) -> float:
            """Seconds of a decode step of the engine, read as a stream."""
            prompts = [prompt(engine, row, start) for row in range(batch)]
            started = engine.submit_many(prompts, greedy(engine, steps + 1))
            readers = [threading.Thread(target=lambda g=g: [None for _ in g]) for g in started[1:]]
            for reader in readers:
                reader.start()
            for _ in started[0]:
                pass
            for reader in readers:
                reader.join()
            first = max(generation.first_token_at or 0.0 for generation in started)
            last = max(generation.finished_at or 0.0 for generation in started)
            return (last - first) / steps

        for batch in (1, 8):
            pairs = [(bare(batch), through(batch)) for _ in range(rounds + 1)][1:]
            without, with_engine = (statistics.median(side) for side in zip(*pairs, strict=True))
            found[f"batch_{batch}"] = {
                "bare_ms": milliseconds(without),
                "engine_ms": milliseconds(with_engine),
                "ratio": round(statistics.median(b / a for a, b in pairs), 4),
            }
    return found


def memory(bundle: Bundle, options: LoadOptions, rounds: int) -> dict[str, Any]:
    """Most resident memory of a process that fills its cache, in MB (10^6 bytes). Run in one of its own."""
    with Engine(
        bundle, threads=options.threads, max_batch=8, context=min(512, bundle.manifest.context)
    ) as engine:
        room = engine.context
        prompts = [prompt(engine, row, room - 8) for row in range(8)]
        for generation in engine.submit_many(prompts, greedy(engine, 8)):
            generation.result()
        plan = engine.memory
    assert plan is not None
    weights, cache = plan.weights / 1e6, plan.cache / 1e6
    return {
        "peak_mb": round(peak_rss_mb(), 1),
        "weights_mb": round(weights, 1),
        "cache_mb": round(cache, 1),
        "allowed_mb": round(1.1 * weights + cache + 150, 1),
        "planned_mb": round(plan.total / 1e6, 1),
    }


def turn(bundle: Bundle, options: LoadOptions, rounds: int) -> dict[str, Any]:
    """A prompt and an answer of 400 tokens together, and then a question of 20 more."""
    warm, cold, computed = [], [], []
    with Engine(bundle, threads=options.threads, max_batch=1) as engine:
        for number in range(rounds):
            first = prompt(engine, 20 + number, TURN_TOKENS - 64)
            answer = engine.submit(first, greedy(engine, 64)).result().token_ids
            second = [*first, *answer, *prompt(engine, 90 + number, 20)]
            result = engine.submit(second, greedy(engine, 1)).result()
            computed.append(result.prompt_tokens - result.cached_tokens)
            warm.append(result.ttft_s)
            other = [*prompt(engine, 50 + number, 1), *second[1:]]
            cold.append(engine.submit(other, greedy(engine, 1)).result().ttft_s)
    return {
        "conversation_tokens": TURN_TOKENS,
        "new_tokens": 20,
        "computed_tokens": max(computed),
        "first_token_ms": milliseconds(statistics.median(warm)),
        "first_token_from_start_ms": milliseconds(statistics.median(cold)),
    }


def start(bundle: Bundle, options: LoadOptions, rounds: int) -> dict[str, Any]:
    """Process start to first token, files being in the page cache, and what of it is prefill."""
    text = "The quick brown fox jumps over the lazy dog. " * 4
    command = [sys.executable, "-m", "edgellm", "generate", str(bundle.path), "--prompt", text, "--raw"]
    command += ["--max-tokens", "4", "--temperature", "0", "--ignore-eos"]
    command += ["--threads", str(options.threads)] if options.threads else []
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if not process.stdout.read(1):
                raise SystemExit("edgellm generate printed nothing")
            seconds.append(time.perf_counter() - began)
            process.stdout.read()
    with Engine(bundle, threads=options.threads, max_batch=1, prefix_cache=False) as engine:
        ids = engine.encode_prompt(text, raw=True)
        prefill = [engine.submit(ids, greedy(engine, 1)).result().ttft_s for _ in range(rounds + 1)][1:]
    first, own = statistics.median(seconds[1:]), statistics.median(prefill)
    return {
        "prompt": len(ids),
        "first_token_s": round(first, 3),
        "prefill_s": round(own, 3),
        "without_prefill_s": round(first - own, 3),
    }


MEASURES: dict[str, Callable[[Bundle, LoadOptions, int], dict[str, Any]]] = {
    measure.__name__: measure for measure in (arrivals, late, overhead, memory, turn, start)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=MEASURES, help="print this one and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.only:
        found = MEASURES[args.only](Bundle.open(args.bundle), LoadOptions(threads=args.threads), args.rounds)
        print(json.dumps({"measure": args.only, **found}))
        return
    manifest = Bundle.open(args.bundle).manifest
    date = datetime.date.today().isoformat()
    doctor = subprocess.run(
        [sys.executable, "-m", "edgellm", "doctor", "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    machine = json.loads(doctor.stdout)
    about = {
        "date": date,
        "model": manifest.source.name,
        "backend": manifest.backend,
        "quant": manifest.quant,
    }
    about |= {"threads": args.threads, "rounds": args.rounds}
    lines = [json.dumps(about | {key: machine[key] for key in ("edgellm", "python", "platform", "cpu")})]
    for name in MEASURES:
        # Each in a process of its own: none finds what another left in memory.
        options = [
            "--only",
            name,
            "--rounds",
            args.rounds,
            *(["--threads", args.threads] if args.threads else []),
        ]
        command = [sys.executable, __file__, args.bundle, *options]
        done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True)
        lines.append(done.stdout.splitlines()[-1])
        print(lines[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"serving-{manifest.quant}-{date}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
