"""Columns that the loops of an alignment read: of planned ops, of where their groups begin and end, and of kernels."""

from __future__ import annotations

from typing import NamedTuple

from memplan.core.arrays import Float32s, Int32s, Int64s

PART, CORE, UNPLACED, MISSED = 0, 1, 2, 3
"""States of a cell, a kernel at an op: parts so far, core seen, kernel in no plan, op left out."""


class OpColumns(NamedTuple):
    """What the loops read of planned ops, by row."""

    token: Int32s
    """Class of the op, the second index of the ratios."""
    scope: Int64s
    """What the op is of the model, -1 where it is of none."""
    name: Int64s
    place: Int64s
    """Where the op stands in the order of its step."""
    time: Float32s
    """Planned ns."""
    stay: Float32s
    """Price of going on with the op behind its core."""
    lead: Float32s
    """Price of what stands before its core."""
    bare: Float32s
    """Price of leaving it without its core."""
    skip: Float32s
    """Price of leaving it out."""
    skip_on: Float32s
    """Price of leaving it out after another that is left out."""
    passed: Float32s
    """What leads on from the row once it is left out."""
    entry: Float32s
    """1 for ops with which a step may begin, 0 for others."""
    ends: Float32s
    """How likely a step ends after the op."""
    group: Int64s
    """Number of the group, whose order is free at the price `loose`."""
    block: Int64s
    """Number of the layer."""
    loose: Float32s
    """Price of a jump within the group."""
    since: Int64s
    """Number of the first kernel that may run the op, for kernels that stand between places."""
    until: Int64s
    """Number of the last one that may."""


class StepPrices(NamedTuple):
    """Prices and factors that are the same at every row of a plan."""

    unplanned: float
    """Of a kernel that no op runs."""
    unplanned_on: float
    """Of another one behind it."""
    back: float
    """Of coming back from those to the op before them."""
    jump: float
    """Of going on anywhere else."""
    wrap: float
    """Of beginning the step again."""
    same_name: float
    """Factor of names that are equal."""
    other_name: float
    """Factor of names that differ."""
    near_jump: float
    """Of a jump within `_REACH` rows of `pair_weights`."""
    neighbour_jump: float
    """Of a jump to one among its `_NEARBY`."""
    spread: float
    """Standard deviation of the logarithm of a collective's time by the planned one."""


class EndCosts(NamedTuple):
    """What it costs a run to begin or end somewhere in a step: natural logarithms, as the prices."""

    begin: float
    """Of beginning with a step."""
    begin_inside: float
    """Of beginning inside one."""
    end: float
    """Of ending with a step."""
    end_inside: float
    """Of ending inside one."""


class OpSpans(NamedTuple):
    """Where the groups and layers of planned ops lie, by row."""

    group_from: Int64s
    """First row of the group."""
    group_to: Int64s
    """Row after the last of the group."""
    block_from: Int64s
    """First row of the layer."""
    block_to: Int64s
    """Row after the last of the layer."""


class RunColumns(NamedTuple):
    """
    What the loops read of kernels, in the order in which they ran.

    A kernel with a `before` of at least 0 stands between the places `after` and `before`, with `off` others without a
    place between it and the nearer one: ops far from both fit it less, as do ops that are planned to take longer. It is
    the one of that `number` in the run.
    """

    token: Int32s
    """Class of the kernel, the first index of the ratios."""
    low: Int64s
    """First row of the band that the kernel sees."""
    name: Int64s
    after: Int64s
    before: Int64s
    off: Int64s
    number: Int64s
    time: Float32s
    """Measured ns."""
