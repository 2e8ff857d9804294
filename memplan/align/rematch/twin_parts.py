"""
Small kernels behind one of several ops of a kind, and behind the others of it.

A framework launches one and the same sequence for every op of a kind: a copy behind the rotary embedding of queries
that can't be anything else's tells that the copy behind the keys' is of that, too, though attention reads as much.
Where both are found alike, each is as sure as the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Bools, Floats, Int64s

_REACH = 3
"""Kernels behind an op that are looked at."""
_FEWEST = 3
"""Ops of a class that tell what it is like."""
_EACH = 0.9
"""The share of a class in which something is found that is so of all of it."""
_CLEARLY = 4.0
"""By what factor the ratio of the op is above that of the next one where nothing else is likely."""
_AS_WELL = 0.9
"""By what factor it is at least where it may as well be the next one."""


@dataclass(frozen=True, slots=True)
class _Behind:
    """
    What stands at one place behind the main kernels of ops: `kernel`, the `main` kernel, and the numbers of its `kind`
    (one for all ops of a family and what stands behind them) and of the `group` it is of: of one class of ops.

    `own` is whether it is matched with that op, `free` whether with the next one or none; `ratio` is by what factor it
    fits that op better than the next one.
    """

    kernel: Int64s
    main: Int64s
    kind: Int64s
    group: Int64s
    own: Bools
    free: Bools
    ratio: Floats


def take_twin_parts(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where an op doesn't have, or hardly surely, what its like surely have behind them."""
    sequence, ratios, kernels, kernel_class = both.sequence, both.ratios, both.kernels, both.kernel_class
    mains = np.flatnonzero(found.core & (found.row >= 0))
    classes = int(kernel_class.max(initial=0)) + 1
    next_row = np.append(found.first[mains[1:]], -1)
    step = found.step[mains]
    last = np.append(step[1:] != step[:-1], True)
    alone = np.flatnonzero(~last & (found.first[mains] == found.last[mains]) & (sequence.op[found.row[mains]] >= 0))
    # What is directly behind the first main kernel of an op, up to the next one.
    room = np.diff(np.append(mains, len(found.row)))[alone] - 1
    token = sequence.token[found.row[mains[alone]]].astype(np.int64)
    group = token * classes + kernel_class[mains[alone]]
    every = np.bincount(group, minlength=len(sequence.classes) * classes)
    operands = np.hstack([kernels.outputs, kernels.inputs])
    largest = operands.max(axis=1)
    families = int(max(sequence.classes.main.max(initial=0), kernels.main.max(initial=0))) + 1
    kind = sequence.classes.main[token].astype(np.int64) * families + kernels.main[kernel_class[mains[alone]]]
    there = np.arange(len(alone))
    for away in range(1, _REACH + 1):
        there = there[room[there] >= away]
        kernel = mains[alone[there]] + away
        # Which operand of the main kernel it is as large as.
        of_main = operands[kernel_class[mains[alone[there]]]] == largest[kernel_class[kernel], None]
        sized = of_main.any(axis=1) & (largest[kernel_class[kernel]] > 0)
        there, which = there[sized], of_main[sized].argmax(axis=1)
        if not len(there):
            return
        main, after = mains[alone[there]], next_row[alone[there]]
        kernel = main + away
        of_next = ratios.before[sequence.token[after], kernel_class[kernel]]
        ratio = ratios.behind[token[there], kernel_class[kernel]] / np.maximum(of_next, np.finfo(np.float32).tiny)
        next_kind = (kind[there] * families + kernels.main[kernel_class[kernel]]) * operands.shape[1] + which
        _, number = np.unique(next_kind, return_inverse=True)
        kind[there] = number
        _, of, count = np.unique(number * len(every) + group[there], return_inverse=True, return_counts=True)
        enough = (count >= _EACH * np.maximum(every[group[there]][np.unique(of, return_index=True)[1]], _FEWEST))[of]
        row = found.row[kernel]
        own, free = row == found.row[main], (row == after) | (row < 0)
        _as_their_like(_Behind(*(each[enough] for each in (kernel, main, number, of, own, free, ratio))), found)


def _as_their_like(behind: _Behind, found: KernelAssignment) -> None:
    """Let kernels be parts of the op before them, as surely as behind the surest class of ops of the kind."""
    if not len(behind.kernel):
        return
    size = np.maximum(np.bincount(behind.group), 1)

    def share(which: Bools | Floats) -> Floats:
        mean: Floats = np.bincount(behind.group, which) / size
        return mean

    kind_of = np.zeros(len(size), dtype=np.int64)
    kind_of[behind.group] = behind.kind
    clear = share(behind.own & (behind.ratio >= _CLEARLY)) >= _EACH
    sure, of_scope = share(found.chance[behind.kernel]), share(found.scope_chance[behind.kernel])
    for kind in np.unique(kind_of[clear & (np.bincount(behind.group) > 0)]).tolist():
        witnesses = np.flatnonzero(clear & (kind_of == kind))
        best = int(witnesses[np.argmax(of_scope[witnesses])])
        mine = behind.own | (behind.free & (behind.ratio >= _AS_WELL))
        mine &= (behind.kind == kind) & (behind.group != best)
        kernel, row = behind.kernel[mine], found.row[behind.main[mine]]
        changed = ~behind.own[mine]
        for chances, surest in ((found.chance, sure[best]), (found.scope_chance, of_scope[best])):
            chances[kernel] = np.where(changed, surest, np.maximum(chances[kernel], surest))
        found.match(kernel, row)
        found.how[kernel[changed]] = HOW.index(MatchedBy.PART)


__all__ = ["take_twin_parts"]
