"""A checkpoint's tensors as the parameters of a GPU program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgellm.compile.gpu.parameters import Parameter, array_names, parameters, splits
from edgellm.quantize import int4, int8
from edgellm.quantize.formats import ZERO
from edgellm.quantize.gpu_layout import pack, pack_floats, pack_scales

if TYPE_CHECKING:
    from edgellm.checkpoint import Checkpoint


def make(
    checkpoint: Checkpoint, bits: int, binding_bytes: int
) -> Iterator[tuple[Parameter, list[tuple[str, NDArray[Any]]]]]:
    """Each parameter with its buffers by name, in the order of the weights file.

    Args:
        binding_bytes: a matrix of more is in parts.
    """
    for parameter in parameters(checkpoint.config):
        yield parameter, _buffers(checkpoint, parameter, bits, binding_bytes)


def _buffers(
    checkpoint: Checkpoint, parameter: Parameter, bits: int, binding_bytes: int
) -> list[tuple[str, NDArray[Any]]]:
    if not parameter.columns:
        return [(parameter.name, _vector(checkpoint, parameter))]
    weight = _stacked(checkpoint, parameter)
    found = splits(parameter, bits, binding_bytes)
    buffers: list[tuple[str, NDArray[Any]]] = []
    for part, (first, rows) in enumerate(found):
        arrays = _packed(weight[first : first + rows], bits)
        buffers += zip(array_names(parameter, bits, part, len(found)), arrays, strict=True)
    return buffers


def _packed(weight: NDArray[np.float32], bits: int) -> list[NDArray[Any]]:
    if bits not in ZERO:
        return [pack_floats(weight, bits)]
    codes, scales = (int4.quantize if bits == 4 else int8.quantize_groups)(weight)
    return [pack(codes, bits), pack_scales(scales)]


def _stacked(checkpoint: Checkpoint, parameter: Parameter) -> NDArray[np.float32]:
    parts = [checkpoint.weights.read(source) for source in parameter.sources]
    if parameter.interleaved:
        rows = parameter.rows // len(parts)
        parts = [np.pad(part, ((0, rows - len(part)), (0, 0))) for part in parts]
        weight = np.stack(parts, axis=1).reshape(parameter.rows, -1)
    else:
        weight = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return np.pad(weight, ((0, 0), (0, parameter.columns - weight.shape[1])))


def _vector(checkpoint: Checkpoint, parameter: Parameter) -> NDArray[np.float32]:
    parts = [checkpoint.weights.read(source) for source in parameter.sources]
    if parameter.name.endswith("norm") and checkpoint.config.norm_adds_one:
        parts = [part + np.float32(1) for part in parts]
    if parameter.interleaved:
        rows = parameter.rows // len(parts)
        values = np.stack([np.pad(part, (0, rows - len(part))) for part in parts], axis=1).ravel()
    else:
        values = np.concatenate(parts)
    return np.pad(values, (0, parameter.rows - len(values)))
