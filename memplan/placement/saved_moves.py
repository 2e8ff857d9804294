"""Moves of what layers of a program save, as hooks on saved tensors carry them out: nothing runs beside a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memplan.core.progress import Progress, silent
from memplan.core.units import format_bytes
from memplan.graph.saved import SavedTensors
from memplan.placement.hbm import lay_out
from memplan.placement.memory_layout import MemoryLayout
from memplan.placement.residency import live_bytes, stays
from memplan.placement.schedule import Move, StepSchedule


def copied_at_need(
    layout: MemoryLayout, durations_ns: Sequence[int], alignment: int, progress: Progress = silent
) -> MemoryLayout:
    """
    `layout` with each of its moves when a hook makes it, out once it was saved and back once it is needed.

    `durations_ns` are those of its ops, which wait for every copy. The addresses of `layout` stay where those of fewer
    bytes end above the room.
    """
    schedule = _in_turn(layout, durations_ns)
    hbm = lay_out(layout.storages, schedule.residencies, len(durations_ns), alignment=alignment, progress=progress)
    if layout.room.capacity is not None and layout.hbm.peak <= layout.room.capacity < hbm.peak:
        return layout
    return replace(layout, schedule=schedule, hbm=hbm)


def _in_turn(layout: MemoryLayout, durations_ns: Sequence[int]) -> StepSchedule:
    """Ops and copies one after the other, what a step needs back in the order in which it was planned."""
    steps = len(durations_ns)
    out: dict[int, list[Move]] = {}
    back: dict[int, list[Move]] = {}
    for move in layout.schedule.moves:
        at = move.gap.leaves_after if move.out else move.gap.returns_at
        if at is not None:
            (out if move.out else back).setdefault(at, []).append(move)
    clock, moves = 0, list[Move]()
    starts, stalled = np.zeros(steps, dtype=np.int64), np.zeros(steps, dtype=np.int64)

    def copied(due: Sequence[Move]) -> int:
        end = clock
        for move in due:
            moves.append(replace(move, start_ns=end, end_ns=end + move.end_ns - move.start_ns))
            end = moves[-1].end_ns
        return end

    for step, duration in enumerate(durations_ns):
        before = 0 if step == 0 else int(starts[step - 1]) + durations_ns[step - 1]
        clock = copied(back.get(step, ()))
        starts[step], stalled[step] = clock, clock - before
        clock = clock + duration
        clock = copied(out.get(step, ()))
    absent = {(move.gap.storage, move.gap.start, move.gap.end) for move in moves}
    return StepSchedule(starts, stalled, clock, tuple(moves), tuple(stays(layout.storages, sorted(absent))))


def unset_notes(layout: MemoryLayout, saved: SavedTensors | None) -> tuple[str, ...]:
    """
    What to say of a program's `layout` of which more moves than `Plan.apply` can set; nothing where it sets all.

    What layers have `saved` waits on the host by hooks, all else that moves stays.
    """
    storages = layout.storages
    moved = sorted({move.gap.storage for move in layout.schedule.moves})
    absent = []
    for index in moved:
        if saved is not None and storages[index].tensor in saved.tensors:
            forward = [step for step in storages[index].uses if step < saved.turn]
            back = [step for step in storages[index].uses if step >= saved.turn]
            if forward and back:
                absent.append((index, forward[-1] + 1, back[0]))
    if len(absent) == len(moved):
        return ()
    live = live_bytes(storages, stays(storages, absent), len(layout.schedule.start_ns))
    peak = format_bytes(int(live.max(initial=0)))
    if not absent:
        return (f"Plan.apply can set none of these moves: without them the step takes {peak} of HBM",)
    return (f"Plan.apply moves only what layers save for the way back: with that alone the step takes {peak} of HBM",)
