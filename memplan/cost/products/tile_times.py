"""What tilings move, what they occupy on chip and how long they take, all of them at once with numpy."""

from __future__ import annotations

from collections.abc import Mapping
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
    m, n, k, k_l1, splits = (grid[name] for name in ("m", "n", "k", "k_l1", "splits"))
    depth = np.ceil(problem.k / splits)
    m_tiles, n_tiles = np.ceil(problem.m / m), np.ceil(problem.n / n)
    tiles = m_tiles * n_tiles * problem.batch * splits
    waves = np.ceil(tiles / cores)
    used = np.minimum(tiles, cores)
    # Edge tiles are smaller: with one wave the fullest tile decides, with several each core meets an average one.
    m_mean, n_mean = round_up(problem.m, FRACTAL) / m_tiles, round_up(problem.n, FRACTAL) / n_tiles
    single = waves == 1
    m_work, n_work = (
        np.where(single, np.minimum(m, round_up(problem.m, FRACTAL)), m_mean),
        np.where(single, np.minimum(n, round_up(problem.n, FRACTAL)), n_mean),
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
