"""The parameters of a GPU program: which of the checkpoint's tensors each is made of, in which order."""

from __future__ import annotations

from dataclasses import dataclass

from edgellm.bundle.model_config import ModelConfig
from edgellm.quantize.formats import GROUP, ZERO, padded
from edgellm.quantize.gpu_layout import OUTPUTS


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        sources: canonical checkpoint names, stacked along the rows, or taking turns row by row
            (`interleaved`).
        rows, columns: padded; columns is 0 of vectors (float32).
    """

    name: str
    sources: tuple[str, ...]
    rows: int
    columns: int = 0
    interleaved: bool = False


def parameters(config: ModelConfig) -> list[Parameter]:
    """Every parameter, in the order of the weights file."""
    c = config
    hidden = padded(c.hidden_size, GROUP)
    result = [Parameter("embed", ("embed.weight",), padded(c.vocab_size, OUTPUTS), hidden)]
    for i in range(c.num_layers):
        at = f"layers.{i}"
        qkv = [f"{at}.{one}_proj" for one in "qkv"]
        rows = padded((c.num_heads + 2 * c.num_kv_heads) * c.head_dim, OUTPUTS)
        result.append(Parameter(f"{at}.input_norm", (f"{at}.input_norm.weight",), c.hidden_size))
        result.append(Parameter(f"{at}.qkv", tuple(f"{one}.weight" for one in qkv), rows, hidden))
        if c.qkv_bias:
            result.append(Parameter(f"{at}.qkv_bias", tuple(f"{one}.bias" for one in qkv), rows))
        if c.qk_norm:
            names = (f"{at}.q_norm.weight", f"{at}.k_norm.weight")
            result.append(Parameter(f"{at}.qk_norm", names, 2 * c.head_dim))
        result += _projection(c, at, "o", c.num_heads * c.head_dim, c.output_bias)
        if c.post_norms:
            name = f"{at}.post_attention_norm"
            result.append(Parameter(name, (f"{name}.weight",), c.hidden_size))
        result.append(Parameter(f"{at}.pre_mlp_norm", (f"{at}.pre_mlp_norm.weight",), c.hidden_size))
        gate_up = (f"{at}.gate_proj", f"{at}.up_proj")
        inner = 2 * padded(c.intermediate_size, GROUP)
        result.append(
            Parameter(f"{at}.gate_up", tuple(f"{one}.weight" for one in gate_up), inner, hidden, True)
        )
        if c.mlp_bias:
            result.append(
                Parameter(f"{at}.gate_up_bias", tuple(f"{one}.bias" for one in gate_up), inner, 0, True)
            )
        result += _projection(c, at, "down", c.intermediate_size, c.mlp_bias)
        if c.post_norms:
            result.append(Parameter(f"{at}.post_mlp_norm", (f"{at}.post_mlp_norm.weight",), c.hidden_size))
    result.append(Parameter("norm", ("norm.weight",), c.hidden_size))
    if not c.tie_word_embeddings:
        result.append(Parameter("lm_head", ("lm_head.weight",), padded(c.vocab_size, OUTPUTS), hidden))
    return result


def splits(parameter: Parameter, bits: int, binding_bytes: int) -> list[tuple[int, int]]:
    """First row and rows of each part of a matrix: its weights must fit into a binding."""
    row_bytes = parameter.columns * bits // 8
    most = max(OUTPUTS, binding_bytes // row_bytes // OUTPUTS * OUTPUTS)
    parts = -(-parameter.rows // most)
    each = padded(-(-parameter.rows // parts), OUTPUTS)
    return [(first, min(each, parameter.rows - first)) for first in range(0, parameter.rows, each)]


def array_names(parameter: Parameter, bits: int, part: int, parts: int) -> list[str]:
    """Names of the buffers of a part: weights, and scales if they are quantized."""
    at = f"{parameter.name}.{part}" if parts > 1 else parameter.name
    return [f"{at}.w", *([f"{at}.s"] if bits in ZERO else [])]


def _projection(c: ModelConfig, at: str, name: str, columns: int, bias: bool) -> list[Parameter]:
    rows = padded(c.hidden_size, OUTPUTS)
    found = [Parameter(f"{at}.{name}", (f"{at}.{name}_proj.weight",), rows, padded(columns, GROUP))]
    if bias:
        found.append(Parameter(f"{at}.{name}_bias", (f"{at}.{name}_proj.bias",), rows))
    return found
