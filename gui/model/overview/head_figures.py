"""The figures at the head of a document: step time, exposed communication, idle time, peak of memory, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from memplan.core.errors import MemplanError
from memplan.core.sentence import Sentence, Text
from memplan.core.units import UNKNOWN, format_bytes, format_change, format_duration, format_share
from memplan.findings.alike import folded
from memplan.gui.model.compare.deviations import over_capacity, verdict
from memplan.gui.model.overview.first_change import dearest_finding
from memplan.gui.model.overview.planned_parts import planned_parts
from memplan.gui.model.session.session import Session
from memplan.schema import Tier
from memplan.traces.process_memory import process_memory

if TYPE_CHECKING:
    from memplan.findings.step_breakdown import StepBreakdown

_OFF = 0.1
"""Share of the plan by which a time is off that is shown as one to look at."""
_FULL = 0.9
"""Share of the capacity from which a peak is shown as one to look at."""


@dataclass(frozen=True, slots=True)
class HeadFigure:
    """A figure with its title and what stands under it; a click on it leads to `page`. `warns`: it is out of bounds."""

    title: Sentence
    value: Text
    note: Text
    page: str
    warns: bool = False


def shown_steps_of(session: Session) -> Sequence[StepBreakdown]:
    """The steps of the shown rank, taken apart; none before the profile is diagnosed or where it tells of none."""
    rank, found = session.document.rank, session.diagnosis
    if rank is None or found is None or rank.rank not in found.job.ranks:
        return ()
    return found.job.ranks[rank.rank].steps


def head_figures(session: Session) -> list[HeadFigure]:
    """What is known of them; of a plan alone what it predicts."""
    steps = shown_steps_of(session)
    shares = _shares(steps) or _planned_share(session)
    times = (_step_time(session, steps), _computing(session))
    figures = [figure for figure in (*times, *shares, _peak(session)) if figure is not None]
    return [*figures, *_verdict(session)]


def _step_time(session: Session, steps: Sequence[StepBreakdown]) -> HeadFigure | None:
    planned, found = session.document.planned_step_ns, session.document.comparison
    measured = round(median(step.length_ns for step in steps)) if steps else None
    if found is not None and planned is not None:
        measured = found.summary.measured_makespan_ns
    if measured is None and planned is None:
        return None
    title = Sentence("Step time")
    if measured is None:
        plan = session.document.plan
        if plan is None or not plan.step_parts or plan.step_ns == plan.makespan_ns:
            return HeadFigure(title, format_duration(planned or 0), Sentence("as planned"), "timeline")
        alone = Sentence("as planned; its ops alone {}", (format_duration(plan.makespan_ns),))
        return HeadFigure(title, format_duration(plan.step_ns), alone, "timeline")
    if planned is None:
        note = (
            Sentence("median of {} [step|steps]", (f"{len(steps):,}",))
            if len(steps) != 1
            else Sentence("the only step")
        )
        return HeadFigure(title, format_duration(measured), note, "timeline")
    return _against_plan(title, measured, planned)


def _computing(session: Session) -> HeadFigure | None:
    """Computing beside that of the plan, where the step is more than the plan's ops: kernels against kernels."""
    step, found = session.document.planned_step, session.document.comparison
    if step is None or found is None or found.causes is None or step.span_ns == step.ops_ns:
        return None
    return _against_plan(Sentence("Computing"), found.causes.measured_computing, found.causes.planned_computing)


def _against_plan(title: Sentence, measured: int, planned: int) -> HeadFigure:
    values = (format_duration(planned), format_change(measured / planned - 1) if planned else UNKNOWN)
    off = planned > 0 and abs(measured / planned - 1) > _OFF
    return HeadFigure(title, format_duration(measured), Sentence("planned {} ({})", values), "plan", warns=off)


def _shares(steps: Sequence[StepBreakdown]) -> list[HeadFigure]:
    """Exposed communication and idle time of all steps together."""
    whole = sum(step.length_ns for step in steps)
    if not whole:
        return []
    exposed = sum(step.exposed_ns + step.bubble_ns for step in steps)
    idle = sum(step.idle_total_ns for step in steps)
    per_step = len(steps)
    return [
        HeadFigure(
            Sentence(title),
            format_share(length / whole),
            Sentence("{} a step", (format_duration(round(length / per_step)),)),
            "timeline",
            warns=length > whole / 4,
        )
        for title, length in (("Exposed communication", exposed), ("Idle", idle))
    ]


def _planned_share(session: Session) -> list[HeadFigure]:
    """Exposed communication and waiting for stages of a plan that is open alone, where it has any: as of a run."""
    plan, planned = session.document.plan, session.document.planned_step
    if plan is None or session.document.profile is not None or planned is None or not planned.span_ns:
        return []
    told = planned_parts(plan, planned)
    exposed = told.exposed_ns + told.waiting_ns
    if not exposed:
        return []
    note, title = Sentence("planned {}", (format_duration(exposed),)), Sentence("Exposed communication")
    share = exposed / planned.span_ns
    return [HeadFigure(title, format_share(share), note, "timeline", warns=share > 1 / 4)]


def _peak(session: Session) -> HeadFigure | None:
    """The most that was held, of the process where the profile tells, against what the device or the plan has."""
    document = session.document
    title = Sentence("Memory peak")
    capacity = _capacity(session)
    held: int | None = None
    whose: Text = ""
    compared = document.comparison.summary if document.comparison is not None else None
    if compared is not None and compared.measured_peak is not None and compared.whole:
        held, whose = compared.measured_peak, Sentence("the allocator")
    elif document.rank is not None:
        process = process_memory({name: curve for name in document.rank.memory_components()
                                  if (curve := document.rank.memory(name)) is not None})  # fmt: skip
        if process is not None:
            held, whose = process.held, Sentence("the whole process")
        elif session.curves.measured and session.tier is Tier.HBM:
            held, whose = session.curves.measured[0].peak[1], session.curves.measured[0].title
    if held is None and document.plan is not None:
        use = next((use for use in document.plan.tiers if use.tier is Tier.HBM), None)
        held, whose = (use.peak, Sentence("as planned")) if use is not None else (None, "")
    if held is None:
        return None
    if capacity is None:
        return HeadFigure(title, format_bytes(held), whose, "memory")
    values = (whose, format_share(held / capacity), format_bytes(capacity))
    told = Sentence("{}: {} of {}", values)
    return HeadFigure(title, format_bytes(held), told, "memory", warns=held > _FULL * capacity)


def _capacity(session: Session) -> int | None:
    """What the plan may use of HBM, else what the chip has that the profile names."""
    document = session.document
    if document.plan is not None:
        use = document.plan.tier(Tier.HBM)
        if use is not None and use.capacity is not None:
            return use.capacity
    name = document.rank.chip if document.rank is not None else None
    if name is None:
        return None
    from memplan.hardware import chip as find_chip  # read from files: a window starts without

    try:
        chip = find_chip(name)
    except MemplanError:
        return None
    return None if chip.hbm_bytes is None else chip.hbm_bytes - (chip.hbm_reserved_bytes or 0)


def _with_findings(session: Session, told: Sentence) -> Sentence:
    """`told`, and how many findings cost something all the same: a plan has none of a run's faults."""
    found = session.diagnosis.findings if session.diagnosis is not None else ()
    count = len(folded([one for one in found if one.cost_ns or one.cost_bytes])[0])
    return Sentence("{}; {} [finding costs|findings cost] something", (told, str(count))) if count else told


def _verdict(session: Session) -> list[HeadFigure]:
    """Whether the run keeps to the plan; without a plan what costs most; of a plan alone whether it fits."""
    document = session.document
    told = verdict(document)
    if told is not None and document.comparison is not None:
        deviates = document.comparison.deviates or over_capacity(document) is not None
        value = Sentence("off the plan") if deviates else Sentence("as planned")
        return [HeadFigure(Sentence("Verdict"), value, _with_findings(session, told), "plan", warns=deviates)]
    if session.diagnosis is not None and session.diagnosis.findings:
        count = len(folded(session.diagnosis.findings)[0])
        value = Sentence("{} [finding|findings]", (f"{count:,}",))
        dearest = dearest_finding(session)
        title = (session.diagnosis.findings[0] if dearest is None else dearest[1]).title
        return [HeadFigure(Sentence("Verdict"), value, title, "timeline", warns=True)]
    if session.diagnosis is not None:
        value = Sentence("nothing to look at") if document.bare else Sentence("nothing found")
        return [HeadFigure(Sentence("Verdict"), value, "", "timeline")]
    if document.plan is not None and document.profile is None:
        plan = document.plan
        value = Sentence("fits") if plan.fits else Sentence("does not fit")
        missing = Sentence("{} missing", (format_bytes(plan.missing_bytes),))
        note = Sentence("the plan in its memory") if plan.fits else missing
        return [HeadFigure(Sentence("Verdict"), value, note, "memory", not plan.fits)]
    return []
