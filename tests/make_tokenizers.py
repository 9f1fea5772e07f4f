"""Small tokenizers of the two kinds that checkpoints have: at most 384 tokens, always the same."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = ["<unk>", "<s>", "</s>", "<|end|>", "<|turn|>"]
WORDS = ["the", "and", "ing", "hello", "world", "what", "is", "bundle"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def byte_level(*, bos: bool = False, eos: bool = False) -> Tokenizer:
    """Byte-level BPE as in Llama 3 and Qwen. Without a template the post-processor adds nothing."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab, merges = _with_merges(SPECIAL + alphabet, [word for w in WORDS for word in (w, "Ġ" + w)])
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = _template(bos, eos)
    level = processors.ByteLevel(trim_offsets=False)
    tokenizer.post_processor = processors.Sequence([level, template]) if template else level
    _add_special(tokenizer)
    return tokenizer


def metaspace(*, bos: bool = True, eos: bool = False) -> Tokenizer:
    """SentencePiece-like BPE with byte fallback, as in Llama 2 and Gemma."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted(set("".join(WORDS) + "▁.,?!aeiou0123456789"))
    vocab, merges = _with_merges(SPECIAL + fallback + letters, [word for w in WORDS for word in (w, "▁" + w)])
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    if template := _template(bos, eos):
        tokenizer.post_processor = template
    _add_special(tokenizer)
    return tokenizer


def _with_merges(base: list[str], words: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokens = list(dict.fromkeys(base))
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(2, len(word) + 1):
            pair = (word[: end - 1], word[end - 1])
            if word[:end] not in tokens:
                tokens.append(word[:end])
            if pair not in merges:
                merges.append(pair)
    return {token: i for i, token in enumerate(tokens)}, merges


def _template(bos: bool, eos: bool) -> processors.TemplateProcessing | None:
    if not bos and not eos:
        return None
    single = ("<s> " if bos else "") + "$A" + (" </s>" if eos else "")
    return processors.TemplateProcessing(
        single=single, pair=f"{single} $B:1", special_tokens=[("<s>", 1), ("</s>", 2)]
    )


def _add_special(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
