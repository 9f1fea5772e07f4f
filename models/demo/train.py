"""Train the demo model from scratch on a CPU and write it as a Hugging Face checkpoint.

    python models/demo/train.py --out models/demo

Needs `torch`, `tokenizers`, `safetensors` and `numpy`. With the same seed, thread count and torch version the
files come out the same. See README.md for the time it takes and for what the result can do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from corpus import Corpus, Message
from network import BOS, CONFIG, EOS, IM_END, IM_START, SPECIAL, Llama
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional

CHAT_TEMPLATE = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "{{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)
# A batch is 2048 tokens in rows of one length; long rows teach positions up to the end of the context.
ROW_LENGTHS = {128: 0.35, 256: 0.30, 512: 0.20, 1024: 0.15}
BATCH_TOKENS = 2048
QUESTION_WEIGHT = 0.15


def train_tokenizer(seed: int) -> Tokenizer:
    """Byte-level BPE. Each digit is a token of its own, so that sums can be learned digit by digit."""
    corpus = Corpus(seed)
    texts = [turn["content"] for _ in range(15000) for turn in corpus.conversation(2)]
    texts += [corpus.prose() for _ in range(500)]
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r"'\p{L}+| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    split = pre_tokenizers.Split(pieces, behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        min_frequency=2,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", BOS)]
    )
    return tokenizer


def encode_conversation(tokenizer: Tokenizer, messages: list[Message]) -> tuple[list[int], list[float]]:
    """Token ids of the rendered conversation, and the weight of each token's loss."""
    texts = [part for turn in messages for part in (turn["role"] + "\n", turn["content"], "\n")]
    parts = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    ids, weights = [BOS], [0.0]
    for turn, role, content, newline in zip(messages, parts[::3], parts[1::3], parts[2::3], strict=True):
        weight = 1.0 if turn["role"] == "assistant" else QUESTION_WEIGHT
        ids += [IM_START, *role, *content, IM_END, *newline]
        header = [QUESTION_WEIGHT] * (1 + len(role))
        weights += header + [weight] * (len(content) + 1) + [QUESTION_WEIGHT] * len(newline)
    return [*ids, EOS], [*weights, QUESTION_WEIGHT]


def encode_document(
    tokenizer: Tokenizer, corpus: Corpus, length: int, draw: float
) -> tuple[list[int], list[float]]:
    """Mostly a conversation; for a few values of `draw` in [0, 1) plain prose or a drill in sums."""
    if draw < 0.02:
        ids = [*tokenizer.encode(corpus.prose()).ids, EOS]
        return ids, [0.0] + [0.5] * (len(ids) - 1)
    if draw < 0.08:
        ids, weights = [BOS], [0.0]
        for asked, result in corpus.drill():
            parts = [tokenizer.encode(text, add_special_tokens=False).ids for text in (asked, result, "\n")]
            ids += parts[0] + parts[1] + parts[2]
            weights += [0.05] * len(parts[0]) + [1.0] * len(parts[1]) + [0.05] * len(parts[2])
        return [*ids, EOS], [*weights, QUESTION_WEIGHT]
    return encode_conversation(tokenizer, corpus.conversation(max(4, length // 80)))


def batches(tokenizer: Tokenizer, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches: ids int64[rows, length + 1] and loss weights float32 of the same shape."""
    corpus, choice = Corpus(seed), np.random.default_rng(seed)
    while True:
        length = int(choice.choice(list(ROW_LENGTHS), p=list(ROW_LENGTHS.values())))
        rows: list[list[int]] = []
        row_weights: list[list[float]] = []
        for _ in range(BATCH_TOKENS // length):
            ids: list[int] = []
            weights: list[float] = []
            while len(ids) < length + 1:
                more, more_weights = encode_document(tokenizer, corpus, length, choice.random())
                ids += more
                weights += more_weights
            rows.append(ids[: length + 1])
            row_weights.append(weights[: length + 1])
        yield torch.tensor(rows), torch.tensor(row_weights)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 200 steps, then the peak, then a linear decay to nearly 0 in the last 55 %."""
    decay = (steps - step) / (0.55 * steps)
    return peak * min(1.0, (step + 1) / 200, max(decay, 0.005))


def train(tokenizer: Tokenizer, options: argparse.Namespace) -> Llama:
    torch.manual_seed(options.seed)
    model = Llama()
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.97), fused=True)
    first = load_state(options.state, model, optimizer) if options.state and options.state.exists() else 0
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)
    start, seen, average = time.monotonic(), 0, math.nan
    stream = enumerate(batches(tokenizer, options.seed))
    for step, (ids, weights) in itertools.islice(stream, first, options.steps):
        if options.state and step % 250 == 0 and step > first:
            save_state(options.state, model, optimizer, step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps, options.lr)
        with torch.autocast("cpu", torch.bfloat16, enabled=not options.float32):
            logits = model(ids[:, :-1]).flatten(0, 1).float()
        losses = functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
        wanted = weights[:, 1:].flatten()
        loss = (losses * wanted).sum() / wanted.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        answers = losses.detach()[wanted == 1].mean().item()
        average = answers if math.isnan(average) else 0.98 * average + 0.02 * answers
        seen += wanted.numel()
        if step % 50 == 0 or step == options.steps - 1:
            seconds = time.monotonic() - start
            rate = f"{seen / seconds:.0f} tok/s  {seconds:.0f} s"
            print(f"step {step}/{options.steps}  answers {average:.4f}  {rate}", flush=True)
    return model


def save_state(path: Path, model: Llama, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Keep what is needed to go on after an interruption, or with another number of steps."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    save_file(tensors, path, metadata={"step": str(step)})


def load_state(path: Path, model: Llama, optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_state` kept; returns the step to go on with."""
    tensors = load_file(path)
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state[0]["step"].item())


def export(model: Llama, tokenizer: Tokenizer, out: Path) -> None:
    """Write the checkpoint in Hugging Face format, weights in fp16."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    added = {
        str(i): {"content": token, "special": True, "lstrip": False, "rstrip": False, "normalized": False}
        for i, token in enumerate(SPECIAL)
    }
    files = {
        "config.json": CONFIG,
        "generation_config.json": {
            "bos_token_id": BOS,
            "eos_token_id": [IM_END, EOS],
            "pad_token_id": EOS,
            "do_sample": True,
            "temperature": 0.1,
            "top_p": 0.95,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|bos|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|eos|>",
            "model_max_length": CONFIG["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "added_tokens_decoder": added,
        },
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--state", type=Path, help="a file to save the progress in, and to go on from")
    parser.add_argument(
        "--float32", action="store_true", help="no bf16 arithmetic: for processors without it"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = train_tokenizer(options.seed)
    print(f"vocabulary: {tokenizer.get_vocab_size()}", flush=True)
    model = train(tokenizer, options)
    export(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
