"""`Engine` over the demo bundle: the Python API, in threads and in asyncio, in both batching modes."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgellm import Bundle, Engine
from edgellm.errors import EdgeLLMError, ExecutorError, PromptTooLongError, QueueFullError, RequestError
from tests.engine.numpy_executor import NumpyExecutor

GREEDY = {"temperature": 0.0}


@pytest.fixture(scope="module")
def engine(demo_bundle: Path) -> Iterator[Engine]:
    with Engine(demo_bundle) as opened:
        yield opened


def wait_until_idle(engine: Engine, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while (stats := engine.stats()).running or stats.waiting:
        assert time.monotonic() < deadline, stats
        time.sleep(0.005)


def test_stream_generate_and_submit_agree(engine: Engine) -> None:
    question = "What is a bundle?"
    streamed = "".join(engine.stream(question, max_tokens=40, **GREEDY))
    (result,) = engine.generate([question], max_tokens=40, **GREEDY)
    generation = engine.submit(engine.encode_prompt(question), engine.params(max_tokens=40, **GREEDY))
    chunks = list(generation)
    assert streamed == result.text == "".join(c.text for c in chunks)
    assert result.token_ids == tuple(t for c in chunks for t in c.token_ids)
    assert [c.finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == result.finish_reason
    assert 0 < result.ttft_s <= result.seconds
    assert engine.tokenizer.decode(result.token_ids) == result.text


def test_a_batch_gives_each_prompt_the_answer_it_gets_alone(engine: Engine) -> None:
    prompts = ["What is a bundle?", "Hello!", "What is 3 + 4?", "How do I serve a bundle?"] * 4
    together = engine.generate(prompts, max_tokens=24, **GREEDY)
    for prompt, result in zip(prompts[:4], together[:4], strict=True):
        assert result.token_ids == engine.generate([prompt], max_tokens=24, **GREEDY)[0].token_ids
    for i, result in enumerate(together):
        assert result.token_ids == together[i % 4].token_ids


def test_a_conversation_is_one_prompt(engine: Engine) -> None:
    messages = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi."}]
    ids = engine.encode_messages([*messages, {"role": "user", "content": "Thanks!"}])
    assert engine.submit(ids, engine.params(max_tokens=5, **GREEDY)).result().prompt_tokens == len(ids)


def test_asyncio_runs_many_streams_at_once(engine: Engine) -> None:
    async def collect(prompt: str) -> str:
        return "".join([text async for text in engine.astream(prompt, max_tokens=20, **GREEDY)])

    async def main() -> tuple[list[str], list[str]]:
        prompts = ["Hello!", "What is a bundle?", "What is 2 + 2?"]
        streams = await asyncio.gather(*(collect(p) for p in prompts))
        results = await engine.agenerate(prompts, max_tokens=20, **GREEDY)
        return list(streams), [r.text for r in results]

    streams, results = asyncio.run(main())
    assert streams == results


def test_leaving_a_stream_cancels_it(engine: Engine) -> None:
    before = engine.stats().cancelled
    for _ in engine.stream("Hello!", ignore_eos=True, temperature=1.0):
        break
    wait_until_idle(engine)
    assert engine.stats().cancelled == before + 1


def test_leaving_an_async_stream_cancels_it(engine: Engine) -> None:
    async def first_piece() -> None:
        stream = engine.astream("Hello!", ignore_eos=True)
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]

    before = engine.stats().cancelled
    asyncio.run(first_piece())
    wait_until_idle(engine)
    assert engine.stats().cancelled == before + 1


def test_cancel_from_another_thread_ends_the_answer(engine: Engine) -> None:
    generation = engine.submit(engine.encode_prompt("Hello!"), engine.params(ignore_eos=True))
    threading.Timer(0.02, generation.cancel).start()
    assert generation.result().finish_reason in ("cancelled", "length")
    wait_until_idle(engine)


def test_stop_text_ends_the_answer_before_it(engine: Engine) -> None:
    (whole,) = engine.generate(["What is a bundle?"], max_tokens=40, **GREEDY)
    stop = whole.text[10:16]
    (cut,) = engine.generate(["What is a bundle?"], max_tokens=40, stop=(stop,), **GREEDY)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_length_limits(engine: Engine) -> None:
    (short,) = engine.generate(["Hello!"], max_tokens=3, ignore_eos=True, **GREEDY)
    assert (len(short.token_ids), short.finish_reason) == (3, "length")
    room = 12
    prompt = (engine.encode_prompt("Hello!", raw=True) * engine.context)[: engine.context - room]
    full = engine.submit(prompt, engine.params(ignore_eos=True, **GREEDY)).result()
    assert (len(full.token_ids), full.finish_reason) == (room, "length")
    with pytest.raises(PromptTooLongError) as caught:
        engine.submit((prompt * 2)[: engine.context])
    assert caught.value.prompt_tokens == caught.value.context == engine.context
    assert str(engine.context) in str(caught.value)
    assert "build with a larger --context" in str(caught.value)


def test_a_context_that_was_chosen_smaller_is_what_to_raise(demo_bundle: Path) -> None:
    with Engine(demo_bundle, context=32) as small, pytest.raises(PromptTooLongError) as caught:
        small.submit([5] * 32)
    built = small.bundle.manifest.context
    assert f"open the bundle, which holds {built}, with a larger --context" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"wings": 2}, "wings"),
        ({"temperature": -1}, "temperature"),
        ({"min_p": 0.1}, "min_p"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"logprobs": 4}, "logprobs"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(
    engine: Engine, settings: dict[str, object], word: str
) -> None:
    with pytest.raises(RequestError, match=word):
        engine.params(**settings)


def test_bad_prompts_are_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="empty"):
        engine.submit([])
    with pytest.raises(RequestError, match="vocabulary"):
        engine.submit([10**6])


def test_the_queue_has_a_bound(demo_bundle: Path) -> None:
    with Engine(demo_bundle, max_batch=1, workers=1, max_queue=3) as engine:
        ids = engine.encode_prompt("Hello!")
        params = engine.params(ignore_eos=True, **GREEDY)
        running = engine.submit(ids, params)
        next(iter(running))
        waiting = [engine.submit(ids, params) for _ in range(3)]
        with pytest.raises(QueueFullError, match="3 requests are waiting"):
            engine.submit(ids, params)
        for generation in [running, *waiting]:
            generation.cancel()
        wait_until_idle(engine)
        assert engine.submit(ids, engine.params(max_tokens=2)).result().finish_reason in ("stop", "length")


def test_a_closed_engine_refuses_and_ends_what_runs(demo_bundle: Path) -> None:
    engine = Engine(demo_bundle)
    generation = engine.submit(engine.encode_prompt("Hello!"), engine.params(ignore_eos=True))
    engine.close()
    engine.close()
    assert generation.result().finish_reason in ("cancelled", "length")
    with pytest.raises(EdgeLLMError, match="closed"):
        engine.submit([1])


def test_the_step_mode_runs_under_the_same_engine(demo_bundle: Path) -> None:
    vocab = Bundle.open(demo_bundle).manifest.model.vocab_size
    executor = NumpyExecutor(vocab_size=vocab, context=64, max_step_tokens=8)
    with Engine(demo_bundle, executor=executor) as engine:
        assert engine.mode == "step" and engine.context == 64
        prompts = [[1, 2, 3], [4] * 20, [5, 6]]
        params = engine.params(max_tokens=9, ignore_eos=True, **GREEDY)
        for prompt, generation in zip(prompts, engine.submit_many(prompts, params), strict=True):
            assert list(generation.result().token_ids) == executor.greedy(prompt, 9)
        everything = engine.params(
            max_tokens=4, min_p=0.1, presence_penalty=1.0, logit_bias={7: 100.0}, logprobs=2, seed=3
        )
        result = engine.submit([1, 2], everything).result()
        assert all(len(p.top) == 2 for p in result.logprobs)
        executor.fail_next = RuntimeError("lost device")
        with pytest.raises(ExecutorError, match="lost device"):
            engine.submit([1]).result()
        assert engine.stats().failed == 1
    assert executor.closed


def test_a_program_that_never_closes_its_engine_ends_cleanly(demo_bundle: Path) -> None:
    program = (
        "import sys, edgellm\n"
        "engine = edgellm.Engine(sys.argv[1])\n"
        "engine.generate(['Hello!'] * 3, max_tokens=3, ignore_eos=True)\n"
        "unread = engine.submit(engine.encode_prompt('Hello!'), engine.params(ignore_eos=True))\n"
    )
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", program, str(demo_bundle)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_dropped_engine_frees_its_executor(demo_bundle: Path) -> None:
    vocab = Bundle.open(demo_bundle).manifest.model.vocab_size
    executor = NumpyExecutor(vocab_size=vocab)
    engine = Engine(demo_bundle, executor=executor)
    engine.submit([1, 2], engine.params(max_tokens=2)).result()
    del engine
    gc.collect()
    assert executor.closed
