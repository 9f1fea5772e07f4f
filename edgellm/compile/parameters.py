"""The parameters of a CPU program: which of the checkpoint's tensors each is made of, and in which order
they come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgellm.bundle.model_config import ModelConfig
from edgellm.quantize.cpu_layout import BLOCK, packed_bytes
from edgellm.quantize.formats import GROUP, padded


@dataclass(frozen=True)
class Parameter:
    """One argument of the program.

    Attributes:
        name: of the parameter. sources: canonical checkpoint names, stacked along the rows.
        kind: matrix (packed) or vector (float32).
        rows: as the kernels see them, padding included. columns: before they are padded to whole runs; 0 for
            vectors.
        interleaved: blocks of 16 rows of the sources take turns (gate, up, gate, up …).
        source_rows: rows that each source is padded to.
    """

    name: str
    sources: tuple[str, ...]
    kind: Literal["matrix", "vector"]
    rows: int
    columns: int = 0
    interleaved: bool = False
    source_rows: int = field(default=0)

    def nbytes(self, bits: int) -> int:
        """Bytes of the parameter with weights of so many bits."""
        return packed_bytes(self.rows, self.columns, bits) if self.kind == "matrix" else 4 * self.rows


def mlp_width(config: ModelConfig) -> int:
    """Inner width of the MLP as the kernels see it: whole groups."""
    return padded(config.intermediate_size, GROUP)


def parameters(config: ModelConfig) -> list[Parameter]:
    """Every parameter, in the order of the program's argument."""
    c = config
    hidden, query = c.hidden_size, c.num_heads * c.head_dim
    qkv = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    inner = mlp_width(c)
    result = [Parameter("embed", ("embed.weight",), "matrix", padded(c.vocab_size, BLOCK), hidden)]

    def vector(name: str, rows: int, *sources: str, interleaved: bool = False, source_rows: int = 0) -> None:
        result.append(Parameter(name, sources, "vector", rows, 0, interleaved, source_rows))

    def matrix(
        name: str, rows: int, columns: int, *sources: str, interleaved: bool = False, source_rows: int = 0
    ) -> None:
        result.append(Parameter(name, sources, "matrix", rows, columns, interleaved, source_rows))

    for i in range(c.num_layers):
        at = f"layers.{i}"
        vector(f"{at}.input_norm", c.hidden_size, f"{at}.input_norm.weight")
        qkv_names = [f"{at}.{one}_proj" for one in "qkv"]
        matrix(f"{at}.qkv", padded(qkv, BLOCK), hidden, *(f"{one}.weight" for one in qkv_names))
        if c.qkv_bias:
            vector(f"{at}.qkv_bias", padded(qkv, BLOCK), *(f"{one}.bias" for one in qkv_names))
        if c.qk_norm:
            vector(f"{at}.q_norm", c.head_dim, f"{at}.q_norm.weight")
            vector(f"{at}.k_norm", c.head_dim, f"{at}.k_norm.weight")
        matrix(f"{at}.o", c.hidden_size, query, f"{at}.o_proj.weight")
        if c.output_bias:
            vector(f"{at}.o_bias", c.hidden_size, f"{at}.o_proj.bias")
        if c.post_norms:
            vector(f"{at}.post_attention_norm", c.hidden_size, f"{at}.post_attention_norm.weight")
        vector(f"{at}.pre_mlp_norm", c.hidden_size, f"{at}.pre_mlp_norm.weight")
        gate_up = (f"{at}.gate_proj", f"{at}.up_proj")
        matrix(
            f"{at}.gate_up", 2 * inner, hidden, *(f"{one}.weight" for one in gate_up),
            interleaved=True, source_rows=inner,
        )  # fmt: skip
        if c.mlp_bias:
            names = (f"{one}.bias" for one in gate_up)
            vector(f"{at}.gate_up_bias", 2 * inner, *names, interleaved=True, source_rows=inner)
        matrix(f"{at}.down", c.hidden_size, inner, f"{at}.down_proj.weight")
        if c.mlp_bias:
            vector(f"{at}.down_bias", c.hidden_size, f"{at}.down_proj.bias")
        if c.post_norms:
            vector(f"{at}.post_mlp_norm", c.hidden_size, f"{at}.post_mlp_norm.weight")
    vector("norm", c.hidden_size, "norm.weight")
    if not c.tie_word_embeddings:
        result.append(
            Parameter("lm_head", ("lm_head.weight",), "matrix", padded(c.vocab_size, BLOCK), hidden)
        )
    return result


def is_norm(parameter: Parameter) -> bool:
    """Whether the parameter is a norm's weight (to which some families add 1)."""
    return parameter.name.endswith("norm")
