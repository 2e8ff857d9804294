"""The differences between plan and profile as rows of a table, the costliest first."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Floats
from memplan.core.sentence import Sentence, joined
from memplan.core.units import UNKNOWN, format_bytes, format_duration
from memplan.gui.model.document import Document
from memplan.gui.model.session.session import OpRef, SpansRef
from memplan.gui.model.tables.table import TableRow, TableShape
from memplan.schema import Tier

if TYPE_CHECKING:
    from memplan.compare import Comparison, Deviation
    from memplan.schema import PlannedOp

DEVIATION_SHAPE = TableShape(
    ("Difference", "Where", "Planned", "Measured", "Change", "Cost"), wide=1, numbers=2, sorted_by=5
)

_MARKED = 50
"""Differences that have a mark, the costliest: of more, none would be seen."""
_LISTED = 500
"""Planned ops that are listed without a run: nobody reads on to shorter ones."""


def deviation_rows(document: Document) -> list[TableRow]:
    """Every difference that the comparison lists; empty without one."""
    found = document.comparison
    if found is None:
        return []
    # All at once: one by one they take as long as everything else that another document's tab has to show.
    starts, ends = (
        document.axis.to_profile(np.array(times, dtype=np.int64)).tolist()
        for times in ([item.start_ns for item in found.deviations], [item.end_ns for item in found.deviations])
    )
    return [
        _row(item, span, _spans(found, item, span))
        for item, span in zip(found.deviations, zip(starts, ends, strict=True), strict=True)
    ]


def planned_ops(document: Document) -> list[PlannedOp]:
    """What a run of a plan that is open alone would be compared with: the ops that take longest, the longest first."""
    plan = document.plan
    if plan is None or document.profile is not None or not plan.timed:
        return []
    launched = (op for op in plan.ops if op.launches)
    return heapq.nlargest(_LISTED, launched, key=lambda op: op.duration_ns)


def planned_rows(document: Document) -> list[TableRow]:
    """A row for each of `planned_ops`, with nothing measured beside it."""
    listed = planned_ops(document)
    if not listed:
        return []
    from memplan.compare import DeviationWhat  # with all that a comparison holds: a window starts without

    word = DeviationWhat.DURATION
    return [
        TableRow(
            cells=(Sentence(word), op.name, format_duration(op.duration_ns), UNKNOWN, UNKNOWN, UNKNOWN),
            sort_keys=(word, op.name, float(op.duration_ns), 0.0, 0.0, float(op.duration_ns)),
            item=OpRef(op.index),
        )
        for op in listed
    ]


def _spans(found: Comparison, item: Deviation, span: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Where a difference is that belongs to no op: of waits together every gap between the kernels of planned ops."""
    from memplan.compare import DeviationWhat

    if item.what != DeviationWhat.WAITS or not len(found.matches):
        return (span,)
    order = np.argsort(found.matches.start_ns, kind="stable")
    start, end = found.matches.start_ns[order], np.maximum.accumulate(found.matches.end_ns[order])
    gaps = np.flatnonzero(start[1:] > end[:-1])
    return tuple(zip(end[gaps].tolist(), start[gaps + 1].tolist(), strict=True))


def deviation_moments(document: Document) -> Floats:
    """Where the costliest differences begin, in nanoseconds from the document's origin."""
    found = document.comparison
    if found is None:
        return np.zeros(0)
    starts = document.axis.to_profile(np.array([item.start_ns for item in found.deviations[:_MARKED]], dtype=np.int64))
    return np.sort((starts - document.origin_ns).astype(np.float64))


def over_capacity(document: Document) -> tuple[str, str] | None:
    """The measured peak and what the plan may use of HBM, as text, where the run needed more; else `None`."""
    found, use = document.comparison, document.plan.tier(Tier.HBM) if document.plan is not None else None
    if found is None or use is None or use.capacity is None or not found.summary.whole:
        return None
    peak = found.summary.measured_peak
    return (format_bytes(peak), format_bytes(use.capacity)) if peak is not None and peak > use.capacity else None


def verdict(document: Document) -> Sentence | None:
    """
    Whether the profile deviates from the plan, and why, in one sentence; `None` unless both are open.

    Where they can't be compared, why not; where not all differences are listed, how many there are.
    """
    found = document.comparison
    if found is None:
        if document.plan is None or document.profile is None:
            return None
        if document.rank is None:
            return Sentence("not compared; the profile holds no ranks")
        return Sentence("not compared; {}", (document.basis,))
    said = Sentence("within tolerance of the plan")
    if found.deviates:
        said = Sentence("deviates: {}", (joined(found.reasons, "{}; {}"),))
    over = over_capacity(document)
    if over is not None:
        said = Sentence("{}; the measured peak of {} exceeds the {} that the plan may use", (said, *over))
    listed, total = len(found.deviations), found.deviations_total
    if listed == total:
        return said
    return Sentence(
        "{}; the {} costliest of {} [difference is|differences are] listed", (said, f"{listed:,}", f"{total:,}")
    )


def _row(item: Deviation, span_ns: tuple[int, int], spans: tuple[tuple[int, int], ...]) -> TableRow:
    from memplan.compare import DeviationWhat
    from memplan.reports.comparison.deviation_table import deviation_row  # with all reports: a window starts without
    from memplan.reports.report import Quantity, cell_text

    _, _, _, planned, measured, change, cost = deviation_row(item)
    figures = (cell_text(planned), cell_text(measured), cell_text(change), cell_text(cost, Quantity.SHARE, 2))
    where = item.where
    if item.what == DeviationWhat.NOT_IN_PLAN and isinstance(where, str):
        from memplan.align.classes.lowering import in_words  # where something was compared it is there

        where = in_words(where)
    return TableRow(
        cells=(Sentence(item.what), where, *figures),
        sort_keys=(
            item.what, str(item.where), float(item.planned or 0), float(item.measured or 0), float(item.delta),
            item.cost,
        ),
        item=OpRef(item.op) if item.op is not None else SpansRef(item.where, spans),
        span_ns=span_ns,
    )  # fmt: skip
