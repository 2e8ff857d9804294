"""
What is done with the norm of a gradient stands behind it: squares and sums of single numbers between two norms.

A plan has no such kernels, the rows beside it begin with the norm of the next weight: what stands before that one reads
what the norm before it made.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun


def take_summed_norms(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where a kernel of single numbers seems to be of the norm behind it."""
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    extra = np.append(sequence.extra, -1)[found.row] >= 0
    if not extra.any():
        return
    norm = extra & (kernels.main == family_table().number("vector_norm"))[kernel_class]
    norms = np.flatnonzero(norm)
    single = np.flatnonzero(extra & ~norm & (kernels.scalar | ~kernels.known)[kernel_class])
    after = np.searchsorted(norms, single)
    inside = (after > 0) & (after < len(norms))
    single, after = single[inside], after[inside]
    before, behind = norms[after - 1], norms[after]
    what = np.array([item.what for item in sequence.extras])
    number = sequence.extra[found.row]
    alike = (what[number[before]] == what[number[single]]) & (found.step[before] == found.step[single])
    mine = alike & (found.row[single] == found.row[behind])
    single, before = single[mine], before[mine]
    found.match(single, found.row[before])


__all__ = ["take_summed_norms"]
