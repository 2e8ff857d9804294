"""What moves between tiers cost a plan's step, and what its ops wait for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import TYPE_CHECKING

from memplan.schema.tier import Tier

if TYPE_CHECKING:
    from memplan.schema.plan import Plan, Transfer


class WaitFor(str, Enum):
    """What is waited for: bytes that an op needs `back`, `room` that others leave, the `end` of the last transfer."""

    BACK = "back"
    ROOM = "room"
    END = "end"


@dataclass(frozen=True, slots=True)
class MoveWait:
    """Nanoseconds for which a step waits for one link and kind of tensor."""

    link: str
    reason: WaitFor
    kind: str
    duration_ns: int


@dataclass(frozen=True, slots=True)
class MoveWaits:
    """
    How many transfers a plan has, their bytes, and by how much they lengthen its step.

    `waits` say for what, the longest first; kinds are those of the tensors that end the waits.
    """

    moves: int
    nbytes: int
    added_ns: int
    waits: tuple[MoveWait, ...]


def move_waits(plan: Plan) -> MoveWaits:
    """What the transfers of `plan` cost: every wait belongs to the transfer at whose end it ends."""
    kinds = {tensor.index: tensor.kind for tensor in plan.tensors}
    back: dict[int, list[Transfer]] = {}
    out: dict[int, Transfer] = {}
    for move in plan.transfers:
        if move.target is Tier.HBM and move.before_step is not None:
            back.setdefault(move.before_step, []).append(move)
        elif move.source is Tier.HBM:
            out[move.end_ns] = move
    found: list[MoveWait] = []
    for op in plan.ops:
        if not op.stalled_ns:
            continue
        last = max(back.get(op.index, ()), key=lambda move: move.end_ns, default=None)
        if last is not None and last.end_ns == op.start_ns:
            # Of one wait the part before the transfer could begin is for room.
            begun = max(last.start_ns, op.start_ns - op.stalled_ns)
            room = out.get(begun) if begun > op.start_ns - op.stalled_ns else None
            waited = op.start_ns - (begun if room is not None else op.start_ns - op.stalled_ns)
            found.append(MoveWait(last.link, WaitFor.BACK, kinds[last.tensor], waited))
            if room is not None:
                found.append(MoveWait(room.link, WaitFor.ROOM, kinds[room.tensor], op.stalled_ns - waited))
        elif (left := out.get(op.start_ns)) is not None:
            found.append(MoveWait(left.link, WaitFor.ROOM, kinds[left.tensor], op.stalled_ns))
    # Transfers may end after the last op: that lengthens the step without any op waiting.
    ops_end = max((op.start_ns + op.duration_ns for op in plan.ops), default=0)
    tail = max(plan.transfers, key=lambda move: move.end_ns, default=None)
    if tail is not None and tail.end_ns > ops_end:
        found.append(MoveWait(tail.link, WaitFor.END, kinds[tail.tensor], tail.end_ns - ops_end))
    found.sort(key=lambda wait: (wait.link, wait.reason.value, wait.kind))
    waits = [
        MoveWait(*key, sum(wait.duration_ns for wait in group))
        for key, group in groupby(found, key=lambda wait: (wait.link, wait.reason, wait.kind))
    ]
    return MoveWaits(
        len(plan.transfers),
        sum(move.size for move in plan.transfers),
        sum(op.stalled_ns for op in plan.ops) + max(plan.makespan_ns - ops_end, 0),
        tuple(sorted(waits, key=lambda wait: -wait.duration_ns)),
    )
