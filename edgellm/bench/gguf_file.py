"""A llama checkpoint as a GGUF file, so that llama.cpp can be measured on the same weights.

Uses the `gguf` package (the llama.cpp project's own writer). Every matrix is quantized alike, embedding
and output too, as edgellm does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellm.checkpoint import Checkpoint
from edgellm.errors import MissingDependencyError, UnsupportedError

_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "input_norm": "attn_norm",
    "pre_mlp_norm": "ffn_norm",
    "embed": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}


def write_gguf(checkpoint: Checkpoint, out: Path, quant: str) -> None:
    """Write `out` with all matrices in `quant` ("q4_0" or "q8_0").

    Raises:
        UnsupportedError: the family is not plain llama. MissingDependencyError: no `gguf` package.
    """
    config = checkpoint.config
    if config.family != "llama" or config.rope.scaling or config.qkv_bias or config.mlp_bias:
        raise UnsupportedError(
            f"only plain llama checkpoints are converted to GGUF here, not {config.family}; convert it with "
            "llama.cpp's own script and pass the file with --gguf"
        )
    try:
        import gguf
    except ImportError:
        raise MissingDependencyError("gguf is not installed: pip install 'edgellm[bench]'") from None
    kind = getattr(gguf.GGMLQuantizationType, quant.upper())
    beside = out.with_suffix(".partial")
    writer = gguf.GGUFWriter(str(beside), "llama")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.theta)
    _add_vocabulary(writer, checkpoint)
    for name in checkpoint.weights.names():
        part = name.removesuffix(".weight").split(".")
        target = _NAMES[part[-1]] if part[0] != "layers" else f"blk.{part[1]}.{_NAMES[part[-1]]}"
        values = checkpoint.weights.read(name)
        if part[-1] == "q_proj":
            values = _interleave_halves(values, config.num_heads)
        elif part[-1] == "k_proj":
            values = _interleave_halves(values, config.num_kv_heads)
        if values.ndim == 1:
            writer.add_tensor(f"{target}.weight", values)
        else:
            writer.add_tensor(f"{target}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        beside.replace(out)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _add_vocabulary(writer: Any, checkpoint: Checkpoint) -> None:
    """Byte-level BPE tokens and merges. Measuring sends token ids, so only the sizes must be right."""
    model = json.loads(checkpoint.tokenizer_file.read_text("utf-8"))["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    tokens += [f"<pad_{i}>" for i in range(checkpoint.config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < 3 else 1 for i in range(len(tokens))])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model.get("merges", [])])
    facts = checkpoint.tokenizer_facts
    writer.add_bos_token_id(facts.bos_id or 0)
    writer.add_eos_token_id(facts.eos_ids[0] if facts.eos_ids else 0)


def _interleave_halves(x: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head from rotate-half order to the interleaved pairs llama.cpp rotates."""
    half = x.shape[0] // heads // 2
    return x.reshape(heads, 2, half, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
