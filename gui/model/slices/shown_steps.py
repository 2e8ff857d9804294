"""The steps of a profile in the time of a view."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.progress import Progress, silent
from memplan.gui.model.session.session import Session
from memplan.traces.steps import step_spans


@dataclass(frozen=True, slots=True)
class ShownStep:
    """Step `number` from its first kernel's start to its last one's end, in nanoseconds from the origin."""

    number: int
    start: float
    end: float


def steps(session: Session, progress: Progress = silent) -> tuple[ShownStep, ...]:
    """
    The profile's steps in order of time, as `memplan.traces.steps.step_spans` finds them.

    Reads the kernels on first use: long for a large profile. Empty where the profile tells of no steps.
    """
    rank, origin = session.document.rank, session.origin_ns
    spans = step_spans(rank, progress) if rank is not None else ()
    return tuple(ShownStep(span.number, float(span.start_ns - origin), float(span.end_ns - origin)) for span in spans)


def adjacent_step(found: tuple[ShownStep, ...], time: float, forward: bool) -> ShownStep | None:
    """The step after the one that is under way at `time`, or the one before; `None` at the ends."""
    if forward:
        return next((step for step in found if step.start > time + 1), None)
    return next((step for step in reversed(found) if step.start < time - 1), None)
