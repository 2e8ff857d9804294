"""Moves of what a program's layers save, one copy after the other and no op beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.core.units import MIB
from memplan.graph import Graph
from memplan.graph.saved import SavedTensors
from memplan.hardware import chip, host_tier
from memplan.placement.memory_layout import HbmRoom, MemoryLayout, copied_at_need, lay_out_graph, unset_notes
from memplan.placement.rounding import rounding
from memplan.schema.storages import planned_tensors
from tests.planner.graphs import Builder

LAYERS, OP_NS = 6, 10_000_000


def step() -> tuple[Graph, SavedTensors]:
    """Each layer of a forward pass saves what it makes, which its own op on the way back reads."""
    build = Builder()
    saved = [build.tensor(MIB)]
    build.op([], [saved[0]])
    for _ in range(LAYERS):
        made = build.tensor(MIB)
        build.op([saved[-1]], [made])
        saved.append(made)
    gradient = saved[-1]
    turn = LAYERS + 1
    for kept in reversed(saved[:-1]):
        made = build.tensor(MIB)
        build.op([kept, gradient], [made])
        gradient = made
    return build.graph([gradient]), SavedTensors(turn, frozenset(saved[:-1]))


def laid_out(capacity: int | None, saved: SavedTensors | None) -> tuple[MemoryLayout, list[int]]:
    graph, _ = step()
    durations = [OP_NS] * len(graph.ops)
    target = chip("910B3")
    layout = lay_out_graph(
        graph, planned_tensors(graph), durations, HbmRoom(capacity), rounding("unknown"), host=host_tier(target),
        saved=saved,
    )  # fmt: skip
    return layout, durations


def test_ops_wait_for_copies_and_nothing_is_back_before_it_is_needed() -> None:
    """Went wrong: what a hook fetches at need was planned as back early, with a peak that no run has."""
    _, saved = step()
    free, durations = laid_out(None, saved)
    early, _ = laid_out(free.hbm.peak - 2 * MIB, saved)
    found = copied_at_need(early, durations, 64)
    assert {(move.gap, move.out) for move in found.schedule.moves} == {
        (move.gap, move.out) for move in early.schedule.moves
    }
    copies = sum(move.end_ns - move.start_ns for move in found.schedule.moves)
    assert copies > 0
    assert found.schedule.makespan_ns == sum(durations) + copies
    for move in found.schedule.moves:
        start = found.schedule.start_ns
        if move.out:
            assert move.gap.leaves_after is not None
            assert move.start_ns >= start[move.gap.leaves_after] + OP_NS
            assert move.end_ns <= start[move.gap.leaves_after + 1]
        else:
            assert move.gap.returns_at is not None
            assert start[move.gap.returns_at - 1] + OP_NS <= move.start_ns < move.end_ns <= start[move.gap.returns_at]
    away = {(move.gap.storage, move.gap.start, move.gap.end) for move in found.schedule.moves}
    for storage, begin, end in away:
        here = [item for item in found.schedule.residencies if item.storage == storage]
        assert all(item.end <= begin or item.start >= end for item in here)
    assert found.hbm.peak <= early.hbm.peak


@pytest.mark.parametrize("kept", ["all", "some", "none"])
def test_a_plan_says_what_a_step_takes_with_what_can_be_set_of_its_moves(kept: str) -> None:
    """Went wrong: a plan gave a peak that needs moves which no program can have set, and did not say so."""
    _, saved = step()
    free, _ = laid_out(None, None)
    moved, _ = laid_out(free.hbm.peak - 3 * MIB, None)
    tensors = [moved.storages[move.gap.storage].tensor for move in moved.schedule.moves if move.out]
    assert len(tensors) > 1
    settable = {"all": frozenset(tensors), "some": frozenset(tensors[:1]), "none": frozenset[int]()}[kept]
    notes = unset_notes(moved, replace(saved, tensors=settable))
    begins = {"all": [], "some": ["Plan.apply moves only"], "none": ["Plan.apply can set none"]}[kept]
    assert len(notes) == len(begins)
    assert all(note.startswith(begin) for note, begin in zip(notes, begins, strict=True))
    if kept == "none":
        assert notes == unset_notes(moved, None)
        assert all(f"takes {free.hbm.peak // MIB}.00 MiB of HBM" in note for note in notes)
