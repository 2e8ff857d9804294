"""The plan in a sentence, the same wherever it is shown."""

from __future__ import annotations

from collections.abc import Collection

from memplan.core.units import format_bytes, format_duration, format_share
from memplan.schema.plan import Plan
from memplan.schema.tier import Tier


def moved_to(plan: Plan) -> str:
    """Where tensors are that the plan moves out of HBM, in words."""
    return tiers_in_words({tier for move in plan.transfers for tier in (move.source, move.target)})


def tiers_in_words(tiers: Collection[Tier]) -> str:
    """Those of `tiers` that are outside HBM; the host, if none is."""
    if Tier.REMOTE not in tiers:
        return "the host"
    return "the host and pooled memory" if Tier.HOST in tiers else "pooled memory"


def plan_headline(plan: Plan) -> str:
    """Peak with its bound and gap, predicted time, and whether it fits."""
    use = plan.tier(Tier.HBM)
    if use is None:
        return "the plan says nothing of HBM"
    if use.capacity is None:
        answer = "the HBM size of the chip is not known"
    elif plan.fits:
        answer = f"fits in {format_bytes(use.capacity)}"
    else:
        answer = f"does not fit in {format_bytes(use.capacity)}: {format_bytes(plan.missing_bytes)} missing"
    moved = sum(transfer.size for transfer in plan.transfers)
    host = f", {format_bytes(moved)} moved to {moved_to(plan)} and back" if moved else ""
    again = sum(op.duration_ns for op in plan.ops if op.repeats is not None)
    if again:
        host += f", {format_duration(again)} of ops run a second time"
    if host and plan.fits and plan.makespan_bound_ns:
        least = format_duration(plan.makespan_bound_ns)
        over = format_share(plan.makespan_ns / plan.makespan_bound_ns - 1, 1)
        what = "moves and ops" if again else "moves"
        host += f" (no choice of {what} takes less than {least}: gap {over})"
    length = format_duration(plan.makespan_ns) if plan.timed else "it has no times"
    if plan.step_parts and plan.step_ns != plan.makespan_ns:
        length += f", the whole step {format_duration(plan.step_ns)}"
    return (
        f"{answer}; HBM peak {format_bytes(use.peak)}, lower bound {format_bytes(use.lower_bound)}, "
        f"gap {format_share(use.gap, 2)}; {length}{host}"
    )
