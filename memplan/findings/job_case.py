"""A profile's ranks beside each other, as the rules look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memplan.cost import Machine
from memplan.findings.claims import Claims
from memplan.findings.finding import threshold
from memplan.findings.rank_case import RankCase
from memplan.findings.step_breakdown import ExposedCommunication, StepBreakdown, breakdown, exposed_communications
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
    """All ranks that are looked at, the chip's cost model and the plan where these are known."""

    ranks: Mapping[int, RankFacts]
    machine: Machine | None = None
    plan: Plan | None = None


def rank_facts_of(case: RankCase) -> RankFacts:
    """`case` with its steps taken apart and nothing explained."""
    steps = breakdown(case)
    return RankFacts(case, steps, exposed_communications(case), Claims(case, steps))
