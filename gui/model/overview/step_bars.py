"""A bar for each step, taken apart into work, communication, waiting and idle time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from memplan.core.sentence import Sentence, Text
from memplan.gui.model.overview.head_figures import shown_steps_of
from memplan.gui.model.overview.planned_parts import planned_parts
from memplan.gui.model.session.session import Session

if TYPE_CHECKING:
    from memplan.findings.step_breakdown import StepBreakdown

MOST_STEP_BARS = 200
_ROLES = ("part_compute", "part_overlap", "part_transfer", "part_wait", "part_bubble", "part_copy", "part_idle")


@dataclass(frozen=True, slots=True)
class StepBar:
    """
    One bar: nanoseconds by the names of `STEP_PARTS`, in that order.

    `span_ns` is where the step lies on the profile's clock, `None` where that is not known.
    """

    label: Text
    parts: Mapping[str, int]
    span_ns: tuple[int, int] | None = None

    @property
    def length_ns(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


@cache
def part_roles() -> Mapping[str, str]:
    """The colour of each part of `STEP_PARTS`, a role of the palette."""
    from memplan.reports.step_pictures import STEP_PARTS  # with all reports: a window starts without

    return MappingProxyType(dict(zip(STEP_PARTS, _ROLES, strict=True)))


def step_bars(session: Session) -> list[StepBar]:
    """The planned step where there is a plan with times, then the steps of the shown rank in order."""
    bars = []
    planned = session.document.planned_step
    plan = session.document.plan
    if planned is not None and planned.span_ns and plan is not None:
        told = planned_parts(plan, planned)
        hiding = told.overlapped_ns
        values = (told.computing_ns - hiding, hiding, told.exposed_ns, 0, told.waiting_ns, 0, told.idle_ns)
        parts = dict(zip(part_roles(), values, strict=True))
        start = session.document.axis.to_profile(min(op.start_ns for op in plan.ops))
        bars.append(StepBar(Sentence("planned"), parts, (start, start + planned.span_ns)))
    if shown := shown_steps_of(session)[:MOST_STEP_BARS]:
        bars += _measured(shown)
    return bars


def _measured(shown: Sequence[StepBreakdown]) -> list[StepBar]:
    """A bar for each of the steps of a rank."""
    from memplan.reports.step_pictures import parts_of_step

    bars = []
    for place, step in enumerate(shown, 1):
        number = place if step.step is None else step.step
        span = None if step.start_ns is None else (step.start_ns, step.start_ns + step.length_ns)
        bars.append(StepBar(Sentence("step {}", (str(number),)), parts_of_step(step), span))
    return bars
