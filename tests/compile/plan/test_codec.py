"""Plans as bytes: readable, the same for the same plan, and what a reader must refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.compile.plan.check import device_problem, problem
from edgellm.compile.plan.codec import MAX_PLAN_BYTES, decode_plan, encode_plan
from edgellm.compile.plan.limits import DeviceLimits
from edgellm.compile.plan.plan import FORMAT
from edgellm.compile.plan.schema import schema_text
from edgellm.compile.plan.sizes import evaluate
from edgellm.errors import BundleError
from tests.compile.plan.example import document, plan

ROOT = Path(__file__).resolve().parents[3]
Change = Callable[[dict[str, Any]], object]


def refusal(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        decode_plan(data, "plan.json")
    message = str(caught.value)
    assert message.startswith("plan.json ") and "\n" not in message
    return message


def test_round_trip() -> None:
    data = encode_plan(plan())
    again = decode_plan(data, "plan.json")
    assert encode_plan(again) == data
    assert msgspec.to_builtins(again) == msgspec.to_builtins(plan())


def test_the_same_whatever_order_the_file_has() -> None:
    shuffled = dict(reversed(document().items()))
    assert encode_plan(decode_plan(json.dumps(shuffled, indent=7).encode(), "x")) == encode_plan(plan())


def test_a_line_for_each_part() -> None:
    lines = encode_plan(plan()).decode().splitlines()
    assert '  {"name": "x", "kind": "input", "dtype": "float32", "shape": ["n", 8]},' in lines
    assert '  "w": 32' in lines
    assert '   {"kernel": "first", "arguments": ["x", "w", "between"]},' in lines


def test_bytes_of_a_buffer() -> None:
    sizes = {"n": 3, "m": 5, "context": 2}
    assert [evaluate(one.bytes, sizes) for one in plan().buffers] == [96, 32, 160, 96, 12]


def _set(*path: Any) -> Change:
    *where, last, value = path

    def change(root: dict[str, Any]) -> None:
        for one in where:
            root = root[one]
        root[last] = value

    return change


def _two(*changes: Change) -> Change:
    return lambda root: [change(root) for change in changes]


DEEP: Any = "n"
for _ in range(17):
    DEEP = ["+", DEEP, 1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("surprise", 1), "surprise"),
        (_set("kernels", 0, "surprise", 1), "surprise"),
        (lambda root: root.pop("needs"), "needs"),
        (_set("language", "glsl"), "$.language"),
        (_set("needs", ["fp64"]), "$.needs"),
        (_set("sizes", "n", 0), "size n"),
        (_set("sizes", {"m": 0, "context": 0}), "n"),
        (_set("sizes", "n", 2**31), "$.sizes"),
        (_set("buffers", 0, "kind", "scratch"), "kind"),
        (_set("buffers", 0, "name", "../x"), "$.buffers[0].name"),
        (_set("buffers", 0, "name", "y"), "buffer y is there 2 times"),
        (_set("weights", "x", 4), "buffer x is there 2 times"),
        (_set("weights", "w", 0), "$.weights"),
        (_set("buffers", 0, "shape", ["k", 8]), "'k' is no size"),
        (_set("buffers", 0, "shape", []), "shape"),
        (_set("buffers", 0, "shape", [1.5]), "1.5 is no expression"),
        (_set("buffers", 0, "shape", [True]), "True is no expression"),
        (_set("buffers", 0, "shape", [-1]), "-1 is not between"),
        (_set("buffers", 0, "shape", [["-", "n", 1]]), "is no expression"),
        (_set("buffers", 0, "shape", [["+", "n"]]), "is no expression"),
        (_set("buffers", 0, "shape", [["/", 4, "n"]]), "does not divide by a whole number"),
        (_set("buffers", 0, "shape", [["/", "n", 0]]), "does not divide by a whole number"),
        (_set("buffers", 0, "shape", [DEEP]), "more than 16 operators"),
        (_set("buffers", 0, "shape", [2**40, 2**40]), "2^53"),
        (_set("rotary", []), "nothing says what fills table angles"),
        (_set("rotary", 0, "table", "x"), "no float32 table of 4 columns"),
        (_set("rotary", 0, "frequencies", [1.0]), "no float32 table of 2 columns"),
        (_set("kernels", 0, "source", "first.wgsl"), "no opencl text"),
        (_set("kernels", 0, "source", "../first.cl"), "$.kernels[0].source"),
        (_set("kernels", 0, "source", "first.cl\n"), "$.kernels[0].source"),
        (_set("kernels", 0, "entry", "f(); evil"), "$.kernels[0].entry"),
        (_set("kernels", 0, "name", "second"), "kernel second is there 2 times"),
        (_set("kernels", 0, "scalars", ["k"]), "'k', which is no size"),
        (_set("kernels", 0, "scalars", ["n", "n"]), "n is there 2 times"),
        (_set("kernels", 0, "threads", [0, 1, 1]), "threads"),
        (_set("kernels", 0, "grid", [0, "n", 1]), "may be empty"),
        (_set("kernels", 0, "grid", [65536, 1, 1]), "larger than 65535"),
        (_set("kernels", 0, "grid", [["*", "n", 5000], 1, 1]), "larger than 65535"),
        (_set("kernels", 0, "grid", ["k", 1, 1]), "'k' is no size"),
        (_set("kernels", 0, "access", ["read", "read"]), "takes 2 buffers, not 3"),
        (_set("routines", 0, "most", 16), "[16, 16]"),
        (_set("routines", 1, "most", 8), "[1, 8]"),
        (_set("routines", []), "$.routines"),
        (_set("routines", 0, "launches", 0, "kernel", "third"), "no kernel third"),
        (_set("routines", 0, "launches", 0, "arguments", ["x", "w", "nothing"]), "no buffer nothing"),
        (_set("routines", 0, "launches", 0, "arguments", ["x", "w", "x"]), "tokens x is there 2 times"),
        (_set("routines", 0, "launches", 0, "arguments", ["x", "w", "angles"]), "angles is written"),
        (_set("routines", 0, "launches", 0, "arguments", ["y", "w", "between"]), "y is read before"),
        (_set("kernels", 1, "access", 2, "write"), None),
        (_set("kernels", 1, "access", 3, "readwrite"), "y is read before"),
        (_set("kernels", 1, "access", 3, "read"), "y is read before"),
        (lambda root: [one["launches"].pop(0) for one in root["routines"]], "between is read before"),
        (lambda root: [one["launches"].pop(1) for one in root["routines"]], "does not write y"),
        (
            lambda root: root["kernels"].append({**root["kernels"][0], "name": "idle"}),
            "kernel idle is never launched",
        ),
    ],
)
def test_refusals(change: Change, says: str | None) -> None:
    changed = document()
    change(changed)
    data = json.dumps(changed).encode()
    if says is None:
        decode_plan(data, "plan.json")
    else:
        assert says in refusal(data)


def test_wgsl_has_no_third_dimension_of_workgroups() -> None:
    changed = document() | {"language": "wgsl"}
    for kernel in changed["kernels"]:
        kernel["source"] = f"{kernel['name']}.wgsl"
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    decode_plan(json.dumps(changed).encode(), "plan.json")
    assert validator.is_valid(changed)
    changed["kernels"][0]["grid"][2] = 2
    assert "third dimension" in refusal(json.dumps(changed).encode())
    assert not validator.is_valid(changed) and validator.is_valid(changed | {"language": "opencl"})


def test_other_formats_name_themselves() -> None:
    changed = document() | {"format": FORMAT + 1, "new": {}}
    assert f"plan format {FORMAT + 1}" in refusal(json.dumps(changed).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b"{" * 100_000, b"[" * 100_000])
def test_garbage(data: bytes) -> None:
    refusal(data)


def test_an_expression_as_deep_as_a_file_allows() -> None:
    data = json.dumps(document()).replace('["n", 8]', "[" * 50_000 + "]" * 50_000, 1)
    refusal(data.encode())


def test_oversized() -> None:
    assert "larger than" in refusal(b" " * (MAX_PLAN_BYTES + 1))


def test_a_plan_that_could_not_be_read_is_not_written() -> None:
    with pytest.raises(BundleError, match="between is read before"):
        encode_plan(
            msgspec.structs.replace(plan(), routines=(msgspec.structs.replace(
                plan().routines[1], launches=plan().routines[1].launches[1:]),))
        )  # fmt: skip


@settings(deadline=None)
@given(st.data())
def test_no_change_of_a_value_is_a_traceback(draws: st.DataObject) -> None:
    """Whatever stands in a field, a plan is taken whole or refused by name."""
    changed = document()
    node: Any = changed
    while True:
        key = draws.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[key], dict | list) and node[key] and draws.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = draws.draw(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
            | st.sampled_from(["n", "x", "y", ["*", "n", 2], ["/", "n", "n"], {}, []])
        )  # fmt: skip
        break
    try:
        taken = decode_plan(json.dumps(changed).encode(), "plan.json")
    except BundleError as error:
        assert "plan.json" in str(error)
        return
    assert problem(taken) is None
    assert decode_plan(encode_plan(taken), "again") == taken


def test_device_limits() -> None:
    assert device_problem(plan(), DeviceLimits()) is None
    for limits, says in (
        (DeviceLimits(threads=63), "second takes 64 threads"),
        (DeviceLimits(shared_bytes=127), "first takes 128 bytes"),
        (DeviceLimits(buffers=3), "second takes 4 buffers"),
        (DeviceLimits(binding_bytes=511), "buffer x has more than 511"),
        (DeviceLimits(grid=15), "grid of kernel first"),
    ):
        assert says in str(device_problem(plan(), limits))


def test_the_example_of_the_documentation() -> None:
    text = (ROOT / "docs" / "plan.md").read_text().partition("## An example")[2]
    lines = [line[4:] for line in text.partition("\n    {\n")[2].splitlines() if line.startswith("    ")]
    data = ("{\n" + "\n".join(lines[: lines.index("}") + 1]) + "\n").encode()
    shown = decode_plan(data, "docs/plan.md")
    assert encode_plan(shown) == data
    step = {"n": 5}
    assert [[evaluate(one, step) for one in kernel.grid] for kernel in shown.kernels] == [
        [2, 5, 1],
        [1, 1, 1],
    ]


def test_schema_file_is_in_step() -> None:
    written = (ROOT / "docs" / "plan.schema.json").read_text()
    assert written == schema_text(), "run: python -m edgellm.compile.plan.schema"


def test_schema_takes_plans_and_refuses_what_they_may_not_have() -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(document())
    for path in sorted((ROOT / "tests" / "conformance" / "programs").rglob("plan.json")):
        validator.validate(json.loads(path.read_text()))
    for change in (
        _set("surprise", 1),
        _set("format", FORMAT + 1),
        _set("buffers", 0, "shape", [["-", "n", 1]]),
        _set("kernels", 0, "grid", [1.5, 1, 1]),
        _set("kernels", 0, "source", "../first.cl"),
    ):
        changed = copy.deepcopy(document())
        change(changed)
        assert not validator.is_valid(changed)
