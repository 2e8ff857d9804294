"""
How well the time of a kernel without shapes fits each op that it may run, as far as times agree with the plan.

A first alignment tells of each family of ops how measured times follow planned ones, and how far they stray from that.
An op speaks for a kernel by how much likelier that time is of it than of any op such kernels run (Bayes' theorem).
Where a run's times have nothing to do with the plan's, or its first alignment is wrong, they stray as far as times
differ at all: then every ratio is about one, and times tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.align.classes.likelihood import Likelihoods
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Float32s, Floats, Int32s, Int64s

_BIN = 0.2
"""Width of the classes of times, in logarithms."""
_SPREAD, _SPREAD_KERNELS = 1.0, 4.0
"""Standard deviation of logarithms of times by planned ones before any is seen, and how many kernels that is worth."""
_SLOPE_WEIGHT, _MOST_SLOPE = 1.0, 3.0
"""How much speaks for times proportional to planned ones before any is seen, and the most that they may differ more."""
_FEWEST = 12
"""Kernels on ops of a family from which their times tell how such times follow planned ones."""
_ASTRAY = 0.1
"""Share of kernels whose times tell nothing: something stopped them."""


@dataclass(frozen=True, slots=True)
class TimedClasses:
    """
    Classes of kernels by what they are and how long they took.

    `kernel_class` is that of each kernel, `untimed[c]` what kernels of class `c` are, `factor[op, c]` how much their
    time speaks for ops of a class.
    """

    kernel_class: Int32s
    untimed: Int64s
    factor: Float32s

    def ratios(self, of: Likelihoods) -> Likelihoods:
        """Those of untimed classes with what times say of kernels that run an op; of its parts they say nothing."""
        timed = Likelihoods(*(np.asfortranarray(ratio[:, self.untimed]) for ratio in of))
        return timed._replace(core=np.asfortranarray(timed.core * self.factor))


@dataclass(frozen=True, slots=True)
class _TimeLine:
    """The logarithm of times of a family of ops: `usual` + `slope` x that of the planned time, straying by `spread`."""

    usual: float
    slope: float
    spread: float


def timed_classes(both: PlanAndRun, row: Int64s) -> TimedClasses:
    """
    Classes of kernels without shapes by how long they took.

    `row` is the row of each kernel in a first alignment, counted on over steps, -1 for none.
    """
    sequence, ratios, kernel_class, times = both.sequence, both.ratios, both.kernel_class, both.times
    measured = np.log(np.maximum(times, 1.0).astype(np.float64))
    planned, family = _planned_times(sequence), sequence.classes.main
    token = sequence.token[row % len(sequence)].astype(np.int64)
    told = (row >= 0) & (times > 0) & np.isfinite(planned)[token]
    told &= (ratios.core >= np.maximum(ratios.behind, 1.0))[token, kernel_class]
    lines = {
        number: _line(planned[token[mine]], measured[mine])
        for number in np.unique(family[token[told]]).tolist()
        for mine in [told & (family[token] == number)]
        if mine.sum() >= _FEWEST
    }
    bins = np.where(times > 0, np.round(measured / _BIN).astype(np.int64), -1)
    timed, number = np.unique(np.stack((kernel_class.astype(np.int64), bins)), axis=1, return_inverse=True)
    factor = np.ones((len(planned), timed.shape[1]), dtype=np.float32)
    for column, (kind, at) in enumerate(timed.T.tolist()):
        ran = token[told & (kernel_class == kind)]
        if at >= 0 and np.isin(family[ran], list(lines)).any():
            factor[:, column] = _factors(lines, family, planned, np.bincount(ran, minlength=len(planned)), at * _BIN)
    return TimedClasses(number.reshape(-1).astype(np.int32), timed[0], factor)


def _planned_times(sequence: PlannedSequence) -> Floats:
    """The logarithm of the planned time of each class of ops, NaN where none has one."""
    found = np.full(len(sequence.classes), np.nan)
    timed = np.flatnonzero((sequence.op >= 0) & (sequence.time > 0))
    logarithm = np.log(sequence.time[timed].astype(np.float64))
    total, count = (np.bincount(sequence.token[timed], of, len(found)) for of in (logarithm, None))
    some = count > 0
    found[some] = total[some] / count[some]
    return found


def _line(planned: Floats, measured: Floats) -> _TimeLine:
    """How times follow planned ones: least squares, held back from steep lines and narrow spreads by a few kernels."""
    middle, usual = float(np.mean(planned)), float(np.mean(measured))
    off, took = planned - middle, measured - usual
    slope = float((off * took).sum() + _SLOPE_WEIGHT) / (float((off * off).sum()) + _SLOPE_WEIGHT)
    slope = min(max(slope, 0.0), _MOST_SLOPE)
    strayed = float(((took - slope * off) ** 2).sum())
    spread = float(np.sqrt((_SPREAD**2 * _SPREAD_KERNELS + strayed) / (_SPREAD_KERNELS + len(planned))))
    return _TimeLine(usual - slope * middle, slope, spread)


def _factors(lines: dict[int, _TimeLine], family: Int32s, planned: Floats, ran: Int64s, measured: float) -> Floats:
    """By how much that time is likelier of each class of ops than of those such kernels `ran` so often."""
    density = np.full(len(planned), np.nan)
    for number, line in lines.items():
        mine = (family == number) & np.isfinite(planned)
        off = (measured - line.usual - line.slope * planned[mine]) / line.spread
        density[mine] = np.exp(-0.5 * off * off) / line.spread
    told = np.isfinite(density)
    usual = float((density[told] * ran[told]).sum() / ran[told].sum())
    mixed = (1.0 - _ASTRAY) * density + _ASTRAY * usual
    found: Floats = np.where(told, mixed / max(usual, 1e-12), 1.0)
    return found


__all__ = ["TimedClasses", "timed_classes"]
