"""What a kernel has in common with others, as far as their times deviate from the model alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memplan.cost.kernels.kernel import Kernel, Operand, logical_row

_STEPS = 16
"""Steps in which shares in L2 are told apart, so that equal kernels meet equal costs."""


@dataclass(frozen=True, slots=True)
class L2State:
    """
    What a kernel meets in L2, as shares (0 to 1) of the bytes that it reads.

    `hot` is the share that L2 holds, `None` where nobody knows what ran before it; each operand then comes from HBM
    when it is first touched. `pushed` is the share whose reading pushes results of others out to HBM, `None` where
    nobody knows or asks: only a calibration does. `clean` where nothing in L2 has to be written back, as when it was
    emptied before: kernels among others meet what those wrote.
    """

    hot: float | None = None
    pushed: float | None = None
    clean: bool = False

    def stepped(self) -> L2State:
        """The state in steps as costs tell it apart."""
        return L2State(_stepped(self.hot), _stepped(self.pushed), self.clean)


def _stepped(share: float | None) -> float | None:
    return None if share is None else round(share * _STEPS) / _STEPS


UNKNOWN_L2 = L2State()
"""That of a kernel of which nobody knows what ran before it."""
CLEARED_L2 = L2State(0.0, clean=True)
"""That of a kernel before which caches were cleared, as benchmarks do."""


@dataclass(frozen=True, slots=True)
class PlainTimes:
    """
    What the model gives a kernel without a calibration.

    Nanoseconds run alone (`alone_ns`), in its place among others (`ordered_ns`), and with L2 full of what others wrote,
    so that its own results push as much out to HBM (`through_ns`). `read_ns` is what its reads take at HBM's stated
    rate, were none of them in L2. `filled` is what it moves over what L2 holds;
    `known` is false where the operands did not suffice.
    """

    alone_ns: int
    ordered_ns: int
    through_ns: int
    read_ns: float
    filled: float
    bound: str
    known: bool

    @property
    def place(self) -> float:
        """How much longer than alone the model has it in its place."""
        return max(self.ordered_ns, 1) / max(self.alone_ns, 1)


@dataclass(frozen=True, slots=True)
class Trait:
    """
    Type, bound, data type of the first input ("" where that is not told), and logarithms of what else tells how a
    kernel deviates.

    `size` is of its model time run alone (ns), `row`, `rows` and `read_row` of a row of its result (`row_length`), of
    how many of them it has and of a row of its first input, `filled` of what it moves over what L2 holds, `through`
    and `order` of how much longer than alone the model has it with L2 full of others' results and in its place among
    others, `pushed` of how much longer with what its reads push out of L2 at HBM's rate. `hot` is the share of its
    reads that L2 seems to have held; both are `None` where nobody knows the others.
    """

    type: str
    bound: str
    size: float
    row: float
    rows: float = 0.0
    read_row: float = 0.0
    filled: float = 0.0
    through: float = 0.0
    order: float = 0.0
    pushed: float | None = 0.0
    hot: float | None = 0.0
    dtype: str = ""

    def speaks_for(self, other: Trait) -> bool:
        """Whether it is of the type and data type of `other`, as far as that is told."""
        return self.type == other.type and self.dtype in ("", other.dtype)


def trait_of(kernel: Kernel, plain: PlainTimes, l2: L2State) -> Trait:
    """The trait of `kernel`, which met `l2`."""
    shaped = [operand for operand in (*kernel.outputs, *kernel.present) if operand.shape]
    # A filter in blocks is told by the image that it goes with, which says how its kernel is cut.
    images = [operand for operand in shaped if operand.is_blocked_image]
    told = images[0] if images and shaped[0].layout == "FRACTAL_Z" else shaped[0] if shaped else None
    length = row_length(told) if told else 1
    read = row_length(kernel.present[0]) if kernel.present and kernel.present[0].shape else 1
    alone = _logarithm(plain.alone_ns)
    return Trait(
        kernel.type,
        plain.bound,
        alone,
        _logarithm(length),
        _logarithm(told.count / length if told and length else 1),
        _logarithm(read),
        math.log(max(plain.filled, _LEAST_FILLED)),
        _logarithm(plain.through_ns) - alone,
        _logarithm(plain.ordered_ns) - alone,
        None if l2.pushed is None else math.log1p(l2.pushed * plain.read_ns / max(plain.alone_ns, 1)),
        l2.hot,
        next((operand.dtype for operand in kernel.operands), ""),
    )


def mean_place(traits: Sequence[Trait]) -> Trait:
    """The trait of a kernel measured in several places, with what it found in these on average."""
    hot, order, pushed = (
        sum(values) / len(traits)
        for values in (
            [each.hot or 0.0 for each in traits],
            [each.order for each in traits],
            [each.pushed or 0.0 for each in traits],
        )
    )
    return replace(traits[0], hot=hot, order=order, pushed=pushed)


def row_length(operand: Operand) -> int:
    """
    Elements of a row of `operand`, which has dimensions: the last one, as the op and not as its blocks have it.

    Of an image in blocks of channels it is the pixels of one channel: the last dimension is 16 or 8 for all of them.
    """
    return operand.shape[2] * operand.shape[3] if operand.is_blocked_image else logical_row(operand)


_LEAST_FILLED = 1e-6
"""Kernels that move less of L2 than this are alike in that."""


def _logarithm(value: float) -> float:
    return math.log(max(value, 1))
