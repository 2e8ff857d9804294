"""A matrix product as tilings take it."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.cost.machine import Machine

FRACTAL = 16
_IN_BLOCKS = 1, 2
"""Bytes of the types that the grouped product of 2201 multiplies as they are stored."""


@dataclass(frozen=True, slots=True)
class MatmulProblem:
    """
    `batch` products of `m x k` and `k x n`, sums in 4 bytes, stored as `out_bytes` an element.

    `a_bytes` and `b_bytes` are bytes an element (0.5 for four bits). `a_run` and `b_run` say which axis is contiguous
    in GM: `k`, `m` (or `n`), or `nz` for the fractal layout. `a_batch` and `b_batch` are how many different A and B
    there are. `mac_rate` is multiply-accumulates per cycle of one core; `extra_bytes` (bias, scales) are read once with
    A and B. Of the operands, `hot_bytes` are in L2 beforehand. `widening` are vector instructions, of lanes of 4 bytes,
    on each element of B that make it what the cube multiplies with A, 0 where the cube takes it as it is stored.
    `unfolds` is the share of the elements of A that lie in GM where A is made of the windows of an image on the way
    from L1 to L0A, 0 where A lies there whole; windows lie `stride` pixels apart, of which one in so many is used at a
    time. `turned_cycles` are those of MTE1 for a block of B that it turns on the way, 0 where B lies as it is taken.
    `groups_told` where it is a grouped product, to which a list says where groups end; `in_base_blocks` where the
    library never splits K, and of B whose rows lie along N takes no more columns at a time than its base block has.
    """

    m: int
    n: int
    k: int
    batch: int = 1
    a_bytes: float = 2.0
    b_bytes: float = 2.0
    out_bytes: float = 2.0
    a_run: str = "k"
    b_run: str = "n"
    a_batch: int = 1
    b_batch: int = 1
    mac_rate: float = 4096.0
    extra_bytes: float = 0.0
    hot_bytes: float = 0.0
    widening: float = 0.0
    unfolds: float = 0.0
    stride: int = 1
    turned_cycles: float = 0.0
    groups_told: bool = False
    in_base_blocks: bool = False

    @property
    def flops(self) -> int:
        """Multiplies and adds."""
        return 2 * self.batch * self.m * self.n * self.k

    @property
    def share_of_a(self) -> float:
        """The share of the elements of A that lie in GM."""
        return self.unfolds or 1.0

    @property
    def a_total(self) -> float:
        """Bytes of all A in GM."""
        return self.a_batch * self.m * self.k * self.a_bytes * self.share_of_a

    @property
    def b_total(self) -> float:
        """Bytes of all B."""
        return self.b_batch * self.k * self.n * self.b_bytes

    @property
    def widened_bytes(self) -> float:
        """Bytes of all B once it is as wide as A."""
        return self.b_batch * self.k * self.n * self.a_bytes

    def widening_ns(self, machine: Machine) -> float:
        """Nanoseconds that the instructions of all vector cores take to make B what the cube multiplies with A."""
        return self.b_batch * self.k * self.n * self.widening / machine.vector_rate(machine.vectors) * 1e9

    @property
    def c_total(self) -> float:
        """Bytes of all C."""
        return self.batch * self.m * self.n * self.out_bytes


def of_grouped_library(problem: MatmulProblem, machine: Machine) -> bool:
    """
    Whether `problem` is a grouped product of the library of 2201, whose tiles do not follow from its sizes.

    All its cores start, look up where groups end and take tiles of 128 x 256 in turn, a group after the other
    (`CalMMTiling` and `usedCoreNum_`, hicann/ops-transformer gmm/grouped_matmul/op_host/op_tiling; those of int8 with a
    gate or sums of experts behind have the same tiles, gmm/grouped_matmul_swiglu_quant, _finalize_routing).
    """
    return problem.groups_told and bool(machine["group_list_ns"]) and problem.a_bytes == problem.b_bytes in _IN_BLOCKS
