"""A load test: many clients with random delays, lengths, streams and disconnections; nothing may be lost.

    python tests/server/soak.py --seconds 120 --clients 64

Every completed answer must be the one that the same request got alone, before the load. At the end no
place may be taken, and the server's own counts must agree with those of the clients. The exit status is 1
otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from openai import AsyncOpenAI

from tests.server.serving import Api, serve

QUESTIONS = (
    "What is a bundle?",
    "Which target fits my phone?",
    "How do I build a bundle for a browser?",
    "What does edgellm serve do?",
    "Tell me something about the sea, and then about the mountains behind it.",
    "Hi",
    "What is 3 + 4?",
    "Why is the sky blue?" * 6,
)
LENGTHS = (1, 7, 40, 120)
PATIENCE_S = 60.0


@dataclass
class Tally:
    """What the clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    tokens: int = 0


@dataclass(frozen=True)
class Work:
    """One kind of request, whose answer does not depend on when it is asked."""

    question: str
    length: int
    seed: int | None

    def body(self, model: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": self.question}],
            "max_tokens": self.length,
            "temperature": 0,
            "extra_body": {"ignore_eos": self.length > 7},
        }
        return body if self.seed is None else body | {"temperature": 0.9, "seed": self.seed}


async def one(client: AsyncOpenAI, model: str, work: Work, stream: bool, tally: Tally) -> str:
    """The answer's text; counts its tokens and times."""
    started = time.perf_counter()
    if not stream:
        whole = await client.chat.completions.create(**work.body(model))
        tally.tokens += whole.usage.completion_tokens
        text = whole.choices[0].message.content
    else:
        pieces = []
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with await client.chat.completions.create(**work.body(model), **options) as chunks:
            async for chunk in chunks:
                if chunk.usage:
                    tally.tokens += chunk.usage.completion_tokens
                elif chunk.choices[0].delta.content:
                    if not pieces:
                        tally.first.append(time.perf_counter() - started)
                    pieces.append(chunk.choices[0].delta.content)
        text = "".join(pieces)
    tally.seconds.append(time.perf_counter() - started)
    return text


async def visitor(
    number: int, url: str, model: str, expected: dict[Work, str], end: float, tally: Tally
) -> None:
    """One client, asking until `end`; it leaves a fifth of its answers in the middle."""
    rng = random.Random(number)
    work = list(expected)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        while time.monotonic() < end:
            await asyncio.sleep(rng.expovariate(5.0))
            mine = rng.choice(work)
            patience = rng.uniform(0.0, 0.4) if rng.random() < 0.2 else PATIENCE_S
            tally.outcomes["sent"] += 1
            try:
                text = await asyncio.wait_for(one(client, model, mine, rng.random() < 0.5, tally), patience)
            except TimeoutError:
                tally.outcomes["left" if patience < PATIENCE_S else "lost"] += 1
            except Exception as error:
                tally.outcomes["failed"] += 1
                tally.problems.append(f"{type(error).__name__}: {error}")
            else:
                tally.outcomes["completed"] += 1
                if text != expected[mine]:
                    tally.outcomes["wrong"] += 1
                    tally.problems.append(f"{mine}: {text!r} instead of {expected[mine]!r}")


async def load(api: Api, clients: int, seconds: float) -> Tally:
    """Run the whole load against a server that nobody else uses."""
    rng = random.Random(0)
    work = [Work(question, length, None) for question in QUESTIONS for length in LENGTHS]
    work += [Work(rng.choice(QUESTIONS), rng.choice(LENGTHS), seed) for seed in range(6)]
    async with AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0) as client:
        expected = {w: await one(client, api.model, w, False, Tally()) for w in work}
    tally = Tally()
    end = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(visitor(number, api.url, api.model, expected, end, tally))
    return tally


def soak(api: Api, clients: int, seconds: float) -> dict[str, Any]:
    """Load the server and check it; what was measured, with the list `problems`."""
    before = api.metrics()
    tally = asyncio.run(load(api, clients, seconds))
    problems = tally.problems[:10]
    problems += [f"{n} requests {w}" for w in ("failed", "lost", "wrong") if (n := tally.outcomes[w])]
    try:
        idle_after = api.wait_idle(5)
    except AssertionError as error:
        idle_after = float("nan")
        problems.append(str(error))
    after = api.metrics()

    def grown(name: str) -> int:
        return int(after.get(name, 0) - before.get(name, 0))

    def by_outcome(outcome: str) -> int:
        return grown(f'edgellm_requests_total{{endpoint="chat",outcome="{outcome}"}}')

    alone = len(QUESTIONS) * len(LENGTHS) + 6
    if by_outcome("completed") < tally.outcomes["completed"] + alone:
        problems.append("the server counts fewer completed requests than the clients")
    if by_outcome("completed") + by_outcome("disconnected") > tally.outcomes["sent"] + alone:
        problems.append("the server counts more requests than were sent")
    if failed := by_outcome("failed") + by_outcome("invalid") + by_outcome("queue_full"):
        problems.append(f"the server counts {failed} refused or failed requests")
    return {
        "clients": clients,
        "seconds": seconds,
        **{name: tally.outcomes[name] for name in ("sent", "completed", "left", "lost", "failed", "wrong")},
        "disconnected_seen": by_outcome("disconnected"),
        "tokens_per_second": round(tally.tokens / seconds, 1),
        "latency_s": _quantiles(tally.seconds),
        "first_token_s": _quantiles(tally.first),
        "idle_after_s": round(idle_after, 2),
        "running": after["edgellm_running"],
        "waiting": after["edgellm_waiting"],
        "problems": problems,
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "max": round(max(values), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--bundle", type=Path, help="default: the demo model, built for this")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = chosen.bundle
        if bundle is None:
            import edgellm

            bundle = edgellm.build("demo", out=Path(scratch) / "demo").path
        with serve(bundle) as running:
            found = soak(running, chosen.clients, chosen.seconds)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["problems"] else 0)


if __name__ == "__main__":
    main()
