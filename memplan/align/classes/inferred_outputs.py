"""What a kernel makes where a table has its inputs alone, as profilers of host ops write it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from memplan.align.classes.op_families import family_table

Dims = Sequence[int]


def inferred_outputs(family: int, inputs: Sequence[Dims]) -> tuple[int, ...]:
    """
    Elements of the output of a kernel of that family and those inputs; empty where they don't tell it.

    A product's output has the sides that its factors don't share (the last two operands of two sides or more: a bias
    comes first); elementwise families make what their operands broadcast to, a concatenation has all that it reads, a
    scatter makes what it scatters into.
    """
    known = family_table()
    if family in known.keeping_size:
        return (_broadcast(inputs),) if inputs else ()
    if family == known.number("concat"):
        return (sum(map(prod, inputs)),) if inputs else ()
    if family == known.number("scatter"):
        return (prod(inputs[0]),) if inputs else ()
    if family == known.number("product"):
        factors = [dims for dims in inputs if len(dims) >= 2][:2] or [dims for dims in inputs if dims][:2]
        return _product(*factors) if len(factors) == 2 else ()
    return ()


def _broadcast(inputs: Sequence[Dims]) -> int:
    """Elements of what shapes broadcast to; of the largest where they don't."""
    rank = max(len(dims) for dims in inputs)
    padded = [[1] * (rank - len(dims)) + list(dims) for dims in inputs]
    if all(len({size for size in sizes if size != 1}) <= 1 for sizes in zip(*padded, strict=True)):
        return prod(max(sizes) for sizes in zip(*padded, strict=True))
    return max(prod(dims) for dims in inputs)


def _product(a: Dims, b: Dims) -> tuple[int, ...]:
    """Elements of `a·b`, or of what comes out with one or both of them transposed where only one of that fits."""
    if len(a) < 2 or len(b) < 2:
        return ()
    batch = max(prod(a[:-2]), prod(b[:-2]))
    if a[-1] == b[-2]:
        return (batch * a[-2] * b[-1],)
    found = {
        batch * a[left] * b[right]
        for shared, left, other, right in ((-1, -2, -1, -2), (-2, -1, -2, -1), (-2, -1, -1, -2))
        if a[shared] == b[other]
    }
    return tuple(found) if len(found) == 1 else ()
