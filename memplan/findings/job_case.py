"""A profile's ranks beside each other, as the rules look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from memplan.core.progress import Progress, silent
from memplan.findings.claims import Claims
from memplan.findings.critical_path import CriticalPath, critical_path
from memplan.findings.exposed_communication import ExposedCommunication, exposed_communications
from memplan.findings.finding import Finding, Place, threshold
from memplan.findings.meetings import Meetings, meetings_of
from memplan.findings.rank_case import RankCase
from memplan.findings.step_breakdown import StepBreakdown, breakdown

if TYPE_CHECKING:
    from memplan.align import Alignment
    from memplan.cost import Machine
    from memplan.findings.planned_kernels import PlannedKernels
    from memplan.schema import Plan


@dataclass(frozen=True, slots=True)
class RankFacts:
    """One rank: what it measured, its steps taken apart, and what of them is explained so far."""

    case: RankCase
    steps: Sequence[StepBreakdown]
    exposed: Sequence[ExposedCommunication]
    claims: Claims

    @property
    def length_ns(self) -> int:
        """All its steps together."""
        return sum(step.length_ns for step in self.steps)

    def worth(self, cost_ns: int) -> bool:
        """Whether `cost_ns` is enough of the steps to be reported by itself."""
        return cost_ns > 0 and cost_ns >= threshold("reported_share") * self.length_ns


@dataclass(frozen=True, slots=True)
class JobCase:
    """
    All ranks that are looked at, what they ran together, the critical path (`None` where nothing has times), the chip's
    cost model where it is known, and the kernels that the plan has.
    """

    ranks: Mapping[int, RankFacts]
    meetings: Meetings
    path: CriticalPath | None
    machine: Machine | None = None
    planned: Mapping[int, PlannedKernels] = field(default_factory=dict)

    def kernel_place(self, rank: int, kernel: int, last: int | None = None) -> Place:
        """
        Where computing kernel `kernel` of `rank` runs, until the end of kernel `last` where that is given.

        In the model's words where the plan tells them, else by its own name. Nowhere without a table of kernels.
        """
        case, planned = self.ranks[rank].case, self.planned.get(rank)
        if case.kernels is None:
            return Place((rank,))
        row, end = (int(case.computing_rows[one]) for one in (kernel, kernel if last is None else last))
        start, numbered = int(case.kernels.start_ns[row]), int(case.kernels.step[row])
        return Place(
            (rank,),
            # Steps may overlap: where the profile numbers its kernels, that tells.
            step=numbered if numbered >= 0 else case.step_at(start),
            span_ns=(start, int(case.kernels.start_ns[end] + case.kernels.duration_ns[end])),
            ops=((planned.place(kernel) if planned else "") or case.kernels.name[row],),
        )

    def on_path_ns(self, finding: Finding) -> int | None:
        """
        How much of what `finding` has just claimed, on all its ranks, lies on the critical path; `None` without one.

        Of kernels exactly; of other parts of a step in the share that the path has of them.
        """
        if self.path is None or finding.rank is None or finding.rank not in self.ranks:
            return None
        found = 0.0
        for rank in {finding.rank, *(other for other, _ in finding.waits_ns)}:
            facts = self.ranks[rank]
            for taken in facts.claims.newly_taken():
                share = self.path.share_of(rank, taken, facts.case, facts.claims.whole(taken.part))
                found += share * taken.length_ns
        return round(found) if finding.cost_ns is not None else None


def job_case(
    ranks: Mapping[int, RankFacts],
    machine: Machine | None = None,
    plan: Plan | None = None,
    progress: Progress = silent,
    known: Mapping[int, Alignment] = MappingProxyType({}),
) -> JobCase:
    """
    `ranks` beside each other: where they met, the critical path through all of them, and what `plan` has of them.

    Ranks in `known` are not aligned with the plan again.
    """
    exposed = {rank: facts.exposed for rank, facts in ranks.items()}
    meetings = meetings_of(exposed)
    cases = {rank: facts.case for rank, facts in ranks.items()}
    path = critical_path(cases, exposed, meetings)
    planned: Mapping[int, PlannedKernels] = {}
    if plan is not None:
        from memplan.findings.planned_kernels import planned_kernels  # with it comes all that plans are matched with

        planned = planned_kernels(cases, plan, progress, known)
    return JobCase(ranks, meetings, path, machine, planned)


def rank_facts_of(case: RankCase) -> RankFacts:
    """`case` with its steps taken apart and nothing explained."""
    exposed = exposed_communications(case)
    steps = breakdown(case, exposed)
    return RankFacts(case, steps, exposed, Claims(case, steps))
