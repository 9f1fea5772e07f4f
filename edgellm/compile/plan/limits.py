"""What a class of devices guarantees to a program."""

from __future__ import annotations

import msgspec


class DeviceLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits that programs keep to.

    Attributes:
        threads: of a workgroup. shared_bytes: of its memory. buffers: storage buffers a kernel may take.
        binding_bytes: of a buffer as a kernel sees it. grid: workgroups along one dimension.
        tile: outputs × slices of the inputs in a workgroup of a matrix product on few rows.
        direct: products do without the workgroup's memory; where there are many rows, a thread takes so many
            rows × outputs. None: products share sums and tiles in that memory.
        attention_parts: workgroups that share a long context in steps of few tokens.
        half_sums: fp16 programs add up products within a group in fp16 where there are many rows.
    """

    threads: int = 256
    shared_bytes: int = 16384
    buffers: int = 8
    binding_bytes: int = 128 << 20
    grid: int = 65535
    tile: tuple[int, int] = (64, 4)
    direct: tuple[int, int] | None = None
    attention_parts: int = 8
    half_sums: bool = True


class Programs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Programs of one kind of kernels, and the limits they keep to.

    Attributes:
        programs: LANGUAGE-ARITHMETIC, such as wgsl-fp16; the best first.
    """

    programs: tuple[str, ...]
    limits: DeviceLimits = DeviceLimits()


class Device(Programs, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a GPU target says of its devices: the programs to write for them, and their limits.

    Attributes:
        kernels: programs to be written in place of those, if they are asked for by name.
    """

    kernels: dict[str, Programs] = {}
