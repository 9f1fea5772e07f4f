"""The graph of a decoder: one `forward` for prompts, decodes and any mix of them.

    forward(token_ids int32[n], positions int32[n], slots int32[n], items int32[t, 5], tables int32[b, m],
            rows int32[r], rotary (cosines, sines, …), cache (keys, values, … of each layer), parameters)
        -> logits float32[r, padded vocabulary]

Every family is this graph with other switches of `ModelConfig`, every quantization is it with activations in
another form. Kernels write into tensors that are made once in a step, one set for each kind of result: what a
layer leaves there is used up before the next layer writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.heads import CacheType, Heads, heads_of
from edgellm.compile.isa import Isa
from edgellm.compile.kernels.activations import Activations, activations_for
from edgellm.compile.kernels.attention import ITEM_FIELDS, attention, output_form
from edgellm.compile.kernels.embed import embed
from edgellm.compile.kernels.matmul import MatmulShape, matmul, matmul_gated
from edgellm.compile.kernels.norm import add_norm, convert, norm
from edgellm.compile.kernels.rope import rotate_and_append
from edgellm.compile.parameters import mlp_width, parameters
from edgellm.quantize.cpu_layout import run_inputs
from edgellm.quantize.formats import BITS, padded

Var = Any


def build_graph(
    config: ModelConfig, isa: Isa, quant: str, caches: tuple[CacheType, ...], *, max_tokens: int
) -> tvm.IRModule:
    """The module of a `forward_<cache>` for each of `caches`, and their kernels.

    Args:
        quant: how weights are stored: int4, int8, fp16 or fp32.
        max_tokens: tokens that one step may have (memory is planned for them).
    """
    builder, kernels = relax.BlockBuilder(), dict[str, Any]()
    for cache in caches:
        _Graph(builder, kernels, config, isa, BITS[quant], cache).add(max_tokens)
    return builder.finalize()


class _Graph:
    """One `forward`. The functions of a module share their kernels."""

    def __init__(
        self,
        builder: Any,
        kernels: dict[str, Any],
        config: ModelConfig,
        isa: Isa,
        bits: int,
        cache: CacheType,
    ) -> None:
        self.builder, self._kernels = builder, kernels
        self.config, self.isa, self.bits, self.cache_type = config, isa, bits, cache
        self.form = activations_for(bits)
        self._tensors: dict[str, list[Var]] = {}
        self.n, self.r, self.t, self.b, self.m, self.blocks, self.context = (
            tvm.tirx.Var(name, "int64") for name in ("n", "r", "t", "b", "m", "blocks", "context")
        )

    def add(self, max_tokens: int) -> None:
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
        layer = [tensor(self._heads(0).cache_shape(self.blocks), self._heads(0).dtype)] * 2
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
        with self.builder.function(f"forward_{self.cache_type}", [*inputs, *packs], attrs=attributes):
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

    def _forward(self) -> Var:
        c = self.config
        x = self._embed()
        for i in range(c.num_layers):
            x = self._mlp(self._attention(x, i), i)
        picked = self._activations(
            "norm_rows", lambda name: norm(
                self.isa, c.hidden_size, name, eps=c.norm_eps, form=self.form, pick_rows=True
            ), [x, self.inputs["rows"], self.weights["norm"]], c.hidden_size, rows=self.r,
        )  # fmt: skip
        head = self.weights["embed" if c.tie_word_embeddings else "lm_head"]
        return self._matmul("logits", picked, head, padded(c.vocab_size, 16), c.hidden_size, rows=self.r)

    def _embed(self) -> Var:
        c = self.config
        shape = self._shape(padded(c.vocab_size, 16), c.hidden_size)
        [x] = self._call(
            "embed", lambda name: embed(shape, c.hidden_size, name, factor=c.embedding_scale),
            [self.inputs["ids"], self.weights["embed"]], self._floats(c.hidden_size),
        )  # fmt: skip
        return x

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
        [q] = self._call(
            f"rope{heads.rotary_dim}{'_local' if local else ''}_{heads.cache}",
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
        name = f"attention{window or ''}_{heads.cache}"
        arguments = [q, keys, values, self.inputs["items"], self.inputs["tables"]]

        form = output_form(heads, self.form)
        mixed = self._activations(
            name, lambda name: attention(isa, heads, name, window=window, form=form),
            arguments, width, form=form,
        )  # fmt: skip
        if form is not self.form:
            mixed = self._activations(
                "convert", lambda name: convert(isa, width, name, form=self.form), mixed, width
            )
        return self._project(x, mixed, layer, "o", width, "post_attention_norm")

    def _mlp(self, x: Var, layer: int) -> Var:
        c, inner = self.config, mlp_width(self.config)
        shape = self._shape(2 * inner, c.hidden_size)
        h = self._norm(x, f"layers.{layer}.pre_mlp_norm")
        bias = self.weights.get(f"layers.{layer}.gate_up_bias")
        h = self._activations(
            "gate_up",
            lambda name: matmul_gated(self.isa, shape, name, activation=c.activation, bias=bias is not None),
            [*h, self._weight(layer, "gate_up"), *([] if bias is None else [bias])], inner,
        )  # fmt: skip
        return self._project(x, h, layer, "down", inner, "post_mlp_norm")

    def _project(self, x: Var, h: list[Var], layer: int, name: str, inputs: int, norm: str) -> Var:
        """x + h · weight, with the norm between if the family has one."""
        c = self.config
        weight, bias = self._weight(layer, name), self.weights.get(f"layers.{layer}.{name}_bias")
        if not c.post_norms:
            return self._matmul(name, h, weight, c.hidden_size, inputs, bias=bias, residual=x)
        y = self._matmul(name, h, weight, c.hidden_size, inputs, bias=bias)
        [x] = self._call(
            "add_norm", lambda name: add_norm(self.isa, c.hidden_size, name, eps=c.norm_eps),
            [y, x, self._weight(layer, norm)], self._floats(c.hidden_size), into=norm,
        )  # fmt: skip
        return x

    def _norm(self, x: Var, weight: str) -> list[Var]:
        c = self.config
        return self._activations(
            "norm", lambda name: norm(self.isa, c.hidden_size, name, eps=c.norm_eps, form=self.form),
            [x, self.weights[weight]], c.hidden_size,
        )  # fmt: skip

    def _matmul(
        self, name: str, x: list[Var], weight: Var, outputs: int, inputs: int, *,
        bias: Var | None = None, residual: Var | None = None, rows: Var | None = None,
    ) -> Var:  # fmt: skip
        shape = self._shape(outputs, inputs)
        more = [one for one in (bias, residual) if one is not None]
        [y] = self._call(
            name,
            lambda name: matmul(self.isa, shape, name, residual=residual is not None, bias=bias is not None),
            [*x, weight, *more], self._floats(outputs, rows),
        )  # fmt: skip
        return y

    def _call(
        self, name: str, make: Callable[[str], Any], arguments: list[Var], *results: Any, into: str = ""
    ) -> list[Var]:
        """Call the kernel `name`, made the first time, for results of these types.

        Args:
            into: the kind of result, where it is not the kernel's own.
        """
        if name not in self._kernels:
            self._kernels[name] = self.builder.add_func(make(name), name)
        kind = into or name
        if kind not in self._tensors:
            self._tensors[kind] = [
                self.builder.emit(relax.op.builtin.alloc_tensor(one.shape, str(one.dtype), 0))
                for one in results
            ]
        self.builder.emit(relax.Call(self._kernels[name], [*arguments, *self._tensors[kind]]))
        return self._tensors[kind]

    def _activations(
        self, name: str, make: Callable[[str], Any], arguments: list[Var], width: int, *,
        rows: Var | None = None, form: Activations | None = None,
    ) -> list[Var]:  # fmt: skip
        """Call a kernel whose result are rows of activations."""
        arrays = (form or self.form).arrays(self.n if rows is None else rows, width)
        return self._call(
            name, make, arguments, *(relax.TensorType(shape, dtype) for _, shape, dtype in arrays)
        )

    def _floats(self, width: int, rows: Var | None = None) -> Any:
        return relax.TensorType((self.n if rows is None else rows, width), "float32")

    def _shape(self, outputs: int, inputs: int) -> MatmulShape:
        return MatmulShape(outputs, padded(inputs, run_inputs(self.bits)), self.bits)

    def _weight(self, layer: int, name: str) -> Var:
        return self.weights[f"layers.{layer}.{name}"]

    def _heads(self, layer: int) -> Heads:
        return heads_of(self.config, self.cache_type, layer)
