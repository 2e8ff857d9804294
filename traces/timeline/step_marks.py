"""Steps as slices of a timeline mark them: the framework's profiler, or msprof's step trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from memplan.traces.profile import StepTimes, TrackKind

if TYPE_CHECKING:
    from memplan.traces.timeline.query import TimelineQuery

STEP_MARKS = (TrackKind.HOST, re.compile(r"ProfilerStep#(\d{1,18})$"))
"""Where and how the profilers of frameworks mark steps."""

ITERATION_MARKS = (TrackKind.SCOPE, re.compile(r"^Iteration (\d{1,18})$"))
"""Where and how msprof's step trace marks iterations."""


def steps_marked(timeline: TimelineQuery, marks: tuple[TrackKind, re.Pattern[str]]) -> list[StepTimes]:
    """Steps by their marks: number, start and length only. A number that comes again counts where it came first."""
    kind, mark = marks
    found: dict[int, StepTimes] = {}
    for track in timeline.tracks:
        if track.kind is kind:
            for number, start, length in _marks_on(timeline, track.id, mark):
                found.setdefault(number, StepTimes(number, start_ns=start, iteration_ns=length))
    return sorted(found.values(), key=lambda step: step.start_ns or 0)


def _marks_on(timeline: TimelineQuery, track: int, mark: re.Pattern[str]) -> Iterator[tuple[int, int, int]]:
    slices = timeline.slices(track, None, None)
    marks = {code: mark.search(name) for code, name in enumerate(slices.names)}
    numbers = {code: int(match.group(1)) for code, match in marks.items() if match is not None}
    for index in np.flatnonzero(np.isin(slices.name, list(numbers))).tolist() if numbers else ():
        yield numbers[int(slices.name[index])], int(slices.start_ns[index]), int(slices.duration_ns[index])
