"""The steps of a profile as spans of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.distinct import distinct, first_rows
from memplan.core.progress import Progress, silent
from memplan.traces.timeline.step_marks import STEP_MARKS, steps_marked

if TYPE_CHECKING:
    from memplan.traces.rank import RankProfile


@dataclass(frozen=True, slots=True)
class StepSpan:
    """Step `number` from its first kernel's start to its last one's end, ns on the profile's clock."""

    number: int
    start_ns: int
    end_ns: int


def step_spans(rank: RankProfile, progress: Progress = silent) -> list[StepSpan]:
    """
    The steps of `rank` in order of time: by the kernels' own step numbers, else by marks of steps or iterations.

    Empty where the profile tells of no steps.
    """
    kernels = rank.kernels(progress)
    if kernels is not None and len(kernels) and (kernels.step >= 0).any():
        numbers, position = numbered_steps(kernels.step)
        first, last = spans_of_steps(position, len(numbers), kernels.start_ns, kernels.start_ns + kernels.duration_ns)
        found = list(map(StepSpan, numbers, first.tolist(), last.tolist()))
    else:
        timeline = rank.timeline(progress)
        marked = steps_marked(timeline, STEP_MARKS) if timeline is not None else []
        found = [
            StepSpan(step.step if step.step is not None else place, step.start_ns, step.start_ns + step.length_ns)
            for place, step in enumerate(marked or rank.steps(progress))
            if step.start_ns is not None and step.length_ns is not None
        ]
    return sorted(found, key=lambda step: step.start_ns)


def numbered_steps(step: Int64s) -> tuple[list[int], Int64s]:
    """The numbers of the steps that kernels are numbered with (-1: none), and each kernel's position among them."""
    numbered = step >= 0
    numbers, place = distinct(step[numbered])
    position = np.full(len(step), -1, dtype=np.int64)
    position[numbered] = place
    return numbers.tolist(), position


def spans_of_steps(position: Int64s, count: int, start_ns: Int64s, end_ns: Int64s) -> tuple[Int64s, Int64s]:
    """First start and last end of each of `count` steps; `position` is each kernel's step, -1 for none."""
    first = np.full(count, np.iinfo(np.int64).max)
    last = np.full(count, np.iinfo(np.int64).min)
    rows = np.argsort(position, kind="stable")[np.count_nonzero(position < 0) :]
    if len(rows):
        present, place = distinct(position[rows])
        begins = first_rows(place, len(present))
        first[present] = np.minimum.reduceat(start_ns[rows], begins)
        last[present] = np.maximum.reduceat(end_ns[rows], begins)
    return first, last
