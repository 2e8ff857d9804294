"""How the operands of a planned op compare with those of kernels: shares, pieces, groups, in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClasses
from memplan.core.arrays import Bools

_MOST_PIECES = 256
"""Kernels at most that update one planned weight: experts and their parts that the plan has as one."""
_ANY_PARTS = range(1, 5)
"""Equal parts into which a matrix may be cut where a plan doesn't tell: keys, values and queries, or gate and up."""


@dataclass(frozen=True, slots=True)
class OperandRelation:
    """
    How the operands of one class of ops compare with those of all classes of kernels.

    `kernel_share` is the share of a kernel's operands that the op has, `op_share` that of the op's that the kernel
    has, `reads_all` whether it has all that the op reads, `output` whether the main output is among the op's,
    `largest` whether a kernel's largest operand is, `half` whether twice that is, as of an op written out in
    halves, `even` whether it goes into the op's a whole number of times, `some` whether it may be of some of the
    tokens, `reduced` whether it has one element for each of the op's rows, `strange_output` whether the kernel
    makes what the op only reads, `aside` whether a kernel's largest operand is of the size of one that the op only
    reads, beside its larger first one; `piece` and `covers` are for products: one dimension is smaller or larger,
    the others equal.
    """

    kernel_share: NDArray[np.float64]
    op_share: NDArray[np.float64]
    reads_all: Bools
    output: Bools
    inputs_known: Bools
    piece: Bools
    covers: Bools
    largest: Bools
    half: Bools
    even: Bools
    in_order: Bools
    some: Bools
    reduced: Bools
    strange_output: Bools
    aside: Bools


def operand_relation(ops: TokenClasses, row: int, kernels: TokenClasses) -> OperandRelation:
    mine = [size for size in ops.operands[row].tolist() if size > 0]
    made = [size for size in ops.outputs[row].tolist() if size > 0]
    operands = kernels.operands
    there = operands > 0
    count = there.sum(axis=1)
    of_size = {size: operands == size for size in mine}
    hits = sum(of_size.values(), np.zeros(operands.shape, dtype=np.bool_)).sum(axis=1)  # no operand has two sizes
    kernel_share = np.where(count > 0, hits / np.maximum(count, 1), 0.0)
    has = {size: equal.any(axis=1) for size, equal in of_size.items()}
    found = [has[size] for size in mine]
    op_share = np.mean(found, axis=0) if found else np.zeros(len(kernels))
    read = [has[size] for size in ops.inputs[row].tolist() if size > 0]
    reads_all = np.all(read, axis=0) if read else np.zeros(len(kernels), dtype=np.bool_)
    output = np.isin(kernels.outputs.max(axis=1), made) & (kernels.outputs.max(axis=1) > 0)
    nothing = np.zeros(len(kernels), dtype=np.bool_)
    piece = covers = in_order = nothing
    if int(ops.main[row]) in family_table().matrix_products and len(made) >= 1:
        piece, covers, in_order = _pieces(ops, row, kernels)
        if ops.groups[row] > 1:
            of_group, as_planned = _of_one_group(ops, row, kernels)
            piece, in_order = piece | of_group, in_order | as_planned
    most = operands.max(axis=1)
    largest, half = np.isin(most, mine) & (most > 0), np.isin(most * 2, mine) & (most > 0)
    some = np.zeros(len(kernels), dtype=np.bool_)
    for width in ops.widths[row]:
        some |= (most > 0) & (most % width == 0) & (most < max(mine, default=0))
    size = max(mine, default=0)
    even = (most > 0) & (size % np.maximum(most, 1) == 0) & (size // np.maximum(most, 1) <= _MOST_PIECES)
    reduced = np.isin(most, ops.reduced[row]) & (most > 0)
    makes = kernels.outputs.max(axis=1)
    strange = (makes > 0) & np.isin(makes, mine) & ~np.isin(makes, made)
    beside = [item for item in ops.inputs[row, 1:].tolist() if 0 < item < ops.inputs[row, 0] and item not in made]
    aside = np.isin(most, beside)
    return OperandRelation(
        kernel_share, op_share, reads_all, output, kernels.inputs.any(axis=1), piece, covers, largest, half, even,
        in_order, some, reduced, strange, aside,
    )  # fmt: skip


def _pieces(ops: TokenClasses, row: int, kernels: TokenClasses) -> tuple[Bools, Bools, Bools]:
    """
    Products with one dimension cut or grown: two of the three sizes scale alike, the third is equal.

    Also whether the factors stand in the op's order.
    """
    a, b = (float(size) for size in ops.inputs[row, :2])
    c = float(ops.outputs[row, 0])
    x, y, z = _factors(kernels)
    piece, covers = (np.zeros(len(kernels), dtype=np.bool_) for _ in range(2))
    in_order = (x == a) & (y == b)
    if min(a, b, c) <= 0:
        return piece, covers, in_order
    for first, second in ((x, y), (y, x)):
        for equal, grown in (
            ((first, a), ((second, b), (z, c))),
            ((second, b), ((first, a), (z, c))),
            ((z, c), ((first, a), (second, b))),
        ):
            same = equal[0] == equal[1]
            ratios = [size / own for size, own in grown]
            alike = np.isclose(ratios[0], ratios[1], rtol=1e-9) & same & (z > 0)
            piece |= alike & (ratios[0] < 1.0) & (ratios[0] > 0.0)
            covers |= alike & (ratios[0] > 1.0)
            if first is x:
                in_order |= alike
    return piece, covers, in_order


def _factors(kernels: TokenClasses) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sizes of both factors and of the product."""
    return (
        kernels.inputs[:, 0].astype(np.float64),
        kernels.inputs[:, 1].astype(np.float64),
        kernels.outputs[:, 0].astype(np.float64),
    )


def _of_one_group(ops: TokenClasses, row: int, kernels: TokenClasses) -> tuple[Bools, Bools]:
    """Products with the matrix of one group, or a part it may be cut in, and some tokens; whether in the op's order."""
    a, b = (float(size) for size in ops.inputs[row, :2])
    c, groups = float(ops.outputs[row, 0]), int(ops.groups[row])
    x, y, z = _factors(kernels)
    found, in_order = (np.zeros(len(kernels), dtype=np.bool_) for _ in range(2))
    of_weight = bool(ops.makes_groups[row])
    known = (x > 0) & (y > 0) & (z > 0)
    each = (c if of_weight else b) / groups
    cuts = {round(each / size) for made, out in ops.pieces[row] if (size := out[0] if of_weight else made[1])}
    for first, second in ((x, y), (y, x)):
        matrix, tokens, others, whole, wide, narrow = (
            (z, first, second, c, a, b) if of_weight else (second, first, z, b, a, c)
        )
        parts = whole / groups / np.where(known, matrix, 1.0)
        share, other = tokens / wide, others / narrow
        some = known & (share <= 1.0) & (other <= 1.0)
        equal = np.isclose(parts, np.round(parts)) & np.isin(np.round(parts), list(cuts or _ANY_PARTS))
        alike = np.isclose(share, other) | np.isclose(share, other * parts) | np.isclose(share * parts, other)
        found |= some & equal & alike
        if first is x:
            in_order |= some & equal & alike
    return found, in_order
