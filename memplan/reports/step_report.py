"""How long a step takes, on what, and whether a served one fits."""

from __future__ import annotations

from functools import partial
from typing import Any

from memplan.core.errors import InputError
from memplan.core.units import format_bytes, format_duration
from memplan.engines import CAPTURED, step_mode
from memplan.reports.charts import bar_chart
from memplan.reports.plan_report import step_section
from memplan.reports.report import Column, Quantity, Remark, Report, ReportTable, Severity, section
from memplan.serving import StageParts, StepTime, TrainingTime
from memplan.serving.step_parts import served_parts

_CLASSES = (
    Column("class"),
    Column("kernels", Quantity.COUNT),
    Column("time", Quantity.DURATION),
    Column("share", Quantity.SHARE),
)
_SHARES = (Column("part"), Column("time", Quantity.DURATION))
_BOUNDS = (Column("bound"), Column("time", Quantity.DURATION), Column("share", Quantity.SHARE))
_STAGES = (
    Column("stage"),
    Column("time", Quantity.DURATION),
    Column("weights", Quantity.BYTES),
    Column("caches", Quantity.BYTES),
    Column("activations", Quantity.BYTES),
    Column("in all", Quantity.BYTES),
)


_TRAINED = (
    Column("stage"),
    Column("compute", Quantity.DURATION),
    Column("exposed communication", Quantity.DURATION),
    Column("bubble", Quantity.DURATION),
    Column("host", Quantity.DURATION),
    Column("kernels", Quantity.COUNT),
)


def training_step_report(result: TrainingTime, stage: int) -> Report:
    """The prediction of a training step, with the parts of `stage` first; raises `InputError` for one there is not."""
    if stage >= len(result.stages):
        raise InputError(f"there is no stage {stage}", remedy=f"stages are 0 to {len(result.stages) - 1}")
    own, recipe = result.stages[stage], result.recipe
    low, high = (format_duration(time) for time in result.interval_ns)
    parts = _trained_parts(own)
    rows = tuple(
        (str(number), item.compute_ns, item.communication_ns, item.bubble_ns, item.host_ns, item.launches)
        for number, item in enumerate(result.stages)
    )
    return Report(
        title=f"{result.model} on {result.layout.ranks} dies {result.chip}, {result.layout}: one training step of "
        f"{recipe.micro_batches} micro-batches of {recipe.micro_batch} samples of {recipe.sequence:,} tokens a replica",
        headline=f"{format_duration(result.duration_ns)} a step, {low} to {high}; "
        f"{result.tokens_per_second:,.0f} tokens/s in all",
        sections=(
            section(
                f"What stage {stage} does in that time",
                ReportTable(_SHARES, tuple(parts.items())),
                bar_chart(list(parts.items()), Quantity.DURATION),
            ),
            section("Every stage", ReportTable(_TRAINED, rows)),
        ),
        notes=tuple(Remark(note) for note in result.notes),
        sources=tuple(result.rests_on),
        document=partial(_trained_document, result),
    )


def _trained_parts(item: StageParts) -> dict[str, int]:
    return {
        "compute": item.compute_ns,
        "exposed communication": item.communication_ns,
        "bubble": item.bubble_ns,
        "host": item.host_ns,
    }


def _trained_document(result: TrainingTime) -> dict[str, Any]:
    return {
        "model": result.model,
        "chip": result.chip,
        "layout": str(result.layout),
        "phase": "train",
        "engine": result.engine,
        "dies": result.layout.ranks,
        "duration_ns": result.duration_ns,
        "interval_ns": list(result.interval_ns),
        "tokens_per_second": result.tokens_per_second,
        "stages": [
            {
                "compute_ns": item.compute_ns,
                "communication_ns": item.communication_ns,
                "bubble_ns": item.bubble_ns,
                "host_ns": item.host_ns,
                "launches": item.launches,
            }
            for item in result.stages
        ],
        "rests_on": [{"value": source.value, "note": source.note} for source in result.rests_on],
        "notes": list(result.notes),
    }


def step_report(result: StepTime, room: int | None) -> Report:
    """The prediction; `room` are bytes of HBM that a process can have, `None` where that is not known."""
    step = result.step
    what = "reads" if step.phase.value == "prefill" else "adds to"
    speed = format_duration(result.duration_ns) + " a step"
    if result.tpot_ns is not None:
        tokens = f"{result.tokens_per_sequence:.2f} tokens of a sequence"
        speed += f", {tokens}: {format_duration(result.tpot_ns)} a token"
    rate = f"{result.tokens_per_second:,.0f} tokens/s in all, {result.tokens_per_second_per_die:,.0f} a die"
    total = sum(share.duration_ns for share in result.by_class)
    classes = tuple(
        (share.name, share.launches, share.duration_ns, share.duration_ns / total) for share in result.by_class
    )
    stages = tuple(
        (
            str(number),
            stage.duration_ns,
            stage.weight_bytes,
            stage.cache_bytes,
            stage.activation_bytes,
            stage.total_bytes,
        )
        for number, stage in enumerate(result.stages)
    )
    low, high = (format_duration(time) for time in result.interval_ns)
    most = max(stage.total_bytes for stage in result.stages)
    fits = room is None or most <= room
    notes = (
        [] if room is None or fits else [Remark(f"does not fit: {format_bytes(most - room)} missing", Severity.ERROR)]
    )
    return Report(
        title=f"{result.model} on {result.layout.ranks} dies {result.chip}, {result.layout}: one {step.phase.value} "
        f"step {what} {step.batch:,} sequences of {step.context:,} tokens, {result.sequences:,} a rank",
        headline=f"{speed}; {rate}",
        sections=(
            section(
                "Where the time goes (work beside the main chain is counted too)",
                ReportTable(_CLASSES, classes),
                bar_chart([(share.name, share.duration_ns) for share in result.by_class], Quantity.DURATION),
            ),
            step_section(served_parts(result), *_without_host(result)),
            section(
                "What limits it",
                ReportTable(
                    _BOUNDS,
                    tuple((share.name, share.duration_ns, share.duration_ns / total) for share in result.by_bound),
                ),
            ),
            section(
                f"Memory of one rank, of {'an unknown size' if room is None else format_bytes(room)}",
                ReportTable(_STAGES, stages),
            ),
        ),
        notes=(*notes, Remark(f"four of five public steps with this prediction take {low} to {high}"),
               *(Remark(note) for note in result.notes)),
        sources=tuple(result.rests_on),
        answer=fits,
        document=partial(_document, result, room),
    )  # fmt: skip


def _without_host(result: StepTime) -> tuple[str, ...]:
    """What the step takes where its host is hidden, if it isn't."""
    if not result.host_ns:
        return ()
    hidden = format_duration(result.hidden_host_ns)
    return (f"with the host's work hidden, as by reference stacks (--engine {CAPTURED}), these kernels take {hidden}",)


def _document(result: StepTime, room: int | None) -> dict[str, Any]:
    mode = step_mode(result.engine)
    return {
        "model": result.model,
        "chip": result.chip,
        "layout": str(result.layout),
        "phase": result.step.phase.value,
        "dies": result.layout.ranks,
        "sequences_per_rank": result.sequences,
        "duration_ns": result.duration_ns,
        "interval_ns": list(result.interval_ns),
        "engine": result.engine,
        "engine_mode": {"graphs": mode.graphs, "host": mode.mode, "source": mode.source},
        "host_ns": result.host_ns,
        "hidden_host_ns": result.hidden_host_ns,
        "host_factor": result.host_factor,
        "tokens_per_sequence": result.tokens_per_sequence,
        "tpot_ns": result.tpot_ns,
        "tokens_per_second": result.tokens_per_second,
        "tokens_per_second_per_die": result.tokens_per_second_per_die,
        "step_parts": [
            {"name": part.name, "duration_ns": part.duration_ns, "note": part.note} for part in served_parts(result)
        ],
        "by_class": [
            {"class": share.name, "launches": share.launches, "duration_ns": share.duration_ns}
            for share in result.by_class
        ],
        "by_bound": [{"bound": share.name, "duration_ns": share.duration_ns} for share in result.by_bound],
        "stages": [
            {
                "duration_ns": stage.duration_ns,
                "weight_bytes": stage.weight_bytes,
                "cache_bytes": stage.cache_bytes,
                "activation_bytes": stage.activation_bytes,
            }
            for stage in result.stages
        ],
        "hbm_bytes": room,
        "rests_on": [{"value": source.value, "note": source.note} for source in result.rests_on],
        "constants": [{"value": source.value, "note": source.note} for source in result.constants],
        "notes": list(result.notes),
    }
