"""README's table of speeds, made from the lines of a result."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Record = dict[str, Any]
BEGIN, END = "<!-- speed -->", "<!-- end of speed -->"
TITLES = {
    "edgellm-tvm-int4": "**edgellm int4** (TVM)",
    "edgellm-tvm-int8": "**edgellm int8** (TVM)",
    "edgellm-ctranslate2-int8": "**edgellm int8** (CTranslate2)",
    "llamacpp-q4_0": "llama.cpp q4_0",
    "llamacpp-q8_0": "llama.cpp q8_0",
    "ctranslate2-int8_float32": "CTranslate2 int8, called directly",
}
PAIRS = (
    ("edgellm-tvm-int4", "llamacpp-q4_0"),
    ("edgellm-tvm-int8", "llamacpp-q8_0"),
    ("edgellm-tvm-int4", "ctranslate2-int8_float32"),
    ("edgellm-ctranslate2-int8", "ctranslate2-int8_float32"),
)
"""Ours and theirs, whose ratios are shown."""
ENOUGH_NEW = 16
"""Decoding fewer tokens than this says little; such cases are there for their prompts."""


def read(path: Path) -> list[Record]:
    """The lines of a result: what was measured where, then one for each engine and case."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def newest(results: Path) -> Path:
    """The result that was started last."""

    def started(path: Path) -> str:
        first = read(path)[0]
        return str(first.get("started", first.get("date", "")))

    return max(results.glob("cpu-*.jsonl"), key=started)


def render(records: list[Record]) -> str:
    """A Markdown table: engines as rows, then ratios; and a line on how it was measured."""
    about, lines = records[0], records[1:]
    by_engine: dict[str, dict[tuple[int, int], Record]] = {}
    for line in lines:
        by_engine.setdefault(line["engine"], {})[line["batch"], line["prompt"]] = line
    cases = sorted({(line["prompt"], line["batch"]) for line in lines})
    columns = [
        (f"decode, batch {batch}", "decode_tps", (batch, prompt))
        for prompt, batch in cases
        if any(
            line["new"] >= ENOUGH_NEW for line in lines if (line["batch"], line["prompt"]) == (batch, prompt)
        )
    ] + [(f"prefill, {_case(batch, prompt)}", "prefill_tps", (batch, prompt)) for prompt, batch in cases]
    rows = [["tokens a second", *(title for title, _, _ in columns), "weights read, GB/s", "peak MB"]]
    for engine in (name for name in TITLES if name in by_engine):
        measured = by_engine[engine]
        speeds = [_number(measured[case][field]) for _, field, case in columns]
        peak = max(line["peak_rss_mb"] for line in measured.values())
        rows.append([TITLES[engine], *speeds, _traffic(measured[min(measured)]), f"{peak:,.0f}"])
    for ours, theirs in PAIRS:
        if ours in by_engine and theirs in by_engine:
            ratios = [
                f"{by_engine[ours][case][field] / by_engine[theirs][case][field]:.2f} ×"
                for _, field, case in columns
            ]
            title = f"{_plain(TITLES[ours])} ÷ {_plain(TITLES[theirs])}"
            rows.append([f"*{title}*", *ratios, "", ""])
    rows.insert(1, ["---"] + ["---:"] * (len(rows[0]) - 1))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n\n" + _caption(about, lines)


def update_readme(readme: Path, result: Path) -> None:
    """Put the table and the plot of `result` between the marks in `readme`."""
    text = readme.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"error: {readme} has no {BEGIN} … {END}")
    readme.write_text(f"{before}{section(readme, result)}{after}", "utf-8")


def section(readme: Path, result: Path) -> str:
    """What stands in `readme` for `result`, marks included."""
    picture = result.with_suffix(".png").relative_to(readme.parent).as_posix()
    return f"{BEGIN}\n{render(read(result))}\n\n![tokens a second of each engine and case]({picture})\n{END}"


def _case(batch: int, prompt: int) -> str:
    return f"{prompt}" if batch == 1 else f"{batch} × {prompt}"


def _plain(title: str) -> str:
    return re.sub(r"\*\*|, .*", "", title)


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _traffic(line: Record) -> str:
    """GB/s of weights at the smallest case, which is one sequence."""
    share = 100 * line["gbps"] / line["read_bandwidth_gbps"]
    return f"{line['gbps']:.1f} ({share:.0f} %)"


def _caption(about: Record, lines: list[Record]) -> str:
    cpu = about["cpu"]
    day = str(about.get("started", about.get("date")))[:10]
    measured = [line["read_bandwidth_gbps"] for line in lines]
    bandwidth = about.get("read_bandwidth_gbps") or {
        "median": sorted(measured)[len(measured) // 2],
        "min": min(measured),
        "max": max(measured),
    }
    span = f"{bandwidth['median']:.0f} GB/s ({bandwidth['min']:.0f} to {bandwidth['max']:.0f})"
    return (
        f"{about['shape']}, random weights, {about['threads']} threads on {cpu['usable_cores']} cores of "
        f"{cpu['model']}. One run on {day}, engines taking turns, medians of {lines[0]['rounds']} rounds. "
        "Prefill: prompts × their tokens. Weights read: while one sequence is decoded, and as a part of what "
        f"the memory gave, {span}. Peers: {_versions(about)}."
    )


def _versions(about: Record) -> str:
    """The packages that the peers are in."""
    packages = about.get("packages") or {
        name: version for extra in about["extras"] for name, version in extra["packages"].items()
    }
    return ", ".join(
        f"{name} {packages[name]}" for name in ("llama-cpp-python", "ctranslate2") if name in packages
    )
