"""The moves of a plan as arcs between tiers, and what its ops wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_duration
from memplan.gui.model.document import Document
from memplan.gui.model.sheet import Sheet
from memplan.schema import Tier
from memplan.schema.move_waits import WaitFor, move_waits

if TYPE_CHECKING:
    from memplan.schema.move_waits import MoveWait

_REASONS: Mapping[WaitFor, str] = MappingProxyType(
    {
        WaitFor.BACK: "{} to come back over {}",
        WaitFor.ROOM: "room that {} leave over {}",
        WaitFor.END: "{} to be out over {} at the end",
    }
)
_ORDER = tuple(Tier)


@dataclass(frozen=True, slots=True)
class MoveArcs:
    """
    One arc a transfer, ordered by start on the profile's clock: from `source[i]` to `target[i]`, places in `tiers`.

    `transfer[i]` is its place in the plan, `kind[i]` that of its tensor in `kinds`. Ops wait over `wait_start_ns` to
    `wait_end_ns`.
    """

    tiers: tuple[Tier, ...]
    start_ns: Int64s
    end_ns: Int64s
    source: Int64s
    target: Int64s
    size: Int64s
    kind: Int64s
    kinds: tuple[str, ...]
    transfer: Int64s
    wait_start_ns: Int64s
    wait_end_ns: Int64s

    def between(self, low_ns: int, high_ns: int) -> Int64s:
        """The arcs that touch `[low_ns, high_ns)`."""
        return np.flatnonzero((self.start_ns < high_ns) & (self.end_ns > low_ns)).astype(np.int64)


def move_arcs(document: Document) -> MoveArcs | None:
    """The arcs of the plan that is open; `None` without one, or where nothing moves."""
    plan = document.plan
    if plan is None or not plan.transfers:
        return None
    tiers = tuple(sorted({t for move in plan.transfers for t in (move.source, move.target)}, key=_ORDER.index))
    kind_of = {tensor.index: tensor.kind for tensor in plan.tensors}
    kinds = tuple(dict.fromkeys(kind_of[move.tensor] for move in plan.transfers))
    order = sorted(range(len(plan.transfers)), key=lambda index: plan.transfers[index].start_ns)
    moves = [plan.transfers[index] for index in order]
    waiting = [op for op in plan.ops if op.stalled_ns]
    axis = document.axis

    def column(values: list[int]) -> Int64s:
        return np.array(values, dtype=np.int64)

    return MoveArcs(
        tiers,
        axis.to_profile(column([move.start_ns for move in moves])),
        axis.to_profile(column([move.end_ns for move in moves])),
        column([tiers.index(move.source) for move in moves]),
        column([tiers.index(move.target) for move in moves]),
        column([move.size for move in moves]),
        column([kinds.index(kind_of[move.tensor]) for move in moves]),
        kinds,
        column(order),
        axis.to_profile(column([op.start_ns - op.stalled_ns for op in waiting])),
        axis.to_profile(column([op.start_ns for op in waiting])),
    )


def arcs_headline(document: Document) -> Sentence:
    """How much moves, by how much that lengthens the step, and what most of it waits for."""
    if document.plan is None:
        return Sentence("No plan is open.")
    found = move_waits(document.plan)
    if not found.moves:
        return Sentence("The plan moves nothing between tiers.")
    figures = f"{found.moves:,}", format_bytes(found.nbytes), format_duration(found.added_ns)
    if not found.waits:
        return Sentence("{} [move|moves], {}, step +{}", figures)
    longest = found.waits[0]
    waited = format_duration(longest.duration_ns)
    return Sentence("{} [move|moves], {}, step +{}: {} of it waits for {}", (*figures, waited, wait_words(longest)))


def wait_words(wait: MoveWait) -> Sentence:
    """What one kind of wait is for."""
    kind = Sentence(wait.kind.replace("_", " "))
    return Sentence(_REASONS[wait.reason], (kind, wait.link))


def arcs_sheet(document: Document) -> Sheet:
    """What ops wait for, and for how long."""
    waits = move_waits(document.plan).waits if document.plan is not None else ()
    header = ("link", "waits_for", "kind", "duration_ns")
    return Sheet(header, [(w.link, w.reason.value, w.kind, w.duration_ns) for w in waits])
