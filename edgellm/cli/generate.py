"""`edgellm generate`: one prompt, or a JSONL file of requests in one batched run."""

from __future__ import annotations

import json
import sys
from typing import IO, TYPE_CHECKING, Any

import click

from edgellm.cli.options import engine_options, open_engine, sampling_options, split_options
from edgellm.cli.output import json_option, print_answer, print_json
from edgellm.errors import EdgeLLMError, UsageError

if TYPE_CHECKING:
    from edgellm.engine import Engine, Result

MAX_LINE_CHARS = 8 << 20
MAX_QUEUE = 1 << 20


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--prompt", metavar="TEXT", help='The prompt; "-" or nothing reads it from standard input.')
@click.option("--system", metavar="TEXT", help="System prompt.")
@click.option(
    "--input",
    "source",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE.jsonl",
    help='Requests, one JSON object a line, with "prompt" or "messages" and any sampling setting.',
)
@click.option("--raw", is_flag=True, help="No chat template: the text as it is, tokenized by default rules.")
@json_option
@sampling_options
@engine_options
def generate(
    bundle: str,
    prompt: str | None,
    system: str | None,
    source: IO[str] | None,
    raw: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer one prompt, or many from a JSONL file.

    With --input, requests run together in batches; each line of the output belongs to the same line of
    the input and carries its "index". A request that cannot be served gets {"index", "error"} and the
    exit status is 1.
    """
    if source is not None and prompt is not None:
        raise UsageError("--prompt and --input exclude each other: give one of them")
    if raw and system is not None:
        raise UsageError("--raw sends the text as it is, so --system has no place in it: leave one out")
    engine_settings, sampling = split_options(options)
    if source is None and prompt in (None, "-"):
        prompt = sys.stdin.read()
    if source is None:
        engine_settings = {"max_batch": 1} | engine_settings
    with open_engine(bundle, engine_settings | {"max_queue": MAX_QUEUE}) as engine:
        if source is not None:
            if failed := _run_lines(engine, source, raw, system, sampling):
                raise EdgeLLMError(f"{failed} of the requests failed; their lines of the output say why")
            return
        assert prompt is not None
        _run_one(engine, _ids(engine, {"prompt": prompt}, raw, system), sampling, as_json)


def _run_one(engine: Engine, prompt_ids: list[int], sampling: dict[str, Any], as_json: bool) -> None:
    generation = engine.submit(prompt_ids, engine.params(**sampling))
    if as_json:
        print_json(describe(generation.result()))
        return
    try:
        for chunk in generation:
            print_answer(chunk.text)
    finally:
        generation.cancel()
        click.echo()


def _run_lines(
    engine: Engine, source: IO[str], raw: bool, system: str | None, sampling: dict[str, Any]
) -> int:
    """Run the requests of `source` with a bounded look-ahead, printing in order; returns how many failed."""
    from collections import deque

    from edgellm.engine import Generation

    window = max(4 * engine.executor.limits.max_batch * engine.executor.limits.workers, 16)
    ahead: deque[tuple[int, Generation | EdgeLLMError]] = deque()
    failed = 0

    def print_oldest() -> int:
        index, outcome = ahead.popleft()
        try:
            if isinstance(outcome, EdgeLLMError):
                raise outcome
            line = {"index": index, **describe(outcome.result())}
        except EdgeLLMError as error:
            line = {"index": index, "error": str(error)}
        print_json(line)
        return "error" in line

    batch: list[tuple[int, list[int], Any]] = []

    def submit_batch() -> None:
        generations = engine.submit_many([ids for _, ids, _ in batch], [params for _, _, params in batch])
        ahead.extend((i, g) for (i, _, _), g in zip(batch, generations, strict=True))
        batch.clear()

    index = -1
    for line in source:
        if not line.strip():
            continue
        index += 1
        try:
            request = _parse(line)
            own = {k: v for k, v in request.items() if k not in ("prompt", "messages")}
            ids = _ids(engine, request, raw, system)
            params = engine.params(**(sampling | own))
            engine.check(ids, params)
        except EdgeLLMError as error:
            submit_batch()
            ahead.append((index, error))
        else:
            batch.append((index, ids, params))
        if len(batch) >= engine.executor.limits.max_batch:
            submit_batch()
        while len(ahead) >= window:
            failed += print_oldest()
    submit_batch()
    while ahead:
        failed += print_oldest()
    return failed


def _parse(line: str) -> dict[str, Any]:
    """One line of the input: a JSON object; lists become tuples where settings are compared."""
    if len(line) > MAX_LINE_CHARS:
        raise UsageError(f"the line is longer than {MAX_LINE_CHARS:,} characters")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the line is not JSON: {error}") from None
    if not isinstance(request, dict) or ("prompt" in request) == ("messages" in request):
        raise UsageError('each line must be a JSON object with either "prompt" or "messages"')
    if isinstance(request.get("stop"), str):
        request["stop"] = [request["stop"]]
    for name in ("stop", "stop_token_ids"):
        if isinstance(request.get(name), list):
            request[name] = tuple(request[name])
    if isinstance(request.get("logit_bias"), dict):
        try:
            request["logit_bias"] = {int(k): v for k, v in request["logit_bias"].items()}
        except ValueError:
            raise UsageError("logit_bias must map token ids to numbers") from None
    return request


def _ids(engine: Engine, request: dict[str, Any], raw: bool, system: str | None) -> list[int]:
    """Token ids of a request's prompt or messages."""
    messages = request.get("messages")
    if messages is not None:
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise UsageError('"messages" must be a list of objects with "role" and "content"')
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        return engine.encode_messages(messages)
    prompt = request["prompt"]
    if not isinstance(prompt, str):
        raise UsageError('"prompt" must be a text')
    if system is not None:
        return engine.encode_messages(
            [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        )
    return engine.encode_prompt(prompt, raw=raw)


def describe(result: Result) -> dict[str, Any]:
    """The JSON form of a result, as the command-line contract has it."""
    usage = {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "total_tokens": result.prompt_tokens + result.completion_tokens,
        "cached_tokens": result.cached_tokens,
    }
    described: dict[str, Any] = {
        "text": result.text,
        "token_ids": list(result.token_ids),
        "finish_reason": result.finish_reason,
        "usage": usage,
    }
    if result.logprobs:
        described["logprobs"] = [
            {"token_id": p.token_id, "logprob": p.logprob, "top": [list(t) for t in p.top]}
            for p in result.logprobs
        ]
    return described
