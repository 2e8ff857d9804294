"""
How far other readings of a run agree with the one that is given: honest doubt about what prices alone decide.

A run is aligned once more without its habits and once with other prices. Where they disagree about kernels of one
class on one class of ops, the matches of all such kernels are less sure than one model thinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memplan.align.pairs.banded_alignment import BAND_ROWS
from memplan.align.pairs.pair_result import PairResult
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Floats, Int32s, Int64s
from memplan.core.distinct import distinct

_PRIOR = 1.0
"""Kernels that are taken to agree before any is seen."""
_MOST_MOVED = 0.01
"""Share of kernels that may stand more rows than a band has from where another reading puts them."""


def agreement(given: Int64s, others: Sequence[Int64s], kind: Int64s, kernel_class: Int32s) -> Floats:
    """
    For each kernel the share of `others` that say of its like what is `given`.

    `given` and each of `others` number what kernels are said to be; those may be of the first kernels alone. Like are
    kernels of one `kernel_class` that are said to be of one `kind`.
    """
    classes = int(kernel_class.max(initial=0)) + 1
    _, like = distinct((kind + 1) * classes + kernel_class)
    agreed, asked = np.full(like.max(initial=-1) + 1, _PRIOR), np.full(like.max(initial=-1) + 1, _PRIOR)
    for other in others:
        same = other == given[: len(other)]
        agreed += np.bincount(like[: len(other)], same, len(agreed))
        asked += np.bincount(like[: len(other)], minlength=len(asked))
    share: Floats = (agreed / asked)[like]
    return share


def stand_alike(found: PairResult, other: PairResult) -> bool:
    """Whether the kernels stand at about the same rows in both; `other` may be of the first kernels alone."""
    away = np.abs(other.place - found.place[: len(other.place)])
    return bool((away > BAND_ROWS).mean() <= _MOST_MOVED)


def doubted_by(
    sequence: PlannedSequence, found: PairResult, others: Sequence[PairResult], kernel_class: Int32s
) -> PairResult:
    """The result, less sure where others don't agree with it."""
    rows = len(sequence)
    # Other prices tell where small kernels belong, not where in the step anything stands.
    others = [each for each in others if stand_alike(found, each)]

    def scopes(row: Int64s) -> Int64s:
        return np.where(row >= 0, sequence.scope[row % rows] * len(found.row) * 2 + row // rows, -1)

    def ops(row: Int64s) -> Int64s:
        op = np.where(sequence.op >= 0, sequence.op, rows + np.arange(rows))
        return np.where(row >= 0, op[row % rows] + row // rows * 2 * rows, -1)

    # An update in pieces has a row for each of them, and is as likely as all of those together.
    several = np.bincount(sequence.op[sequence.op >= 0], minlength=1)[np.maximum(sequence.op, 0)] > 1
    pieced = (found.row >= 0) & (several & (sequence.op >= 0))[found.row % rows]
    chance = np.where(pieced, found.of_scope, found.chance)
    kind = np.where(found.row >= 0, sequence.token[found.row % rows], -1).astype(np.int64)
    of_op = agreement(ops(found.row), [ops(other.row) for other in others], kind, kernel_class)
    of_scope = agreement(scopes(found.row), [scopes(other.row) for other in others], kind, kernel_class)
    return replace(found, chance=chance * of_op, alone=found.alone * of_op, of_scope=found.of_scope * of_scope)
