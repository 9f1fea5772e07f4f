"""`edgellm doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from edgellm import __version__
from edgellm.adapters import ADAPTER_VARIABLE, MODULES, Adapter, choose_adapter, installed, list_adapters
from edgellm.backends.tvm.isa import FORCE, NEEDS
from edgellm.cli.output import json_option, print_facts, print_json, print_table
from edgellm.errors import EdgeLLMError, UnsupportedError
from edgellm.machine import free_disk, read_cpu, read_memory
from edgellm.targets import fitting_target, load_targets, missing_for, native_target
from edgellm.units import bytes_text

EXTRAS = {
    "ctranslate2": ("build and run bundles on CPUs", ("ctranslate2",)),
    "tvm": ("compile kernels, run int4 bundles on CPUs", ("apache-tvm", "apache-tvm-ffi", "ziglang")),
    "gpu": ("run bundles on GPUs through Vulkan, Metal or DirectX 12", ("wgpu",)),
    "opencl": ("run bundles on GPUs through OpenCL", ("pyopencl",)),
    "serve": ("serve bundles over HTTP", ("fastapi", "prometheus-client", "uvicorn")),
    "bench": ("compare with llama.cpp, and plot", ("gguf", "llama-cpp-python", "matplotlib")),
}
"""Extra of this package -> (what it is for, the distributions it installs)."""


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show what this machine can build and run, and what to install for the rest."""
    report = examine()
    if as_json:
        print_json(report)
        return
    print_facts(_machine_facts(report), title="This machine")
    if report["gpus"]:
        print_table(
            ["", "adapter", "through", "driver", "kind", "memory", "fp16", "target"],
            [_adapter_row(one) for one in report["gpus"]],
            title="\nGraphics adapters",
        )
    print_table(
        ["extra", "for", "installed", "to install it"],
        [
            (
                extra["name"],
                extra["purpose"],
                ", ".join(f"{name} {version or 'missing'}" for name, version in extra["packages"].items()),
                extra["install"] or "",
            )
            for extra in report["extras"]
        ],
        title="\nInstalled parts",
    )
    print_facts(
        [
            ("builds for", ", ".join(report["builds"]) or "nothing yet: see above"),
            ("runs", ", ".join(report["runs"]) or "nothing yet: see above"),
            *_not_buildable(report["cannot_build"]),
        ],
        title="What works here",
    )


def examine() -> dict[str, Any]:
    """Everything `edgellm doctor` tells, as plain values."""
    native = None
    with suppress(UnsupportedError):
        native = native_target().name
    missing = {target.name: missing_for(target) for target in load_targets().values()}
    builds = [name for name, what in missing.items() if what is None]
    cpu = read_cpu()
    failures: list[str] = []
    adapters = list_adapters(cuda=True, failed=failures.append)
    fitting = [fitting_target(adapter) for adapter in adapters]
    here = dict.fromkeys(one for one in (native, *sorted(filter(None, fitting))) if one)
    return {
        "edgellm": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": msgspec.to_builtins(cpu),
        "isas": [name for name, needs in NEEDS.items() if needs <= set(cpu.features)],
        "forced_isa": os.environ.get(FORCE) or None,
        "memory": msgspec.to_builtins(read_memory()),
        "disk_free": free_disk(Path.cwd()),
        "gpus": [
            {**adapter.facts(), "target": target} for adapter, target in zip(adapters, fitting, strict=True)
        ]
        if adapters or installed()
        else None,
        "gpu_failures": failures,
        "forced_adapter": os.environ.get(ADAPTER_VARIABLE) or None,
        "forced_adapter_problem": _forced_problem(adapters),
        "native": native,
        "extras": [_extra(name) for name in EXTRAS],
        "builds": builds,
        "runs": [name for name in here if name.split()[0] in builds],
        "cannot_build": {name: what for name, what in missing.items() if what is not None},
    }


def _forced_problem(adapters: Sequence[Adapter]) -> str | None:
    """Why the adapter that the environment names cannot be taken."""
    try:
        if os.environ.get(ADAPTER_VARIABLE):
            choose_adapter(adapters)
    except EdgeLLMError as error:
        return str(error)
    return None


def _extra(name: str) -> dict[str, Any]:
    purpose, distributions = EXTRAS[name]
    packages = {distribution: _version(distribution) for distribution in distributions}
    missing = None in packages.values()
    return {
        "name": name,
        "purpose": purpose,
        "packages": packages,
        "install": f"{_python()} -m pip install 'edgellm[{name}]'" if missing else None,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> str:
    """How to name this very interpreter in a command."""
    return sys.executable or "python3"


def _not_buildable(reasons: dict[str, str]) -> list[tuple[str, str]]:
    """Targets that cannot be built, those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [("not for", f"{', '.join(names)}: {reason}") for reason, names in by_reason.items()]


def _machine_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, memory, disk = report["cpu"], report["memory"], report["disk_free"]
    return [
        ("edgellm", f"{report['edgellm']}, Python {report['python']}, {report['platform']}"),
        (
            "CPU",
            f"{cpu['model'] or 'unknown model'} ({cpu['architecture']}), target {report['native'] or 'none'}",
        ),
        ("cores", f"{_known(cpu['usable_cores'])} usable of {_known(cpu['cores'])}"),
        ("instructions", ", ".join(cpu["features"]) or "unknown"),
        ("TVM kernels", _kernels(report["isas"], report["forced_isa"], cpu["features"])),
        ("memory", f"{_size(memory['available'])} free of {_size(memory['total'])}"),
        ("disk", f"{_size(disk)} free here"),
        ("GPU", report["forced_adapter_problem"] or _gpu(report["gpus"], report["forced_adapter"])),
        *(("", f"could not be looked at: {one}") for one in report["gpu_failures"]),
    ]


def _kernels(isas: list[str], forced: str | None, features: list[str]) -> str:
    """Which code of a TVM bundle runs here, and which other could."""
    if forced is not None and forced not in NEEDS:
        return f"none: {FORCE} is {forced!r}, which is none of {', '.join(NEEDS)}"
    if forced is not None:
        lacking = sorted(NEEDS[forced] - {*features})
        lacks = f", but this processor lacks {', '.join(lacking)}" if features and lacking else ""
        return f"{forced}, as {FORCE} says{lacks}"
    first, *others = isas or ["none for this processor"]
    return f"{first}; {FORCE} can pick {', '.join(others)} instead" if others else first


def _gpu(adapters: list[dict[str, Any]] | None, forced: str | None) -> str:
    """Which adapter a bundle for GPUs runs on, if nobody says otherwise."""
    if forced:
        return f"the adapter {forced}, as {ADAPTER_VARIABLE} says"
    if adapters is None:
        return f"not looked for: needs the package {' or '.join(MODULES.values())}"
    if not adapters:
        return "none found"
    best = next((one for one in adapters if one["kind"] != "software"), None)
    if best is None:
        return f"none found but software that computes on the processor, which only {ADAPTER_VARIABLE} picks"
    return f"{best['name']}; {ADAPTER_VARIABLE} can pick another"


def _adapter_row(adapter: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(adapter["number"]),
        adapter["name"],
        adapter["api"],
        adapter["driver"] or "unknown",
        adapter["kind"],
        f"{_size(adapter['free'])} free of {_size(adapter['memory'])}" if adapter["memory"] else "unknown",
        "yes" if adapter["fp16"] else "no",
        adapter["target"] or "none",
    )


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _size(value: int | None) -> str:
    return "unknown" if value is None else bytes_text(value)
