"""`build`: a checkpoint into a bundle. (Named so that `edgellm.build` can be the function.)

Everything that can be refused is refused before any work: the target, the place of the bundle, then
the checkpoint's metadata, the pick, and the space on the disk.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from edgellm import __version__
from edgellm.backends import BuildPlan, get_backend
from edgellm.bundle import BundleWriter
from edgellm.bundle.manifest import (
    FORMAT_VERSION,
    TEMPLATE_NAME,
    TOKENIZER_NAME,
    Manifest,
    MemoryFacts,
    Source,
)
from edgellm.bundle.paths import path_problem
from edgellm.bundle.writer import checked_out
from edgellm.checkpoint import Checkpoint, resolve_model
from edgellm.errors import BundleError, MissingDependencyError, UsageError
from edgellm.targets import NATIVE, PORTABLE, Pick, Target, get_target, offers, pick, with_kernels

DEFAULT_CONTEXT = 8192
"""Context of a bundle whose model could hold more and whose builder did not say."""
MIN_CONTEXT = 16
_LICENSE_FILE = re.compile(r"(LICEN[SC]E|NOTICE)([._-].*)?", re.IGNORECASE)
_MAX_LICENSE_BYTES = 1 << 20
_BYTES_PER_WEIGHT = {"int4": 0.5, "int8": 1.0, "fp16": 2.0, "fp32": 4.0}

BuildProgress = Callable[[str, int, int], None]
"""(stage: "download", "convert" or "check" in bytes, or "compile" in libraries; done; in all)."""


@dataclass(frozen=True)
class BuildResult(os.PathLike[str]):
    """A finished build; usable wherever a bundle's path is.

    Attributes:
        path: the bundle. target, backend, quant, family: what was built. reason: why that backend, one line.
        seconds: how long it took, download included. bytes: size of the bundle.
    """

    path: Path
    target: str
    backend: str
    quant: str
    family: str
    seconds: float
    bytes: int
    reason: str

    def __fspath__(self) -> str:
        return str(self.path)


def build(
    model: str | os.PathLike[str],
    target: str = NATIVE,
    *,
    quant: str | None = None,
    backend: str | None = None,
    context: int | None = None,
    kernels: str | None = None,
    out: str | os.PathLike[str] | None = None,
    system: str | None = None,
    adapters: Sequence[str | os.PathLike[str]] = (),
    revision: str | None = None,
    offline: bool = False,
    force: bool = False,
    dump: str | os.PathLike[str] | None = None,
    on_progress: BuildProgress | None = None,
) -> BuildResult:
    """Build a bundle of `model` for `target`.

    Args:
        model: a checkpoint's directory, a Hugging Face id, or "demo" for the model that ships with edgellm.
        target: a name from `targets/`, or "native" for this machine.
        quant: None = the target's default.
        backend: None = the first of the target's backends that can build the model.
        context: tokens of prompt and answer together; None = the model's, at most `DEFAULT_CONTEXT`.
        kernels: for GPUs, the kind of kernels; None = portable ones, which all of the target's devices run.
        out: the bundle's directory; None = NAME-TARGET-QUANT in the current directory, with -KERNELS unless
            they are the portable ones.
        system: linux, macos or windows: what compiled code is for; None = this machine's, where the target
            has it. Backends without compiled code do not ask.
        adapters: directories of PEFT LoRA adapters, merged in this order.
        revision: branch, tag or commit of a Hugging Face id.
        offline: use what is downloaded already; never the network.
        force: replace a bundle that stands at `out`.
        dump: a directory for what the compiler for CPUs makes on the way: the module after each phase, the
            assembly.
        on_progress: called as the work goes on, from this thread.

    Raises:
        EdgeLLMError: nothing has been written then, and what stood at `out` is untouched.
    """
    started = time.monotonic()
    progress = on_progress or (lambda stage, done, total: None)
    if context is not None and context < MIN_CONTEXT:
        raise UsageError(f"--context is {context}; a bundle holds at least {MIN_CONTEXT} tokens")
    chosen_target = with_kernels(get_target(target), kernels)
    offers(chosen_target, quant, backend)
    if out is not None:
        checked_out(out, force=force)
    resolved = resolve_model(
        os.fspath(model),
        revision=revision,
        offline=offline,
        progress=lambda done, total: progress("download", done, total),
    )
    folders = [Path(folder).expanduser() for folder in adapters]
    with Checkpoint.open(
        resolved.path, name=resolved.name, revision=resolved.revision, adapters=folders
    ) as checkpoint:
        plan, chosen = _decide(checkpoint, chosen_target, quant, backend, context)
        plan = replace(plan, system=system or "", kernels=None if kernels == PORTABLE else kernels)
        if dump is not None:
            plan = replace(plan, dump=_dump_folder(dump, plan, chosen.backend))
        place = out if out is not None else _default_out(checkpoint.name, plan)
        size = _write(checkpoint, plan, chosen, place, force, progress)
        family = checkpoint.config.family
    return BuildResult(
        path=checked_path(place),
        target=plan.target,
        backend=chosen.backend,
        quant=plan.quant,
        family=family,
        seconds=time.monotonic() - started,
        bytes=size,
        reason=chosen.reason,
    )


def checked_path(place: str | os.PathLike[str]) -> Path:
    """The absolute path of a bundle at `place`, links resolved, as `BundleWriter` uses it."""
    return Path(place).expanduser().resolve()


def _dump_folder(dump: str | os.PathLike[str], plan: BuildPlan, backend: str) -> Path:
    """The directory for the compiler's phases, made and tried.

    Raises:
        UsageError: it cannot be written, or there are no phases to write.
    """
    if backend != "tvm":
        raise UsageError(
            f"--dump shows the phases of the TVM backend's compiler, and the {backend} backend compiles "
            "nothing; leave it out, or choose --backend tvm"
        )
    if plan.device is not None:
        raise UsageError(
            "--dump shows the phases of the compiler for CPUs; a bundle for GPUs has its kernels and their "
            "launches as text in its folder tvm, so leave it out"
        )
    folder = Path(dump).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(f"--dump {dump} is no directory that can be written: {error.strerror}") from None


def _decide(
    checkpoint: Checkpoint, target: Target, quant: str | None, backend: str | None, context: int | None
) -> tuple[BuildPlan, Pick]:
    limit = checkpoint.config.context_length
    if context is not None and context > limit:
        raise UsageError(
            f"--context is {context} and {checkpoint.name} holds at most {limit} tokens "
            "(max_position_embeddings)"
        )
    context = context if context is not None else min(limit, DEFAULT_CONTEXT)
    chosen = pick(target, checkpoint.config, context, quant=quant, backend=backend)
    if missing := get_backend(chosen.backend).missing():
        raise MissingDependencyError(missing)
    return BuildPlan(target.name, chosen.quant, context, device=target.device), chosen


def _write(
    checkpoint: Checkpoint,
    plan: BuildPlan,
    chosen: Pick,
    out: str | os.PathLike[str],
    force: bool,
    progress: BuildProgress,
) -> int:
    """Write the bundle; returns its bytes."""
    with BundleWriter(out, force=force, need_bytes=_least_bytes(checkpoint, plan)) as writer:
        writer.add(TOKENIZER_NAME, checkpoint.tokenizer_file.read_bytes())
        if checkpoint.chat_template is not None:
            writer.add(TEMPLATE_NAME, checkpoint.chat_template.encode())
        for name, data in _licenses(checkpoint.path):
            writer.add(name, data)
        built = get_backend(chosen.backend).build(
            checkpoint,
            plan,
            writer.folder(chosen.backend),
            progress,
        )
        manifest = Manifest(
            format=FORMAT_VERSION,
            edgellm=__version__,
            target=plan.target,
            backend=chosen.backend,
            backend_version=built.backend_version,
            quant=plan.quant,
            batching=built.batching,
            context=plan.context,
            model=checkpoint.config,
            tokenizer=checkpoint.tokenizer_facts,
            chat_template=TEMPLATE_NAME if checkpoint.chat_template is not None else None,
            sampling=checkpoint.sampling,
            source=Source(checkpoint.name, checkpoint.revision, checkpoint.license, checkpoint.adapters),
            memory=MemoryFacts(built.weight_bytes, built.kv_bytes_per_token, built.runtime_bytes),
            files=(),
        )
        bundle = writer.commit(manifest, lambda done, total: progress("check", done, total))
    return bundle.total_bytes


def _default_out(name: str, plan: BuildPlan) -> Path:
    """`./NAME-TARGET-QUANT[-KERNELS]`, NAME being the model's last name in characters safe everywhere."""
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rstrip("/").split("/")[-1]).strip(".-")
    parts = [last or "model", plan.target, plan.quant, plan.kernels]
    return Path("-".join(part for part in parts if part))


def _least_bytes(checkpoint: Checkpoint, plan: BuildPlan) -> int:
    """What the bundle takes on the disk at the very least: its matrices in this quantization."""
    shapes = (checkpoint.weights.shape(name) for name in checkpoint.weights.names())
    weights = sum(prod(shape) for shape in shapes if len(shape) > 1)
    return int(weights * _BYTES_PER_WEIGHT.get(plan.quant, 0.5))


def _licenses(directory: Path) -> list[tuple[str, bytes]]:
    """The checkpoint's licence files by the name they get in the bundle, sorted.

    Links are followed only within the checkpoint, or into the blobs of the download cache around it: a
    link in a foreign checkpoint must not bring any other file of this machine into a bundle.
    """
    allowed = [directory.resolve(), directory.parent.parent.resolve() / "blobs"]
    found: dict[str, bytes] = {}
    for file in sorted(directory.iterdir()):
        if not _LICENSE_FILE.fullmatch(file.name) or not file.is_file():
            continue
        if not any(file.resolve().is_relative_to(folder) for folder in allowed):
            continue
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", file.name).rstrip(".")
        if name.lower() in (known.lower() for known in found) or path_problem(name):
            continue
        if file.stat().st_size > _MAX_LICENSE_BYTES:
            raise BundleError(f"{file} is larger than {_MAX_LICENSE_BYTES >> 20} MiB: it is no licence")
        found[name] = file.read_bytes()
    return sorted(found.items())
