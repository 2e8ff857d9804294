"""The amounts of two plans that can be set against each other: predicted times, tiers, who holds the peak, moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from memplan.core.progress import Progress, silent
from memplan.gui.model.amount_names import MAKESPAN, MISSING, STALLED, TIER_PARTS, move_name
from memplan.gui.model.compare.ab_differences import AbAmount, AbGroup, AbLedger, AmountUnit
from memplan.gui.model.memory.memory_map import tiers_with_addresses
from memplan.gui.model.session.session import Session
from memplan.schema import plan_peak

if TYPE_CHECKING:
    from memplan.schema import Plan

_Item = TypeVar("_Item")


def plan_ledgers(first: Session, second: Session, progress: Progress = silent) -> list[AbLedger]:
    """Everything that both plans tell amounts of; raises `CancelledError` when `progress` says so."""
    one, other = first.document.plan, second.document.plan
    if one is None or other is None:
        return []
    progress(0, 3, "planned times")
    ledgers: list[AbLedger] = []
    if one.timed and other.timed:  # the plans of other planners say nothing of time
        ledgers += [
            AbLedger(AbGroup.PLANNED_TIME, AmountUnit.TIME, _times(one), _times(other), adds_up=False),
            AbLedger(AbGroup.PLANNED_TYPE, AmountUnit.TIME, by_op_type(one), by_op_type(other)),
            AbLedger(AbGroup.MOVE, AmountUnit.TIME, _move_times(one), _move_times(other)),
        ]
    ledgers.append(AbLedger(AbGroup.MOVE, AmountUnit.BYTES, _move_bytes(one), _move_bytes(other)))
    progress(1, 3, "planned memory")
    ledgers.append(AbLedger(AbGroup.TIER, AmountUnit.BYTES, _tiers(one), _tiers(other), adds_up=False))
    progress(2, 3, "planned peaks")
    ours, theirs = peak_kinds(one), peak_kinds(other)
    ledgers += [
        AbLedger(AbGroup.KIND, AmountUnit.BYTES, ours.get(tier, {}), theirs.get(tier, {}))
        for tier in dict.fromkeys((*ours, *theirs))
    ]
    return ledgers


def _summed(
    items: Iterable[_Item], name: Callable[[_Item], str], amount: Callable[[_Item], int]
) -> dict[str, AbAmount]:
    totals: dict[str, AbAmount] = {}
    for item in items:
        key = name(item)
        before = totals.get(key, AbAmount(0, 0))
        totals[key] = AbAmount((before.count or 0) + 1, before.total + amount(item))
    return totals


def by_op_type(plan: Plan) -> dict[str, AbAmount]:
    """Count and predicted time of the ops by type."""
    return _summed(plan.ops, lambda op: op.type, lambda op: op.duration_ns)


def _times(plan: Plan) -> dict[str, AbAmount]:
    waiting = sum(op.stalled_ns for op in plan.ops)
    return {MAKESPAN: AbAmount(None, plan.makespan_ns), STALLED: AbAmount(None, waiting)}


def _move_times(plan: Plan) -> dict[str, AbAmount]:
    return _summed(plan.transfers, lambda move: move_name(move.link, "time"), lambda move: move.end_ns - move.start_ns)


def _move_bytes(plan: Plan) -> dict[str, AbAmount]:
    return _summed(plan.transfers, lambda move: move_name(move.link, "bytes"), lambda move: move.size)


def _tiers(plan: Plan) -> dict[str, AbAmount]:
    totals = {MISSING: AbAmount(None, plan.missing_bytes)}
    for use in plan.tiers:
        parts = (use.peak, use.lower_bound, use.persistent, use.capacity)
        for part, nbytes in zip(TIER_PARTS, parts, strict=True):
            if nbytes is not None:
                totals[f"{use.tier.value} {part}"] = AbAmount(None, nbytes)
    return totals


def peak_kinds(plan: Plan) -> dict[str, dict[str, AbAmount]]:
    """Who holds memory at the peak of every tier with addresses: tier to `tier kind` to count and bytes."""
    found: dict[str, dict[str, AbAmount]] = {}
    for tier in tiers_with_addresses(plan):
        peak = plan_peak(plan, tier)
        if peak is not None:
            found[tier.value] = {
                f"{tier.value} {part.kind.replace('_', ' ')}": AbAmount(part.count, part.nbytes) for part in peak.shares
            }
    return found
