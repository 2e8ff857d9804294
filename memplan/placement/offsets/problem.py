"""
Offset assignment: which address each buffer gets, given when it is alive.

Terms follow the literature on dynamic storage allocation. Lifetimes are half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pool:
    """
    One address space `[0, capacity)`; `capacity` `None` means unlimited. `reserved` ranges `(start, end)` are
    never used.
    """

    id: int
    name: str
    capacity: int | None = None
    reserved: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Buffer:
    """
    `size` bytes alive during `intervals`, each half-open `[start, end)` and ascending.

    `alignment` divides the offset. `pools` are the pools it may be placed in; `pin` fixes `(pool, offset)`.
    """

    id: int
    size: int
    intervals: tuple[tuple[int, int], ...]
    alignment: int = 1
    pools: tuple[int, ...] = (0,)
    pin: tuple[int, int] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    Buffers to place and what ties them together.

    `colocations`: groups of buffer ids that get the same pool and offset. `contiguous`: groups laid end to end in
    order. `separations`: pairs that never overlap in address whatever their lifetimes. `exclusions`: pairs that are
    never alive together although their intervals meet. `conflicts`: when given, the pairs that must not overlap in
    address, in place of the intervals (several streams). `reuse_penalties`: `(i, j) -> weight` is paid when two
    buffers share addresses although they are never alive together.
    """

    buffers: tuple[Buffer, ...]
    pools: tuple[Pool, ...] = (Pool(id=0, name="HBM"),)
    colocations: tuple[tuple[int, ...], ...] = ()
    contiguous: tuple[tuple[int, ...], ...] = ()
    separations: tuple[tuple[int, int], ...] = ()
    exclusions: tuple[tuple[int, int], ...] = ()
    conflicts: frozenset[tuple[int, int]] | None = None
    reuse_penalties: Mapping[tuple[int, int], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolResult:
    """Highest address used in a pool, a proven lower bound on it, and how the bound was found."""

    pool: int
    peak: int
    lower_bound: int
    lower_bound_method: str

    @property
    def proven_optimal(self) -> bool:
        """Whether no placement can have a lower peak."""
        return self.peak == self.lower_bound


@dataclass(frozen=True, slots=True)
class Assignment:
    """
    A valid placement: `(pool, offset)` by buffer id, with what it achieves and who found it.

    `within_capacity` is false when a pool's peak exceeds its capacity; then `shortfall` says by how many bytes.
    """

    placed: Mapping[int, tuple[int, int]]
    pools: tuple[PoolResult, ...]
    reuse_cost: int
    within_capacity: bool
    shortfall: int
    method: str
