"""`Sequence`: the engine's side of one request: its tokens so far, its place in the cache, when it ends."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from edgellm.engine.detokenize import IncrementalDetokenizer, StopMatcher
from edgellm.engine.generation import Chunk, FinishReason, Generation, TokenLogprob


class TokenCounts:
    """Which tokens have come, and how often, kept up to date at little cost."""

    def __init__(self, tokens: list[int], start: int) -> None:
        """Count `tokens`, which may grow, from `start` on."""
        self._tokens = tokens
        self._next = start
        self._places: dict[int, int] = {}
        self._ids = np.empty(64, np.int64)
        self._counts = np.empty(64, np.float32)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The distinct tokens, in the order of their first coming."""
        self._catch_up()
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often each of `ids` has come."""
        self._catch_up()
        return self._counts[: len(self._places)]

    def _catch_up(self) -> None:
        for token in self._tokens[self._next :]:
            place = self._places.get(token)
            if place is None:
                place = self._places[token] = len(self._places)
                if place == len(self._ids):
                    self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                    self._counts = np.concatenate([self._counts, np.empty_like(self._counts)])
                self._ids[place], self._counts[place] = token, 0
            self._counts[place] += 1
        self._next = len(self._tokens)


class Sequence:
    """Tokens of one request and what is needed to go on with it.

    Attributes:
        tokens: prompt and answer so far.
        computed: leading tokens whose keys and values are in the cache (step mode).
        blocks: the cache blocks they lie in. node: the prefix-tree node of the last sealed block.
        last_step: number of the last step that it was part of.
        refused_at: blocks that were free when these were too few to let it in, else -1.
        end_ids: tokens that end the answer; empty with `ignore_eos`.
        adjusted: whether penalties, biases or bans change its logits. seen, answered: the tokens of all the
            text, and of the answer, that penalties count.
        cancelled: set from any thread; the engine lets go of the sequence between two steps.
    """

    def __init__(
        self,
        generation: Generation,
        max_tokens: int,
        end_ids: frozenset[int],
        decode: Callable[[SequenceOf[int]], str],
    ) -> None:
        params = generation.params
        self.generation = generation
        self.params = params
        self.prompt_len = len(generation.prompt_ids)
        self.max_tokens = max_tokens
        self.end_ids = end_ids
        self.tokens: list[int] = list(generation.prompt_ids)
        self.computed = 0
        self.blocks: list[int] = []
        self.node = 0
        self.sealed = 0
        self.last_step = 0
        self.refused_at = -1
        self.cancelled = False
        self.rng = None if params.greedy else np.random.default_rng(params.seed)
        self.seen = TokenCounts(self.tokens, 0)
        self.answered = TokenCounts(self.tokens, self.prompt_len)
        self.adjusted = bool(
            params.repetition_penalty != 1
            or params.presence_penalty
            or params.frequency_penalty
            or params.logit_bias
            or params.min_tokens
        )
        self._detokenizer = IncrementalDetokenizer(decode)
        self._stops = StopMatcher(params.stop)
        self._stop_ids = frozenset(params.stop_token_ids)
        self._unsent: list[int] = []
        self._unsent_logprobs: list[TokenLogprob] = []

    @property
    def new_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.prompt_len

    def accept(self, token_id: int, logprob: TokenLogprob | None = None) -> FinishReason | None:
        """Take a newly chosen token: send its text, and say why the answer ends here if it does."""
        if self.cancelled:
            return self.finish("cancelled")
        if token_id in self.end_ids:
            return self.finish("stop")
        self.tokens.append(token_id)
        self._unsent.append(token_id)
        if logprob is not None:
            self._unsent_logprobs.append(logprob)
        text, stopped = self._stops.add(self._detokenizer.add(token_id))
        if stopped:
            return self._end(text, "stop")
        if token_id in self._stop_ids:
            return self.finish("stop", text)
        if self.new_tokens >= self.max_tokens:
            return self.finish("length", text)
        # The first token goes out even if its text is held back: it tells the time to the first token.
        if text or self.new_tokens == 1:
            self._send(text, None)
        return None

    def finish(self, reason: FinishReason, text: str = "") -> FinishReason:
        """End the answer: send `text` and all that was held back (up to a stop text, should one show)."""
        tail, stopped = self._stops.add(self._detokenizer.finish())
        if stopped:
            return self._end(text + tail, "stop")
        return self._end(text + tail + self._stops.finish(), reason)

    def _end(self, text: str, reason: FinishReason) -> FinishReason:
        self._send(text, reason)
        return reason

    def _send(self, text: str, reason: FinishReason | None) -> None:
        chunk = Chunk(text, tuple(self._unsent), tuple(self._unsent_logprobs), reason)
        self._unsent.clear()
        self._unsent_logprobs.clear()
        self.generation.put(chunk)
