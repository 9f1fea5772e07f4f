"""`edgellm build`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgellm.cli.output import json_option, note, print_facts, print_json, progress_bars

_STAGES = {"download": "Downloading", "convert": "Converting", "compile": "Compiling", "check": "Checksums"}


@click.command()
@click.argument("model")
@click.option(
    "--target", "-t", default="native", show_default=True, help="What to build for; `edgellm targets`."
)
@click.option("--quant", "-q", help="int4, int8, fp16 or fp32.  [default: the target's]")
@click.option("--backend", help="Use this backend instead of the first that fits.")
@click.option(
    "--context", type=int, help="Tokens of prompt and answer.  [default: the model's, at most 8192]"
)
@click.option(
    "--kernels",
    help="For nvidia-gpu: cuda, which needs NVIDIA's driver and nothing else.  [default: portable]",
)
@click.option(
    "--system",
    type=click.Choice(["linux", "macos", "windows"]),
    help="What compiled code is to run on.  [default: this machine's]",
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="Directory.  [default: MODEL-TARGET-QUANT]"
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A LoRA adapter to merge; repeatable.",
)
@click.option("--revision", help="Branch, tag or commit of a Hugging Face id.")
@click.option("--offline", is_flag=True, help="Use downloaded models only, never the network.")
@click.option("--force", is_flag=True, help="Replace a bundle that stands at --out.")
@click.option(
    "--dump",
    type=click.Path(path_type=Path),
    help="Write what each phase of the TVM compiler makes for a CPU into this directory.",
)
@json_option
def build(
    model: str,
    target: str,
    quant: str | None,
    backend: str | None,
    context: int | None,
    kernels: str | None,
    system: str | None,
    out: Path | None,
    adapters: tuple[Path, ...],
    revision: str | None,
    offline: bool,
    force: bool,
    dump: Path | None,
    as_json: bool,
) -> None:
    """Build a bundle of MODEL for one target.

    MODEL is a checkpoint's directory, a Hugging Face id such as Qwen/Qwen2.5-0.5B-Instruct, or "demo" for the
    model that ships with edgellm. The bundle appears at --out when it is whole, and not before.
    """
    from edgellm.builder import build as build_bundle
    from edgellm.targets import NATIVE, PACKAGES
    from edgellm.units import bytes_text

    with progress_bars(_STAGES, quiet=as_json) as report:
        result = build_bundle(
            model,
            target,
            quant=quant,
            backend=backend,
            context=context,
            kernels=kernels,
            system=system,
            out=out,
            adapters=adapters,
            revision=revision,
            offline=offline,
            force=force,
            dump=dump,
            on_progress=report,
        )
    if as_json:
        print_json(
            {
                "bundle": str(result.path),
                "target": result.target,
                "backend": result.backend,
                "quant": result.quant,
                "family": result.family,
                "seconds": round(result.seconds, 3),
                "bytes": result.bytes,
                "reason": result.reason,
            }
        )
        return
    print_facts(
        [
            ("bundle", _shown(result.path)),
            ("pick", result.reason),
            ("size", f"{bytes_text(result.bytes)}, built in {result.seconds:.1f} s"),
        ]
    )
    if target == NATIVE:
        _note_gpus()
    bundle, app = shlex.quote(_shown(result.path)), PACKAGES.get(result.target)
    note(f"Next: edgellm package {app} {bundle} --out DIR" if app else f"Next: edgellm chat {bundle}")


def _note_gpus() -> None:
    """The native target is the processor; say what else is here."""
    from edgellm.adapters import list_adapters
    from edgellm.targets import fitting_target

    here: dict[str, str] = {}
    for adapter in list_adapters(cuda=True):
        if fits := fitting_target(adapter):
            here.setdefault(fits, f"{adapter}, {'fp16' if adapter.fp16 else 'no fp16'}")
    if here:
        each = "; ".join(f"--target {fits} is for {adapter}" for fits, adapter in here.items())
        note(f"Built for the processor. A GPU is here too: {each}")


def _shown(path: Path) -> str:
    """`path` from the current directory, where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
