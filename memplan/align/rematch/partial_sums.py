"""
Sums behind products that an op is done in: of several that each make all of what it makes, the results are added.

A product with two weights side by side (gate and up, queries, keys and values) has one gradient for what it reads; a
run that keeps the weights apart makes a part of it with each, and adds every one to those before as soon as it can.
"""

from __future__ import annotations

import math

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.likelihood import exact_ratio
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun

_ALMOST = 0.99
"""What is left of a ratio by rounding, at least."""
_REACH = 8
"""Kernels between two products of one op, at most."""
_NEAR = 3
"""Rows behind an op of products, at most, of an addition that may be planned there."""


def take_partial_sums(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where a sum right behind one of several products of an op is taken for another's."""
    sequence, ratios, kernels, kernel_class = both.sequence, both.ratios, both.kernels, both.kernel_class
    product = kernels.among(family_table().matrix_products)[kernel_class]
    mains = np.flatnonzero(product & found.core & (found.row >= 0) & (found.first == found.last))
    mains = mains[mains + 1 < len(found.row)]
    if not len(mains):
        return
    made = kernels.outputs.max(axis=1)[kernel_class]
    run = found.step * len(sequence) + found.row
    order = np.lexsort((mains, run[mains]))
    ordered = mains[order]
    beside = (run[ordered[1:]] == run[ordered[:-1]]) & (ordered[1:] - ordered[:-1] <= _REACH)
    beside &= (made[ordered[1:]] == made[ordered[:-1]]) & (made[ordered[1:]] > 0)
    later = np.zeros(len(ordered), dtype=np.bool_)
    later[1:] = beside
    pieces = ordered[later]
    # Both that are added are as large as what each product makes.
    read = kernels.inputs[kernel_class[pieces + 1]]
    both = ((read == made[pieces, None]).sum(axis=1) == 2) & ((read > 0).sum(axis=1) == 2)
    both &= (kernels.main == family_table().number("add"))[kernel_class[pieces + 1]]
    pieces = pieces[both]
    # One that is planned right behind the products is as large as they are, too, where a branch comes back.
    sums = pieces + 1
    row = found.row[sums]
    own = (row > found.row[pieces]) & (row <= found.row[pieces] + _NEAR)
    own &= ratios.core[sequence.token[row], kernel_class[sums]] >= _ALMOST * math.exp(exact_ratio())
    pieces, sums = pieces[~own], sums[~own]
    changed = found.row[sums] != found.row[pieces]
    pieces, sums = pieces[changed], sums[changed]
    found.match(sums, found.row[pieces])
    found.core[sums] = False
    found.how[sums] = HOW.index(MatchedBy.PART)
    found.chance[sums] = found.chance[pieces]
    found.scope_chance[sums] = found.scope_chance[pieces]


__all__ = ["take_partial_sums"]
