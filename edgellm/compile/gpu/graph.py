"""The graph of a decoder as launches of GPU kernels: the same model as `edgellm.compile.graph`.

Inputs of a step: tokens int32[n, FIELDS], tables int32[b, m], rows int32[r] (those that get logits), and
the rotary angles float32[context, rotary_dim]. Outputs: logits float32[r, padded vocabulary], and of each
row the largest ones, top float32[r, 64] with their ids top_ids int32[r, 64], and log_sums float32[r], the
logarithm of the sum of all exponentials.

With fp16 arithmetic the cache is fp16, and so are the inputs of products, unless a norm is part of the
product; what layers add to, and sums, stay float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.gpu.attention import attention, item_tokens, merge
from edgellm.compile.gpu.embed import embed
from edgellm.compile.gpu.fit import check_fits
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.gpu.norm import norm
from edgellm.compile.gpu.parameters import Parameter, array_names, parameters, splits
from edgellm.compile.gpu.product import Product
from edgellm.compile.gpu.rope import rotate_and_append
from edgellm.compile.gpu.styles import Style, product_kernel, styles
from edgellm.compile.gpu.tokens import FIELDS
from edgellm.compile.gpu.top import CHUNK, TOP, chunks, last_top, top_of_candidates, top_of_logits
from edgellm.compile.heads import CacheType, heads_of
from edgellm.compile.plan.builder import KernelTable, RoutineBuilder, Slots, Value
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import Arithmetic, Buffer, Dtype, Routine
from edgellm.quantize.formats import BITS, GROUP, padded
from edgellm.quantize.gpu_layout import OUTPUTS


@dataclass(frozen=True)
class Graph:
    """A lowered model, before its kernels are written out."""

    kernels: list[GpuKernel]
    buffers: list[Buffer]
    routines: list[Routine]
    sizes: dict[str, int]


def lower(
    config: ModelConfig,
    quant: str,
    arithmetic: Arithmetic,
    limits: DeviceLimits,
    *,
    max_tokens: int,
    max_rows: int,
) -> Graph:
    """Lower a model.

    Args:
        max_tokens: of a step. max_rows: rows of logits of a step.

    Raises:
        UnsupportedError: the model does not fit the limits.
    """
    sizes = {"n": max_tokens, "r": max_rows, "b": 0, "m": 0, "blocks": 0, "context": 0}
    table, slots = KernelTable(), Slots(sizes)
    routines = []
    for style in styles(limits, max_tokens):
        routine = RoutineBuilder(table, style.most)
        _Graph(config, BITS[quant], arithmetic == "fp16", limits, routine, style).forward()
        routines.append(routine.finish(slots))
    check_fits(table.kernels, limits, sizes)
    cache: CacheType = "fp16" if arithmetic == "fp16" else "fp32"
    buffers = [*_inputs(config), *_caches(config, cache), *slots.buffers(), *_outputs(config)]
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


def _caches(config: ModelConfig, cache: CacheType) -> list[Buffer]:
    heads = heads_of(config, cache)
    dtype: Dtype = "float16" if cache == "fp16" else "float32"
    return [
        Buffer(f"layers.{i}.{name}", "cache", dtype, heads.cache_shape("blocks"))
        for i in range(config.num_layers)
        for name in ("keys", "values")
    ]


def _outputs(config: ModelConfig) -> list[Buffer]:
    return [
        Buffer("logits", "output", "float32", ("r", padded(config.vocab_size, OUTPUTS))),
        Buffer("top", "output", "float32", ("r", TOP)),
        Buffer("top_ids", "output", "int32", ("r", TOP)),
        Buffer("log_sums", "output", "float32", ("r",)),
    ]


class _Graph:
    def __init__(
        self,
        config: ModelConfig,
        bits: int,
        half: bool,
        limits: DeviceLimits,
        routine: RoutineBuilder,
        style: Style,
    ) -> None:
        self.config, self.bits, self.half, self.limits = config, bits, half, limits
        self.routine, self.style = routine, style
        self.parameters = {one.name: one for one in parameters(config)}
        self.narrow: Dtype = "float16" if half else "float32"
        """Type of what products take in."""
        self.cache: CacheType = "fp16" if half else "fp32"

    def forward(self) -> None:
        """Note every launch."""
        c = self.config
        x = self.routine.value("n", c.hidden_size)
        for tag, first, rows, arrays in self._matrix(self.parameters["embed"]):
            make = partial(embed, rows, c.hidden_size, self.bits, factor=c.embedding_scale)
            self._launch(
                f"embed{tag}", partial(make, first=first, half=self.half), [Value("tokens"), *arrays, x]
            )
        for layer in range(c.num_layers):
            x = self._mlp(self._attention(x, layer), layer)
        picked = self.routine.value("r", c.hidden_size)
        self._launch(
            "norm_rows",
            partial(norm, c.hidden_size, eps=c.norm_eps, pick_rows=True),
            [x, Value("rows"), Value("norm"), picked],
        )
        head = "embed" if c.tie_word_embeddings else "lm_head"
        product = self._product(head, c.hidden_size)
        style = replace(self.style, rows=min(32, self.style.rows))
        self._multiply("logits", product, head, [picked], [Value("logits")], style, "r")
        self._top()

    def _attention(self, x: Value, layer: int) -> Value:
        c, heads, at = self.config, heads_of(self.config, self.cache, layer), f"layers.{layer}"
        keys, values = Value(f"{at}.keys"), Value(f"{at}.values")
        qkv = self._normed("qkv", x, f"{at}.input_norm", f"{at}.qkv")
        slides = c.slides(layer)
        local = slides and c.local_rope is not None
        scale = c.attention_scale if c.attention_scale is not None else c.head_dim**-0.5
        q = self.routine.value("n", heads.heads * heads.dim)
        row = padded(heads.qkv, OUTPUTS)
        eps = c.norm_eps if c.qk_norm else None
        self._launch(
            f"rope{'_local' if local else ''}",
            partial(rotate_and_append, heads, row, scale=scale, norm_eps=eps),
            [
                qkv, Value("tokens"), Value("local_angles" if local else "angles"),
                *([Value(f"{at}.qk_norm")] if c.qk_norm else []), keys, values, q,
            ],
        )  # fmt: skip
        window = c.sliding_window if slides else None
        width, parts = heads.heads * heads.dim, self.style.parts
        tokens = item_tokens(heads) if self.style.tiled else 1
        sums = self.routine.value("n", heads.heads * parts * (heads.dim + 2)) if parts > 1 else None
        mixed = self.routine.value("n", width, self.narrow)
        self._launch(
            f"attention{window or ''}_{tokens}x{parts}",
            partial(attention, heads, window=window, tokens=tokens, parts=parts, result=self.narrow),
            [q, keys, values, Value("tokens"), Value("tables"), sums or mixed],
        )
        if sums is not None:
            self._launch("merge", partial(merge, heads, parts=parts, result=self.narrow), [sums, mixed])
        return self._project(x, mixed, layer, "o", width, "post_attention_norm")

    def _mlp(self, x: Value, layer: int) -> Value:
        at = f"layers.{layer}"
        gated = self._normed("gate_up", x, f"{at}.pre_mlp_norm", f"{at}.gate_up", self.config.activation)
        inner = padded(self.config.intermediate_size, GROUP)
        return self._project(x, gated, layer, "down", inner, "post_mlp_norm")

    def _project(self, x: Value, h: Value, layer: int, name: str, inputs: int, post: str) -> Value:
        """x + h · weight, with the norm between if the family has one."""
        c, weight = self.config, f"layers.{layer}.{name}"
        product = replace(self._product(weight, inputs), source=self.narrow, residual=not c.post_norms)
        y = self.routine.value("n", c.hidden_size)
        self._multiply(name, product, weight, [h], [y] if c.post_norms else [x, y])
        if not c.post_norms:
            return y
        out = self.routine.value("n", c.hidden_size)
        self._launch(
            "add_norm",
            partial(norm, c.hidden_size, eps=c.norm_eps, residual=True),
            [y, Value(f"layers.{layer}.{post}"), x, out],
        )
        return out

    def _normed(self, name: str, x: Value, weight: str, matrix: str, gated: str | None = None) -> Value:
        """norm(x) · matrix: in one launch for few rows, in two for many."""
        c = self.config
        product = replace(
            self._product(matrix, c.hidden_size), gated=gated, result=self.narrow if gated else "float32"
        )
        sources = [x, Value(weight)]
        if self.style.apart:
            h = self.routine.value("n", c.hidden_size, self.narrow)
            self._launch(
                "norm", partial(norm, c.hidden_size, eps=c.norm_eps, result=self.narrow), [*sources, h]
            )
            sources, product = [h], replace(product, source=self.narrow)
        else:
            product = replace(product, norm=c.norm_eps)
        y = self.routine.value("n", product.row, self.narrow if gated else "float32")
        self._multiply(name, product, matrix, sources, [y])
        return y

    def _product(self, weight: str, inputs: int) -> Product:
        """The plain product with all of a matrix."""
        rows = self.parameters[weight].rows
        bias = f"{weight}_bias" in self.parameters
        return Product(rows, padded(inputs, GROUP), self.bits, bias=bias, half=self.half)

    def _multiply(
        self,
        name: str,
        product: Product,
        weight: str,
        sources: list[Value],
        others: list[Value],
        style: Style | None = None,
        size: str = "n",
    ) -> None:
        """Launch a product, part by part of its matrix."""
        style = style or self.style
        if product.bias:
            others = [Value(f"{weight}_bias"), *others]
        for tag, first, rows, arrays in self._matrix(self.parameters[weight]):
            part = replace(product, outputs=rows, first=first, width=product.outputs)
            label, make = product_kernel(part, style, self.limits, size)
            self._launch(f"{name}{tag}_{label}", make, [*sources, *arrays, *others])

    def _top(self) -> None:
        c = self.config
        parts = chunks(c.vocab_size)
        count = parts * TOP
        values, ids = self.routine.value("r", count), self.routine.value("r", count, "int32")
        sums = self.routine.value("r", parts * 2)
        self._launch(
            "top",
            partial(top_of_logits, c.vocab_size, padded(c.vocab_size, OUTPUTS)),
            [Value("logits"), values, ids, sums],
        )
        while count > CHUNK:
            left = chunks(count) * TOP
            fewer, fewer_ids = self.routine.value("r", left), self.routine.value("r", left, "int32")
            self._launch(f"top_{count}", partial(top_of_candidates, count), [values, ids, fewer, fewer_ids])
            values, ids, count = fewer, fewer_ids, left
        results = [Value("top"), Value("top_ids"), Value("log_sums")]
        self._launch("top_last", partial(last_top, count, parts), [values, ids, sums, *results])

    def _launch(self, name: str, make: Callable[..., GpuKernel], arguments: list[Value | None]) -> None:
        values = [one for one in arguments if one is not None]
        self.routine.launch(name, lambda name: make(name=name), values)

    def _matrix(self, parameter: Parameter) -> list[tuple[str, int, int, list[Value]]]:
        """A matrix's parts: what their kernels are called, first row, rows, and arrays."""
        found = splits(parameter, self.bits, self.limits.binding_bytes)
        return [
            (
                f"_part{i}" if len(found) > 1 else "", first, rows,
                [Value(name) for name in array_names(parameter, self.bits, i, len(found))],
            )
            for i, (first, rows) in enumerate(found)
        ]  # fmt: skip
