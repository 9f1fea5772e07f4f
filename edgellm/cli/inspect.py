"""`edgellm inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from edgellm.bundle import Bundle
from edgellm.bundle.manifest import Manifest
from edgellm.cli.output import json_option, note, print_facts, print_json, print_table
from edgellm.machine import read_memory
from edgellm.units import bytes_text

if TYPE_CHECKING:
    from edgellm.bench.programs import ProgramFacts

_BATCHING = {
    "step": "step: requests join and leave between any two tokens (continuous batching)",
    "request": "request: waiting requests start together as a cohort, leave as they finish, and none joins",
}
_BATCHES = (1, 4, 8, 32)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE is: its model, target, files, and the memory that running it takes.

    Of a bundle for GPUs, each program's decode step too: launches, bytes moved against the least that any
    program moves, and what weights, cache and a step's buffers take.
    """
    from edgellm.bench.programs import program_facts

    opened = Bundle.open(bundle)
    manifest = opened.manifest
    available = read_memory().available
    needs = [
        (context, batch, manifest.memory.total(context, batch))
        for context in _contexts(manifest.context)
        for batch in _BATCHES
    ]
    programs = program_facts(opened, manifest.context)
    if as_json:
        facts: dict[str, Any] = msgspec.to_builtins(manifest)
        facts["path"] = str(opened.path)
        facts["bytes"] = opened.total_bytes
        facts["memory_available"] = available
        facts["memory_needed"] = [
            {"context": context, "batch": batch, "bytes": need} for context, batch, need in needs
        ]
        if programs:
            facts["programs"] = msgspec.to_builtins(programs)
        print_json(facts)
        return
    print_facts(_facts(opened), title=str(opened.path))
    print_table(
        ["file", "size", "SHA-256"],
        [(entry.path, bytes_text(entry.bytes), entry.sha256[:16] + "…") for entry in manifest.files],
        title="\nFiles",
    )
    _print_programs(programs, manifest.context)
    half = " with fp16 programs" if any(one.name.endswith("fp16") for one in programs) else ""
    _print_memory(f"Memory needed{half}", manifest, needs, available)


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    model, source, sampling, tokenizer = (
        manifest.model,
        manifest.source,
        manifest.sampling,
        manifest.tokenizer,
    )
    ends = ", ".join(str(token) for token in tokenizer.eos_ids) or "none"
    named = f" ({tokenizer.eos_token})" if tokenizer.eos_token else ""
    prefix = ", ".join(str(token) for token in tokenizer.prefix_ids) or "nothing"
    return [
        ("model", source.name + (f", revision {source.revision}" if source.revision else "")),
        ("licence", source.license or "not stated by the checkpoint"),
        *([("adapters", ", ".join(source.adapters))] if source.adapters else []),
        (
            "family",
            f"{model.family}: {model.num_layers} layers, hidden size {model.hidden_size}, "
            f"{model.num_heads} heads ({model.num_kv_heads} for keys and values), "
            f"vocabulary {model.vocab_size}",
        ),
        ("target", manifest.target),
        ("backend", f"{manifest.backend} {manifest.backend_version}"),
        ("quantization", manifest.quant),
        ("batching", _BATCHING[manifest.batching]),
        ("context", f"{manifest.context} tokens (the model was made for {model.context_length})"),
        (
            "sampling",
            f"temperature {sampling.temperature:g}, top_k {sampling.top_k}, top_p {sampling.top_p:g}, "
            f"min_p {sampling.min_p:g}, repetition_penalty {sampling.repetition_penalty:g}",
        ),
        ("tokenizer", f"{tokenizer.size} tokens; ends at {ends}{named}; begins with {prefix}"),
        (
            "chat template",
            "yes" if manifest.chat_template else "none: a base model, prompts stay as they are",
        ),
        ("size", f"{bytes_text(bundle.total_bytes)} in {len(manifest.files)} files"),
        ("written by", f"edgellm {manifest.edgellm}, bundle format {manifest.format}"),
    ]


def _contexts(limit: int) -> list[int]:
    """A few context lengths up to the bundle's own."""
    return [length for length in (512, 2048, 8192, 32768) if length < limit] + [limit]


def _print_programs(programs: list[ProgramFacts], context: int) -> None:
    if not programs:
        return
    print_table(
        ["program", "launches", "a layer", "moved", "least", "weights", "cache", "step"],
        [
            (
                one.name,
                str(one.launches),
                f"{one.launches_per_layer:.1f}",
                f"{bytes_text(one.moved_bytes)} ({one.moved_bytes / one.least_bytes:.2f} ×)",
                *map(bytes_text, (one.least_bytes, one.weight_bytes, one.cache_bytes, one.step_bytes)),
            )
            for one in programs
        ],
        title=f"GPU programs: a decode step of one sequence of {context} tokens, and its memory",
    )


def _print_memory(
    title: str, manifest: Manifest, needs: list[tuple[int, int, int]], available: int | None
) -> None:
    def cell(need: int) -> str:
        return bytes_text(need) + (" !" if available is not None and need > available else "")

    by_size = {(context, batch): need for context, batch, need in needs}
    print_table(
        ["context", *(f"batch {batch}" for batch in _BATCHES)],
        [
            (f"{context} tokens", *(cell(by_size[context, batch]) for batch in _BATCHES))
            for context in _contexts(manifest.context)
        ],
        title=title,
    )
    if available is None:
        return
    smallest = min(need for _, _, need in needs)
    if smallest > available:
        note(
            f"warning: even the smallest of these is more than the {bytes_text(available)} that this machine "
            "has free; build with a smaller quantization, or free some memory"
        )
    elif any(need > available for _, _, need in needs):
        note(f"! is more than the {bytes_text(available)} that this machine has free now")
    else:
        note(f"This machine has {bytes_text(available)} free.")
