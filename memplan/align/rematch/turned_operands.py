"""
Kernels that turn what an op reads into another layout: of that op, not of the one before it that read the same thing.

Once its main kernel has run, an op can only turn what it made. A kernel behind it that turns something of another size,
such as what both products of a way back read, does it for the next one.
"""

from __future__ import annotations

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun

_TURNING = ("transpose", "copy")
_MOST = 3
"""Kernels between two ops that turn something: a product reads two things, and its result may be turned before it."""


def take_turned_operands(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where what turns an operand of an op seems to turn a result of the one before it."""
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    known = family_table()
    beside = kernels.among(known.apart)[kernel_class]
    turns = kernels.among([known.number(name) for name in _TURNING])[kernel_class] & ~found.core
    largest = kernels.operands.max(axis=1)
    reads, makes = kernels.inputs.any(axis=1)[kernel_class], kernels.outputs.any(axis=1)[kernel_class]
    mains = np.flatnonzero(found.core & (found.row >= 0) & ~beside)
    main, after = mains[:-1], mains[1:]
    # Of both it is known what they read and make, and nothing but what is turned stands between them.
    between = after - main - 1
    plain = (between > 0) & (between <= _MOST) & (found.row[main] != found.row[after])
    plain &= makes[main] & reads[after] & (found.first[after] == found.last[after])
    plain &= (sequence.op[found.row[main]] >= 0) & (sequence.op[found.row[after]] >= 0)
    others = np.concatenate(([0], np.cumsum(~turns)))
    plain &= others[after] == others[main + 1]
    # Whether what is turned, by its class, is as large as what the next one reads, and as what the one before makes.
    of_read: dict[tuple[int, int], bool] = {}
    of_made: dict[tuple[int, int], bool] = {}
    for own, following in zip(main[plain].tolist(), after[plain].tolist(), strict=True):
        of_next = False
        for kernel in range(own + 1, following):
            kind, maker, reader = (int(kernel_class[each]) for each in (kernel, own, following))
            if (kind, reader) not in of_read:
                of_read[kind, reader] = largest[kind] > 1 and largest[kind] in kernels.inputs[reader]
            if (kind, maker) not in of_made:
                of_made[kind, maker] = largest[kind] in kernels.outputs[maker]
            if not of_read[kind, reader]:
                break
            # What is turned behind an operand of the next op is one, too, whatever sizes tell.
            of_next |= not of_made[kind, maker]
            if of_next and found.row[kernel] in (found.row[own], -1):
                for name in ("row", "first", "last", "step", "place"):
                    column = getattr(found, name)
                    column[kernel] = column[following]
                found.chance[kernel] = min(found.chance[own], found.chance[following])
                found.scope_chance[kernel] = min(found.scope_chance[own], found.scope_chance[following])
                found.how[kernel] = HOW.index(MatchedBy.PART)


__all__ = ["take_turned_operands"]
