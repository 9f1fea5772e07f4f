"""Graphics adapters of this machine, as wgpu, OpenCL and CUDA see them, and the choice of one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from edgellm import cuda_driver
from edgellm.adapters.adapter import KINDS, LANGUAGES, Adapter, AdapterLimits, Through
from edgellm.adapters.sources import LISTINGS, WGPU_LOG, Failed, cuda_adapters, import_wgpu, reason
from edgellm.errors import MissingDependencyError, UnsupportedError

__all__ = [
    "ADAPTER_VARIABLE", "EXTRAS", "LANGUAGES", "MODULES", "WGPU_LOG", "Adapter", "AdapterLimits", "Through",
    "choose_adapter", "cuda_adapters", "import_wgpu", "installed", "list_adapters",
]  # fmt: skip
ADAPTER_VARIABLE = "EDGELLM_ADAPTER"
MODULES: dict[Through, str] = {"wgpu": "wgpu", "opencl": "pyopencl"}
EXTRAS: dict[Through, str] = {"wgpu": "gpu", "opencl": "opencl"}
"""The extra of this package that installs what sees such adapters. CUDA's driver is no package."""

_APIS = ("Vulkan", "Metal", "D3D12", "OpenCL")


def installed() -> list[Through]:
    """What can look for adapters here."""
    return [through for through, module in MODULES.items() if importlib.util.find_spec(module) is not None]


def list_adapters(*, cuda: bool = False, failed: Failed = lambda said: None) -> list[Adapter]:
    """All adapters, best first: discrete, integrated, others, then software. [] if nothing sees any.

    Args:
        cuda: those that CUDA sees as well, after all others, whose numbers do not depend on it.
        failed: hears what could not be looked at, and why: a broken driver does not hide the others.
    """
    found: list[Adapter] = []
    for through in installed():
        say = partial(_say, failed, MODULES[through])
        try:
            found += LISTINGS[through](say)
        except Exception as error:
            say(reason(error))
    apis = {api: place for place, api in enumerate(_APIS)}
    found.sort(key=lambda one: (KINDS.index(one.kind), apis.get(one.api, len(apis))))
    if cuda:
        try:
            found += cuda_adapters()
        except cuda_driver.NoDriverError:
            pass
        except cuda_driver.CudaError as error:
            failed(f"CUDA: {reason(error)}")
    return [replace(_with_memory(one, found), number=number) for number, one in enumerate(found)]


def _say(failed: Failed, module: str, said: str) -> None:
    failed(f"{module}: {said}")


def _with_memory(adapter: Adapter, every: Sequence[Adapter]) -> Adapter:
    """Where nothing told an adapter's memory: the least that OpenCL tells of such devices of its vendor."""
    if adapter.memory is not None:
        return adapter
    twins = [
        one
        for one in every
        if (one.through, one.vendor_id, one.kind) == ("opencl", adapter.vendor_id, adapter.kind)
    ]
    least = min(twins, key=lambda one: one.memory or 0, default=adapter)
    return replace(adapter, memory=least.memory, free=least.free)


def choose_adapter(
    adapters: Sequence[Adapter], wanted: str | None = None, failures: Sequence[str] = ()
) -> Adapter:
    """The adapter that `wanted` (else the environment's `EDGELLM_ADAPTER`) names by its number in
    `list_adapters` or by a part of its name; without either the best one that is no software.

    Args:
        failures: what `list_adapters` could not look at, for the error.

    Raises:
        MissingDependencyError: no package is installed that sees adapters.
        UnsupportedError: there is no such adapter, or no GPU.
    """
    if not adapters and not installed():
        raise MissingDependencyError(
            "a bundle for GPUs runs through wgpu or OpenCL, and neither is installed: "
            "pip install 'edgellm[gpu]' or 'edgellm[opencl]'"
        )
    wanted = wanted if wanted is not None else os.environ.get(ADAPTER_VARIABLE) or None
    listed = "; ".join(f"{one.number}: {one}" for one in adapters) or "none"
    if wanted is not None:
        for one in adapters:
            matches = one.number == int(wanted) if wanted.isdecimal() else wanted.lower() in str(one).lower()
            if matches:
                return one
        raise UnsupportedError(
            f"no graphics adapter that can run this is called {wanted!r}; there are {listed}"
        )
    if adapters and adapters[0].kind != "software":
        return adapters[0]
    advice = "install its driver (on Debian and Ubuntu mesa-vulkan-drivers, or the vendor's)"
    if failures:
        advice = f"what looked for one failed ({'; '.join(failures)}); {advice}"
    if not adapters:
        return _none_found(advice)
    name = adapters[0].name.split(" ")[0]
    raise UnsupportedError(
        f"no GPU was found, only software that computes on the processor ({listed}); {advice}, build for the "
        f"processor, or set {ADAPTER_VARIABLE}={name} to use that, slowly"
    )


def _none_found(advice: str) -> Adapter:
    through = installed()
    other = next((EXTRAS[one] for one in MODULES if one not in through), None)
    more = f", or pip install 'edgellm[{other}]' to look in another way" if other else ""
    raise UnsupportedError(f"no GPU that can run this was found; {advice}{more}, or build for the processor")
