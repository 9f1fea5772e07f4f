"""Train the demo model from scratch on a CPU and write it as a Hugging Face checkpoint.

    python models/demo/train.py --out models/demo

Needs `torch`, `tokenizers`, `safetensors` and `numpy`. With the same seed, thread count and torch version the
files come out the same. See README.md for the time it takes and for what the result can do.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from corpus import Corpus, Message
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional

SPECIAL = ["<|bos|>", "<|im_start|>", "<|im_end|>", "<|eos|>"]
BOS, IM_START, IM_END, EOS = range(4)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "float16",
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "bos_token_id": BOS,
    "eos_token_id": [IM_END, EOS],
    "pad_token_id": EOS,
    "use_cache": True,
}
CHAT_TEMPLATE = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "{{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)
# A batch is about 4096 tokens in rows of one length; long rows teach positions up to the end of the context.
ROW_LENGTHS = {128: 0.35, 256: 0.30, 512: 0.20, 1024: 0.15}
BATCH_TOKENS = 4096
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
                if choice.random() < 0.03:
                    more = [*tokenizer.encode(corpus.prose()).ids, EOS]
                    more_weights = [0.0] + [0.5] * (len(more) - 1)
                else:
                    more, more_weights = encode_conversation(
                        tokenizer, corpus.conversation(max(4, length // 80))
                    )
                ids += more
                weights += more_weights
            rows.append(ids[: length + 1])
            row_weights.append(weights[: length + 1])
        yield torch.tensor(rows), torch.tensor(row_weights)


class RMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, CONFIG["rms_norm_eps"])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        hidden, self.head_dim = CONFIG["hidden_size"], CONFIG["head_dim"]
        self.heads, self.kv_heads = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = rotate(self.q_proj(x).view(b, n, self.heads, -1).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(b, n, self.kv_heads, -1).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, n, self.kv_heads, -1).transpose(1, 2)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(b, n, -1))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in the rotate-half form of Hugging Face's Llama. x: [b, heads, n, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(CONFIG["hidden_size"])
        self.self_attn = Attention()
        self.post_attention_layernorm = RMSNorm(CONFIG["hidden_size"])
        self.mlp = MLP()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """The Llama architecture; with the prefix `model.` its parameters have the names Hugging Face uses."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = RMSNorm(CONFIG["hidden_size"])
        half = CONFIG["head_dim"] // 2
        frequencies = CONFIG["rope_theta"] ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(CONFIG["max_position_embeddings"]), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = (
                    1 / math.sqrt(2 * CONFIG["num_hidden_layers"])
                    if "o_proj" in name or "down" in name
                    else 1.0
                )
                nn.init.normal_(
                    parameter, std=scale / math.sqrt(parameter.shape[1]) if "embed" not in name else 0.02
                )

    def forward(self, ids: Tensor) -> Tensor:
        x, n = self.embed_tokens(ids), ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:n], self.sin[:n])
        return functional.linear(self.norm(x), self.embed_tokens.weight)


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up over the first 4 %, then a cosine down to 1 % of the peak; `progress` is in [0, 1]."""
    if progress < 0.04:
        return peak * progress / 0.04
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - 0.04) / 0.96)))


def train(tokenizer: Tokenizer, steps: int, peak: float, seed: int, float32: bool) -> Llama:
    torch.manual_seed(seed)
    model = Llama()
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.97), fused=True)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)
    start, seen = time.monotonic(), 0
    average = 0.0
    for step, (ids, weights) in enumerate(batches(tokenizer, seed)):
        if step == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step / steps, peak)
        with torch.autocast("cpu", torch.bfloat16, enabled=not float32):
            logits = model(ids[:, :-1]).flatten(0, 1).float()
        losses = functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
        wanted = weights[:, 1:].flatten()
        loss = (losses * wanted).sum() / wanted.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        answers = losses[wanted == 1].mean().item()
        average = 0.98 * average + 0.02 * answers if step else answers
        seen += wanted.numel()
        if step % 50 == 0 or step == steps - 1:
            seconds = time.monotonic() - start
            print(
                f"step {step}/{steps}  answers {average:.4f}  {seen / seconds:.0f} tok/s  {seconds:.0f} s",
                flush=True,
            )
    return model


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
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--float32", action="store_true", help="no bf16 arithmetic: for processors without it"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = train_tokenizer(options.seed)
    print(f"vocabulary: {tokenizer.get_vocab_size()}", flush=True)
    model = train(tokenizer, options.steps, options.lr, options.seed, options.float32)
    export(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
