"""`/metrics`: what Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from edgellm.engine import Engine

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_ENDPOINTS = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/models": "models"}
_OUTCOMES = {401: "unauthorized", 403: "refused", 429: "queue_full"}


class RequestRecord:
    """What one request turned out to be; filled in as it goes, counted when it ends."""

    def __init__(self, path: str) -> None:
        self.endpoint = _ENDPOINTS.get(path, "other")
        self.started = time.perf_counter()
        self.outcome: str | None = None
        self.first_token_s: float | None = None
        self.completion_tokens = 0

    def saw_token(self) -> None:
        """Note when the first token came."""
        if self.first_token_s is None:
            self.first_token_s = time.perf_counter() - self.started


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "edgellm_requests",
            "HTTP requests by endpoint and outcome",
            ("endpoint", "outcome"),
            registry=self.registry,
        )
        self.first_token = Histogram(
            "edgellm_time_to_first_token_seconds",
            "From the request's arrival to its first token",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "edgellm_request_duration_seconds",
            "From the request's arrival to the end of its answer",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rate = Histogram(
            "edgellm_request_tokens_per_second",
            "Tokens of an answer a second, from the first to the last",
            buckets=_RATES,
            registry=self.registry,
        )
        self.registry.register(_EngineCollector(engine))
        ProcessCollector(registry=self.registry)
        self._recent_s = 1.0

    def count(self, record: RequestRecord, status: int) -> None:
        """Count a request that has ended with HTTP status `status` (0: no answer was sent)."""
        outcome = record.outcome or _outcome(status)
        self.requests.labels(record.endpoint, outcome).inc()
        if outcome != "completed" or record.first_token_s is None:
            return
        seconds = time.perf_counter() - record.started
        self._recent_s += 0.1 * (seconds - self._recent_s)
        self.first_token.observe(record.first_token_s)
        self.duration.observe(seconds)
        if record.completion_tokens > 1 and seconds > record.first_token_s:
            self.rate.observe((record.completion_tokens - 1) / (seconds - record.first_token_s))

    @property
    def retry_after_s(self) -> int:
        """When to try again after a full queue: as long as recent requests took, within reason."""
        return min(60, max(1, round(self._recent_s)))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    """Reads the engine's own counts when asked, so that they cannot drift from it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        stats = self.engine.stats()
        yield GaugeMetricFamily("edgellm_running", "Generations that hold a place", stats.running)
        yield GaugeMetricFamily("edgellm_waiting", "Generations in the queue", stats.waiting)
        for name, help_text, value in (
            ("edgellm_generations_finished", "Generations that ran to their end", stats.finished),
            ("edgellm_generations_cancelled", "Generations cancelled before their end", stats.cancelled),
            ("edgellm_generations_failed", "Generations that the executor could not finish", stats.failed),
            ("edgellm_prompt_tokens", "Prompt tokens taken in", stats.prompt_tokens),
            ("edgellm_generated_tokens", "Tokens generated", stats.generated_tokens),
            ("edgellm_cached_tokens", "Prompt tokens found already computed", stats.cached_tokens),
        ):
            yield CounterMetricFamily(name, help_text, value)
        if (cache := stats.cache) is None:
            return
        for name, help_text, value in (
            ("edgellm_cache_blocks", "Blocks of the key/value cache", cache.blocks),
            ("edgellm_cache_blocks_in_use", "Blocks that running sequences hold", cache.blocks_in_use),
            ("edgellm_cache_slots_unused", "Places in them that hold no token yet", cache.unused_slots),
        ):
            yield GaugeMetricFamily(name, help_text, value)
        yield CounterMetricFamily("edgellm_preemptions", "Sequences put back to wait", cache.preemptions)


def _outcome(status: int) -> str:
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    if status == 0:
        return "disconnected"
    if status >= 500:
        return "failed"
    return "invalid" if status >= 400 else "completed"
