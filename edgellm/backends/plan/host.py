"""What a host is to the step executor, and how its failures are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from edgellm.adapters import Adapter
from edgellm.backends.executor import Float32s
from edgellm.errors import DeviceLostError, UnsupportedError


@dataclass
class StepTimes:
    """Where the time of steps went, in seconds, added up.

    Attributes:
        total: from the step's arrays to the results. submit: of it, until the device had all it needs, after
            which it works while the host goes on. wait: of it, waiting for the device. The rest is unpacking.
        between: from the step before to this one: scheduling, sampling, or nothing to do.
    """

    steps: int = 0
    total: float = 0.0
    submit: float = 0.0
    wait: float = 0.0
    between: float = 0.0


class Host(Protocol):
    """A plan on a device: its buffers, weights and kernels. Buffers have the plan's names.

    Errors of the device are raised as `EdgeLLMError`.
    """

    adapter: Adapter
    submitted: float
    """When the last run had handed everything to the device, as `time.perf_counter` tells."""
    waited: float
    """Seconds that the last run waited for the device."""

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Fill the beginning of a table, once."""
        ...

    def run(
        self, inputs: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], outputs: Mapping[str, int]
    ) -> dict[str, Float32s]:
        """Fill the beginnings of inputs, run the routine that holds a step of these sizes, and bring
        beginnings of outputs back: one submission if it is of few tokens, see `launches.submissions`.

        Args:
            outputs: numbers of four bytes to bring back of each; the caller may change them, and must view
                whole numbers as such.
        """
        ...

    def copy(self, pieces: Mapping[str, int], source: int, target: int) -> None:
        """Before the next run: of every buffer named, copy piece `source` over piece `target`; pieces lie
        side by side and have the given number of bytes.
        """
        ...

    def close(self) -> None: ...


def lost(adapter: Adapter, said: object) -> DeviceLostError:
    """A step failed on the device."""
    return DeviceLostError(
        f"{adapter.name} stopped during a step ({_short(said)}). Likely causes: its memory ran out (close "
        "what else uses it, or take a smaller --context or --max-batch), the driver ended work that took "
        "longer than it allows (a smaller model, quantization or --context takes less), or the device went "
        "away. Open the bundle again to go on"
    )


def no_device(adapter: Adapter, said: object) -> UnsupportedError:
    """The device could not be opened."""
    return UnsupportedError(
        f"{adapter} cannot be used ({_short(said)}); another program may hold it, or its driver needs an "
        "update; EDGELLM_ADAPTER picks another adapter"
    )


def no_memory(adapter: Adapter, what: str, size: int, said: object) -> UnsupportedError:
    """A buffer could not be had."""
    return UnsupportedError(
        f"{adapter.name} has no room for {what} of {size:,} bytes ({_short(said)}); close what else uses "
        "it, take a smaller --context or --max-batch, or build with a smaller quantization"
    )


def no_kernel(adapter: Adapter, kernel: str, said: object) -> UnsupportedError:
    """A driver refused a kernel."""
    return UnsupportedError(
        f"the driver of {adapter} refuses the kernel {kernel}: {_short(said)}; a newer driver may take it, "
        "or EDGELLM_PROGRAM picks another program of the bundle"
    )


def _short(said: object) -> str:
    """The first lines of what a driver said, as one."""
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return " ".join(lines)[:300] or type(said).__name__
