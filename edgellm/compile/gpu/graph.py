"""The graph of a decoder as launches of GPU kernels: the same model as `edgellm.compile.graph`.

Inputs of a step: tokens int32[n, FIELDS], tables int32[b, m], rows int32[r] (those that get logits), and the
rotary angles float32[context, rotary_dim]. Output: logits float32[r, padded vocabulary].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.gpu.attention import attention
from edgellm.compile.gpu.embed import embed
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.gpu.matvec import Product, matvec
from edgellm.compile.gpu.norm import norm
from edgellm.compile.gpu.parameters import parameters
from edgellm.compile.gpu.rope import rotate_and_append
from edgellm.compile.gpu.tokens import FIELDS
from edgellm.compile.heads import Heads, heads_of
from edgellm.compile.plan.builder import KernelTable, RoutineBuilder, Slots, Value
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import Arithmetic, Buffer, Routine
from edgellm.quantize.gpu_layout import BITS, GROUP, OUTPUTS, ZERO, padded

FEW = 8
"""Tokens of the steps that the first routine serves."""


@dataclass(frozen=True)
class Graph:
    """A lowered model, before its kernels are written out."""

    kernels: list[GpuKernel]
    buffers: list[Buffer]
    routines: list[Routine]
    sizes: dict[str, int]


def lower(
    config: ModelConfig, quant: str, arithmetic: Arithmetic, limits: DeviceLimits, *, max_tokens: int, max_rows: int
) -> Graph:
    """Lower a model.

    Args:
        max_tokens: of a step. max_rows: rows of logits of a step.
    """
    sizes = {"n": max_tokens, "r": max_rows, "b": 0, "m": 0, "blocks": 0, "context": 0}
    table, slots = KernelTable(), Slots(sizes)
    routines = []
    for most, rows in ((max_tokens, 8), (FEW, 4), (1, 1)):
        routine = RoutineBuilder(table, most)
        _Graph(config, BITS[quant], routine, rows, limits.tile[1]).forward()
        routines.append(routine.finish(slots))
    routines.reverse()
    buffers = [*_inputs(config), *_caches(config), *slots.buffers()]
    vocabulary = padded(config.vocab_size, OUTPUTS)
    buffers.append(Buffer("logits", "output", "float32", ("r", vocabulary)))
    return Graph(table.kernels, buffers, routines, sizes)


def _inputs(config: ModelConfig) -> list[Buffer]:
    found = [
        Buffer("tokens", "input", "int32", ("n", FIELDS)),
        Buffer("tables", "input", "int32", ("b", "m")),
        Buffer("rows", "input", "int32", ("r",)),
        Buffer("angles", "table", "float32", ("context", config.rope.dim)),
    ]
    if config.local_rope is not None:
        found.append(Buffer("local_angles", "table", "float32", ("context", config.local_rope.dim)))
    return found


def _caches(config: ModelConfig) -> list[Buffer]:
    heads = heads_of(config, "float32")
    return [
        Buffer(f"layers.{i}.{name}", "cache", heads.cache, heads.cache_shape("blocks"))
        for i in range(config.num_layers)
        for name in ("keys", "values")
    ]


class _Graph:
    def __init__(
        self, config: ModelConfig, bits: int, routine: RoutineBuilder, rows: int, slices: int
    ) -> None:
        self.config, self.bits, self.routine = config, bits, routine
        self.rows, self.slices = rows, slices
        self.names = {one.name for one in parameters(config)}

    def forward(self) -> None:
        c = self.config
        x = self.routine.value("n", c.hidden_size)
        vocabulary, hidden = padded(c.vocab_size, OUTPUTS), padded(c.hidden_size, GROUP)
        self._launch(
            "embed", lambda name: embed(vocabulary, c.hidden_size, self.bits, name, factor=c.embedding_scale),
            [Value("tokens"), *self._matrix("embed"), x],
        )  # fmt: skip
        for layer in range(c.num_layers):
            x = self._mlp(self._attention(x, layer), layer)
        picked = self.routine.value("r", c.hidden_size)
        self._launch(
            "norm_rows", lambda name: norm(c.hidden_size, name, eps=c.norm_eps, pick_rows=True),
            [x, Value("rows"), Value("norm"), picked],
        )  # fmt: skip
        head = "embed" if c.tie_word_embeddings else "lm_head"
        product = Product(vocabulary, hidden, self.bits)
        self._launch(
            f"logits{min(self.rows, 4)}",
            lambda name: matvec(product, name, rows=min(self.rows, 4), slices=self.slices, size="r"),
            [picked, *self._matrix(head), Value("logits")],
        )

    def _attention(self, x: Value, layer: int) -> Value:
        c, heads, at = self.config, self._heads(layer), f"layers.{layer}"
        keys, values = Value(f"{at}.keys"), Value(f"{at}.values")
        h = self._norm(x, f"{at}.input_norm")
        row = padded(heads.qkv, OUTPUTS)
        qkv = self._matmul("qkv", h, f"{at}.qkv", row, c.hidden_size)
        slides = c.slides(layer)
        local = slides and c.local_rope is not None
        scale = c.attention_scale if c.attention_scale is not None else c.head_dim**-0.5
        q = self.routine.value("n", heads.heads * heads.dim)
        self._launch(
            f"rope{'_local' if local else ''}",
            lambda name: rotate_and_append(
                heads, row, name, scale=scale, norm_eps=c.norm_eps if c.qk_norm else None
            ),
            [
                qkv, Value("tokens"), Value("local_angles" if local else "angles"),
                *([Value(f"{at}.qk_norm")] if c.qk_norm else []), keys, values, q,
            ],
        )  # fmt: skip
        mixed = self.routine.value("n", heads.heads * heads.dim)
        window = c.sliding_window if slides else None
        self._launch(
            f"attention{window or ''}", lambda name: attention(heads, name, window=window),
            [q, keys, values, Value("tokens"), Value("tables"), mixed],
        )  # fmt: skip
        return self._project(x, mixed, layer, "o", heads.heads * heads.dim, "post_attention_norm")

    def _mlp(self, x: Value, layer: int) -> Value:
        c, at = self.config, f"layers.{layer}"
        inner = padded(c.intermediate_size, GROUP)
        h = self._norm(x, f"{at}.pre_mlp_norm")
        gated = self._matmul("gate_up", h, f"{at}.gate_up", 2 * inner, c.hidden_size, gated=c.activation)
        return self._project(x, gated, layer, "down", inner, "post_mlp_norm")

    def _project(self, x: Value, h: Value, layer: int, name: str, inputs: int, post: str) -> Value:
        """x + h · weight, with the norm between if the family has one."""
        c, weight = self.config, f"layers.{layer}.{name}"
        if not c.post_norms:
            return self._matmul(name, h, weight, c.hidden_size, inputs, residual=x)
        y = self._matmul(name, h, weight, c.hidden_size, inputs)
        out = self.routine.value("n", c.hidden_size)
        self._launch(
            "add_norm", lambda name: norm(c.hidden_size, name, eps=c.norm_eps, residual=True),
            [y, Value(f"layers.{layer}.{post}"), x, out],
        )  # fmt: skip
        return out

    def _norm(self, x: Value, weight: str) -> Value:
        c = self.config
        y = self.routine.value("n", c.hidden_size)
        self._launch("norm", lambda name: norm(c.hidden_size, name, eps=c.norm_eps), [x, Value(weight), y])
        return y

    def _matmul(
        self, name: str, x: Value, weight: str, outputs: int, inputs: int, *,
        residual: Value | None = None, gated: str | None = None,
    ) -> Value:  # fmt: skip
        bias = Value(f"{weight}_bias") if f"{weight}_bias" in self.names else None
        product = Product(
            padded(outputs, OUTPUTS), padded(inputs, GROUP), self.bits, bias is not None, residual is not None, gated
        )
        y = self.routine.value("n", product.outputs // (2 if gated else 1))
        more = [one for one in (bias, residual) if one is not None]
        self._launch(
            f"{name}{self.rows}", lambda name: matvec(product, name, rows=self.rows, slices=self.slices),
            [x, *self._matrix(weight), *more, y],
        )  # fmt: skip
        return y

    def _launch(self, name: str, make: Callable[[str], GpuKernel], arguments: list[Value]) -> None:
        self.routine.launch(name, make, arguments)

    def _matrix(self, name: str) -> list[Value]:
        return [Value(f"{name}.w"), *([Value(f"{name}.s")] if self.bits in ZERO else [])]

    def _heads(self, layer: int) -> Heads:
        return heads_of(self.config, "float32", layer)
