"""Whether kernels keep to what a class of devices guarantees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from edgellm.compile.gpu.kernel import GpuKernel
from edgellm.compile.plan.assemble import argument_bytes
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.sizes import evaluate
from edgellm.errors import UnsupportedError


def check_fits(kernels: Sequence[GpuKernel], limits: DeviceLimits, sizes: Mapping[str, int]) -> None:
    """Check every kernel at the largest sizes of a step.

    Args:
        sizes: largest values; 0: the host chooses, and checks what depends on it.

    Raises:
        UnsupportedError: a kernel needs more.
    """
    largest = {name: size or 1 for name, size in sizes.items()}
    for kernel in kernels:
        needed = {
            "threads in a workgroup": (prod(kernel.threads), limits.threads),
            "bytes of workgroup memory": (kernel.shared_bytes, limits.shared_bytes),
            "buffers": (len(kernel.arguments), limits.buffers),
            "workgroups in one direction": (max(evaluate(one, largest) for one in kernel.grid), limits.grid),
            "bytes of one buffer": (max(argument_bytes(kernel, largest)), limits.binding_bytes),
        }
        for what, (wanted, most) in needed.items():
            if wanted > most:
                raise UnsupportedError(
                    f"kernel {kernel.name} of this model needs {wanted:,} {what} and the target's devices "
                    f"guarantee {most:,}; choose another target"
                )
