"""What the compiled search for a placement reads of the blocks: sizes, legal addresses, and who excludes whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s


class SearchArrays(NamedTuple):
    """
    Blocks by number, sections of time (and cliques of blocks that exclude each other) by number; `*_ptr` point from one
    of either to its stretch of the arrays behind.
    """

    size: Int64s
    modulus: Int64s
    residue: Int64s
    ban_ptr: Int64s
    ban_lo: Int64s
    """Addresses that a block can never have lie strictly between this and `ban_hi`, ascending."""
    ban_hi: Int64s
    first: Int64s
    """First section of the block's hull."""
    last: Int64s
    """Section after the last of the hull."""
    span_ptr: Int64s
    span_start: Int64s
    """Sections that hold the block are from here to `span_end`."""
    span_end: Int64s
    near_ptr: Int64s
    near: NDArray[np.int32]
    """Blocks that exclude the block."""
    link_ptr: Int64s
    link: Int64s
    """Blocks that exclude the block without a section of time in common."""
    link_start: Int64s
    """Sections that such an exclusion bridges are from here to `link_end`."""
    link_end: Int64s
    section_ptr: Int64s
    section_block: NDArray[np.int32]
    """Blocks of the section."""
    timed: int
    """Sections before this one follow each other in time, the others are cliques."""
