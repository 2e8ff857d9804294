"""
Kernels of the chunked delta rule as engines run them in Triton: a core takes one chunk of a head after the other.

Their time is that of the busiest core's chunks, each of which takes what it does alone: cube and vector cores wait for
each other within a chunk. Where a chunk needs the state of the one before it, a head of a sequence is one core's, and
all cores are busy only where there are as many.
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.core.resources import table
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.machine import Machine

CHUNK_SIZES = "chunks", "rows", "columns", "terms"
"""Attributes of kernels of chunks: how many there are, and the product that each is."""
_COUNTED = 1024
"""Multiply-accumulates that cycles are told of."""


def chunk_ns(kernel: Kernel, machine: Machine) -> float | None:
    """
    Nanoseconds of the `chunks` of a kernel, `chains` of them side by side, each a product of `rows`, `columns` and
    `terms`; `None` of one that tells no chains or whose cycles are not known.
    """
    cycles = _cycles().get(kernel.type)
    sizes = attribute_sizes(kernel, "chains", *CHUNK_SIZES) if cycles is not None else None
    if sizes is None or cycles is None:
        return None
    chains, chunks, rows, columns, terms = sizes
    busiest = -(-chains // machine.cubes) * -(-chunks // chains)
    return busiest * rows * columns * terms / _COUNTED * cycles / machine.clock_hz * 1e9


def attribute_sizes(kernel: Kernel, *names: str) -> list[int] | None:
    """The attributes of `kernel` of such names where all of them are sizes, else `None`."""
    sizes = [size for size in map(kernel.attribute, names) if isinstance(size, int) and size > 0]
    return sizes if len(sizes) == len(names) else None


def _cycles() -> Mapping[str, float]:
    found: Mapping[str, float] = table("memplan.cost", "chunk_kernels.json")["cycles"]
    return found
