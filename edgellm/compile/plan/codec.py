"""A plan as bytes: one line for each buffer, weight, kernel and launch; the same bytes for the same plan."""

from __future__ import annotations

import msgspec

from edgellm.compile.plan.check import problem
from edgellm.compile.plan.plan import FORMAT, Plan
from edgellm.errors import BundleError

MAX_PLAN_BYTES = 32 << 20
_BLOCKS = ("rotary", "buffers", "weights", "kernels")
"""Fields written with one line for each of their parts."""


class _Head(msgspec.Struct):
    """What every format version has, readable before the rest is understood."""

    format: int


def encode_plan(plan: Plan) -> bytes:
    """The bytes of `plan.json`: JSON, UTF-8.

    Raises:
        BundleError: a reader would refuse it; nothing may be written then.
    """
    fields: dict[str, object] = msgspec.to_builtins(plan)
    rows = []
    for name, value in fields.items():
        if name in _BLOCKS and value:
            rows.append(f"{_line(name)}: {_block(value, 1)}")
        elif name == "routines":
            rows.append(f"{_line(name)}: {_routines(value)}")
        else:
            rows.append(f"{_line(name)}: {_line(value)}")
    data = ("{\n " + ",\n ".join(rows) + "\n}\n").encode()
    decode_plan(data, "the new plan")
    return data


def decode_plan(data: bytes, where: str) -> Plan:
    """The plan in `data`, checked: format version, types, and what `check.problem` looks at.

    Args:
        where: what to call the file in an error.

    Raises:
        BundleError: says what is wrong.
    """
    if len(data) > MAX_PLAN_BYTES:
        raise BundleError(f"{where} is larger than {MAX_PLAN_BYTES >> 20} MiB: it is no plan")
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format != FORMAT:
            raise BundleError(
                f"{where} has plan format {head.format} and this edgellm reads format {FORMAT}: "
                "use the edgellm that built the bundle, or build it again"
            )
        plan = msgspec.json.decode(data, type=Plan)
        reason = problem(plan)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where} is damaged ({error}): build the bundle again") from None
    if reason:
        raise BundleError(f"{where} is damaged ({reason}): build the bundle again")
    return plan


def _line(value: object) -> str:
    """On one line, with a space after commas and colons."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _block(value: object, depth: int) -> str:
    """A list or an object with one line for each part."""
    if isinstance(value, dict):
        parts, (start, end) = [f"{_line(name)}: {_line(one)}" for name, one in value.items()], "{}"
    else:
        assert isinstance(value, list | tuple)
        parts, (start, end) = [_line(one) for one in value], "[]"
    space = "\n" + " " * depth
    return start + ",".join(f"{space} {part}" for part in parts) + space + end


def _routines(value: object) -> str:
    assert isinstance(value, list | tuple)
    parts = [f'\n  {{"most": {one["most"]}, "launches": {_block(one["launches"], 2)}}}' for one in value]
    return "[" + ",".join(parts) + "\n ]"
