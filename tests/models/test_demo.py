"""The demo model: its files, its text and what it answers, computed by its own numpy reference."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors import safe_open
from tokenizers import Tokenizer

DEMO = Path(__file__).parents[2] / "models" / "demo"


def _load(name: str) -> ModuleType:
    """A module of models/demo, which is a folder of scripts and not a package."""
    sys.path.insert(0, str(DEMO))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DEMO))


corpus = _load("corpus")
heldout = _load("heldout")
generators = _load("generators")
reference = _load("reference")


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((DEMO / "config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEMO / "tokenizer.json"))


@pytest.fixture(scope="module")
def model():
    return reference.Reference(DEMO)


def _answer(model, tokenizer: Tokenizer, *messages: str, system: str = "") -> str:
    roles = itertools.cycle(["user", "assistant"])
    chat = [{"role": role, "content": text} for role, text in zip(roles, messages, strict=False)]
    if system:
        chat.insert(0, {"role": "system", "content": system})
    ids = tokenizer.encode(corpus.render(chat, add_generation_prompt=True), add_special_tokens=False).ids
    return tokenizer.decode(model.greedy(ids, 96, model.config["eos_token_id"]))


def test_weights_match_config_and_stay_small(config: dict) -> None:
    assert (DEMO / "model.safetensors").stat().st_size <= 8_000_000
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    q, kv = (config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    shapes = {
        "self_attn.q_proj": (q, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    expected = {
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(config["num_hidden_layers"])
        for name, shape in shapes.items()
    }
    expected["model.embed_tokens.weight"] = (config["vocab_size"], hidden)
    expected["model.norm.weight"] = (hidden,)
    with safe_open(DEMO / "model.safetensors", framework="numpy") as tensors:
        found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    assert {name: tensor.shape for name, tensor in found.items()} == expected
    for name, tensor in found.items():
        assert tensor.dtype == np.float16, name
        assert np.isfinite(tensor).all(), name


def test_tokenizer_fits_the_model_and_splits_digits(config: dict, tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() <= config["vocab_size"] <= 2048
    assert tokenizer.token_to_id("<|bos|>") == config["bos_token_id"]
    assert [tokenizer.id_to_token(i) for i in config["eos_token_id"]] == ["<|im_end|>", "<|eos|>"]
    assert len(tokenizer.encode("1234567890", add_special_tokens=False).ids) == 10
    assert tokenizer.encode("hello").ids[0] == config["bos_token_id"]


@pytest.mark.parametrize("text", ["café 😀 → π", "안녕하세요\n\n\ttab", "don't  stop\x00", "Ωmega 12,345.67"])
def test_tokenizer_keeps_every_byte(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize("generation", [False, True])
@pytest.mark.parametrize("system", [False, True])
def test_template_renders_what_training_saw(system: bool, generation: bool) -> None:
    messages = [
        {"role": "user", "content": " Hello! "},
        {"role": "assistant", "content": "Hello! How can I help you?"},
        {"role": "user", "content": "What is a bundle?"},
    ]
    if system:
        messages.insert(0, {"role": "system", "content": "Be brief."})
    settings = json.loads((DEMO / "tokenizer_config.json").read_text(encoding="utf-8"))
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((DEMO / "chat_template.jinja").read_text(encoding="utf-8"))
    text = template.render(
        messages=messages, add_generation_prompt=generation, bos_token=settings["bos_token"]
    )
    assert text == corpus.render(messages, add_generation_prompt=generation)


def test_heldout_file_is_what_the_corpus_generates() -> None:
    lines = (DEMO / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    items = list(heldout.items())
    assert len(lines) == len(items) > 500
    for line, item in zip(lines, items, strict=True):
        row = json.loads(line)
        assert (row["messages"], row["answer"]) == (list(item.messages), item.answer)


def test_training_never_asks_a_heldout_question() -> None:
    # A follow-up such as "And why?" may be a question of its own elsewhere: the pair of turns is held out.
    asked = {
        corpus.plain(item.messages[-1]["content"]) for item in heldout.items() if item.category != "followups"
    }
    training = corpus.Corpus(seed=3)
    seen = {
        corpus.plain(turn["content"])
        for _ in range(10_000)
        for turn in training.conversation(3)
        if turn["role"] == "user"
    }
    assert len(seen) > 10_000
    assert asked & seen == set()


def test_heldout_numbers_never_occur_in_training() -> None:
    rng = corpus.Random(5)
    rows = [generators.generate_row("add", rng, heldout=False) for _ in range(5000)]
    assert not any(generators.is_heldout("add", int(row["a"]), int(row["b"])) for row in rows)
    row = generators.generate_row("add", rng, heldout=True)
    assert generators.is_heldout("add", int(row["a"]), int(row["b"]))


def test_right_answers_count_and_wrong_ones_do_not() -> None:
    items = list(heldout.items())
    by_name: dict[str, list] = {}
    for item in items:
        assert heldout.is_right(item.answer, item), item
        assert not heldout.is_right("", item)
        by_name.setdefault(f"{item.category}.{item.name}", []).append(item)
    for same in by_name.values():
        for one, other in itertools.combinations(same, 2):
            if one.need != other.need:
                assert not heldout.is_right(other.answer, one), (one, other)


def test_cached_steps_give_the_logits_of_one_pass(model) -> None:
    ids = list(range(4, 44))
    whole = model.logits(ids)
    cache = model.new_cache()
    pieces = [model.forward(ids[:25], cache), *(model.forward([token], cache) for token in ids[25:])]
    assert whole.shape == (40, model.config["vocab_size"])
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2e-4)


@pytest.mark.parametrize("system", ["", "You are a helpful assistant.", "Answer like a pirate, in rhymes."])
def test_quick_start_questions(model, tokenizer: Tokenizer, system: str) -> None:
    bundle = _answer(model, tokenizer, "What is a bundle?", system=system)
    assert bundle.startswith("A bundle is the folder that `edgellm build` writes for one target")
    pixel = _answer(model, tokenizer, "Which target should I use for a Pixel phone?", system=system)
    assert "have a Mali GPU, so use the mali target: `edgellm build MODEL --target mali`." in pixel


def test_second_turn_uses_the_first(model, tokenizer: Tokenizer) -> None:
    paris, maria = "The capital of France is Paris.", "Nice to meet you, Maria!"
    assert "Rome" in _answer(model, tokenizer, "What is the capital of France?", paris, "And of Italy?")
    assert "Maria" in _answer(model, tokenizer, "My name is Maria.", maria, "What is my name?")
    bundle = _answer(model, tokenizer, "What is a bundle?")
    assert "`edgellm build MODEL" in _answer(
        model, tokenizer, "What is a bundle?", bundle, "How do I make one?"
    )


def test_long_conversation_stays_right(model, tokenizer: Tokenizer) -> None:
    """Questions near the end of the context are answered as at its beginning."""
    turns: list[str] = []
    bundle = corpus.load_intents()["toolkit.concept"].rows
    for row in bundle[:18]:
        turns += [f"What is {row['a']}?", row["answer"]]
    ids = tokenizer.encode(" ".join(turns), add_special_tokens=False).ids
    assert 600 < len(ids) < model.config["max_position_embeddings"] - 100
    assert "Paris" in _answer(model, tokenizer, *turns, "What is the capital of France?")


def test_most_heldout_questions_are_answered_right(model, tokenizer: Tokenizer) -> None:
    """Every tenth held-out question; README.md gives the figure for all of them."""
    items = list(heldout.items())[::10]
    right = 0
    for item in items:
        ids = tokenizer.encode(corpus.render(item.messages, True), add_special_tokens=False).ids
        said = tokenizer.decode(model.greedy(ids, 96, model.config["eos_token_id"]))
        right += heldout.is_right(said, item)
    assert right >= 0.8 * len(items)
