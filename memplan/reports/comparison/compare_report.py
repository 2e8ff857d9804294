"""Where a run left its plan: totals, the differences that cost most, what only one side has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from memplan.compare import Comparison, StepCauses
from memplan.core.sentence import Sentence, Text, joined
from memplan.core.units import format_duration, format_share
from memplan.reports.comparison.compare_words import comparison_words
from memplan.reports.comparison.deviation_table import deviation_table
from memplan.reports.comparison.holders_sections import (
    holders_document,
    holders_sections,
    process_document,
    process_section,
)
from memplan.reports.comparison.scope_sections import scope_document, scope_section
from memplan.reports.report import (
    Column,
    Part,
    Quantified,
    Quantity,
    Remark,
    Report,
    ReportCell,
    ReportSection,
    ReportTable,
    section,
)

_MOST_UNMATCHED, _MOST_CAUSES = 5, 10

_TOTALS = (
    Column("", key="figure"),
    Column("unit", shown=False),
    Column("planned", Quantity.NUMBER),
    Column("measured", Quantity.NUMBER),
    Column("change", Quantity.CHANGE),
)
_CAUSES = (
    Column("what"),
    Column("planned", Quantity.DURATION),
    Column("measured", Quantity.DURATION),
    Column("difference", Quantity.NUMBER),
    Column("most in"),
)
_KERNELS = (Column("kernel"), Column("type"), Column("count", Quantity.COUNT), Column("time", Quantity.DURATION))
_UNTOLD = (Column("likeliest of"), *_KERNELS[1:])


def compare_report(result: Comparison, names: Mapping[int, str]) -> Report:
    """`result` as a report; `names` are those of the planned ops by index."""
    whose: Text = str(result.rank)
    if result.step is not None:
        whose = Sentence("{}, step {}", (whose, str(result.step)))
    keeps = Sentence("keeps to the plan")
    verdict = Sentence("deviates: {}", (joined(result.reasons, "{}; {}"),)) if result.deviates else keeps
    return Report(
        title=Sentence(
            "Plan of {} on {} against rank {} of the SIMULATED profile"
            if result.simulated
            else "Plan of {} on {} against rank {} of the profile",
            (result.graph, result.chip, whose),
        ),
        headline=verdict,
        sections=tuple(_sections(result, names)),
        notes=tuple(Remark(note) for note in result.notes),
        answer=not result.deviates,
        document=partial(_document, result, names),
    )


def _sections(result: Comparison, names: Mapping[int, str]) -> Iterator[ReportSection]:
    yield section("", comparison_words(result, names))
    yield _totals(result, names)
    if result.causes is not None and result.causes.causes:
        yield _causes(result.causes)
    yield from _deviations(result)
    yield from _unmatched(result)
    if result.times is not None:
        yield scope_section(result.times)
    if result.holders is not None:
        yield from holders_sections(result.holders, names)
    if result.process is not None:
        yield process_section(result.process)


def _causes(causes: StepCauses) -> ReportSection:
    rows = tuple(
        (
            cause.family or cause.kind.value,
            cause.planned,
            cause.measured,
            Quantified(cause.delta, Quantity.DURATION, signed=True),
            ", ".join(name for name, _ in cause.where),
        )
        for cause in causes.causes[:_MOST_CAUSES]
    )
    return section("Where the step's time goes", ReportTable(_CAUSES, rows, total=len(causes.causes)))


def _totals(result: Comparison, names: Mapping[int, str]) -> ReportSection:
    summary = result.summary

    def row(
        name: str, quantity: Quantity, planned: int | None, measured: int | None, change: float | None = None
    ) -> tuple[ReportCell, ...]:
        return name, quantity.value, Quantified(planned, quantity), Quantified(measured, quantity), change

    ops_alone = []
    if summary.planned_step_ns != summary.planned_makespan_ns:
        # A run has waits for others between its kernels, so nothing measured stands beside them.
        ops_alone.append(row("planned ops alone", Quantity.DURATION, summary.planned_makespan_ns, None))
    rows = (
        row("peak memory", Quantity.BYTES, summary.planned_peak, summary.measured_peak, summary.peak_change),
        row(
            "makespan",
            Quantity.DURATION,
            summary.planned_step_ns,
            summary.measured_makespan_ns,
            summary.makespan_change,
        ),
        *ops_alone,
        row("busy", Quantity.DURATION, summary.planned_busy_ns, summary.measured_busy_ns),
        row("ops and kernels", Quantity.COUNT, summary.planned_ops, summary.measured_kernels),
    )
    said: list[Part] = [ReportTable(_TOTALS, rows)]
    if summary.planned_peak_op is not None:
        said.append(f"planned peak at step {summary.planned_peak_op}, {names[summary.planned_peak_op]}")
    if summary.measured_peak_op is not None:
        said.append(f"measured peak at step {summary.measured_peak_op}, {names[summary.measured_peak_op]}")
    said.append(
        f"{summary.matched_ops} of {summary.planned_ops} planned ops found, {summary.matched_by_name} of them by name; "
        f"they are {format_share(summary.compute_coverage)} of the measured compute time, "
        f"{format_share(summary.measured_coverage)} with communication"
    )
    if result.memory is not None:
        said.append(f"memory is {result.memory.component} {result.memory.quantity}: {result.memory.reason}")
    return section("Totals", *said)


def _deviations(result: Comparison) -> Iterator[ReportSection]:
    if result.deviations:
        yield section("Largest differences", deviation_table(result.deviations, result.deviations_total))


def _unmatched(result: Comparison) -> Iterator[ReportSection]:
    if result.unmatched_ops:
        yield section("", f"{len(result.unmatched_ops):,} planned ops are not in the profile; --json lists them")
    if result.unmatched_kernels:
        listed = result.unmatched_kernels[:_MOST_UNMATCHED]
        rows = tuple((item.name, item.type, item.count, item.total_ns) for item in listed)
        total = format_duration(sum(item.total_ns for item in result.unmatched_kernels))
        table = ReportTable(_KERNELS, rows, total=len(result.unmatched_kernels))
        yield section(f"Kernels that are not in the plan, {total} in all", table)
    if result.untold_kernels:
        listed = result.untold_kernels[:_MOST_UNMATCHED]
        rows = tuple((item.name, item.type, item.count, item.total_ns) for item in listed)
        total = format_duration(sum(item.total_ns for item in result.untold_kernels))
        table = ReportTable(_UNTOLD, rows, total=len(result.untold_kernels))
        title = [f"Kernels that are not told apart, {total} in all"]
        if result.untold_ops:
            title.append(f"{len(result.untold_ops):,} planned ops may have run in them")
        yield section("; ".join(title), table)


def _document(result: Comparison, names: Mapping[int, str]) -> dict[str, Any]:
    """The figures and lists of a comparison as JSON values; bytes and nanoseconds, curves left out."""
    summary = result.summary
    return {
        "graph": result.graph,
        "chip": result.chip,
        "rank": result.rank,
        "step": result.step,
        "simulated": result.simulated,
        "deviates": result.deviates,
        "reasons": [str(reason) for reason in result.reasons],
        "tolerance": {
            "memory": result.tolerance.memory,
            "time": result.tolerance.time,
            "coverage": result.tolerance.coverage,
        },
        "summary": {
            "planned_peak_bytes": summary.planned_peak,
            "planned_peak_op": summary.planned_peak_op,
            "measured_peak_bytes": summary.measured_peak,
            "measured_peak_op": summary.measured_peak_op,
            "planned_makespan_ns": summary.planned_makespan_ns,
            "planned_step_ns": summary.planned_step_ns,
            "measured_makespan_ns": summary.measured_makespan_ns,
            "planned_busy_ns": summary.planned_busy_ns,
            "measured_busy_ns": summary.measured_busy_ns,
            "planned_ops": summary.planned_ops,
            "matched_ops": summary.matched_ops,
            "untold_ops": summary.untold_ops,
            "untold_share": summary.untold_share,
            "matched_by_name": summary.matched_by_name,
            "measured_kernels": summary.measured_kernels,
            "measured_coverage": summary.measured_coverage,
            "compute_coverage": summary.compute_coverage,
        },
        "memory": None
        if result.memory is None
        else {
            "component": result.memory.component,
            "quantity": result.memory.quantity,
            "reason": result.memory.reason,
        },
        "deviations_total": result.deviations_total,
        "deviations": [
            {
                "kind": item.kind.value,
                "what": item.what.value,
                "where": str(item.where),
                "op": item.op,
                "start_ns": item.start_ns,
                "end_ns": item.end_ns,
                "planned": item.planned,
                "measured": item.measured,
                "delta": item.delta,
                "cost": item.cost,
            }
            for item in result.deviations
        ],
        "unmatched_ops": list(result.unmatched_ops),
        "unmatched_kernels": [
            {"name": item.name, "type": item.type, "count": item.count, "total_ns": item.total_ns}
            for item in result.unmatched_kernels
        ],
        "untold_ops": list(result.untold_ops),
        "untold_kernels": [
            {"likeliest": item.name, "type": item.type, "count": item.count, "total_ns": item.total_ns}
            for item in result.untold_kernels
        ],
        "notes": list(result.notes),
        "words": comparison_words(result, names),
        "causes": _causes_document(result.causes),
        "alignment": _alignment_document(result),
        "times": scope_document(result.times),
        "holders": holders_document(result.holders),
        "process": process_document(result.process),
    }


def _causes_document(causes: StepCauses | None) -> dict[str, Any] | None:
    if causes is None:
        return None
    return {
        "planned_ns": causes.planned,
        "measured_ns": causes.measured,
        "planned_computing_ns": causes.planned_computing,
        "measured_computing_ns": causes.measured_computing,
        "causes": [
            {
                "kind": cause.kind.value,
                "family": cause.family or None,
                "planned_ns": cause.planned,
                "measured_ns": cause.measured,
                "delta_ns": cause.delta,
                "where": [{"part": name, "delta_ns": delta} for name, delta in cause.where],
            }
            for cause in causes.causes
        ],
    }


def _alignment_document(result: Comparison) -> dict[str, Any] | None:
    """Every kernel of the step with its place in the model, `None` where names matched."""
    aligned, places = result.aligned, result.places
    if aligned is None or places is None:
        return None
    scopes, unsure = aligned.alignment.scopes, places.unsure_ops()
    return {
        "kernels": [
            {
                "row": row,
                "op": op if op >= 0 else None,
                "scope": scopes.path(row),
                "what": scopes.named(row) or None,
                "probability": None if (sure := places.probability(row)) is None else round(sure, 4),
                "likeliest_op": unsure.get(row),
            }
            for row, op in zip(aligned.rows.tolist(), aligned.owner.tolist(), strict=True)
        ]
    }
