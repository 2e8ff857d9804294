"""What a plan says: how full each tier gets, what fills HBM at its peak, the longest ops, what moves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_duration
from memplan.deployment.hbm_curve import HbmCurve
from memplan.deployment.ways_out import WayOut
from memplan.reports.charts import area_chart
from memplan.reports.communication_section import communication_document, communication_section
from memplan.reports.onchip_section import onchip_section
from memplan.reports.plan_moves import move_actions, recompute_actions
from memplan.reports.report import Column, Quantity, Remark, Report, ReportSection, ReportTable, found_table, section
from memplan.schema import Certainty, Plan, StepPart, Tier, memory_curve, plan_headline, plan_peak, plan_to_json
from memplan.schema.communication import CommunicationOutlook, communication_outlook
from memplan.schema.summary import moved_to

_LONGEST = 10

_SETTINGS = (Column("setting"), Column("value"), Column("how sure"), Column("told by"))
_STEP = (Column("part"), Column("time", Quantity.DURATION), Column("what it is"))

_TIERS = (
    Column("tier"),
    Column("capacity", Quantity.BYTES),
    Column("kept by driver", Quantity.BYTES),
    Column("persistent", Quantity.BYTES),
    Column("peak", Quantity.BYTES),
    Column("lower bound", Quantity.BYTES),
    Column("gap", Quantity.SHARE, 2),
    Column("bound by"),
)
_KINDS = (Column("kind"), Column("tensors", Quantity.COUNT), Column("bytes", Quantity.BYTES))
_OPS = (
    Column("step", Quantity.COUNT),
    Column("op"),
    Column("type"),
    Column("time", Quantity.DURATION),
    Column("share", Quantity.SHARE),
    Column("bound"),
    Column("flops", Quantity.COUNT),
    Column("GM traffic", Quantity.BYTES),
)
_CURVE = (
    Column("HBM", Quantity.BYTES),
    Column("step", Quantity.DURATION),
    Column("longer by", Quantity.SHARE),
    Column(""),
)
_WAYS_OUT = (
    Column("change"),
    Column("HBM", Quantity.BYTES),
    Column("on the host", Quantity.BYTES),
    Column("step", Quantity.DURATION),
)
_ACTIONS = (
    Column("what is done"),
    Column("kind"),
    Column("tensors", Quantity.COUNT),
    Column("bytes moved", Quantity.BYTES),
    Column("layers"),
)
_RECOMPUTED = (
    Column("recompute"),
    Column("ops", Quantity.COUNT),
    Column("bytes not kept", Quantity.BYTES),
    Column("time", Quantity.DURATION),
    Column("longer by", Quantity.SHARE, 1),
    Column("layers"),
)
_MOVES = (
    Column("tensor"),
    Column("from"),
    Column("to"),
    Column("bytes", Quantity.BYTES),
    Column("link"),
    Column("starts", Quantity.DURATION),
    Column("takes", Quantity.DURATION),
    Column("after step", Quantity.COUNT),
    Column("before step", Quantity.COUNT),
)


def plan_report(plan: Plan) -> Report:
    """`plan` as a report; its document is the plan itself."""
    sections = [*settings_sections(plan), _tiers(plan), *_peak(plan), *_step(plan)]
    if plan.timed:
        sections.append(_ops(plan))
    if plan.tilings:
        sections.append(onchip_section(plan))
    outlook = communication_outlook(plan)
    if outlook is not None:
        sections.append(communication_section(outlook))
    if any(op.repeats is not None for op in plan.ops):
        sections.append(_recomputed(plan))
    if plan.transfers:
        sections += [_actions(plan), _transfers(plan)]
    return Report(
        title=Sentence("{} ({}) on {}", (plan.origin.file, plan.origin.producer, plan.chip)),
        headline=plan_headline(plan),
        sections=tuple(sections),
        notes=(*(Remark(f"not valid: {wrong}") for wrong in plan.violations), *map(Remark, plan.notes)),
        sources=tuple(plan.rests_on),
        answer=plan.fits and not plan.violations,
        document=partial(_document, plan, outlook),
    )


def _document(plan: Plan, outlook: CommunicationOutlook | None) -> dict[str, Any]:
    """The plan as JSON values, which can be read as a plan again, with the outlook on its collectives."""
    document = plan_to_json(plan)
    return document if outlook is None else {**document, "communication": communication_document(outlook)}


def settings_sections(plan: Plan) -> list[ReportSection]:
    """What a plan of a model's step was made for; what was simply given is one line."""
    if not plan.settings:
        return []
    simple = [item for item in plan.settings if item.certainty is Certainty.GIVEN and not item.evidence]
    line = ", ".join(f"{item.name} {item.value}" for item in simple)
    rows = tuple(
        (item.name, item.value, item.certainty.value, item.evidence) for item in plan.settings if item not in simple
    )
    return [section("Planned for", *([ReportTable(_SETTINGS, rows)] if rows else []), *([line] if line else []))]


def settings_document(plan: Plan) -> list[dict[str, str]]:
    """The same as JSON values."""
    return [
        {"name": item.name, "value": item.value, "evidence": item.evidence, "certainty": item.certainty.value}
        for item in plan.settings
    ]


def _step(plan: Plan) -> list[ReportSection]:
    """What the time of the whole step is made of, of which the plan's own ops are a part."""
    return [] if len(plan.step_parts) < 2 else [step_section(plan.step_parts)]


def step_section(parts: Sequence[StepPart], *further: str) -> ReportSection:
    """The parts of a step's time, which add up to it, and what `further` there is to say."""
    rows = tuple((part.name, part.duration_ns, part.note) for part in parts)
    total = sum(part.duration_ns for part in parts)
    return section(f"The step, {format_duration(total)}, is made of", ReportTable(_STEP, rows), *further)


def curve_section(curve: HbmCurve) -> ReportSection:
    """Step time against HBM as a table and a chart."""
    rows = tuple(
        (
            point.hbm,
            point.step_ns,
            None if point.step_ns is None else point.step_ns / max(curve.unlimited_ns, 1) - 1,
            "knee" if point == curve.knee else "" if point.step_ns is not None else "does not fit",
        )
        for point in curve.points
    )
    chart = area_chart(
        [point.step_ns or 0 for point in curve.points],
        Quantity.DURATION,
        across="{} budgets",
        title="step time over HBM",
    )
    return section("Step time against HBM", ReportTable(_CURVE, rows), chart)


def ways_section(plan: Plan, ways: Sequence[WayOut], untried: Sequence[str] = ()) -> ReportSection:
    """What is missing where, what was found to fit, and the words of what there was no time to try."""
    rows = tuple((way.change, way.hbm, way.host, way.step_ns) for way in ways)
    use = plan.tier(Tier.HBM)
    step = None if use is None else use.peak_step
    where = "" if step is None else f" at step {step} ({plan.ops[step].name})"
    title = f"It lacks {format_bytes(plan.missing_bytes)}{where}; what fits, the shortest step first"
    return section(
        title,
        found_table(ReportTable(_WAYS_OUT, rows)),
        *([f"not tried, for it takes long: {'; '.join(untried)}"] if untried else ()),
    )


def _tiers(plan: Plan) -> ReportSection:
    rows = tuple(
        (
            use.tier.value,
            use.capacity,
            use.reserved,
            use.persistent,
            use.peak,
            use.lower_bound,
            use.gap,
            use.lower_bound_method,
        )
        for use in plan.tiers
    )
    return section("Memory", ReportTable(_TIERS, rows))


def _peak(plan: Plan) -> list[ReportSection]:
    """Bytes in HBM at the fullest step by kind, largest first, and HBM over the steps."""
    peak = plan_peak(plan)
    if peak is None:
        return []
    op = plan.ops[peak.step]
    rows = tuple((share.kind, share.count, share.nbytes) for share in peak.shares)
    curve = memory_curve(plan).values[:-1].tolist()
    return [
        section(
            Sentence("HBM at its fullest: step {}, {}", (str(op.index), op.name)),
            ReportTable(_KINDS, rows),
            area_chart(curve, Quantity.BYTES, across="{} steps", title="bytes placed in HBM, step by step"),
        )
    ]


def _ops(plan: Plan) -> ReportSection:
    longest = sorted(plan.ops, key=lambda op: -op.duration_ns)[:_LONGEST]
    total = sum(op.duration_ns for op in plan.ops)
    rows = tuple(
        (
            op.index,
            op.name,
            op.type,
            op.duration_ns,
            op.duration_ns / total if total else None,
            op.bound,
            op.flops,
            op.gm_bytes,
        )
        for op in longest
    )
    title = Sentence("Longest ops; all take {}", (format_duration(total),))
    return section(title, ReportTable(_OPS, rows, total=len(plan.ops)))


def _actions(plan: Plan) -> ReportSection:
    rows = tuple((item.action, item.kind, item.tensors, item.nbytes, item.layers) for item in move_actions(plan))
    title = Sentence("What moves between HBM and {} in every step", (Sentence(moved_to(plan)),))
    return section(title, ReportTable(_ACTIONS, rows))


def _recomputed(plan: Plan) -> ReportSection:
    rows = tuple(
        (item.part, item.ops, item.nbytes, item.duration_ns, item.slowdown, item.layers)
        for item in recompute_actions(plan)
    )
    return section("What is computed anew rather than kept", ReportTable(_RECOMPUTED, rows))


def _transfers(plan: Plan) -> ReportSection:
    names = {tensor.index: tensor.name for tensor in plan.tensors}
    stalled = sum(op.stalled_ns for op in plan.ops)
    largest = sorted(plan.transfers, key=lambda transfer: (-transfer.size, transfer.start_ns))[:_LONGEST]
    rows = tuple(
        (
            names[transfer.tensor],
            transfer.source.value,
            transfer.target.value,
            transfer.size,
            transfer.link,
            transfer.start_ns,
            transfer.end_ns - transfer.start_ns,
            transfer.after_step,
            transfer.before_step,
        )
        for transfer in largest
    )
    return section(
        f"Largest transfers; ops wait {format_duration(stalled)} for them",
        ReportTable(_MOVES, rows, total=len(plan.transfers)),
        *(f"link {link.name}: {link.source.value}" for link in plan.links),
    )
