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


def step_beside(found: tuple[ShownStep, ...], start: float, end: float, forward: bool) -> ShownStep | None:
    """The next or previous step seen from a view of `[start, end)`: of one that shows several the first or the last."""
    whole = [step for step in found if start <= step.start and step.end <= end]
    if len(whole) > 1:
        return whole[0] if forward else whole[-1]
    # The step in view is the one that begins near the left edge, with the margin that a jump leaves.
    return adjacent_step(found, start + 0.05 * (end - start), forward)


def adjacent_step(found: tuple[ShownStep, ...], time: float, forward: bool) -> ShownStep | None:
    """The step after the one that is under way at `time`, or the one before; `None` at the ends."""
    if forward:
        return next((step for step in found if step.start > time + 1), None)
    return next((step for step in reversed(found) if step.start < time - 1), None)
