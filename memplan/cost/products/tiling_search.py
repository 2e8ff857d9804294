"""
Matmul tilings: every legal one, and which of them kernels of the library run.

The class of tilings: each core computes tiles of C of `m x n` that stay in L0C until their whole K is summed. A and B
pass L1 in double-buffered slices of `k_l1`, and L0A and L0B in double-buffered slices of `k`; a row panel of A (or a
column panel of B) of all K may stay in L1 while its core walks along the other dimension. Where there are fewer tiles
than cores, K may be split over `splits` cores that add their sums in GM.

Enumerated are all `m`, `n` in multiples of 16 (the cube's fractal), the largest `k` that fits (a smaller one only
issues more instructions), `k_l1` of 1, 2, 4, 8 ... times `k`, and the three kinds of residence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf

import numpy as np

from memplan.core.units import round_up
from memplan.cost.machine import Machine
from memplan.cost.overlap import Array
from memplan.cost.products.matmul_problem import FRACTAL, MatmulProblem, of_grouped_library
from memplan.cost.products.tile_times import evaluate

RESIDENT = ("none", "A", "B")


@dataclass(frozen=True, slots=True)
class Tiling:
    """
    One tiling: `m x n` of C a tile, `k` an L0 slice, `k_l1` an L1 slice, the panel that stays in L1.

    K is split over `splits` cores.
    `l0c_buffers` is 2 where two tiles of sums fit; `l1_buffers` is 1 for kernels that do not double-buffer L1.
    """

    m: int
    n: int
    k: int
    k_l1: int
    resident: str = "none"
    splits: int = 1
    l0c_buffers: int = 1
    l1_buffers: int = 2

    def __str__(self) -> str:
        extra = "" if self.resident == "none" else f", panel of {self.resident} in L1"
        split = "" if self.splits == 1 else f", K over {self.splits} cores"
        return f"{self.m}x{self.n}x{self.k}, L1 slice {self.k_l1}{extra}{split}"


@dataclass(frozen=True, slots=True)
class Search:
    """
    All legal tilings of a problem with what each does; arrays of one length.

    `columns` holds `m, n, k, k_l1, resident, splits, l0c_buffers`, times in nanoseconds (`time`, `starts`: what of it
    cores take to start, and by pipe `cube`, `mte1`, `mte2`, `fixpipe`, `scalar`: averages over cores as profilers
    report them), bytes (`gm_read`, `gm_bytes`
    with C, `hbm_bytes`, and `l1_bytes`, `l0a_bytes`, `l0b_bytes`, `l0c_bytes` as occupied) and `blocks` (cores used).
    """

    problem: MatmulProblem
    columns: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.columns["m"])

    def tiling(self, index: int) -> Tiling:
        """Candidate `index` as an object."""
        c = self.columns
        return Tiling(
            m=int(c["m"][index]),
            n=int(c["n"][index]),
            k=int(c["k"][index]),
            k_l1=int(c["k_l1"][index]),
            resident=RESIDENT[int(c["resident"][index])],
            splits=int(c["splits"][index]),
            l0c_buffers=int(c["l0c_buffers"][index]),
            l1_buffers=int(c["l1_buffers"][index]),
        )

    def best(self, column: str = "time") -> int:
        """The candidate with the least `column`; among equals the one with less traffic, then larger slices."""
        return self._least(self.columns[column])

    def chosen(self, machine: Machine) -> int:
        """
        The candidate that kernels of the library are taken to run: the best, but for what its cores take to start
        where the library starts every core that it has work for (`starts_are_weighed`).
        """
        spared = 0.0 if machine["starts_are_weighed"] else self.columns["starts"]
        return self._least(self.columns["time"] - spared)

    def _least(self, values: Array) -> int:
        c = self.columns
        ties = np.flatnonzero(values == values.min())
        order = np.lexsort((-c["k_l1"][ties], c["gm_bytes"][ties]))
        return int(ties[order[0]])

    def pareto(self) -> list[int]:
        """Candidates that no other one beats in both GM traffic and on-chip bytes, by rising bytes."""
        size = self.columns["l1_bytes"] + self.columns["l0c_bytes"]
        traffic = self.columns["gm_bytes"]
        front: list[int] = []
        least = inf
        for index in np.lexsort((traffic, size)):
            if traffic[index] < least:
                least = float(traffic[index])
                front.append(int(index))
        return front


def search_tilings(problem: MatmulProblem, machine: Machine, *, cores: int | None = None) -> Search:
    """Every legal tiling of `problem` on `cores` cores (all of the machine's by default)."""
    cores = cores or machine.cubes
    grid = _candidates(problem, machine)
    if of_grouped_library(problem, machine):
        return Search(problem, evaluate(problem, machine, _grouped_blocks(problem, grid), cores))
    if problem.in_base_blocks:
        return Search(problem, evaluate(problem, machine, _base_blocks(problem, grid), cores))
    result = evaluate(problem, machine, grid, cores)
    tiles = np.ceil(problem.m / grid["m"]) * np.ceil(problem.n / grid["n"]) * problem.batch
    splits = np.minimum(np.floor(cores / tiles), np.ceil(problem.k / np.maximum(grid["k"], 256)))
    if (splits > 1).any():
        some = splits > 1
        split_grid = {name: values[some] for name, values in grid.items()} | {"splits": splits[some]}
        other = evaluate(problem, machine, split_grid, cores)
        result = {name: np.concatenate((result[name], other[name])) for name in result}
    return Search(problem, result)


_GROUPED_BLOCK = (128, 256)
"""Rows and columns of a tile of a grouped product."""
_BASE_COLUMNS = 256
"""
Columns at most of a tile of whole numbers whose rows lie along N: of tilings that load alike the library takes that
(`CheckTrans`, hicann/ops-nn matmul/quant_batch_matmul_v3/op_host/op_tiling/quant_batch_matmul_v3_basic_tiling.cpp).
"""


def _base_blocks(problem: MatmulProblem, grid: Mapping[str, Array]) -> Mapping[str, Array]:
    """Of `grid` the tilings with no more columns than the base block has where B's rows are whole such blocks."""
    if problem.b_run != "n" or problem.n % _BASE_COLUMNS:
        return grid
    block = grid["n"] <= _BASE_COLUMNS
    return {name: values[block] for name, values in grid.items()}


def _grouped_blocks(problem: MatmulProblem, grid: Mapping[str, Array]) -> dict[str, Array]:
    """Of `grid` the tilings with the blocks of a grouped product."""
    rows, columns = (
        min(size, round_up(whole, FRACTAL)) for size, whole in zip(_GROUPED_BLOCK, (problem.m, problem.n), strict=True)
    )
    block = (grid["m"] == rows) & (grid["n"] == columns)
    return {name: values[block] for name, values in grid.items()}


def given(problem: MatmulProblem, machine: Machine, tiling: Tiling, *, cores: int | None = None) -> Search:
    """The one tiling that a kernel is known to use, as a `Search` of length 1."""
    columns = {
        "m": tiling.m, "n": tiling.n, "k": tiling.k, "k_l1": tiling.k_l1,
        "resident": RESIDENT.index(tiling.resident), "splits": tiling.splits, "l0c_buffers": tiling.l0c_buffers,
        "l1_buffers": tiling.l1_buffers,
    }  # fmt: skip
    grid = {name: np.array([float(value)]) for name, value in columns.items()}
    return Search(problem, evaluate(problem, machine, grid, cores or machine.cubes))


def _candidates(problem: MatmulProblem, machine: Machine) -> dict[str, Array]:
    """All legal (m, n, k, k_l1, resident), flattened."""
    fractal_k = 32 / max(problem.a_bytes, problem.b_bytes)
    units = machine.l0c // (4 * FRACTAL * FRACTAL)
    m, n, k = _tiles(
        min(round_up(problem.m, FRACTAL) // FRACTAL, units),
        min(round_up(problem.n, FRACTAL) // FRACTAL, units),
        units,
        machine.l0a / (2 * problem.a_bytes),
        machine.l0b / (2 * problem.b_bytes),
        fractal_k,
    )
    k = np.minimum(k, round_up(problem.k, int(fractal_k)))
    parts: list[dict[str, Array]] = []
    whole = round_up(problem.k, int(fractal_k))
    a_panel, b_panel = m * whole * problem.a_bytes, n * whole * problem.b_bytes
    for resident in range(3):
        factor = 1
        while True:
            k_l1 = np.minimum(k * factor, whole)
            a_slice, b_slice = 2 * m * k_l1 * problem.a_bytes, 2 * n * k_l1 * problem.b_bytes
            l1 = (a_panel if resident == 1 else a_slice) + (b_panel if resident == 2 else b_slice)
            fit = (l1 <= machine.l1) & ((factor == 1) | (k * (factor // 2) < whole))
            if not fit.any():
                break
            parts.append(
                {
                    "m": m[fit],
                    "n": n[fit],
                    "k": k[fit],
                    "k_l1": k_l1[fit],
                    "resident": np.full(fit.sum(), resident, float),
                }
            )
            factor *= 2
    grid = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    grid["splits"] = np.ones(len(grid["m"]))
    grid["l1_buffers"] = np.full(len(grid["m"]), 2.0)
    grid["l0c_buffers"] = np.where(grid["m"] * grid["n"] * 8 <= machine.l0c, 2.0, 1.0)
    return grid


@lru_cache(maxsize=256)
def _tiles(
    most_m: int, most_n: int, units: int, room_a: float, room_b: float, fractal_k: float
) -> tuple[Array, Array, Array]:
    """
    All (m, n) that L0C holds `units` fractals of, with the largest k for which L0A and L0B hold `room_a` and `room_b`
    elements twice over; arrays that nobody may write to.
    """
    rows, columns = np.meshgrid(np.arange(1, most_m + 1), np.arange(1, most_n + 1), indexing="ij")
    legal = rows * columns <= units
    m, n = (axis[legal].astype(np.float64) * FRACTAL for axis in (rows, columns))
    k = np.floor(np.minimum(room_a / m, room_b / n) / fractal_k) * fractal_k
    legal = k >= fractal_k
    found = m[legal], n[legal], k[legal]
    for array in found:
        array.flags.writeable = False
    return found
