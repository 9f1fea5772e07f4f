"""How steps of different sizes compute, and which kernel a product gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from edgellm.compile.gpu.direct import direct
from edgellm.compile.gpu.gemm import gemm
from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.gpu.matvec import matvec
from edgellm.compile.gpu.product import Product
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.quantize.formats import padded


@dataclass(frozen=True)
class Style:
    """How a routine for steps of up to `most` tokens computes.

    Attributes:
        rows: of a workgroup of a product, or of a thread of a direct one. tiled: products go by tiles. parts:
            of a context in attention. apart: norms before products are launches of their own.
    """

    most: int
    rows: int
    tiled: bool
    parts: int
    apart: bool


def styles(limits: DeviceLimits, max_tokens: int) -> list[Style]:
    """From few tokens to `max_tokens`."""
    # Every thread of a direct product takes the squares of all its rows: good for one row only.
    direct = limits.direct is not None
    found = [
        Style(1, 1, False, limits.attention_parts, False),
        Style(4, 4, False, limits.attention_parts, direct),
        Style(8, 8, False, limits.attention_parts, direct),
    ]
    if limits.direct is not None:
        found.append(Style(max_tokens, limits.direct[0], True, 1, True))
    else:
        tile = 64 if limits.threads >= 256 else 32
        found += [Style(32, 32, True, 1, True), Style(max_tokens, tile, True, 1, True)]
    return [one for one in found[:-1] if one.most < max_tokens] + [found[-1]]


def product_kernel(
    product: Product, style: Style, limits: DeviceLimits, size: str
) -> tuple[str, Callable[..., GpuKernel]]:
    """What tells a product's kernel from those of other styles, and what makes it, given its name."""
    rows = style.rows
    half_sums = style.tiled and product.source == "float16" and limits.half_sums
    if limits.direct is not None:
        each = limits.direct[1] if style.tiled else 1
        each = padded(each, 2) if product.gated else each
        make = partial(direct, product, rows=rows, each=each, half_sums=half_sums, size=size)
        return "many" if style.tiled else str(rows), make
    if style.tiled:
        return str(rows), partial(gemm, product, rows=rows, half_sums=half_sums, size=size)
    width, slices = limits.tile
    return str(rows), partial(matvec, product, rows=rows, slices=slices, width=width, size=size)
