"""An SMT solver, which shares nothing with memplan, agrees about small plans: addresses and whose copy is newest."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import memplan
from memplan.graph import Graph
from memplan.schema import Plan, Tier, Transfer
from memplan.schema.contents import content_violations
from tests.planner.graphs import graphs

z3 = pytest.importorskip("z3")

SMALL = graphs(largest=4000, most_ops=7)
BLOCK = 512


def tight(graph: Graph, share: float) -> Plan:
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    assume(use.peak)
    return memplan.plan(graph, chip="910B3", hbm=max(1, int(use.peak * share)))


@settings(max_examples=12)
@given(graph=SMALL, share=st.sampled_from([1.0, 0.75, 0.5]))
def test_no_addresses_are_lower_than_those_of_a_plan_that_is_proven(graph: Graph, share: float) -> None:
    plan = tight(graph, share)
    use = plan.tier(Tier.HBM)
    assert use is not None
    places = [p for p in plan.placements if p.tier is Tier.HBM and p.size and p.start < p.end]
    assume(len(places) <= 14)
    at = [z3.Int(f"at{i}") for i in range(len(places))]
    solver = z3.Solver()
    solver.set("timeout", 5000)
    for i, first in enumerate(places):
        solver.add(at[i] >= 0, (at[i] + first.size // BLOCK) * BLOCK <= use.peak)
        for j in range(i):
            second = places[j]
            if first.start < second.end and second.start < first.end:
                apart = (at[i] + first.size // BLOCK <= at[j], at[j] + second.size // BLOCK <= at[i])
                solver.add(z3.Or(*apart))
    # The plan's own addresses satisfy what the solver was told, and fewer blocks than a proven peak do not.
    solver.push()
    solver.add(*[at[i] == (place.offset or 0) // BLOCK for i, place in enumerate(places)])
    assert solver.check() == z3.sat
    solver.pop()
    if use.peak == use.lower_bound and use.peak:
        solver.add(*[(at[i] + place.size // BLOCK) * BLOCK < use.peak for i, place in enumerate(places)])
        assert solver.check() != z3.sat


@settings(max_examples=12)
@given(graph=SMALL, share=st.sampled_from([0.75, 0.6, 0.45]))
def test_the_check_knows_which_copies_are_needed(graph: Graph, share: float) -> None:
    plan = tight(graph, share)
    out = [row for row, move in enumerate(plan.transfers) if move.target is Tier.HOST]
    assume(0 < len(out) <= 6)
    made, sound = sound_copies(plan)
    for count in range(len(out) + 1):
        for dropped in combinations(out, count):
            chosen = [made[row] if row not in dropped else z3.Not(made[row]) for row in out]
            solver = z3.Solver()
            solver.add(*chosen, z3.Not(sound))
            kept = tuple(move for row, move in enumerate(plan.transfers) if row not in dropped)
            refused = content_violations(replace(plan, transfers=kept)) != []
            assert refused == (solver.check() == z3.sat)


def sound_copies(plan: Plan) -> tuple[dict[int, Any], Any]:
    """
    For every transfer out whether it is made, and when nothing stale is read in two runs.

    Versions count the writes of a tensor; a stay in HBM that ends loses them, one that begins there again fetches.
    """
    made = {row: z3.Bool(f"made{row}") for row, move in enumerate(plan.transfers) if move.target is Tier.HOST}
    rules: list[Any] = []
    for tensor in {move.tensor for move in plan.transfers}:
        rules += _rules(plan, tensor, made)
    return made, z3.And(*rules)


def _rules(plan: Plan, tensor: int, made: dict[int, Any]) -> list[Any]:
    moves = [(row, move) for row, move in enumerate(plan.transfers) if move.tensor == tensor]
    events: list[tuple[int, int, str, int]] = []
    for op in plan.ops:
        if tensor in (op.reads or ()):
            events.append((op.index, 1, "read", 0))
        if tensor in (op.writes or ()):
            events.append((op.index, 2, "write", 0))
    for row, move in moves:
        step, rank, what = _moment(move)
        events.append((step, rank, what, row))
    spans = sorted((p.start, p.end) for p in plan.placements if p.tensor == tensor and p.tier is Tier.HBM)
    first_in = min((step for step, _, what, _ in events if what == "in"), default=len(plan.ops))
    first_use = min(step for step, _, what, _ in events if what in ("read", "write"))
    begins_away = first_in <= first_use
    for _, end in spans:
        if end < len(plan.ops):
            events.append((end - 1, 4, "drop", 0))
    persistent = next(t.persistent for t in plan.tensors if t.index == tensor)
    carried = persistent or min(e[:3] for e in events if e[2] in ("read", "write"))[2] == "read"
    newest = 0
    in_hbm: Any = z3.IntVal(0 if carried and not begins_away else -1)
    on_host: Any = z3.IntVal(0 if carried else -1)
    rules = []
    for _ in range(2):
        for _, _, what, row in sorted(events):
            if what == "read":
                rules.append(in_hbm == newest)
            elif what == "write":
                newest += 1
                in_hbm = z3.IntVal(newest)
            elif what == "out":
                on_host = z3.If(made[row], in_hbm, on_host)
            elif what == "in":
                rules.append(on_host >= 0)
                in_hbm = on_host
            else:
                in_hbm = z3.IntVal(-1)
        if carried:
            rules.append((on_host if begins_away else in_hbm) == newest)
        ends_there = next(t.end for t in plan.tensors if t.index == tensor) == len(plan.ops)
        if not carried and ends_there:
            rules.append(z3.Or(in_hbm == newest, on_host == newest))
    return rules


def _moment(move: Transfer) -> tuple[int, int, str]:
    if move.target is Tier.HOST:
        assert move.after_step is not None
        return move.after_step, 3, "out"
    assert move.before_step is not None
    return move.before_step, 0, "in"
