"""How much slower some steps are, by what their kernels take beside the same kernels of other steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.medians import median_of, medians_of_kinds, weighted_median


@dataclass(frozen=True, slots=True)
class StepPace:
    """
    By step, by which share kernels take longer than the same kernels do in the fastest step.

    `by_time` is so of most kernels by the time that they take, `by_number` of most by their number. `scatter` is what
    chance makes of the latter, and `kernels` how many of a step could be held against others.
    """

    by_time: Floats
    by_number: Floats
    scatter: Floats
    kernels: Int64s


def step_pace(kind: Int64s, length_ns: Floats, step: Int64s, steps: int) -> StepPace:
    """
    How much slower each of `steps` is; kernels of one `kind` have as much to do, and those that ran once tell nothing.

    `step` is the place of the step that each kernel began in. A step without kernels is as fast as the fastest.
    """
    usual = medians_of_kinds(kind, length_ns, least=2)[kind]
    ratio = length_ns / np.maximum(usual, 1.0)
    typical, scatter = np.zeros((2, steps)), np.zeros(steps)
    kernels = np.zeros(steps, dtype=np.int64)
    for place in range(steps):
        mine = np.flatnonzero((step == place) & ~np.isnan(ratio))
        kernels[place] = len(mine)
        if not len(mine):
            continue
        typical[:, place] = weighted_median(ratio[mine], length_ns[mine]), median_of(ratio[mine])
        scatter[place] = 3 * median_of(np.abs(ratio[mine] - typical[1, place])) / np.sqrt(len(mine))
    slower, told = np.zeros((2, steps)), kernels > 0
    if told.any():
        slower[:, told] = typical[:, told] / typical[:, told].min(axis=1, keepdims=True) - 1
    return StepPace(slower[0], slower[1], scatter, kernels)
