"""
Offset assignment: which address each buffer gets, given when it is alive.

Terms follow the literature on dynamic storage allocation. Lifetimes are half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Term = Literal["capacity_overflow", "reuse_cost", "total_peak", "max_peak"]


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
    address, in place of the intervals and exclusions (several streams). `reuse_penalties`: `(i, j) -> weight` is paid
    when two buffers share addresses although they are never alive together. Members of one colocation are aliases: they
    may share addresses with each other at any time.

    `objective`: what is minimised, the first term before the second and so on. Staying within the capacities always
    comes first; a reuse cost that is not named comes last.
    """

    buffers: tuple[Buffer, ...]
    pools: tuple[Pool, ...] = (Pool(id=0, name="HBM"),)
    colocations: tuple[tuple[int, ...], ...] = ()
    contiguous: tuple[tuple[int, ...], ...] = ()
    separations: tuple[tuple[int, int], ...] = ()
    exclusions: tuple[tuple[int, int], ...] = ()
    conflicts: frozenset[tuple[int, int]] | None = None
    reuse_penalties: Mapping[tuple[int, int], int] = field(default_factory=dict)
    objective: tuple[Term, ...] = ("capacity_overflow", "reuse_cost", "total_peak", "max_peak")


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

    @property
    def gap(self) -> float:
        """How far the peak may be above the lowest possible one, as a fraction of the bound."""
        return (self.peak - self.lower_bound) / self.lower_bound if self.lower_bound else 0.0


@dataclass(frozen=True, slots=True)
class Infeasibility:
    """
    Why a capacity can't be met: buffers of `pool` that do not fit into `capacity` bytes together.

    `step` is the time at which they are alive together, `None` when no single step shows it. `needed` is the least
    number of bytes that they take as far as proven. `irreducible`: without any one of them the others fit.
    `proven`: whether no placement within the capacity exists; otherwise the search only ran out of work.
    `remedies` say in words what would resolve it.
    """

    pool: int
    capacity: int
    buffers: tuple[int, ...]
    names: tuple[str, ...]
    step: int | None
    needed: int
    irreducible: bool
    proven: bool
    remedies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """
    A valid placement: `(pool, offset)` by buffer id, with what it achieves and who found it.

    `within_capacity` is false when a pool's peak exceeds its capacity; then `shortfall` says by how many bytes and
    `infeasibility` why. `reuse_cost_bound`: no placement that is as good in all that comes before it in the objective
    has a lower reuse cost.
    """

    placed: Mapping[int, tuple[int, int]]
    pools: tuple[PoolResult, ...]
    reuse_cost: int
    within_capacity: bool
    shortfall: int
    method: str
    reuse_cost_bound: int = 0
    infeasibility: Infeasibility | None = None
    work: int = 0

    @property
    def proven_optimal(self) -> bool:
        """Whether every pool's peak and the reuse cost equal their bounds."""
        return self.reuse_cost == self.reuse_cost_bound and all(pool.proven_optimal for pool in self.pools)
