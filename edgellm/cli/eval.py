"""`edgellm eval`: what a bundle's quantization costs, measured on a text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.options import kv_option
from edgellm.cli.output import json_option, note, print_facts, print_json, progress_bars

if TYPE_CHECKING:
    from edgellm.evaluation import Comparison, Report

_STAGES = {
    "download": "Downloading",
    "convert": "Building the reference",
    "compile": "Compiling the reference",
    "check": "Checksums",
    "score": "Scoring",
}


@click.command("eval")
@click.argument("bundle", type=click.Path())
@click.option(
    "--text",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='One document in UTF-8; or .jsonl, with "text" or "messages" in each line.',
)
@click.option(
    "--against",
    metavar="MODEL",
    help="Compare with this bundle, or with this checkpoint (or Hugging Face id, or demo) in fp32.",
)
@click.option(
    "--window",
    type=click.IntRange(2),
    metavar="N",
    help="Tokens of a forward pass; windows overlap by half.  [default: 512, or the context if that is less]",
)
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Stop after this many scored tokens.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: one per core]")
@kv_option
@click.option("--offline", is_flag=True, help="Use downloaded models only, never the network.")
@json_option
def eval(
    bundle: str,
    text: Path,
    against: str | None,
    window: int | None,
    max_tokens: int | None,
    threads: int | None,
    kv: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Measure how well BUNDLE predicts a text, and what it lost against the model it was built from.

    Every token is scored once, with at least half a window before it where the text has that much. With
    --against MODEL the checkpoint is built as fp32 into a temporary directory (TMPDIR says where), and both
    run side by side: memory must hold both.
    """
    from edgellm.bundle import Bundle
    from edgellm.evaluation import evaluate

    opened = Bundle.open(bundle)
    with progress_bars(_STAGES, quiet=as_json) as progress:
        report = evaluate(
            opened,
            text,
            against=against,
            window=window,
            max_tokens=max_tokens,
            threads=threads,
            kv=kv,
            offline=offline,
            on_progress=progress,
        )
    manifest = opened.manifest
    if as_json:
        print_json(
            {"bundle": str(opened.path), "quant": manifest.quant, "text": str(text), **_as_json(report)}
        )
        return
    print_facts(_facts(report))
    if manifest.source.adapters and report.against is not None:
        adapters = ", ".join(manifest.source.adapters)
        note(f"This bundle has {adapters} merged; if the reference has not, the difference counts as loss.")


def _facts(report: Report) -> list[tuple[str, str]]:
    speed = f"{report.tokens_per_second:,.0f} tokens/s"
    documents = f" in {report.documents:,} documents" if report.documents > 1 else ""
    facts = [
        ("text", f"{report.tokens:,} tokens, {report.bytes:,} bytes{documents}, windows of {report.window}"),
        ("perplexity", f"{report.perplexity:.4f}{_error(report.perplexity_error)} per token"),
        ("bits per byte", f"{report.bits_per_byte:.4f}"),
        ("time", f"{report.seconds:.1f} s, {speed}"),
    ]
    if report.against is not None:
        facts[3:3] = _comparison(report.against)
    return facts


def _comparison(against: Comparison) -> list[tuple[str, str]]:
    change = 100 * (against.perplexity_ratio - 1)
    return [
        ("against", against.name),
        ("its perplexity", f"{against.perplexity:.4f}"),
        ("increase", f"{change:+.3f} %{_error(100 * against.perplexity_ratio_error, 3)}"),
        (
            "KL divergence",
            f"mean {against.kl_mean:.3g}, median {against.kl_median:.3g}, 99th percentile "
            f"{against.kl_p99:.3g}, max {against.kl_max:.3g} nats",
        ),
        ("same top token", f"{100 * against.top1_agreement:.2f} %"),
    ]


def _error(error: float, digits: int = 4) -> str:
    return f" ± {error:.{digits}f}" if math.isfinite(error) else ""


def _as_json(report: Report) -> dict[str, Any]:
    import msgspec

    described: dict[str, Any] = msgspec.to_builtins(report)
    described["tokens_per_second"] = report.tokens_per_second
    described["against"] = described.pop("against")  # the last, as it has parts of its own
    return _finite(described)


def _finite(described: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity and no NaN."""
    return {
        key: _finite(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in described.items()
    }
