"""
What a run does to an op it does in every layer: the habits of one run, learnt from a first alignment of it.

A small kernel between two ops may belong to either; where it stands before the first such op and behind none, it is
each time before. The shares in which kernels of a class stand before and behind ops of a class change the ratios that
a second alignment goes by (expectation-maximisation with hard assignments).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memplan.align.classes.likelihood import Likelihoods, pair_model
from memplan.core.arrays import Float32s, Int32s, Int64s


def with_habits(ratios: Likelihoods, token: Int32s, row: Int64s, kernel_class: Int32s) -> Likelihoods:
    """
    Ratios of parts as one run has them: `row` is the row of each kernel, counted on over steps, -1 for none.

    `token` is the class of every row of a step.
    """
    matched = np.flatnonzero(row >= 0)
    if not len(matched):
        return ratios
    rows, kind = row[matched], kernel_class[matched]
    mine = token[rows % len(token)]
    core, part = ratios.core[mine, kind], np.maximum(ratios.before[mine, kind], ratios.behind[mine, kind])
    place = np.arange(len(matched))
    # The main kernel of each run of an op is the one that fits it best.
    order = np.lexsort((-core, rows))
    first = np.concatenate(([True], np.diff(rows[order]) != 0))
    mains = order[first]
    main_of = np.empty(len(matched), dtype=np.int64)
    main_of[order] = mains[np.cumsum(first) - 1]
    has_main = (core >= part)[main_of]
    helper = has_main & (place != main_of)
    before, behind = helper & (place < main_of), helper & (place > main_of)
    shape = ratios.core.shape
    runs = np.zeros(shape[0])
    with_main = mains[has_main[mains]]  # an op written out in parts tells nothing of what stands around a kernel
    np.add.at(runs, mine[with_main], 1.0)

    def habit(chosen: NDArray[np.bool_]) -> Float32s:
        counts = np.zeros(shape, order="F")
        np.add.at(counts, (mine[chosen], kind[chosen]), 1.0)
        rules = pair_model()["habits"]
        share = (counts + rules["prior"] * rules["usual"]) / (runs[:, None] + rules["prior"])
        factor: Float32s = np.clip(share / rules["usual"], rules["least"], rules["most"]).astype(np.float32)
        return factor

    leads = ratios.before * habit(before)
    written = ~has_main
    opens = _opening(shape, mine[written], kind[written], rows[written])
    return ratios._replace(before=leads, behind=ratios.behind * habit(behind), opens=leads * opens)


def _opening(shape: tuple[int, ...], mine: Int32s, kind: Int32s, rows: Int64s) -> Float32s:
    """
    How much likelier kernels of a class are the first of an op of a class than any other of it.

    Given are those of ops that are written out: these begin with the same one each time, which tells where one of
    two such neighbours ends.
    """
    rules = pair_model()["habits"]
    firsts = np.unique(rows, return_index=True)[1]
    begun, every = np.zeros(shape), np.zeros(shape)
    np.add.at(begun, (mine[firsts], kind[firsts]), 1.0)
    np.add.at(every, (mine, kind), 1.0)
    share = np.divide(every, every.sum(axis=1, keepdims=True), out=np.ones(shape), where=every > 0)
    factor = (begun + rules["prior"] * share) / (begun.sum(axis=1, keepdims=True) + rules["prior"]) / share
    found: Float32s = np.asfortranarray(np.where(every > 0, np.clip(factor, rules["least"], rules["most"]), 1.0))
    return found.astype(np.float32)
