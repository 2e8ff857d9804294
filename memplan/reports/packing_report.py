"""Addresses of buffers: how low they came, how low they could, and why they don't fit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from memplan.core.units import format_bytes
from memplan.placement.offsets import Assignment, Problem
from memplan.reports.report import Column, Part, Quantity, Report, ReportTable, section

_LISTED = 12

_POOLS = (
    Column("pool"),
    Column("capacity", Quantity.COUNT, key="capacity_bytes"),
    Column("peak", Quantity.COUNT, key="peak_bytes"),
    Column("bound", Quantity.COUNT, key="bound_bytes"),
    Column("", key="verdict"),
    Column("bound from"),
)


def packing_report(problem: Problem, answer: Assignment, seconds: float) -> Report:
    """`answer` to `problem`, found in `seconds`."""
    rows = tuple(
        (
            pool.name,
            pool.capacity,
            result.peak,
            result.lower_bound,
            "optimal" if result.proven_optimal else f"gap {100 * result.gap:.2f} %",
            result.lower_bound_method,
        )
        for pool, result in zip(problem.pools, answer.pools, strict=True)
    )
    return Report(
        title=f"{len(problem.buffers)} buffers, {answer.method}, {seconds:.2f} s",
        sections=(section("Bytes", ReportTable(_POOLS, rows), *_said(problem, answer)),),
        answer=answer.within_capacity,
        document=partial(_document, problem, answer),
    )


def _said(problem: Problem, answer: Assignment) -> Iterator[Part]:
    if problem.reuse_penalties:
        yield f"reuse cost {answer.reuse_cost}, no placement below {answer.reuse_cost_bound}"
    why = answer.infeasibility
    if why is None:
        return
    proof = "can't be met" if why.proven else "was not met (no proof that it can't be)"
    yield f"The capacity of {format_bytes(why.capacity)} {proof}; it is exceeded by {answer.shortfall:,} bytes."
    when = f"at step {why.step}" if why.step is not None else "together"
    least = "none of which can be left out, " if why.irreducible else ""
    named = ", ".join(why.names[:_LISTED]) + (
        f" and {len(why.names) - _LISTED} more" if len(why.names) > _LISTED else ""
    )
    yield f"{len(why.buffers)} buffers, {least}need {why.needed:,} bytes {when}: {named}"
    for remedy in why.remedies:
        yield f"- {remedy}"


def _document(problem: Problem, answer: Assignment) -> dict[str, Any]:
    why = answer.infeasibility
    return {
        "within_capacity": answer.within_capacity,
        "shortfall": answer.shortfall,
        "reuse_cost": answer.reuse_cost,
        "reuse_cost_bound": answer.reuse_cost_bound,
        "method": answer.method,
        "pools": [
            {
                "id": result.pool, "name": pool.name, "capacity": pool.capacity, "peak": result.peak,
                "lower_bound": result.lower_bound, "lower_bound_method": result.lower_bound_method,
                "proven_optimal": result.proven_optimal,
            }
            for pool, result in zip(problem.pools, answer.pools, strict=True)
        ],
        "infeasibility": None if why is None else {
            "pool": why.pool, "capacity": why.capacity, "buffers": list(why.buffers), "names": list(why.names),
            "step": why.step, "needed": why.needed, "irreducible": why.irreducible, "proven": why.proven,
            "remedies": list(why.remedies),
        },
        "buffers": [
            {"id": b.id, "name": b.name, "pool": answer.placed[b.id][0], "offset": answer.placed[b.id][1]}
            for b in problem.buffers
        ],
    }  # fmt: skip
