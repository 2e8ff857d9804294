"""The steps of a profile as stretches of time."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from memplan.core.progress import Progress, silent
from memplan.gui.model.document.session import Session
from memplan.traces.profile import TrackKind

_MARK = re.compile(r"ProfilerStep#(\d+)$")


@dataclass(frozen=True, slots=True)
class Step:
    """Step `number` from its first kernel's start to its last one's end, in nanoseconds from the origin."""

    number: int
    start: float
    end: float


def steps(session: Session, progress: Progress = silent) -> tuple[Step, ...]:
    """
    The profile's steps in order of time: by the kernels' own step numbers, else by the host's marks of steps.

    Reads the kernels on first use: long for a large profile. Empty where the profile tells of no steps.
    """
    rank, origin = session.document.rank, session.origin_ns
    if rank is None:
        return ()
    progress(0, 1, "kernels")
    kernels = rank.kernels()
    if kernels is not None and len(kernels) and (kernels.step >= 0).any():
        known = np.flatnonzero(kernels.step >= 0)
        numbers, place = np.unique(kernels.step[known], return_inverse=True)
        first = np.full(len(numbers), np.iinfo(np.int64).max)
        last = np.full(len(numbers), np.iinfo(np.int64).min)
        np.minimum.at(first, place, kernels.start_ns[known])
        np.maximum.at(last, place, kernels.start_ns[known] + kernels.duration_ns[known])
        found = [
            Step(number, float(start - origin), float(end - origin))
            for number, start, end in zip(numbers.tolist(), first.tolist(), last.tolist(), strict=True)
        ]
    else:
        found = _marked(session)
    return tuple(sorted(found, key=lambda step: step.start))


def _marked(session: Session) -> list[Step]:
    rank, origin = session.document.rank, session.origin_ns
    found: dict[int, Step] = {}
    for track in rank.tracks if rank is not None else ():
        if rank is None or track.kind is not TrackKind.HOST:
            continue
        slices = rank.slices(track.id)
        marks = {code: _MARK.search(name) for code, name in enumerate(slices.names)}
        numbers = {code: int(match.group(1)) for code, match in marks.items() if match is not None}
        for index in np.flatnonzero(np.isin(slices.name, list(numbers))).tolist() if numbers else ():
            number, start = numbers[int(slices.name[index])], float(slices.start_ns[index] - origin)
            found.setdefault(number, Step(number, start, start + float(slices.duration_ns[index])))
    return list(found.values())


def step_beside(found: tuple[Step, ...], time: float, forward: bool) -> Step | None:
    """The step after the one that is under way at `time`, or the one before; `None` at the ends."""
    if forward:
        return next((step for step in found if step.start > time + 1), None)
    return next((step for step in reversed(found) if step.start < time - 1), None)
