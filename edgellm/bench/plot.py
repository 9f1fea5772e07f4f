"""The measured speeds as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgellm.bench.compare import Line
from edgellm.errors import MissingDependencyError

_BLUES, _ORANGES, _GREYS = ("#0072b2", "#8cc5e8"), ("#c4501b", "#f0b98d"), ("#6b6b6b", "#c9c9c9")
_INK, _FAINT = "#222222", "#d0d0d0"
_DPI = 200


def plot(lines: Sequence[Line], out: Path, title: str) -> None:
    """One panel of bars for each case, decoding above and prompts below; writes the picture `out`.

    Colours: blue for 4 bits, orange for 8, grey for CTranslate2; dark for this toolkit and light for
    peers, for eyes that cannot tell the hues. Names and figures stand beside the bars.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise MissingDependencyError("matplotlib is not installed: pip install 'edgellm[bench]'") from None
    engines = list(dict.fromkeys(line.engine for line in lines))
    cases = list(dict.fromkeys((line.batch, line.prompt) for line in lines))
    size = (2.0 + 2.4 * len(cases), 1.3 + 2 * (0.55 + 0.24 * len(engines)))
    figure, axes = pyplot.subplots(2, len(cases), figsize=size, squeeze=False, layout="constrained")
    for row, (field, what) in enumerate((("decode_tps", "decode"), ("prefill_tps", "prefill"))):
        for column, case in enumerate(cases):
            speeds = {x.engine: getattr(x, field) for x in lines if (x.batch, x.prompt) == case}
            _bars(axes[row][column], engines, [speeds.get(engine, 0.0) for engine in engines])
            prompts = f"{case[0]} prompt{'s' if case[0] > 1 else ''} of {case[1]}"
            axes[row][column].set_title(f"{what}, {prompts}", fontsize=9, loc="left", color=_INK)
            axes[row][column].set_yticks(range(len(engines)), engines if column == 0 else [], fontsize=8)
    figure.suptitle(f"{title}: tokens a second", fontsize=10, x=0.01, ha="left", color=_INK)
    figure.savefig(out, dpi=_DPI)
    pyplot.close(figure)


def _bars(axis: Any, engines: Sequence[str], speeds: Sequence[float]) -> None:
    """Horizontal bars from the top down, each with its figure."""
    bars = axis.barh(range(len(engines)), speeds, 0.74, color=[_colour(engine) for engine in engines])
    axis.bar_label(bars, [f"{v:.1f}" if v < 100 else f"{v:,.0f}" for v in speeds], fontsize=8, padding=2)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.22 * max([*speeds, 1e-9]))
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.spines["left"].set_color(_FAINT)


def _colour(engine: str) -> str:
    ours, quant = engine.startswith("edgellm"), engine.rpartition("-")[2]
    if "ctranslate2" in engine:
        dark, light = _GREYS
    elif quant.startswith(("int4", "q4")):
        dark, light = _BLUES
    else:
        dark, light = _ORANGES
    return dark if ours else light
