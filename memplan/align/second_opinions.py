"""
How far other readings of a run agree with the one that is given: honest doubt about what prices alone decide.

A run is aligned once more without its habits and once with other prices. Where they disagree about kernels of one
class on one class of ops, the matches of all such kernels are less sure than one model thinks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.core.arrays import Floats, Int32s, Int64s

_PRIOR = 1.0
"""Kernels that are taken to agree before any is seen."""


def agreement(given: Int64s, others: Sequence[Int64s], kind: Int64s, kernel_class: Int32s) -> Floats:
    """
    For each kernel the share of `others` that say of its like what is `given`.

    `given` and each of `others` number what kernels are said to be; those may be of the first kernels alone. Like are
    kernels of one `kernel_class` that are said to be of one `kind`.
    """
    _, like = np.unique(np.stack([kind, kernel_class.astype(np.int64)]), axis=1, return_inverse=True)
    like = like.reshape(-1)
    agreed, asked = np.full(like.max(initial=-1) + 1, _PRIOR), np.full(like.max(initial=-1) + 1, _PRIOR)
    for other in others:
        same = other == given[: len(other)]
        agreed += np.bincount(like[: len(other)], same, len(agreed))
        asked += np.bincount(like[: len(other)], minlength=len(asked))
    share: Floats = (agreed / asked)[like]
    return share
