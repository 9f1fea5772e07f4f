"""Graphics adapters of this machine, as wgpu, OpenCL and CUDA see them, and the choice of one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace

from edgellm import cuda_driver
from edgellm.adapters.adapter import KINDS, LANGUAGES, Adapter, AdapterLimits, Through
from edgellm.adapters.sources import LISTINGS, WGPU_LOG, cuda_adapters, import_wgpu
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


def list_adapters(*, cuda: bool = False) -> list[Adapter]:
    """All adapters, best first: discrete, integrated, others, then software. [] if nothing sees any.

    Args:
        cuda: those that CUDA sees as well, after all others, whose numbers do not depend on it.
    """
    found: list[Adapter] = []
    for through in installed():
        # A broken driver must not stop a report about this machine; pyopencl raises when there is no driver.
        with contextlib.suppress(Exception):
            found += LISTINGS[through]()
    apis = {api: place for place, api in enumerate(_APIS)}
    found.sort(key=lambda one: (KINDS.index(one.kind), apis.get(one.api, len(apis))))
    if cuda:
        with contextlib.suppress(cuda_driver.CudaError):
            found += cuda_adapters()
    return [replace(one, number=number) for number, one in enumerate(found)]


def choose_adapter(adapters: Sequence[Adapter], wanted: str | None = None) -> Adapter:
    """The adapter that `wanted` (else the environment's `EDGELLM_ADAPTER`) names by its number in
    `list_adapters` or by a part of its name; without either the best one that is no software.

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
