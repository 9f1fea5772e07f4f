"""Opening a GPU bundle: an adapter, the best of the bundle's programs for it, and a host that runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgellm.adapters import (
    EXTRAS,
    LANGUAGES,
    MODULES,
    Adapter,
    Through,
    choose_adapter,
    cuda_adapters,
    installed,
    list_adapters,
)
from edgellm.backends.executor import ExecutorLimits
from edgellm.backends.memory import MemoryPlan
from edgellm.backends.plan.executor import BLOCK_SIZE, PlanExecutor
from edgellm.backends.plan.host import Host
from edgellm.backends.plan.interface import interface_problem
from edgellm.backends.plan.sizing import check_limits, plan_memory
from edgellm.backends.plan.weights import Buffers, MappedWeights
from edgellm.bundle.manifest import MemoryFacts
from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.plan.codec import MAX_PLAN_BYTES, decode_plan
from edgellm.compile.plan.plan import COMPILED_SUFFIX, PLAN_NAME, Plan
from edgellm.cuda_driver import OLDEST, CudaError
from edgellm.errors import BundleError, MissingDependencyError, UnsupportedError

PROGRAM_VARIABLE = "EDGELLM_PROGRAM"
_MAX_SOURCE_BYTES = 4 << 20


def open_executor(
    folder: Path,
    config: ModelConfig,
    facts: MemoryFacts,
    *,
    context: int,
    max_batch: int | None,
    default_batch: int,
    adapter: str | None = None,
    planned: Callable[[MemoryPlan], object] = lambda memory: None,
) -> PlanExecutor:
    """Open a step executor over the programs and weights in `folder`.

    Programs are folders called LANGUAGE-ARITHMETIC, such as wgsl-fp16. An adapter gets the first that it can
    run of those in fp16 and fp32; `EDGELLM_PROGRAM` in the environment names one instead.

    Args:
        config: of the model. facts: of the bundle's manifest. context: tokens of one sequence.
        max_batch: sequences with room for their whole contexts; None: `default_batch`, and what cache fits.
        adapter: number or part of the name of an adapter; None: the environment's `EDGELLM_ADAPTER`, or the
            best GPU.
        planned: hears what will be taken, before anything is loaded.

    Raises:
        MissingDependencyError: nothing is installed that runs its programs.
        UnsupportedError: there is no GPU, or this does not fit on it. BundleError: a file is damaged.
    """
    cuda = any(folder.glob(f"cuda-*/{PLAN_NAME}"))
    failures: list[str] = []
    adapters = list_adapters(cuda=cuda, failed=failures.append)
    chosen, program = _choose(folder, adapters, adapter, failures)
    if chosen.through == "cuda":
        chosen = replace(chosen, free=chosen.handle.free_bytes())
    plan = read_plan(folder / program, config.vocab_size)
    weights = MappedWeights(folder)
    memory, sizes = plan_memory(
        plan, chosen, facts, context=context, max_batch=max_batch, default_batch=default_batch
    )
    check_limits(plan, chosen, sizes)
    for name, size in plan.weights.items():
        if len(weights[name]) != size:
            raise BundleError(
                f"{folder}: the weights have {len(weights[name]):,} bytes of {name} and {program} "
                f"takes {size:,}; build the bundle again"
            )
    limits = ExecutorLimits(
        vocab_size=config.vocab_size,
        context=context,
        max_batch=max_batch or default_batch,
        block_size=BLOCK_SIZE,
        num_blocks=memory.blocks,
        max_step_tokens=plan.sizes["n"],
    )
    planned(memory)
    host = open_host(plan, _read_sources(folder / program, plan), weights, sizes, chosen)
    return PlanExecutor(plan, host, limits, sizes, memory)


def _choose(
    folder: Path, adapters: list[Adapter], wanted: str | None, failures: Sequence[str] = ()
) -> tuple[Adapter, str]:
    """The adapter and the program."""
    there = sorted(path.parent.name for path in folder.glob(f"*/{PLAN_NAME}"))
    forced = os.environ.get(PROGRAM_VARIABLE) or None
    if forced is not None and forced not in there:
        raise UnsupportedError(
            f"{PROGRAM_VARIABLE} is {forced!r} and this bundle has the programs {', '.join(there) or 'none'}"
        )
    programs = [forced] if forced is not None else there
    languages = {name.split("-")[0] for name in programs}
    able: list[Through] = [through for through, language in LANGUAGES.items() if language in languages]
    if not able:
        raise UnsupportedError(
            f"the programs of this bundle ({', '.join(programs) or 'none'}) do not run from Python; "
            "edgellm package ios BUNDLE --out DIR makes an app of one for iPhones; to use the model here, "
            "build it with --target native or for a GPU that edgellm doctor lists"
        )
    if able == ["cuda"]:
        if not any(one.through == "cuda" for one in adapters):
            raise _no_cuda()
    elif not set(able) & set(installed()):
        able = [one for one in able if one != "cuda"]
        ways = " or ".join(f"{MODULES[one]} (pip install 'edgellm[{EXTRAS[one]}]')" for one in able)
        raise MissingDependencyError(f"running {', '.join(programs)} on a GPU needs the package {ways}")
    usable = {one.number: one.runs(programs) for one in adapters}
    chosen = choose_adapter([one for one in adapters if usable[one.number]], wanted, failures)
    return chosen, usable[chosen.number][0]


def _no_cuda() -> UnsupportedError:
    """Why there is no GPU for a bundle whose kernels are CUDA's alone."""
    try:
        cuda_adapters()
        reason = f"what NVIDIA's driver sees has a compute capability under {OLDEST[0]}.{OLDEST[1]}"
    except CudaError as error:
        reason = str(error)
    return UnsupportedError(
        f"no CUDA device was found: {reason}. A bundle with CUDA kernels needs an NVIDIA GPU of 2016 or "
        "later and its driver, version 450 or later, and nothing else; for other GPUs build without "
        "--kernels cuda"
    )


def open_host(
    plan: Plan, sources: Mapping[str, str], weights: Buffers, sizes: Mapping[str, int], adapter: Adapter
) -> Host:
    """What runs plans on this adapter; see `WgpuHost` for the arguments."""
    if adapter.through == "wgpu":
        from edgellm.backends.plan.wgpu_host import WgpuHost

        return WgpuHost(plan, sources, weights, sizes, adapter)
    if adapter.through == "cuda":
        from edgellm.backends.plan.cuda_host import CudaHost

        return CudaHost(plan, sources, weights, sizes, adapter)
    from edgellm.backends.plan.opencl_host import OpenClHost

    return OpenClHost(plan, sources, weights, sizes, adapter)


def read_plan(folder: Path, vocabulary: int) -> Plan:
    """The plan of a language model with so many tokens.

    Raises:
        BundleError: it cannot be read, is damaged, or is of something else.
    """
    path = folder / PLAN_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}); build the bundle again") from None
    plan = decode_plan(data, str(path))
    if reason := interface_problem(plan, vocabulary):
        raise BundleError(f"{path} is no plan of this language model: {reason}; build the bundle again")
    return plan


def _read_sources(folder: Path, plan: Plan) -> dict[str, str]:
    """What the host compiles, by the source's name: of a CUDA text the PTX beside it."""
    sources = {}
    for name in {kernel.source for kernel in plan.kernels}:
        path = folder / name
        if plan.language == "cuda":
            path = path.with_suffix(COMPILED_SUFFIX)
        try:
            if path.stat().st_size > _MAX_SOURCE_BYTES:
                raise BundleError(
                    f"{path} is larger than {_MAX_SOURCE_BYTES >> 20} MiB; build the bundle again"
                )
            sources[name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} cannot be read ({error}); build the bundle again") from None
    return sources
