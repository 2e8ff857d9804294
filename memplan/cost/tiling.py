"""
Matmul tilings: every legal one, what it moves and how long it takes, evaluated at once with numpy.

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
from math import ceil, inf

import numpy as np

from memplan.cost.machine import Machine
from memplan.cost.operand_rows import operand_cycles, run_share, stride_share
from memplan.cost.overlap import Array, overlapped

FRACTAL = 16
RESIDENT = ("none", "A", "B")


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
    `groups_told` where it is a grouped product, to which a list says where groups end.
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
    def c_total(self) -> float:
        """Bytes of all C."""
        return self.batch * self.m * self.n * self.out_bytes


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
    if _of_grouped_library(problem, machine):
        return Search(problem, evaluate(problem, machine, _grouped_blocks(problem, grid), cores))
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


def _of_grouped_library(problem: MatmulProblem, machine: Machine) -> bool:
    """
    Whether `problem` is a grouped product of the library of 2201, whose tiles do not follow from its sizes.

    All its cores start, look up where groups end and take tiles of 128 x 256 in turn, a group after the other
    (`CalcMMTiling` and `usedCoreNum_`, hicann/ops-transformer gmm/grouped_matmul/op_host/op_tiling).
    """
    return problem.groups_told and bool(machine["group_list_ns"]) and problem.a_bytes == problem.b_bytes == 2


def _grouped_blocks(problem: MatmulProblem, grid: Mapping[str, Array]) -> dict[str, Array]:
    """Of `grid` the tilings with the blocks of a grouped product."""
    rows, columns = (
        min(size, _up(whole, FRACTAL)) for size, whole in zip(_GROUPED_BLOCK, (problem.m, problem.n), strict=True)
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
        min(_up(problem.m, FRACTAL) // FRACTAL, units),
        min(_up(problem.n, FRACTAL) // FRACTAL, units),
        units,
        machine.l0a / (2 * problem.a_bytes),
        machine.l0b / (2 * problem.b_bytes),
        fractal_k,
    )
    k = np.minimum(k, _up(problem.k, int(fractal_k)))
    parts: list[dict[str, Array]] = []
    whole = _up(problem.k, int(fractal_k))
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


_FRACTAL_BYTES = 512
"""Bytes of the blocks in which operands lie in L1 and L0."""


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def evaluate(problem: MatmulProblem, machine: Machine, grid: Mapping[str, Array], cores: int) -> dict[str, Array]:
    """
    Traffic, time of each pipe and time of the whole for every tiling of `grid`.

    Pipes run in parallel; what they lose to each other is the `pipe_norm` of their times.
    """
    m, n, k, k_l1, splits = (grid[name] for name in ("m", "n", "k", "k_l1", "splits"))
    depth = np.ceil(problem.k / splits)
    m_tiles, n_tiles = np.ceil(problem.m / m), np.ceil(problem.n / n)
    tiles = m_tiles * n_tiles * problem.batch * splits
    waves = np.ceil(tiles / cores)
    used = np.minimum(tiles, cores)
    # Edge tiles are smaller: with one wave the fullest tile decides, with several each core meets an average one.
    m_mean, n_mean = _up(problem.m, FRACTAL) / m_tiles, _up(problem.n, FRACTAL) / n_tiles
    single = waves == 1
    m_work, n_work = (
        np.where(single, np.minimum(m, _up(problem.m, FRACTAL)), m_mean),
        np.where(single, np.minimum(n, _up(problem.n, FRACTAL)), n_mean),
    )
    fractal_k = 32 / max(problem.a_bytes, problem.b_bytes)
    cube, mte1, fixpipe, scalar = _core_cycles(problem, machine, (m_work, n_work, k), depth, fractal_k)

    # How often a core loads each operand: every tile, or once a row (column) of tiles where the panel stays.
    a_loads = np.where(grid["resident"] == 1, np.ceil(waves / np.minimum(n_tiles, waves)), waves)
    b_loads = np.where(grid["resident"] == 2, np.ceil(waves / np.minimum(m_tiles, waves)), waves)
    stay_a, stay_b = a_loads / waves, b_loads / waves
    once = cores == 1
    if once:
        stay_a = np.where(grid["resident"] == 1, 1 / n_tiles, 1.0)
        stay_b = np.where(grid["resident"] == 2, 1 / m_tiles, 1.0)
    a_read = tiles * np.minimum(m, problem.m / m_tiles) * depth * problem.a_bytes * stay_a * problem.share_of_a
    b_read = tiles * np.minimum(n, problem.n / n_tiles) * depth * problem.b_bytes * stay_b
    gm_read = np.maximum(a_read, problem.a_total) + np.maximum(b_read, problem.b_total) + problem.extra_bytes
    out = np.where(splits > 1, problem.batch * problem.m * problem.n * 4 * (splits + 1), 0.0) + problem.c_total
    hbm_read = np.minimum(max(_first_touch(problem, machine) - problem.hot_bytes, 0.0), gm_read)
    port = machine["l2_to_l1_bytes_per_cycle"]
    lines_a = operand_cycles(problem.a_run, m_work, depth, k_l1, problem.a_bytes, problem.m, problem.k, port, machine)
    lines_b = operand_cycles(problem.b_run, n_work, depth, k_l1, problem.b_bytes, problem.n, problem.k, port, machine)
    engine = stay_a * lines_a * problem.share_of_a + stay_b * lines_b
    engine += 2 * machine["mte2_instruction_cycles"] * np.ceil(depth / k_l1)

    cycle = 1e9 / machine.clock_hz
    copied = machine["hbm_read_share" if problem.b_run == "nz" else "hbm_nd2nz_share"]
    hbm_rate = machine.hbm_bytes_per_second * copied * machine["hbm_compute_share"] * 1e-9
    l2_rate = port * machine.clock_hz * machine.cubes * machine["l2_shared_reads"] * 1e-9
    nz = problem.b_run == "nz"
    own = machine["hbm_core_nz_bytes_per_cycle" if nz else "hbm_core_bytes_per_cycle"] * machine.clock_hz * 1e-9
    crooked_a = stride_share(problem.a_run, problem.m, problem.k, problem.a_bytes, machine)
    crooked_b = stride_share(problem.b_run, problem.n, problem.k, problem.b_bytes, machine)
    crooked = (a_read / crooked_a + b_read / crooked_b) / (a_read + b_read)
    wide = a_read / crooked_a / run_share(problem.a_run, m_work, problem.a_bytes, machine)
    wide = wide + b_read / crooked_b / run_share(problem.b_run, n_work, problem.b_bytes, machine)
    fetched = hbm_read * wide / (a_read + b_read)

    def shared(busy: Array) -> Array:
        """Time of all GM reads if `busy` cores pull at once; few can't pull more than their own ports carry."""
        ports = port * machine.clock_hz * busy * 1e-9
        first: Array = fetched / np.minimum(hbm_rate, own * busy)
        rest: Array = (gm_read - hbm_read) * crooked / np.minimum(l2_rate, ports)
        return first + rest

    write = out / min(machine.l2_write_per_second or inf, hbm_rate * 1e9 * 4) * 1e9
    # What of the result does not stay in L2 goes on to HBM while the kernel runs, beside what is read from there.
    beyond = problem.c_total * (1.0 - machine.stays_in_l2(problem.a_total + problem.b_total + problem.c_total))
    memory = fetched / hbm_rate + beyond / (machine.hbm_bytes_per_second * machine["hbm_write_share"]) * 1e9
    left = tiles - (waves - 1) * cores
    last = left / tiles
    full = shared(np.full_like(tiles, cores)) * (1 - last)
    mte2 = np.maximum(engine * (waves - 1) * cycle, full) + np.maximum(engine * cycle, shared(left) * last)
    pipes = {"cube": cube * waves * cycle, "mte1": mte1 * waves * cycle, "mte2": mte2 + write}
    pipes["fixpipe"] = fixpipe * waves * cycle
    # With one buffer in L1, MTE2 waits until MTE1 has emptied it.
    serial = grid["l1_buffers"] == 1
    loads = [np.where(serial, pipes["mte1"] + pipes["mte2"], pipes[name]) for name in ("mte1", "mte2")]
    busy = [pipes["cube"], pipes["fixpipe"], np.maximum(loads[1], memory), np.where(serial, 0.0, loads[0])]
    span = overlapped(busy, machine["pipe_norm"])
    first = (m_work * problem.a_bytes + n_work * problem.b_bytes) * np.minimum(k_l1, depth) / port + fixpipe
    starts = machine["head_ns_per_cube_core"] * used
    head = machine["head_ns"] + machine["core_start_ns"] + starts
    if _of_grouped_library(problem, machine):
        head = head - starts + machine["head_ns_per_cube_core"] * cores + machine["group_list_ns"]
    share = tiles / (waves * cores)
    return {
        **{name: grid[name] for name in ("m", "n", "k", "k_l1", "resident", "splits", "l0c_buffers", "l1_buffers")},
        "time": span + first * cycle + head,
        "starts": starts,
        "cube": pipes["cube"] * share,
        "mte1": pipes["mte1"] * share,
        "mte2": mte2,
        "fixpipe": pipes["fixpipe"] * share,
        "scalar": scalar * waves * cycle * share,
        "gm_read": gm_read,
        "gm_bytes": gm_read + out,
        "hbm_bytes": hbm_read + problem.c_total,
        **_occupied(problem, grid, depth, fractal_k),
        "blocks": used,
    }


def _core_cycles(
    problem: MatmulProblem, machine: Machine, tile: tuple[Array, Array, Array], depth: Array, fractal_k: float
) -> tuple[Array, Array, Array, Array]:
    """Cycles of the cube, of MTE1, of FixPipe and of scalar work on one tile of `m x n` in slices of `k`."""
    m, n, k = tile
    k_steps = np.ceil(depth / k)
    macs = m * n * np.ceil(depth / fractal_k) * fractal_k / problem.mac_rate
    cube: Array = macs + machine["mac_issue_cycles"] * k_steps
    of_a = m * problem.a_bytes * problem.stride / machine.l1_to_l0a / machine["mte1_efficiency"]
    of_b = n * problem.b_bytes / machine.l1_to_l0b / machine["mte1_efficiency"]
    if problem.turned_cycles:
        of_b = n * problem.b_bytes / _FRACTAL_BYTES * problem.turned_cycles
    mte1: Array = depth * (of_a + of_b)
    rows = machine["fixpipe_row_cycles"] * m
    fixpipe: Array = m * n * 4 / machine["fixpipe_bytes_per_cycle"] + machine["fixpipe_drain_cycles"] + rows
    return cube, mte1, fixpipe, machine["scalar_cycles"] * k_steps


def _occupied(problem: MatmulProblem, grid: Mapping[str, Array], depth: Array, fractal_k: float) -> dict[str, Array]:
    """Bytes of L1 and of L0 that each tiling of `grid` occupies."""
    m, n = grid["m"], grid["n"]
    padded = np.ceil(depth / fractal_k) * fractal_k
    width_k, width_l1 = np.minimum(grid["k"], padded), np.minimum(grid["k_l1"], padded)
    panel_a, panel_b = m * padded * problem.a_bytes, n * padded * problem.b_bytes
    slice_a, slice_b = 2 * m * width_l1 * problem.a_bytes, 2 * n * width_l1 * problem.b_bytes
    of_a = np.where(grid["resident"] == 1, panel_a, slice_a)
    of_b = np.where(grid["resident"] == 2, panel_b, slice_b)
    return {
        "l1_bytes": of_a + of_b,
        "l0a_bytes": 2 * m * width_k * problem.a_bytes,
        "l0b_bytes": 2 * n * width_k * problem.b_bytes,
        "l0c_bytes": m * n * 4 * grid["l0c_buffers"],
    }


def _first_touch(problem: MatmulProblem, machine: Machine) -> float:
    """
    Bytes from HBM: each operand once, and the streamed one again for every block of the other that L2 holds.

    A part of L2 is left to what streams through it.
    """
    a, b = problem.a_total, problem.b_total
    room = machine["l2_kept_share"] * machine.l2
    if a + b + problem.extra_bytes <= room:
        return a + b + problem.extra_bytes
    # An operand's own batches are done one after another, so that only one product's share has to stay.
    small, large = sorted((a / problem.a_batch, b / problem.b_batch))
    return a + b + problem.extra_bytes + (ceil(small / room) - 1) * large
