"""
Products of few rows of floats by weights of whole numbers, as the library of 2201 runs them.

Its cube has no floats by whole numbers. Of few rows it is they that are made whole numbers: vector cores write each as
two rows of int8, or three of int4, whose sums with weights make up the row's; the cube reads weights as they are
stored, and vector cores scale what it made. Columns are dealt out in steps so wide that narrow weights leave cube cores
idle, and a core reads its columns' rows one slice after the other. Sources are named in `weight_quant.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from memplan.core.resources import table
from memplan.core.units import round_up
from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_classes import is_among
from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped
from memplan.cost.products.matmul_problem import FRACTAL, MatmulProblem
from memplan.cost.transfer import Copy, CopyTime, copy_time

_SUM_BYTES = 4
_WEIGHTS, _SCALES = 1, 2
"""Places among the operands."""


@dataclass(frozen=True, slots=True)
class DigitProduct:
    """Nanoseconds of a product of digits, of its pipes as averages over the cores, and bytes that pass GM and HBM."""

    duration: float
    pipes: Mapping[str, float]
    gm_bytes: float
    hbm_bytes: float


@dataclass(frozen=True, slots=True)
class _Cut:
    """
    How weights are dealt out: `cores` get `columns` and `terms` each.

    Rows are made digits of in `parts` of K, 0 where whole ones are; sums of parts are scaled by all vector cores.
    `groups` of scales along K are put together one after the other on a core, 0 where columns have one scale each.
    """

    digits: int
    cores: int
    columns: int
    terms: int
    parts: int = 0
    groups: int = 0


def is_weight_quantised(kernel: Kernel, machine: Machine) -> bool:
    """Whether `kernel` is the library's product by weights of whole numbers where cube and vector share no buffer."""
    operands = kernel.present
    known = len(operands) > _SCALES and operands[_WEIGHTS].dtype in _rule()["digits"]
    return known and not machine.direct and is_among(kernel.type, "weight_quant", "types")


def widened_parts(problem: MatmulProblem, machine: Machine) -> int:
    """
    Parts of the columns that vector cores make factors of one ahead of the cube: all cube cores have as many columns
    at a time as L0C takes beside its rows.
    """
    rows, columns = int(_rule()["most_widened_rows"]), int(_rule()["most_widened_columns"])
    along_m = min(ceil(problem.m / rows), machine.cubes)
    return max(ceil(problem.n / (machine.cubes // along_m * columns)), 1)


def widened_ns(problem: MatmulProblem, machine: Machine) -> tuple[float, float, CopyTime]:
    """
    Nanoseconds of making factors of all weights by all vector cores, of their instructions alone, and what they move.

    A piece of weights has one buffer: the next is on its way in only when the one before has been cast.
    """
    vector, factors, piece = problem.widening_ns(machine), problem.widened_bytes, _rule()["widened_piece"]
    copy = Copy(problem.b_total, factors, hot=problem.hot_bytes, kept=factors, instruction=piece * problem.b_bytes)
    moved = copy_time(copy, machine, machine.vectors)
    ways = ceil(problem.b_batch * problem.k * problem.n / piece / machine.vectors) * machine["core_start_ns"]
    busy = overlapped((moved.read_ns + ways, vector, moved.write_ns), machine["pipe_norm"])
    return busy, vector, moved


def digit_product(kernel: Kernel, problem: MatmulProblem, machine: Machine) -> DigitProduct | None:
    """`problem` by digits of its rows, `None` where the library widens the weights instead."""
    cut = _cut(kernel, problem, machine)
    rate = machine.product_rate(kernel.present[_WEIGHTS].dtype)
    if cut is None or not rate:
        return None
    before = _digits_ns(problem, machine, cut)
    weights = _weights_ns(problem, machine, cut)
    rows = round_up(cut.digits * problem.m, FRACTAL)
    cube = rows * cut.columns * cut.terms / rate * 1e9 / machine.clock_hz
    behind = _results_ns(problem, machine, cut)
    # Weights of the first slices are read while rows are made digits of.
    ahead = min(before, weights * min(_rule()["ahead_terms"] / cut.terms, 1.0))
    by_groups = behind if cut.groups else 0.0
    span = overlapped((weights, cube, by_groups), machine["pipe_norm"])
    last = behind / cut.groups if cut.groups else behind
    head = machine.head_ns(cut.cores, cut.cores * machine.vectors // machine.cubes)
    sums = 2 * cut.digits * problem.m * problem.n * _SUM_BYTES * max(cut.parts, cut.groups, 1)
    share = cut.cores / machine.cubes
    return DigitProduct(
        duration=head + before - ahead + span + last,
        pipes={"cube": cube * share, "mte2": weights, "vector": (before + behind) * share},
        gm_bytes=problem.a_total + problem.b_total + sums + problem.c_total,
        hbm_bytes=problem.a_total + max(problem.b_total - problem.hot_bytes, 0.0) + problem.c_total,
    )


def _rule() -> Mapping[str, Any]:
    return table("memplan.cost", "weight_quant.json")


def _cut(kernel: Kernel, problem: MatmulProblem, machine: Machine) -> _Cut | None:
    rule, weights, scales = _rule(), kernel.present[_WEIGHTS], kernel.present[_SCALES]
    digits, narrowed = rule["digits"].get(weights.dtype, 0), any(each.dtype == "int8" for each in kernel.outputs[:1])
    if not digits or problem.batch > 1 or problem.a_run == "m" or narrowed:
        return None
    group = _group(scales, problem)
    if group > 1:
        return _cut_by_groups(digits, group, weights.dtype, problem, machine)
    fits = problem.m <= rule["most_rows"] and not (problem.k % rule["aligned"] or problem.n % rule["aligned"])
    turned = problem.b_run == "k"
    if scales.count != problem.n or not fits or (weights.dtype in rule["turned_alone"] and not turned):
        return None
    step = rule["columns_step"]["rows" if problem.b_run == "n" else "otherwise"]
    columns = round_up(max(problem.n // machine.cubes, 1), step)
    whole = problem.k <= rule["most_terms"] and problem.n <= rule["most_columns"]
    whole = whole and weights.dtype not in rule["turned_alone"]
    parts = 0 if whole else ceil(problem.k / rule["terms_a_part"])
    return _Cut(digits, ceil(problem.n / columns), columns, problem.k, parts)


def _group(scales: Operand, problem: MatmulProblem) -> int:
    """Weights along K that share a scale, 0 where all of a column do."""
    rows = scales.count // problem.n
    return problem.k // rows if rows > 1 and scales.count % problem.n == 0 and problem.k % rows == 0 else 0


def _cut_by_groups(digits: int, group: int, dtype: str, problem: MatmulProblem, machine: Machine) -> _Cut | None:
    rule = _rule()["groups"]
    blocks = ceil(problem.n / rule["columns"])
    fits = problem.m <= group / rule["rows"] and problem.k <= rule["most_terms"] and blocks <= machine.cubes
    if group not in rule["sizes"] or dtype not in rule["types"] or not fits or problem.n % rule["aligned"]:
        return None
    if problem.b_run == "k":
        return None
    terms = round_up(ceil(problem.k / (machine.cubes // blocks)), group)
    cores = blocks * ceil(problem.k / terms)
    return _Cut(digits, cores, min(rule["columns"], problem.n), terms, groups=terms // group)


def _pass_ns(elements: float, machine: Machine) -> float:
    """One vector instruction of one core on so many elements of 4 bytes."""
    return machine["instruction_start_ns"] + elements / machine.vector_rate(1) * 1e9


def _digits_ns(problem: MatmulProblem, machine: Machine, cut: _Cut) -> float:
    """
    Of making digits of rows, one on a vector core at a time: each step waits for the one before, and the cube for all
    vector cores, as they are waited for when a kernel starts.
    """
    parts = max(cut.parts, 1)
    rounds = ceil(problem.m * parts / machine.vectors)
    step = _pass_ns(problem.k / parts, machine)
    waited = machine["head_ns_per_vector_core"] * cut.cores * machine.vectors / machine.cubes
    steps: float = rounds * (machine["core_start_ns"] + _rule()["digit_steps"] * step)
    return steps + waited


def _weights_ns(problem: MatmulProblem, machine: Machine, cut: _Cut) -> float:
    """
    Of reading weights: as fast as a core reads rows that L2 lacks, or as HBM gives them to all, which is less where a
    core's rows end within a line.
    """
    blocked = problem.b_run == "nz"
    own = machine["hbm_core_nz_bytes_per_cycle" if blocked else "incremental_walk_bytes_per_cycle"] * machine.clock_hz
    rate = machine.hbm_bytes_per_second * machine["hbm_read_share" if blocked else "hbm_nd2nz_share"]
    if problem.b_run == "n" and cut.columns * problem.b_bytes % machine["alignment"]:
        rate *= machine["unaligned_l1_share"]
    cold = max(1 - problem.hot_bytes / problem.b_total, 0.0)
    each = cut.columns * cut.terms * problem.b_bytes
    alone = cold * each / own + (1 - cold) * each / (machine["l2_to_l1_bytes_per_cycle"] * machine.clock_hz)
    return float(max(alone, cold * problem.b_total / rate) * 1e9)


def _results_ns(problem: MatmulProblem, machine: Machine, cut: _Cut) -> float:
    """
    Of putting sums of digits together and scaling them, piece by piece, each step behind the one before: by one vector
    core for each cube core, whose other one the kernel leaves idle, or of parts of K by all of them.
    """
    rule = _rule()
    if cut.groups:
        groups = rule["groups"]
        pieces, elements, steps = cut.groups, float(problem.m * groups["vector_columns"]), int(groups["steps"])
        return pieces * steps * _pass_ns(elements, machine)
    if cut.parts:
        whole = cut.parts * problem.m * problem.n / machine.vectors
        pieces = ceil(whole / rule["parted_result_piece"])
        elements = whole / pieces
    else:
        rows = min(max(int(rule["result_piece"]) // cut.columns, 1), problem.m)
        pieces, elements = ceil(problem.m / rows), float(rows * cut.columns)
    return pieces * (machine["core_start_ns"] + int(rule["result_steps"]) * _pass_ns(elements, machine))
