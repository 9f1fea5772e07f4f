"""The measured speeds as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgellm.bench.compare import Line
from edgellm.errors import MissingDependencyError


def plot(lines: Sequence[Line], out: Path, title: str) -> None:
    """Bars of decode and prefill tokens/s, one group per case, one colour per engine; writes `out`."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise MissingDependencyError("matplotlib is not installed: pip install 'edgellm[bench]'") from None
    engines = list(dict.fromkeys(line.engine for line in lines))
    cases = list(dict.fromkeys((line.batch, line.prompt) for line in lines))
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    width = 0.8 / len(engines)
    for axis, field in zip(axes, ("decode_tps", "prefill_tps"), strict=True):
        for i, engine in enumerate(engines):
            heights = {(x.batch, x.prompt): getattr(x, field) for x in lines if x.engine == engine}
            places = [j + (i - (len(engines) - 1) / 2) * width for j in range(len(cases))]
            bars = axis.bar(places, [heights.get(c, 0) for c in cases], width * 0.92, label=engine)
            axis.bar_label(bars, fmt="%.0f", fontsize=8)
        axis.set_xticks(range(len(cases)), [f"batch {b}\nprompt {p}" for b, p in cases])
        axis.set_ylabel(f"{field.removesuffix('_tps')}, tokens/s")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(out, dpi=150)
    pyplot.close(figure)
