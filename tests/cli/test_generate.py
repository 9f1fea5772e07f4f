"""`edgellm generate`: the contract of its JSON, and batches from JSONL."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.running import edgellm

GREEDY = ("--temperature", "0", "--max-tokens", "24")


def test_one_prompt_as_json_has_the_fields_of_the_contract(demo_bundle: Path) -> None:
    done = edgellm("generate", demo_bundle, "--prompt", "What is a bundle?", *GREEDY, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) >= {"text", "token_ids", "finish_reason", "usage"}
    assert answer["finish_reason"] in ("stop", "length")
    assert answer["usage"]["completion_tokens"] == len(answer["token_ids"]) <= 24
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + len(answer["token_ids"])


def test_plain_output_streams_the_same_text(demo_bundle: Path) -> None:
    as_json = edgellm("generate", demo_bundle, "--prompt", "What is a bundle?", *GREEDY, "--json")
    plain = edgellm("generate", demo_bundle, "--prompt", "What is a bundle?", *GREEDY)
    piped = edgellm("generate", demo_bundle, *GREEDY, stdin="What is a bundle?")
    assert plain.stdout == piped.stdout == json.loads(as_json.stdout)["text"] + "\n"


def test_raw_skips_the_template(demo_bundle: Path) -> None:
    from tokenizers import Tokenizer

    text = "What is a bundle?"
    raw = edgellm("generate", demo_bundle, "--prompt", text, "--raw", *GREEDY, "--json")
    chat = edgellm("generate", demo_bundle, "--prompt", text, *GREEDY, "--json")
    expected = Tokenizer.from_file(str(demo_bundle / "tokenizer.json")).encode(text).ids
    assert json.loads(raw.stdout)["usage"]["prompt_tokens"] == len(expected)
    assert json.loads(chat.stdout)["usage"]["prompt_tokens"] > len(expected)


def test_jsonl_answers_equal_those_alone_in_input_order(demo_bundle: Path, tmp_path: Path) -> None:
    prompts = ["What is a bundle?", "Hello!", "What is 2 + 3?", "Which target is for a Pixel phone?"] * 6
    requests = [{"prompt": p, "max_tokens": 4 + i % 7} for i, p in enumerate(prompts)]
    requests[3] = {"messages": [{"role": "user", "content": prompts[3]}], "max_tokens": 9, "stop": ["."]}
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(json.dumps(r) for r in requests) + "\n\n")
    done = edgellm("generate", demo_bundle, "--input", source, "--temperature", "0")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["index"] for a in answers] == list(range(len(requests)))
    for i in (0, 9, 14):
        limit = ("--max-tokens", str(4 + i % 7), "--temperature", "0")
        alone = edgellm("generate", demo_bundle, "--prompt", prompts[i], *limit, "--json")
        assert answers[i]["token_ids"] == json.loads(alone.stdout)["token_ids"]
    assert "." not in answers[3]["text"]


def test_a_bad_line_gets_its_error_and_the_others_their_answers(demo_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = [
        '{"prompt": "Hello!", "max_tokens": 3}',
        "not json",
        '{"prompt": "Hello!", "messages": []}',
        '{"prompt": "Hello!", "temperature": "hot"}',
        '{"prompt": "Hello!", "wings": 2}',
        json.dumps({"prompt": "word " * 5000}),
        '{"messages": "text"}',
        '{"messages": [{"role": "user", "content": 5}]}',
        '{"prompt": "Hello!", "max_tokens": 3}',
    ]
    source.write_text("\n".join(lines))
    done = edgellm("generate", demo_bundle, "--input", source, "--temperature", "0")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert "failed" in done.stderr and "Traceback" not in done.stderr
    assert [a["index"] for a in answers] == list(range(9))
    assert ["error" in a for a in answers[:7]] == [False] + [True] * 6
    assert answers[8]["text"] == answers[0]["text"]
    assert "5" in answers[5]["error"] and "context" in answers[5]["error"]


def test_a_seed_repeats_in_another_process(demo_bundle: Path) -> None:
    def sample(seed: str) -> list[int]:
        done = edgellm(
            "generate", demo_bundle, "--prompt", "Hello!", "--temperature", "3", "--seed", seed,
            "--max-tokens", "20", "--ignore-eos", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        ids: list[int] = json.loads(done.stdout)["token_ids"]
        return ids

    assert sample("5") == sample("5") != sample("6")


def test_misuse_is_one_clear_line(demo_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("")
    for arguments, word in (
        (("--prompt", "a", "--input", source), "--input"),
        (("--prompt", "a", "--raw", "--system", "b"), "--raw"),
        (("--prompt", "x " * 9_000), "tokens"),
    ):
        done = edgellm("generate", demo_bundle, *arguments)
        assert done.returncode in (1, 2)
        assert word in done.stderr and len(done.stderr.splitlines()) == 1
    done = edgellm("generate", tmp_path / "nowhere", "--prompt", "a")
    assert done.returncode == 1 and "nowhere" in done.stderr
