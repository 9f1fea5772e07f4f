"""Slots: values that live at the same time are apart, and there is room for each."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from edgellm.compile.plan.plan import Buffer
from edgellm.compile.plan.sizes import evaluate
from edgellm.compile.plan.slots import Slots, Value

MOST = 64
SIZES = {"n": MOST, "r": 16, "b": 0}


@dataclass
class _Routine:
    most: int
    values: list[Value]
    launches: int


@st.composite
def routines(draw: st.DrawFn, most: int) -> _Routine:
    """Launches that each make a value or two and read some of those before."""
    count = draw(st.integers(1, 12))
    values = []
    for born in range(count):
        for _ in range(draw(st.sampled_from((1, 1, 1, 2)))):
            rows = draw(st.sampled_from(["n", "n", "r", 1, ["*", "n", 3], "b", ["/", "n", 4]]))
            last = min(count - 1, born + draw(st.integers(0, 4)))
            values.append(Value("", rows, 4 * draw(st.integers(1, 50)), born, last))
    return _Routine(most, values, count)


plans = st.tuples(routines(MOST), routines(8), routines(1))


def placed(parts: tuple[_Routine, ...]) -> list[Buffer]:
    slots = Slots(SIZES)
    for part in parts:
        slots.place(part.values, part.most)
    return slots.buffers()


@settings(deadline=None)
@given(plans)
def test_values_that_live_together_are_apart(parts: tuple[_Routine, ...]) -> None:
    placed(parts)
    for part in parts:
        for launch in range(part.launches):
            # A launch reads what is last used there and writes what is born there: both live.
            alive = [value.name for value in part.values if value.born <= launch <= value.last]
            assert len(alive) == len(set(alive))
            assert all(alive)


@settings(deadline=None)
@given(plans, st.integers(1, MOST), st.integers(1, 16), st.integers(1, 100))
def test_there_is_room_for_every_step(parts: tuple[_Routine, ...], n: int, r: int, b: int) -> None:
    """Also where the host chose smaller sizes than the plan's."""
    buffers = {one.name: one for one in placed(parts)}
    host = {"n": n, "r": r, "b": b}
    for part in parts:
        step = host | {"n": min(n, part.most), "r": min(r, part.most)}
        for value in part.values:
            room = evaluate(buffers[value.name].bytes, host)
            assert room >= evaluate(value.count, step) * value.row_bytes


@settings(deadline=None)
@given(routines(MOST))
def test_memory_is_near_what_must_be_there_at_once(part: _Routine) -> None:
    sizes = SIZES | {"b": 64}
    total = sum(evaluate(one.bytes, sizes) for one in placed((part,)))
    bytes_of = {id(one): evaluate(one.count, sizes) * one.row_bytes for one in part.values}
    live = [
        [bytes_of[id(one)] for one in part.values if one.born <= launch <= one.last]
        for launch in range(part.launches)
    ]
    assert total >= max(sum(one) for one in live)
    # No more slots than values that live at once, none larger than the largest value.
    assert total <= max(len(one) for one in live) * max(bytes_of.values())


def test_a_chain_needs_two_slots_in_steps_of_any_length() -> None:
    """Routines for few tokens find room in what the longest steps need."""
    slots = Slots(SIZES)
    for most in (MOST, 8, 1):
        slots.place([Value("", "n", 256, at, at + 1) for at in range(20)], most)
    assert [one.shape for one in slots.buffers()] == [(["*", "n", 256],)] * 2
