"""An SMT solver, which shares nothing with memplan, agrees about buffers on chip: their addresses and their check."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memplan.cost.buffers import BufferNeed
from memplan.hardware import chip
from memplan.placement.onchip import plan_onchip
from memplan.schema import OnChipBuffer, OnChipPlan
from memplan.schema.check import violations
from tests.small_plans import layered_plan

z3 = pytest.importorskip("z3")

CHIP = chip("910B1")
PIPES = ("MTE2", "MTE1", "vector", "MTE3")
NEEDS = st.lists(
    st.builds(
        lambda size, copies, first, length, pipe, stays: (size * 1024, copies, first, first + length, pipe, stays),
        st.integers(1, 90),
        st.integers(1, 2),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(0, 2),
        st.booleans(),
    ),
    min_size=2,
    max_size=5,
)


def laid_out(rows: list[tuple[int, int, int, int, int, bool]]) -> OnChipPlan:
    needs = [
        BufferNeed(f"b{place}", "UB", size, copies, first, last, PIPES[pipe], PIPES[pipe + 1], stays)
        for place, (size, copies, first, last, pipe, stays) in enumerate(rows)
    ]
    return plan_onchip(needs, CHIP)


def rules(buffers: tuple[OnChipBuffer, ...], at: list[Any], capacity: int, alignment: int) -> list[Any]:
    """What addresses `at` of `buffers` have to satisfy, slot by slot, in units of the alignment."""
    found = []
    for place, buffer in enumerate(buffers):
        found += [at[place] >= 0, at[place] * alignment + buffer.size <= capacity]
    for one, other in combinations(range(len(buffers)), 2):
        slots = [{s for a, b in buffers[i].intervals for s in range(a, b)} for i in (one, other)]
        if slots[0] & slots[1] or buffers[one].of == buffers[other].of:
            below = at[one] * alignment + buffers[one].size <= at[other] * alignment
            above = at[other] * alignment + buffers[other].size <= at[one] * alignment
            found.append(z3.Or(below, above))
    return found


@settings(max_examples=40)
@given(rows=NEEDS)
def test_buffers_fit_exactly_where_the_solver_finds_addresses(rows: list[tuple[int, int, int, int, int, bool]]) -> None:
    layout = laid_out(rows)
    assume(len(layout.buffers) <= 9)
    (use,) = layout.uses
    assert use.capacity is not None
    at = [z3.Int(f"at{place}") for place in range(len(layout.buffers))]
    solver = z3.Solver()
    solver.set("timeout", 4000)
    solver.add(*rules(layout.buffers, at, use.capacity, use.alignment))
    answer = solver.check()
    if layout.fits:
        assert answer != z3.unsat
        solver.add(*[at[i] * use.alignment == buffer.offset for i, buffer in enumerate(layout.buffers)])
        assert solver.check() == z3.sat
    else:
        assert answer != z3.sat


@settings(max_examples=40)
@given(rows=NEEDS, which=st.integers(0, 8), offset=st.integers(0, 6000))
def test_the_check_of_a_plan_refuses_what_the_solver_refuses(
    rows: list[tuple[int, int, int, int, int, bool]], which: int, offset: int
) -> None:
    layout = laid_out(rows)
    assume(layout.fits)
    place = which % len(layout.buffers)
    moved = replace(layout.buffers[place], offset=offset * 32)
    buffers = (*layout.buffers[:place], moved, *layout.buffers[place + 1 :])
    (use,) = layout.uses
    assert use.capacity is not None
    at = [z3.Int(f"at{i}") for i in range(len(buffers))]
    solver = z3.Solver()
    solver.add(*rules(buffers, at, use.capacity, use.alignment))
    solver.add(*[at[i] * use.alignment == buffer.offset for i, buffer in enumerate(buffers)])
    # What the file says of the peak goes along, so that only the addresses can be wrong.
    top = max(buffer.offset + buffer.size for buffer in buffers)
    told = replace(layout, buffers=buffers, uses=(replace(use, peak=top, lower_bound=0),))
    plan = replace(layered_plan(2), onchip=(told,))
    assert (violations(plan) == ()) == (solver.check() == z3.sat)
