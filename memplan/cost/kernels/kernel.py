"""
One kernel: an op type, its operands and its attributes, apart from any graph or profile.

Equal kernels are equal objects, so that each is costed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from memplan.graph.model import DTYPE_BITS

Attribute = str | int | float | bool | None
CPU_CORES = "AI_CPU", "AICPU", "HOST_CPU"
"""Units of profiles that are no AI cores, in capitals."""
BLOCKED_DIMS = 5
"""Dimensions of an image of blocks of channels (NC1HWC0)."""


@dataclass(frozen=True, slots=True)
class Operand:
    """
    One input or output: `shape` as the op defines it, except that blocked layouts may give their storage shape.

    `layout` is `ND`, `NZ` (blocks of 16 rows and 32 bytes of columns), `NC1HWC0` (blocks of channels, 32 bytes of them
    innermost) or `FRACTAL_Z` (filters in blocks of both).
    `stored` is the bytes it occupies where they are known to differ from the dense ones, else -1.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str = "ND"
    stored: int = -1

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as stored; dense where nothing else is known."""
        return self.stored if self.stored >= 0 else (self.count * DTYPE_BITS.get(self.dtype, 8) + 7) // 8

    @property
    def is_blocked_image(self) -> bool:
        """Whether it is an image in blocks of channels."""
        return self.layout == "NC1HWC0" and len(self.shape) == BLOCKED_DIMS


def element_bytes(dtype: str) -> float:
    """Bytes of an element of `dtype`, those of a half where it is not known."""
    return DTYPE_BITS.get(dtype, 16) / 8


def logical_row(operand: Operand) -> int:
    """
    Elements that a norm or a sum goes along: the last dimension; in blocked layouts that of the matrix, and of images
    all that one block of channels has of an image, since those are reduced over pixels.
    """
    shape = operand.shape
    if operand.layout == "NZ" and len(shape) >= 4:
        return max(shape[-4] * shape[-1], 1)
    if operand.is_blocked_image:
        return max(shape[2] * shape[3] * shape[4], 1)
    return max(shape[-1], 1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """
    One launch: `type` as MindSpore, CANN or a profile names it, operands in the order of the op's definition.

    An optional input that is absent is `None`. `attributes` are sorted pairs, so that kernels can be keys.
    `block_count` is the number of cores it was seen to use, 0 where that is for the model to say.
    """

    type: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    block_count: int = 0

    def attribute(self, name: str, default: Attribute = None) -> Attribute:
        """The attribute called `name`."""
        return next((value for key, value in self.attributes if key == name), default)

    @property
    def core(self) -> str:
        """The unit that a profile tells of it (`AI_CPU`, `MIX_AIC`, ...), in its own letters; "" where none is told."""
        return str(self.attribute("core", "") or "")

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Inputs that are present, then outputs."""
        return (*self.present, *self.outputs)

    @property
    def present(self) -> tuple[Operand, ...]:
        """Inputs that are present."""
        return tuple(operand for operand in self.inputs if operand is not None)

    @property
    def read_bytes(self) -> int:
        """Bytes of all inputs, each once."""
        return sum(operand.nbytes for operand in self.present)

    @property
    def written_bytes(self) -> int:
        """Bytes of all outputs, each once."""
        return sum(operand.nbytes for operand in self.outputs)
