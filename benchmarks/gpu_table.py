"""The Markdown table of a result of `benchmarks/gpu.py`."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def render(records: list[Record]) -> str:
    """One row for each shape on each adapter and program, and how its answers were."""
    about, *rest = records
    speeds = [one for one in rest if one["kind"] == "speed"]
    if not speeds:
        return "nothing was measured"
    decode = sorted({one["batch"] for one in speeds if one["new"] > 4})
    prefill = sorted({one["prompt"] for one in speeds if one["new"] <= 4})
    small = min(decode)
    rows = [
        [
            "shape", "adapter", "program",
            *(f"decode tok/s, batch {batch}" for batch in decode),
            *(f"prefill tok/s, {prompt}" for prompt in prefill),
            f"GB/s at batch {small}", "copy GB/s", "% of copy", "moved ÷ least", "launches (a layer)",
            "step ms", "host ms",
        ]
    ]  # fmt: skip
    groups: dict[tuple[str, str, str, str], list[Record]] = {}
    for one in speeds:
        on = one["gpu"]["runs_on"]
        groups.setdefault((one["shape"], on["adapter"], on["api"], on["program"]), []).append(one)
    for (shape, adapter, api, program), lines in groups.items():
        by = {(one["batch"], one["prompt"], one["new"] > 4): one for one in lines}
        batches = {batch: one for (batch, _, many), one in by.items() if many}
        prompts = {prompt: one for (_, prompt, many), one in by.items() if not many}
        first = batches[small]
        gpu = first["gpu"]
        rows.append(
            [
                shape,
                f"{adapter} ({api}{', software' if gpu['runs_on']['software'] else ''})",
                program,
                *(_number(batches[batch]["decode_tps"]) for batch in decode),
                *(_number(prompts[prompt]["prefill_tps"]) for prompt in prefill),
                _number(first["gbps"]),
                _number(gpu["runs_on"]["copy_gbps"]),
                f"{first['bandwidth_percent']:.0f} %",
                f"{gpu['moved_bytes'] / gpu['least_bytes']:.2f}",
                f"{gpu['launches']} ({gpu['launches_per_layer']:.1f})",
                f"{gpu['step_ms']:.2f}",
                f"{gpu['host_ms']:.2f}",
            ]
        )
    rows.insert(1, ["---"] * 3 + ["---:"] * (len(rows[0]) - 3))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    answers = [_answers(one) for one in rest if one["kind"] == "answers"]
    return "\n\n".join([table, *answers, _caption(about, speeds)])


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _answers(one: Record) -> str:
    alike = one["tokens"] - one["near_ties"] - one["different"]
    return (
        f"{one['adapter']}, {one['program']}: of {one['tokens']} greedy tokens of the demo model, numpy with "
        f"the same weights would have chosen {alike}, {one['near_ties']} are near-ties, "
        f"{one['different']} differ."
    )


def _caption(about: Record, speeds: list[Record]) -> str:
    drivers = sorted({one["gpu"]["runs_on"]["driver"] for one in speeds})
    text = (
        f"{about['quant']}, random weights, programs of {about['target']}, medians of {about['rounds']} "
        f"rounds on {about['started'][:10]}; drivers: {'; '.join(drivers)}. GB/s: bytes that any program "
        "must move in a step."
    )
    if any(one["gpu"]["runs_on"]["software"] for one in speeds):
        text += " Software adapters compute on the processor: their figures say nothing of a GPU."
    return text
