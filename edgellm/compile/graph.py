"""The graph of a decoder: one `forward` for prompts, decodes and any mix of them.

    forward(token_ids int32[n], positions int32[n], slots int32[n], items int32[t, 4], tables int32[b, m],
            rows int32[r], rotary (cosines, sines, …), cache (keys, values, … of each layer), parameters)
        -> logits float32[r, padded vocabulary]

Every family is this graph with other switches of `ModelConfig`. The kernels write keys and values into the
cache as they go; everything else is a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.heads import Heads
from edgellm.compile.isa import Isa
from edgellm.compile.kernels.attention import ITEM_FIELDS, attention, quantizes
from edgellm.compile.kernels.embed import embed
from edgellm.compile.kernels.matmul import MatmulShape, matmul, matmul_gated
from edgellm.compile.kernels.norm import add_norm, norm_quantize, quantize_rows
from edgellm.compile.kernels.rope import rotate_and_append
from edgellm.compile.parameters import mlp_width, parameters
from edgellm.quantize.cpu_layout import GROUP, RUN, ZERO, padded

Var = Any


def build_graph(config: ModelConfig, isa: Isa, bits: int, *, max_tokens: int) -> tvm.IRModule:
    """The module of `forward` and its kernels.

    Args:
        bits: of a weight, 4 or 8. max_tokens: tokens that one step may have (memory is planned for them).
    """
    return _Graph(config, isa, bits).module(max_tokens)


class _Graph:
    def __init__(self, config: ModelConfig, isa: Isa, bits: int) -> None:
        self.config, self.isa, self.bits = config, isa, bits
        self.zero = ZERO[bits]
        self.builder = relax.BlockBuilder()
        self._kernels: dict[str, Any] = {}
        self.n, self.r, self.t, self.b, self.m, self.blocks, self.context = (
            tvm.tirx.Var(name, "int64") for name in ("n", "r", "t", "b", "m", "blocks", "context")
        )

    def module(self, max_tokens: int) -> tvm.IRModule:
        c, int32, float32 = self.config, "int32", "float32"
        tensor = relax.TensorType
        inputs = [
            relax.Var("token_ids", tensor((self.n,), int32)),
            relax.Var("positions", tensor((self.n,), int32)),
            relax.Var("slots", tensor((self.n,), int32)),
            relax.Var("items", tensor((self.t, ITEM_FIELDS), int32)),
            relax.Var("tables", tensor((self.b, self.m), int32)),
            relax.Var("rows", tensor((self.r,), int32)),
        ]
        rope = tensor((self.context, c.rope.dim // 2), float32)
        ropes = [rope, rope]
        if c.local_rope is not None:
            ropes += [tensor((self.context, c.local_rope.dim // 2), float32)] * 2
        heads = self._heads(0)
        layer = [
            tensor(heads.key_shape(self.blocks), "float16"),
            tensor(heads.value_shape(self.blocks), "float16"),
        ]
        weights = [
            tensor((p.nbytes(self.bits),), "uint8") if p.kind == "matrix" else tensor((p.rows,), float32)
            for p in parameters(c)
        ]
        packs = [
            relax.Var("rotary", relax.TupleType(ropes)),
            relax.Var("cache", relax.TupleType(layer * c.num_layers)),
            relax.Var("parameters", relax.TupleType(weights)),
        ]
        bounds = {"n": max_tokens, "r": max_tokens}
        attributes = {"tir_var_upper_bound": bounds}
        with self.builder.function("forward", [*inputs, *packs], attrs=attributes):
            fields = [
                [self.builder.emit(relax.TupleGetItem(pack, i)) for i in range(len(pack.ty.fields))]
                for pack in packs
            ]
            self.inputs = dict(
                zip(("ids", "positions", "slots", "items", "tables", "rows"), inputs, strict=True)
            )
            self.ropes, self.cache = fields[0], fields[1]
            self.weights = {p.name: value for p, value in zip(parameters(c), fields[2], strict=True)}
            self.builder.emit_func_output(self._forward())
        return self.builder.finalize()

    def _forward(self) -> Var:
        c = self.config
        x = self._embed()
        for i in range(c.num_layers):
            x = self._mlp(self._attention(x, i), i)
        picked = self._quantized(
            "norm_rows", lambda name: norm_quantize(
                self.isa, c.hidden_size, name, eps=c.norm_eps, zero=self.zero, pick_rows=True
            ), [x, self.inputs["rows"], self.weights["norm"]], self.r, c.hidden_size,
        )  # fmt: skip
        head = self.weights["embed" if c.tie_word_embeddings else "lm_head"]
        return self._matmul("logits", picked, head, padded(c.vocab_size, 16), c.hidden_size, rows=self.r)

    def _embed(self) -> Var:
        c = self.config
        shape = MatmulShape(padded(c.vocab_size, 16), padded(c.hidden_size, RUN), self.bits)
        return self._call(
            "embed", lambda name: embed(shape, c.hidden_size, name, factor=c.embedding_scale),
            [self.inputs["ids"], self.weights["embed"]], self._floats(c.hidden_size),
        )  # fmt: skip

    def _attention(self, x: Var, layer: int) -> Var:
        c, isa, heads = self.config, self.isa, self._heads(layer)
        slides = c.slides(layer)
        keys, values = self.cache[2 * layer : 2 * layer + 2]
        h = self._norm(x, f"layers.{layer}.input_norm")
        bias = self.weights.get(f"layers.{layer}.qkv_bias")
        qkv = self._matmul(
            "qkv", h, self._weight(layer, "qkv"), padded(heads.qkv, 16), c.hidden_size, bias=bias
        )
        local = slides and c.local_rope is not None
        scale = c.attention_scale if c.attention_scale is not None else c.head_dim**-0.5
        norms = [self._weight(layer, "q_norm"), self._weight(layer, "k_norm")] if c.qk_norm else []
        q = self._call(
            f"rope{heads.rotary_dim}{'_local' if local else ''}",
            lambda name: rotate_and_append(
                isa, heads, name, scale=scale, norm_eps=c.norm_eps if c.qk_norm else None
            ),
            [
                qkv, self.inputs["positions"], self.inputs["slots"], *self.ropes[2 * local : 2 * local + 2],
                *norms, keys, values,
            ],
            self._floats(heads.heads * heads.dim),
        )  # fmt: skip
        window = c.sliding_window if slides else None
        width = heads.heads * heads.dim
        name = f"attention{window or ''}"
        arguments = [q, keys, values, self.inputs["items"], self.inputs["tables"]]

        def make(name: str) -> Any:
            return attention(isa, heads, name, window=window, zero=self.zero)

        if quantizes(heads):
            mixed = self._quantized(name, make, arguments, self.n, width)
        else:
            mixed = self._quantize(self._call(name, make, arguments, self._floats(width)), width)
        return self._project(x, mixed, layer, "o", width, "post_attention_norm")

    def _mlp(self, x: Var, layer: int) -> Var:
        c, inner = self.config, mlp_width(self.config)
        shape = MatmulShape(2 * inner, padded(c.hidden_size, RUN), self.bits)
        h = self._norm(x, f"layers.{layer}.pre_mlp_norm")
        bias = self.weights.get(f"layers.{layer}.gate_up_bias")
        h = self._quantized(
            "gate_up",
            lambda name: matmul_gated(
                self.isa, shape, name, activation=c.activation, zero=self.zero, bias=bias is not None
            ),
            [*h, self._weight(layer, "gate_up"), *([] if bias is None else [bias])], self.n, inner,
        )  # fmt: skip
        return self._project(x, h, layer, "down", c.intermediate_size, "post_mlp_norm")

    def _project(self, x: Var, h: list[Var], layer: int, name: str, inputs: int, norm: str) -> Var:
        """x + h · weight, with the norm between if the family has one."""
        c = self.config
        weight, bias = self._weight(layer, name), self.weights.get(f"layers.{layer}.{name}_bias")
        if not c.post_norms:
            return self._matmul(name, h, weight, c.hidden_size, inputs, bias=bias, residual=x)
        y = self._matmul(name, h, weight, c.hidden_size, inputs, bias=bias)
        return self._call(
            "add_norm", lambda name: add_norm(self.isa, c.hidden_size, name, eps=c.norm_eps),
            [y, x, self._weight(layer, norm)], self._floats(c.hidden_size),
        )  # fmt: skip

    def _norm(self, x: Var, weight: str) -> list[Var]:
        c = self.config
        return self._quantized(
            "norm", lambda name: norm_quantize(self.isa, c.hidden_size, name, eps=c.norm_eps, zero=self.zero),
            [x, self.weights[weight]], self.n, c.hidden_size,
        )  # fmt: skip

    def _quantize(self, x: Var, width: int) -> list[Var]:
        return self._quantized(
            f"quantize{width}",
            lambda name: quantize_rows(self.isa, width, name, zero=self.zero),
            [x],
            self.n,
            width,
        )

    def _matmul(
        self, name: str, x: list[Var], weight: Var, outputs: int, inputs: int, *,
        bias: Var | None = None, residual: Var | None = None, rows: Var | None = None,
    ) -> Var:  # fmt: skip
        shape = MatmulShape(outputs, padded(inputs, RUN), self.bits)
        more = [one for one in (bias, residual) if one is not None]
        return self._call(
            name,
            lambda name: matmul(self.isa, shape, name, residual=residual is not None, bias=bias is not None),
            [*x, weight, *more], self._floats(outputs, rows),
        )  # fmt: skip

    def _call(self, name: str, make: Callable[[str], Any], arguments: list[Var], result: Any) -> Var:
        """Call the kernel `name`, made the first time."""
        if name not in self._kernels:
            self._kernels[name] = self.builder.add_func(make(name), name)
        return self.builder.emit(relax.call_tir(self._kernels[name], arguments, result))

    def _quantized(
        self, name: str, make: Callable[[str], Any], arguments: list[Var], rows: Var, width: int
    ) -> list[Var]:
        """Call a kernel whose result is codes, scales, corrections of `rows` × `width`."""
        width = padded(width, RUN)
        result = [
            relax.TensorType((rows, width), "int8"),
            relax.TensorType((rows, width // GROUP), "float32"),
            relax.TensorType((rows, width // GROUP), "int32"),
        ]
        value = self._call(name, make, arguments, result)
        return [self.builder.emit(relax.TupleGetItem(value, i)) for i in range(3)]

    def _floats(self, width: int, rows: Var | None = None) -> Any:
        return relax.TensorType((self.n if rows is None else rows, width), "float32")

    def _weight(self, layer: int, name: str) -> Var:
        return self.weights[f"layers.{layer}.{name}"]

    def _heads(self, layer: int) -> Heads:
        c = self.config
        rope = c.local_rope if c.slides(layer) and c.local_rope is not None else c.rope
        return Heads(c.num_heads, c.num_kv_heads, c.head_dim, rope.dim)
