"""`SamplingParams`: how the tokens of one request are chosen and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from edgellm.bundle.manifest import SamplingDefaults
from edgellm.errors import RequestError

MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_LOGPROBS = 20


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Sampling settings of one request; names and meanings are those of the OpenAI and vLLM servers.

    Attributes:
        max_tokens: new tokens at most; None = until the context is full.
        min_tokens: no end token before this many new tokens.
        temperature: 0 = greedy. top_k: 0 = off. top_p: 1 = off. min_p: 0 = off.
        repetition_penalty: divides (multiplies, if negative) the logits of tokens seen in prompt or
            answer; 1 = off (Keskar et al. 2019, https://arxiv.org/abs/1909.05858).
        presence_penalty, frequency_penalty: subtracted once, or per occurrence, for tokens of the answer.
        logit_bias: token id to a value added to its logit.
        seed: same seed, same request: same tokens. None = a new one each time.
        stop: the answer ends before the first of these texts. stop_token_ids: ends at these tokens too.
        ignore_eos: end tokens do not end the answer (load tests with known lengths).
        logprobs: None = none; k = log-probability of each chosen token and of the k likeliest ones.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        _check(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _check(self.min_tokens >= 0, "min_tokens", self.min_tokens, "at least 0")
        _check(0 <= self.temperature <= 100, "temperature", self.temperature, "from 0 to 100")
        _check(0 <= self.top_k < 2**31, "top_k", self.top_k, "0 (off) or more")
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        _check(0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1")
        _check(0 < self.repetition_penalty <= 10, "repetition_penalty", self.repetition_penalty, "above 0")
        _check(-2 <= self.presence_penalty <= 2, "presence_penalty", self.presence_penalty, "from -2 to 2")
        _check(-2 <= self.frequency_penalty <= 2, "frequency_penalty", self.frequency_penalty, "from -2 to 2")
        _check(self.seed is None or 0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2^63 - 1")
        _check(len(self.stop) <= MAX_STOPS, "stop", f"{len(self.stop)} texts", f"at most {MAX_STOPS} texts")
        _check(
            all(0 < len(s) <= MAX_STOP_CHARS for s in self.stop),
            "stop",
            "an empty or overlong text",
            f"texts of 1 to {MAX_STOP_CHARS} characters",
        )
        _check(len(self.logit_bias) <= 1024, "logit_bias", f"{len(self.logit_bias)} tokens", "at most 1,024")
        _check(
            all(abs(b) <= 100 for b in self.logit_bias.values()), "logit_bias", "a bias", "from -100 to 100"
        )
        _check(
            self.logprobs is None or 0 <= self.logprobs <= MAX_LOGPROBS,
            "logprobs",
            self.logprobs,
            f"from 0 to {MAX_LOGPROBS}",
        )

    @classmethod
    def from_defaults(cls, defaults: SamplingDefaults, **settings: Any) -> SamplingParams:
        """The bundle's defaults with `settings` on top; unknown names and wrong types are RequestErrors."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(settings) - known):
            raise RequestError(
                f"unknown sampling option {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        base = cls(
            temperature=defaults.temperature,
            top_k=defaults.top_k,
            top_p=defaults.top_p,
            min_p=defaults.min_p,
            repetition_penalty=defaults.repetition_penalty,
        )
        try:
            return replace(base, **settings)
        except TypeError as error:
            raise RequestError(f"a sampling option has the wrong type: {error}") from None

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0 or self.top_k == 1


def _check(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise RequestError(f"{name} is {value}; allowed is {allowed}")
