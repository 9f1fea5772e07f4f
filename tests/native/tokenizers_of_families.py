"""Tokenizers with the stages of each family's own, and vocabularies learned from a few texts."""

from __future__ import annotations

import json
from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_END = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_END}"
QWEN = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_END}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = [rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"]
MISTRAL = rf"{_WORDS[0]}|{_WORDS[1]}|\p{{N}}|{_TAIL}"
PHI4 = rf"{_WORDS[0]}{_CONTRACTIONS}?|{_WORDS[1]}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_TAIL}"

CORPUS = [
    "What is a bundle? A bundle is a directory, and it's what the build writes: don't edit it by hand.",
    "The answers ARE the same, they've said so; we'll see. I'M SURE. He'd have 12345 or 6.789 of them!!!",
    "Grüße aus Köln, naïve café, straße; élève   œuvre. Привет, как дела? Это модель. 日本語のテキストです。",
    'def main():\n    for i in range(10):\r\n\t\tprint(f"{i} == {i ** 2}")  # twice\n\n\n',
    "한국어 문장입니다. नमस्ते दुनिया। مرحبا بالعالم 🙂🙃👩‍👩‍👧 ½ ² ٣ e\u0301 \u212b",
]


def _byte_level(normalizer: object, *cuts: object, ignore_merges: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(cuts))
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    return tokenizer


def _split(pattern: str) -> list[object]:
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return [pre_tokenizers.Split(Regex(pattern), "isolated"), level]


def _pieces(normalizer: object, pre_tokenizer: object, decoder: object) -> Tokenizer:
    model = models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    _train(tokenizer, [], [f"<0x{byte:02X}>" for byte in range(256)])
    return tokenizer


def _train(tokenizer: Tokenizer, alphabet: list[str], more: list[str] | None = None) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet,
        show_progress=False, limit_alphabet=400,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    if more:
        # Byte tokens belong to the model's vocabulary, not to the added tokens.
        data = json.loads(tokenizer.to_str())
        vocab = data["model"]["vocab"]
        for token in more:
            vocab.setdefault(token, len(vocab))
        tokenizer.__setstate__(json.dumps(data).encode())
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.add_special_tokens([AddedToken("<|user|>", rstrip=True, special=True, normalized=False)])
    tokenizer.add_tokens(
        [AddedToken("<think>", normalized=False), AddedToken("Bundle Name", normalized=True)]
    )
    tokenizer.add_tokens([AddedToken("\n\n\n", normalized=False), AddedToken("<left>", lstrip=True)])


def _sentence_piece() -> object:
    return decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )


def _llama2() -> Tokenizer:
    stages = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    return _pieces(normalizers.Sequence(stages), None, _sentence_piece())


def _gemma() -> Tokenizer:
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _pieces(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), decoder)


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "llama-2, mistral, phi-3": _llama2,
    "llama-2, newer files": lambda: _pieces(
        None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), _sentence_piece()
    ),
    "llama-2, metaspace": lambda: _pieces(
        None, pre_tokenizers.Metaspace(prepend_scheme="always", split=True), decoders.Metaspace()
    ),
    "gemma-3": _gemma,
    "llama-3": lambda: _byte_level(None, *_split(LLAMA3), ignore_merges=True),
    "qwen-2, qwen-3": lambda: _byte_level(normalizers.NFC(), *_split(QWEN)),
    "mistral, tekken": lambda: _byte_level(None, *_split(MISTRAL)),
    "phi-4-mini": lambda: _byte_level(None, *_split(PHI4)),
    "smollm, gpt-2": lambda: _byte_level(
        None,
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ),
}
