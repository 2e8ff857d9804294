"""What the compiled placements read and write: blocks with sizes, legal addresses and whom they exclude, and pools."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int32s, Int64s


class SearchArrays(NamedTuple):
    """
    Flat blocks of one pool by number; `*_ptr` point from one to its stretch of the arrays behind.

    Sections of time, and cliques of blocks that exclude each other, are counted together.
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


class BlockArrays(NamedTuple):
    """Blocks of any kind by number; `*_ptr` point from one to its stretch of the arrays behind."""

    size: Int64s
    modulus: Int64s
    residue: Int64s
    fixed: Int64s
    """The address that is given, or -1."""
    allowed_ptr: Int64s
    allowed: Int64s
    """Pools that the block may use."""
    part_ptr: Int64s
    part_lo: Int64s
    """A part is alive in bytes from here to `part_hi` of its block, from `part_start` to `part_end`."""
    part_hi: Int64s
    part_start: Int64s
    part_end: Int64s
    part_block: Int64s
    pair_ptr: Int64s
    pair_block: Int64s
    """Another block, whose address less ours must not lie strictly between `pair_lo` and `pair_hi`."""
    pair_lo: Int64s
    pair_hi: Int64s


class PoolArrays(NamedTuple):
    """Pools by number."""

    capacity: Int64s
    reserved_ptr: Int64s
    reserved: NDArray[np.int64]
    """Rows of start and end."""


class PlacedBlocks(NamedTuple):
    """What is placed so far."""

    pool: Int64s
    """Pool of each block, -1 of those to be placed."""
    base: Int64s
    """Address of each block."""
    shift: int
    """A bucket of time is `2**shift` ranks."""
    bucket_ptr: Int64s
    """Room for every part in each bucket it meets."""
    bucket_part: Int32s
    bucket_count: Int64s
    seen: Int64s
    """The part for which each part was last looked at."""
