"""
Where a run leaves its plan, what of that costs most and what to change: sentences that lead to places.

To import it imports the alignment: for documents that are compared, in which that is there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from memplan.compare import CauseKind, Comparison, Deviation, DeviationWhat, StepCause
from memplan.compare.step_causes import part_of
from memplan.core.sentence import Sentence
from memplan.core.units import format_change, format_duration
from memplan.gui.model.details.finding_details import remedy_words
from memplan.gui.model.overview.first_change import FirstChange, change_of_a_finding, dearest_finding
from memplan.gui.model.session.session import Session
from memplan.reports.comparison.compare_words import cause_words, leading_causes

_FOUND_AS = {
    CauseKind.COMMUNICATION: ("communication.", "pipeline.", "rank.", "link.", "copy."),
    CauseKind.IDLE: ("idle.",),
    CauseKind.KERNELS: ("plan.slower", "kernel.", "device."),
    CauseKind.UNPLANNED: ("plan.unplanned", "recompute."),
}
"""
The findings that tell why a cause is, by how their kinds begin.

By judgement: a finding counts a rank's time by its own rules, and nothing adds up what of it is in which cause.
"""
_NOT_FOUND_AS = {
    CauseKind.COMMUNICATION: "communication.exposed",
    CauseKind.KERNELS: "plan.slower",
    CauseKind.UNPLANNED: "plan.unplanned",
}
"""
What helps, by judgement too, where a cause is many small things, none of which is a finding; of idle time that goes by
its reason.
"""

_SHOWN_AS = {
    CauseKind.COMMUNICATION: (DeviationWhat.DURATION,),
    CauseKind.IDLE: (DeviationWhat.WAITS, DeviationWhat.WAIT),
    CauseKind.KERNELS: (DeviationWhat.DURATION,),
    CauseKind.UNPLANNED: (DeviationWhat.NOT_IN_PLAN,),
    CauseKind.MISSING: (DeviationWhat.NOT_IN_PROFILE,),
    CauseKind.UNTOLD: (DeviationWhat.NOT_TOLD_APART,),
}
"""The differences that a cause is made of."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """
    By how much the run leaves the plan (`said`), and its `causes`, the largest first, each with the number of the
    difference that shows it, `None` where no single one does.
    """

    said: Sentence
    causes: tuple[tuple[Sentence, int | None], ...]


def leaving(session: Session) -> Leaving | None:
    """Where the run leaves the plan; `None` where they are not compared or nothing is told of the step."""
    found = session.document.comparison
    if found is None or found.causes is None or not found.causes.planned:
        return None
    causes = found.causes
    off = causes.measured - causes.planned
    values = (format_duration(abs(off)), format_change(causes.measured / causes.planned - 1))
    longer = Sentence("The run takes {} longer than planned ({}). Most of it:", values)
    shorter = Sentence("The run takes {} less than planned ({}). Most of it:", values)
    told = tuple((cause_words(cause), _shown_by(session, found, cause)) for cause in leading_causes(causes))
    return Leaving(longer if off >= 0 else shorter, told) if told else None


def first_change(session: Session) -> FirstChange | None:
    """
    What to change first: what helps against the largest cause, by the dearest finding that tells why it is, else by
    what it is; where nothing is known against it, the first remedy of the dearest finding.

    So too where that costs more of a step than the cause, or the run takes no longer than planned: then no cause is
    one to mend.
    """
    compared = session.document.comparison
    if session.diagnosis is None or compared is None or compared.causes is None:
        return change_of_a_finding(session)
    found = None
    leading = [cause for cause in leading_causes(compared.causes) if cause.delta > _of_a_step(session)]
    if leading:
        kinds = _FOUND_AS.get(leading[0].kind)
        found = change_of_a_finding(session, kinds) if kinds is not None else None
        found = found or _of_a_cause(session, compared, leading[0])
    return found or change_of_a_finding(session)


def _of_a_step(session: Session) -> float:
    """What the dearest finding costs of a step, ns; 0 without one."""
    dearest = dearest_finding(session)
    if dearest is None or session.diagnosis is None:
        return 0.0
    ranks = session.diagnosis.job.ranks
    steps = max((len(facts.steps) for rank, facts in ranks.items() if dearest[1].rank in (None, rank)), default=1)
    return (dearest[1].cost_ns or 0) / max(steps, 1)


def _of_a_cause(session: Session, compared: Comparison, cause: StepCause) -> FirstChange | None:
    """What helps against `cause`, of which no finding tells."""
    rank, found = session.document.rank, session.diagnosis
    if rank is None or found is None or rank.rank not in found.job.ranks:
        return None
    from memplan.findings.finding import remedies_of  # with the findings: a window starts without
    from memplan.findings.software import software_of

    facts = found.job.ranks[rank.rank]
    kind = _NOT_FOUND_AS.get(cause.kind, "")
    if cause.kind is CauseKind.IDLE:
        idle: Counter[str] = Counter()
        for step in facts.steps:
            idle.update(step.idle_ns)
        kind = "".join(f"idle.{name}" for name, _ in idle.most_common(1))
    remedies = remedies_of(kind, software_of(facts.case)) if kind else ()
    if not remedies:
        return None
    said = Sentence("{} → {}", (cause_words(cause), remedy_words(remedies[0])))
    return FirstChange(said, difference=_shown_by(session, compared, cause))


def _shown_by(session: Session, found: Comparison, cause: StepCause) -> int | None:
    """The number of the costliest difference that `cause` is made of."""
    return next((place for place, one in enumerate(found.deviations) if _belongs(session, one, cause)), None)


def _belongs(session: Session, one: Deviation, cause: StepCause) -> bool:
    if one.what not in _SHOWN_AS.get(cause.kind, ()):
        return False
    if cause.kind in (CauseKind.IDLE, CauseKind.UNTOLD):
        return True
    part = next((name for name, _ in cause.where), None)
    if cause.kind is CauseKind.UNPLANNED:
        return str(one.where) == part
    plan = session.document.plan
    return plan is not None and one.op is not None and part_of(plan.ops[one.op], cause.kind) == part
