"""Targets, and the pick of a backend for one: data in `targets/*.toml`, a rule of a few lines here."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import Literal

import msgspec

from edgellm.adapters import Adapter
from edgellm.adapters.adapter import NVIDIA
from edgellm.backends import get_backend
from edgellm.backends.base import BuildPlan
from edgellm.bundle.model_config import ModelConfig
from edgellm.compile.plan.limits import Device
from edgellm.errors import UnsupportedError
from edgellm.resources import data_dir

Kind = Literal["cpu", "gpu", "phone", "browser"]
_KINDS: tuple[Kind, ...] = ("cpu", "gpu", "phone", "browser")
NATIVE = "native"
PORTABLE = "portable"
"""The kernels that every GPU target has: those that run on all of its devices."""

_VENDORS = {
    # PCI vendors, as Vulkan, DirectX and most OpenCL drivers report them.
    0x8086: "intel-gpu", 0x1002: "amd-gpu", NVIDIA: "nvidia-gpu", 0x106B: "apple-gpu", 0x13B5: "mali",
    0x5143: "adreno",
}  # fmt: skip
PACKAGES = {"webgpu": "web", "adreno": "android", "mali": "android", "apple-iphone": "ios"}
"""What `edgellm package` makes of bundles for these."""
_ANY = "webgpu"
"""Keeps to what every device guarantees."""


class TargetBackend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One backend that serves a target, and the quantizations it can express there."""

    name: str
    quants: tuple[str, ...]


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device class to build for: one file of `targets/`."""

    name: str = ""
    """The file's name without `.toml`."""
    title: str
    kind: Kind
    devices: str
    default_quant: str
    backends: tuple[TargetBackend, ...]
    """In order of preference."""
    machines: tuple[str, ...] = ()
    """Values of `platform.machine()`, in lower case, that are this target."""
    device: Device | None = None
    """Of GPU targets: the programs they need, and the limits of their devices."""
    notes: str = ""


@dataclass(frozen=True)
class Pick:
    """The backend and quantization chosen for a build, and why, in one line."""

    backend: str
    quant: str
    reason: str


@cache
def load_targets() -> dict[str, Target]:
    """All targets by name: CPUs first, then desktop GPUs, phones and browsers."""
    targets = []
    for file in data_dir("targets").glob("*.toml"):
        target = msgspec.toml.decode(file.read_bytes(), type=Target)
        targets.append(msgspec.structs.replace(target, name=file.stem))
    targets.sort(key=lambda target: (_KINDS.index(target.kind), target.name))
    return {target.name: target for target in targets}


def missing_for(target: Target) -> str | None:
    """What to install before a build for `target` works, in one line; None if a backend is ready."""
    missing = [get_backend(one.name).missing() for one in target.backends]
    return None if None in missing else missing[0]


def native_target(machine: str | None = None) -> Target:
    """The target that this machine's processor is (`machine`: what `platform.machine()` says).

    Raises:
        UnsupportedError: no target file names this processor.
    """
    machine = (machine or platform.machine()).lower()
    for target in load_targets().values():
        if machine in target.machines:
            return target
    known = ", ".join(target.name for target in load_targets().values() if target.machines)
    raise UnsupportedError(f"this machine's processor, {machine!r}, is no target; there are {known}")


def fitting_target(adapter: Adapter) -> str | None:
    """Options of `edgellm build` for what suits an adapter, such as "nvidia-gpu --kernels cuda": of its
    vendor's target, else of the one that all devices run, what it can run; None for software, and if there is
    nothing.
    """
    if adapter.kind == "software":
        return None
    vendors = _VENDORS.get(adapter.vendor_id, "apple-gpu" if adapter.name.startswith("Apple ") else _ANY)
    for name in (vendors, _ANY):
        device = load_targets()[name].device or Device(programs=())
        if adapter.runs(device.programs):
            return name
        for kernels, others in device.kernels.items():
            if adapter.runs(others.programs):
                return f"{name} --kernels {kernels}"
    return None


def get_target(name: str) -> Target:
    """The target called `name`; "native" is this machine's. UnsupportedError names the known ones."""
    if name == NATIVE:
        return native_target()
    targets = load_targets()
    if name not in targets:
        raise UnsupportedError(f"no target is called {name!r}; there are {NATIVE}, {', '.join(targets)}")
    return targets[name]


def with_kernels(target: Target, kernels: str | None) -> Target:
    """The target with the kernels called so in place of its portable ones. None: those.

    Raises:
        UnsupportedError: it has none of that name; says which it has.
    """
    offered = {PORTABLE: target.device, **target.device.kernels} if target.device is not None else {}
    if kernels in (None, PORTABLE) and (offered or kernels is None):
        return target
    if kernels not in offered:
        others = [one.name for one in load_targets().values() if one.device and kernels in one.device.kernels]
        has = f"it has {' and '.join(offered)}" if offered else "a processor has only one kind"
        raise UnsupportedError(
            f"target {target.name} has no kernels {kernels!r}; {has}"
            + (f"; {kernels} is for {' and '.join(others)}" if others else "")
        )
    chosen = offered[kernels]
    return msgspec.structs.replace(target, device=Device(programs=chosen.programs, limits=chosen.limits))


def pick(
    target: Target, config: ModelConfig, context: int, *, quant: str | None = None, backend: str | None = None
) -> Pick:
    """The first installed backend of `target` that can build this model in this quantization, or the first at
    all if none is installed.

    Args:
        context: tokens of one sequence that the bundle is to hold.
        quant: None = the target's default, or what a demanded `backend` prefers if it lacks that.
        backend: consider this one only.

    Raises:
        UnsupportedError: none can; says why, and the nearest thing that works.
    """
    quant, candidates = offers(target, quant, backend)
    plan = BuildPlan(target.name, quant, context, device=target.device)
    refusals = {one.name: get_backend(one.name).refuse(config, plan) for one in candidates}
    able = [name for name, refusal in refusals.items() if refusal is None]
    if not able:
        raise UnsupportedError("; ".join(dict.fromkeys(refusal for refusal in refusals.values() if refusal)))
    what = f"{config.family} as {quant} for {target.name}"
    if backend is not None:
        return Pick(backend, quant, f"{backend} was asked for and builds {what}")
    chosen = next((name for name in able if get_backend(name).missing() is None), able[0])
    if chosen == able[0]:
        return Pick(chosen, quant, f"{chosen} is the first backend that builds {what}")
    return Pick(chosen, quant, f"{chosen} builds {what}; {able[0]} comes first and is not installed")


def offers(target: Target, quant: str | None, backend: str | None) -> tuple[str, list[TargetBackend]]:
    """The part of the pick that needs no model: (quantization, backends that offer it, in order).

    Raises:
        UnsupportedError: no backend does; says what can be built.
    """
    candidates = [one for one in target.backends if backend in (None, one.name)]
    if not candidates:
        names = " and ".join(one.name for one in target.backends)
        raise UnsupportedError(f"target {target.name} has no backend {backend!r}; it has {names}")
    if quant is None:
        offered = [one for some in candidates for one in some.quants]
        quant = target.default_quant if target.default_quant in offered else offered[0]
    found = [one for one in candidates if quant in one.quants]
    if not found:
        quants = dict.fromkeys(name for one in candidates for name in one.quants)
        who = target.name if backend is None else f"the {backend} backend for {target.name}"
        raise UnsupportedError(f"{who} has no quantization {quant!r}; it has {', '.join(quants)}")
    return quant, found
