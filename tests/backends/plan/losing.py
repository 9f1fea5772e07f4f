"""Taking a device away from a host in the middle of its work."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from edgellm.backends.plan.host import Host


def lose(host: Host) -> None:
    """What the host asks of its device fails from now on: its wgpu device is gone, or OpenCL's driver refuses
    what is queued.
    """
    broken: Any = host
    if hasattr(broken, "_device"):
        broken._device.destroy()
        return
    for parts in broken._routines:
        for launch in itertools.chain(*parts):
            launch.kernel = msgspec.structs.replace(launch.kernel, threads=(1 << 20, 1, 1))


def lose_after(steps: int, kind: type[Any]) -> None:
    """Every host of this class loses its device after so many steps."""
    submit: Callable[..., Any] = kind.submit
    done: dict[int, int] = {}

    def counting(self: Any, *arguments: Any) -> Any:
        done[id(self)] = done.get(id(self), 0) + 1
        if done[id(self)] == steps + 1:
            lose(self)
        return submit(self, *arguments)

    kind.submit = counting
