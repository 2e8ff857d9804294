"""What tilings move, what they occupy on chip and how long they take, all of them at once with numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from memplan.core.units import round_up
from memplan.cost.machine import Machine
from memplan.cost.operand_rows import operand_cycles, run_share, stride_share
from memplan.cost.overlap import Array, overlapped
from memplan.cost.products.matmul_problem import FRACTAL, MatmulProblem, of_grouped_library

_FRACTAL_BYTES = 512
"""Bytes of the blocks in which operands lie in L1 and L0."""


def evaluate(problem: MatmulProblem, machine: Machine, grid: Mapping[str, Array], cores: int) -> dict[str, Array]:
    """
    Traffic, time of each pipe and time of the whole for every tiling of `grid`.

    Pipes run in parallel; what they lose to each other is the `pipe_norm` of their times.
    """
    dealt = _dealt(problem, grid, cores)
    depth, tiles, waves = dealt.depth, dealt.tiles, dealt.waves
    m_work, n_work = dealt.work
    fractal_k = 32 / max(problem.a_bytes, problem.b_bytes)
    cube, mte1, fixpipe, scalar = _core_cycles(problem, machine, (m_work, n_work, grid["k"]), depth, fractal_k)
    loads = _loads(problem, grid, dealt)
    gm_read = np.maximum(loads.a, problem.a_total) + np.maximum(loads.b, problem.b_total) + problem.extra_bytes
    splits = grid["splits"]
    out = np.where(splits > 1, problem.batch * problem.m * problem.n * 4 * (splits + 1), 0.0) + problem.c_total
    hbm_read = np.minimum(max(_first_touch(problem, machine) - problem.hot_bytes, 0.0), gm_read)

    cycle = 1e9 / machine.clock_hz
    fetch = _fetch(problem, machine, grid["k_l1"], loads, dealt, gm_read, hbm_read)
    write = out / min(machine.l2_write_per_second or inf, fetch.hbm_rate * 1e9 * 4) * 1e9
    # What of the result does not stay in L2 goes on to HBM while the kernel runs, beside what is read from there.
    beyond = problem.c_total * (1.0 - machine.stays_in_l2(problem.a_total + problem.b_total + problem.c_total))
    written_ns = beyond / (machine.hbm_bytes_per_second * machine["hbm_write_share"]) * 1e9
    memory = fetch.fetched / fetch.hbm_rate + written_ns
    engine = _engine_cycles(problem, machine, grid["k_l1"], dealt, loads)
    left = tiles - (waves - 1) * cores
    last = left / tiles
    full = fetch.nanoseconds(np.full_like(tiles, cores)) * (1 - last)
    mte2 = np.maximum(engine * (waves - 1) * cycle, full)
    mte2 = mte2 + np.maximum(engine * cycle, fetch.nanoseconds(left) * last)
    pipes = {"cube": cube * waves * cycle, "mte1": mte1 * waves * cycle, "mte2": mte2 + write}
    pipes["fixpipe"] = fixpipe * waves * cycle
    # With one buffer in L1, MTE2 waits until MTE1 has emptied it.
    serial = grid["l1_buffers"] == 1
    waited = [np.where(serial, pipes["mte1"] + pipes["mte2"], pipes[name]) for name in ("mte1", "mte2")]
    # Where one tile fills L0C, the cube of some generations waits until FixPipe has taken its sums away.
    filled = (grid["l0c_buffers"] == 1) & bool(machine["l0c_drain_waits"])
    drained = np.where(filled, pipes["cube"] + pipes["fixpipe"], pipes["cube"])
    taken = np.where(filled, 0.0, pipes["fixpipe"])
    busy = [drained, taken, np.maximum(waited[1], memory), np.where(serial, 0.0, waited[0])]
    span = overlapped(busy, machine["pipe_norm"])
    first = (m_work * problem.a_bytes + n_work * problem.b_bytes) * np.minimum(grid["k_l1"], depth)
    first = first / machine["l2_to_l1_bytes_per_cycle"] + fixpipe
    used = np.minimum(tiles, cores)
    starts = machine["head_ns_per_cube_core"] * used
    head = machine["head_ns"] + machine["core_start_ns"] + starts
    if of_grouped_library(problem, machine):
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


@dataclass(frozen=True, slots=True)
class _Dealt:
    """
    How each tiling is dealt to `cores`: its tiles along M and N and in all, how many the busiest core gets (`waves`),
    the `depth` of K in each, and the rows and columns that count as a tile's `work`.
    """

    cores: int
    m_tiles: Array
    n_tiles: Array
    tiles: Array
    waves: Array
    depth: Array
    work: tuple[Array, Array]


def _dealt(problem: MatmulProblem, grid: Mapping[str, Array], cores: int) -> _Dealt:
    m, n, splits = grid["m"], grid["n"], grid["splits"]
    m_tiles, n_tiles = np.ceil(problem.m / m), np.ceil(problem.n / n)
    tiles = m_tiles * n_tiles * problem.batch * splits
    waves = np.ceil(tiles / cores)
    # Edge tiles are smaller: with one wave the fullest tile decides, with several each core meets an average one.
    single = waves == 1
    rows, columns = round_up(problem.m, FRACTAL), round_up(problem.n, FRACTAL)
    m_work = np.where(single, np.minimum(m, rows), rows / m_tiles)
    n_work = np.where(single, np.minimum(n, columns), columns / n_tiles)
    return _Dealt(cores, m_tiles, n_tiles, tiles, waves, np.ceil(problem.k / splits), (m_work, n_work))


@dataclass(frozen=True, slots=True)
class _Loads:
    """Bytes of A and of B that all tiles load, and for how many of its tiles a core loads each, as a share."""

    a: Array
    b: Array
    a_share: Array
    b_share: Array


def _loads(problem: MatmulProblem, grid: Mapping[str, Array], dealt: _Dealt) -> _Loads:
    """Each operand is loaded for every tile, or once a row (column) of tiles where its panel stays."""
    waves, m_tiles, n_tiles = dealt.waves, dealt.m_tiles, dealt.n_tiles
    if dealt.cores == 1:
        a_share = np.where(grid["resident"] == 1, 1 / n_tiles, 1.0)
        b_share = np.where(grid["resident"] == 2, 1 / m_tiles, 1.0)
    else:
        a_share = np.where(grid["resident"] == 1, np.ceil(waves / np.minimum(n_tiles, waves)), waves) / waves
        b_share = np.where(grid["resident"] == 2, np.ceil(waves / np.minimum(m_tiles, waves)), waves) / waves
    a = dealt.tiles * np.minimum(grid["m"], problem.m / m_tiles) * dealt.depth * problem.a_bytes * a_share
    b = dealt.tiles * np.minimum(grid["n"], problem.n / n_tiles) * dealt.depth * problem.b_bytes * b_share
    return _Loads(a * problem.share_of_a, b, a_share, b_share)


def _engine_cycles(problem: MatmulProblem, machine: Machine, k_l1: Array, dealt: _Dealt, loads: _Loads) -> Array:
    """Cycles of MTE2 on one tile: rows of both operands, and its instructions."""
    (m_work, n_work), depth, port = dealt.work, dealt.depth, machine["l2_to_l1_bytes_per_cycle"]
    of_a = operand_cycles(problem.a_run, m_work, depth, k_l1, problem.a_bytes, problem.m, problem.k, port, machine)
    of_b = operand_cycles(problem.b_run, n_work, depth, k_l1, problem.b_bytes, problem.n, problem.k, port, machine)
    engine: Array = loads.a_share * of_a * problem.share_of_a + loads.b_share * of_b
    engine += 2 * machine["mte2_instruction_cycles"] * np.ceil(depth / k_l1)
    return engine


@dataclass(frozen=True, slots=True)
class _Fetch:
    """
    What is read from GM: `fetched` bytes of HBM, the rest of their lines with them, and the `rest` from L2; rates are
    bytes a nanosecond, of all cores together or, `own` of HBM and `port` of L2, of one.
    """

    fetched: Array
    rest: Array
    hbm_rate: float
    l2_rate: float
    own: Array
    port: float

    def nanoseconds(self, busy: Array) -> Array:
        """Time of all GM reads if `busy` cores pull at once; few can't pull more than their own ports carry."""
        first: Array = self.fetched / np.minimum(self.hbm_rate, self.own * busy)
        rest: Array = self.rest / np.minimum(self.l2_rate, self.port * busy * 1e-9)
        return first + rest


def _fetch(
    problem: MatmulProblem,
    machine: Machine,
    k_l1: Array,
    loads: _Loads,
    dealt: _Dealt,
    gm_read: Array,
    hbm_read: Array,
) -> _Fetch:
    nz, (m_work, n_work) = problem.b_run == "nz", dealt.work
    copied = machine["hbm_read_share" if nz else "hbm_nd2nz_share"]
    port = machine["l2_to_l1_bytes_per_cycle"] * machine.clock_hz
    crooked_a = stride_share(problem.a_run, problem.m, problem.k, problem.a_bytes, machine)
    crooked_b = stride_share(problem.b_run, problem.n, problem.k, problem.b_bytes, machine)
    crooked = (loads.a / crooked_a + loads.b / crooked_b) / (loads.a + loads.b)
    wide = loads.a / crooked_a / run_share(problem.a_run, m_work, problem.a_bytes, machine)
    wide = wide + loads.b / crooked_b / run_share(problem.b_run, n_work, problem.b_bytes, machine)
    return _Fetch(
        fetched=hbm_read * wide / (loads.a + loads.b),
        rest=(gm_read - hbm_read) * crooked,
        hbm_rate=machine.hbm_bytes_per_second * copied * machine["hbm_compute_share"] * 1e-9,
        l2_rate=port * machine.cubes * machine["l2_shared_reads"] * 1e-9,
        own=_cold_cycle_bytes(problem, machine, k_l1, loads, dealt) * machine.clock_hz * 1e-9,
        port=port,
    )


def _cold_cycle_bytes(problem: MatmulProblem, machine: Machine, k_l1: Array, loads: _Loads, dealt: _Dealt) -> Array:
    """Bytes a cycle that one core reads of operands that L2 lacks, of short rows no more than its rows under way."""
    if problem.b_run == "nz":
        return np.full_like(loads.a, machine["hbm_core_nz_bytes_per_cycle"])
    most, row_cycles = machine["hbm_core_bytes_per_cycle"], machine["hbm_core_row_cycles"]
    (m_work, n_work), depth = dealt.work, np.minimum(k_l1, dealt.depth)
    cycles = np.zeros_like(loads.a)
    for run, extent, width, loaded in (
        (problem.a_run, m_work, problem.a_bytes, loads.a),
        (problem.b_run, n_work, problem.b_bytes, loads.b),
    ):
        row = (depth if run == "k" else extent) * width
        each = np.full_like(row, 1 / most) if run == "nz" else np.maximum(1 / most, row_cycles / row)
        cycles += loaded * each
    rate: Array = (loads.a + loads.b) / cycles
    return rate


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
