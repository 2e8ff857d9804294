"""`memplan compare PLAN DIR`: where a run left its plan, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json, print_table, progress_bar
from memplan.cli.profile import ProfileArgument, RankOption
from memplan.cli.show import PlanArgument
from memplan.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from memplan.compare import Comparison, Deviation

_MOST_UNMATCHED = 5


def command(
    plan: PlanArgument,
    directory: ProfileArgument,
    rank: RankOption = None,
    step: Annotated[
        int | None, typer.Option(help="The step to compare with; the median one by default.", show_default=False)
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(help="The measured memory curve, such as PTA or APP; the framework's allocator by default.",
                     show_default=False),
    ] = None,
    memory_tolerance: Annotated[float, typer.Option(help="Peaks may differ by this share.", min=0)] = 0.03,
    time_tolerance: Annotated[float, typer.Option(help="Makespans may differ by this share.", min=0)] = 0.10,
    coverage: Annotated[float, typer.Option(help="This share of the ops has to be found.", min=0, max=1)] = 0.90,
    limit: Annotated[int, typer.Option(help="How many differences to list.", min=1)] = 10,
    curves: Annotated[
        Path | None,
        typer.Option(help="Write planned and measured memory over time here, as CSV.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> int:  # fmt: skip
    """
    Put a plan and a profile on one axis and list the differences that cost most.

    Exits with 0 when the profile keeps to the plan, 1 when it deviates, 2 when either can't be read.
    """
    import memplan
    from memplan.compare import Tolerance, compare, write_curves
    from memplan.schema import load_plan

    loaded = load_plan(plan)
    tolerance = Tolerance(memory=memory_tolerance, time=time_tolerance, coverage=coverage)
    with progress_bar() as progress:
        profile = memplan.open_profile(directory)
        result = compare(
            loaded,
            profile,
            rank=rank,
            step=step,
            component=component,
            tolerance=tolerance,
            limit=limit,
            progress=progress,
        )
    if curves is not None:
        write_curves(result, curves)
    if as_json:
        print_json(comparison_to_json(result))
    else:
        _print(result, {op.index: op.name for op in loaded.ops})
    return NO if result.deviates else YES


def comparison_to_json(result: Comparison) -> dict[str, Any]:
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
            "measured_makespan_ns": summary.measured_makespan_ns,
            "planned_busy_ns": summary.planned_busy_ns,
            "measured_busy_ns": summary.measured_busy_ns,
            "planned_ops": summary.planned_ops,
            "matched_ops": summary.matched_ops,
            "matched_by_name": summary.matched_by_name,
            "measured_kernels": summary.measured_kernels,
            "measured_coverage": summary.measured_coverage,
        },
        "memory": None
        if result.memory is None
        else {
            "component": result.memory.component,
            "quantity": result.memory.quantity,
            "reason": result.memory.reason,
        },
        "deviations": [
            {
                "kind": item.kind.value,
                "what": item.what,
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
        "notes": list(result.notes),
    }


def _print(result: Comparison, names: Mapping[int, str]) -> None:
    summary = result.summary
    kind = "SIMULATED profile" if result.simulated else "profile"
    step = "" if result.step is None else f", step {result.step}"
    print(f"Plan of {result.graph} on {result.chip} against rank {result.rank}{step} of the {kind}\n")
    measured_peak = None if summary.measured_peak is None else format_bytes(summary.measured_peak)
    print_table(
        "Totals",
        ["", "planned", "measured", "change"],
        [
            ("peak memory", format_bytes(summary.planned_peak), measured_peak, _change(summary.peak_change)),
            (
                "makespan",
                format_duration(summary.planned_makespan_ns),
                format_duration(summary.measured_makespan_ns),
                _change(summary.makespan_change),
            ),
            ("busy", format_duration(summary.planned_busy_ns), format_duration(summary.measured_busy_ns), None),
            ("ops and kernels", summary.planned_ops, summary.measured_kernels, None),
        ],
        right=(1, 2, 3),
    )
    if summary.planned_peak_op is not None:
        print(f"planned peak at step {summary.planned_peak_op}, {names[summary.planned_peak_op]}")
    if summary.measured_peak_op is not None:
        print(f"measured peak at step {summary.measured_peak_op}, {names[summary.measured_peak_op]}")
    print(
        f"{summary.matched_ops} of {summary.planned_ops} planned ops found, {summary.matched_by_name} of them by name; "
        f"they are {summary.measured_coverage:.1%} of the measured kernel time"
    )
    if result.memory is not None:
        print(f"memory is {result.memory.component} {result.memory.quantity}: {result.memory.reason}")
    print()
    if result.deviations:
        print_table(
            "Largest differences",
            ["what", "where", "planned", "measured", "difference", "cost"],
            [_row(item) for item in result.deviations],
            right=(2, 3, 4, 5),
        )
    if result.unmatched_ops:
        print(f"{len(result.unmatched_ops)} planned ops are not in the profile; --json lists them")
    for kernels in result.unmatched_kernels[:_MOST_UNMATCHED]:
        total = format_duration(kernels.total_ns)
        print(f"not in the plan: {kernels.name} ({kernels.type}), {kernels.count} times, {total}")
    if len(result.unmatched_kernels) > _MOST_UNMATCHED:
        print(f"not in the plan: {len(result.unmatched_kernels) - _MOST_UNMATCHED} more kernels; --json lists them")
    for note in result.notes:
        print(f"note: {note}")
    print("deviates: " + "; ".join(map(str, result.reasons)) if result.deviates else "keeps to the plan")


def _change(share: float | None) -> str | None:
    return None if share is None else f"{share:+.1%}"


def _row(item: Deviation) -> tuple[object, ...]:
    show = format_bytes if item.kind.value == "memory" else format_duration
    planned = None if item.planned is None else show(item.planned)
    measured = None if item.measured is None else show(item.measured)
    sign = "+" if item.delta > 0 else ""
    return item.what, str(item.where), planned, measured, f"{sign}{show(item.delta)}", f"{item.cost:.2%}"
