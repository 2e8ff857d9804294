"""Fitting a calibration to a profile, with the rows it is checked on kept apart from those it is fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.resources import table
from memplan.cost.calibration import FEATURES, Calibration, Correction, correction_terms
from memplan.cost.kernel import Kernel, op_class
from memplan.cost.kernel_columns import KernelColumns, kernel_at
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.machine import Machine
from memplan.cost.overlap import Array
from memplan.hardware import Chip, chips

_NOT_COMPUTE = ("COMMUNICATION", "HCCL", "DSA_SQE", "AI_CPU", "AICPU", "HOST_CPU", "EVENT", "SDMA")
_CUBE_KINDS = (
    "matmul", "grouped_matmul", "attention", "attention_gradient",
    "convolution", "convolution_input_gradient", "convolution_filter_gradient",
)  # fmt: skip
_VECTOR_KINDS = ("vector", "fill", "optimizer", "rows", "reduction")


def _choice(name: str) -> float:
    """A choice of the method, from `calibration.json`."""
    return float(table("memplan.cost", "calibration.json")[name]["value"])


@dataclass(frozen=True, slots=True)
class MeasuredKernels:
    """Compute kernels of a profile: what they are, how long each took (ns), and their row in the profile."""

    kernels: tuple[Kernel, ...]
    duration_ns: Array
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kernels)


def measured_kernels(columns: KernelColumns) -> MeasuredKernels:
    """The compute kernels among `columns`: no communication, no AI CPU, no random-number engine, none without time."""
    rows = [
        row
        for row in range(len(columns.type))
        if columns.core[row].upper() not in _NOT_COMPUTE
        and columns.duration_ns[row] > 0
        and op_class(columns.type[row]).kind != "collective"
    ]
    kernels = tuple(kernel_at(columns, row) for row in rows)
    index = np.asarray(rows, dtype=np.int64)
    return MeasuredKernels(kernels, columns.duration_ns[index].astype(np.float64), index)


@dataclass(frozen=True, slots=True)
class Observed:
    """
    What a profile shows of its chip: cube and vector cores that kernels used at most, the clock its cycle counts give,
    and the fastest stream of over 512 MiB in bytes per second; `None` where it shows nothing.
    """

    cubes: int | None
    vectors: int | None
    clock_hz: float | None
    stream: float | None


def observe(columns: KernelColumns) -> Observed:
    """What `columns` show of the chip they were measured on."""
    kinds = np.array([op_class(name).kind for name in columns.type])
    blocks = columns.block_count
    with_cube = np.isin(kinds, _CUBE_KINDS) & (blocks > 0)
    with_vector = np.isin(kinds, _VECTOR_KINDS) & (blocks > 0)
    kernels = measured_kernels(columns)
    rates = [
        _streamed(kernel) / time * 1e9
        for kernel, time in zip(kernels.kernels, kernels.duration_ns, strict=True)
        if _streamed(kernel) >= _choice("stream_bytes")
        and op_class(kernel.type).kind in ("vector", "fill", "optimizer", "reduction")
    ]
    return Observed(
        cubes=_most(blocks[with_cube]),
        vectors=_most(blocks[with_vector]),
        clock_hz=_clock(columns),
        stream=float(np.median(rates)) if rates else None,
    )


def _streamed(kernel: Kernel) -> int:
    """Bytes that a streaming kernel moves: what it fills is not read."""
    return kernel.written_bytes + (0 if op_class(kernel.type).kind == "fill" else kernel.read_bytes)


def _most(blocks: NDArray[np.int64]) -> int | None:
    """The largest block count that is common; now and then a kernel uses more blocks than there are cores."""
    if not len(blocks):
        return None
    values, counts = np.unique(blocks, return_counts=True)
    common = values[2 * counts >= counts.max()]
    return int(common.max())


def _clock(columns: KernelColumns) -> float | None:
    """Cycles over core time and cores, the median of kernels of over 100 us."""
    for cycles, time in (("aic_total_cycles", "aicore_time(us)"), ("aiv_total_cycles", "aiv_time(us)")):
        if cycles in columns.pmu and time in columns.pmu:
            spent = columns.pmu[time]
            with np.errstate(invalid="ignore", divide="ignore"):
                rate = columns.pmu[cycles] / spent / columns.block_count * 1e6
            good = (spent > 100) & np.isfinite(rate) & (rate > 0) & (columns.block_count > 1)
            if good.any():
                return float(np.round(np.median(rate[good]) / 1e6) * 1e6)
    return None


def identify(seen: Observed, bandwidths: Mapping[str, float]) -> list[Chip]:
    """
    Chips that could have been measured, likeliest first: as many cores, HBM (`bandwidths` by chip) no slower than the
    stream seen and as little faster as can be, the clock nearest.

    Empty where the profile shows no core count.
    """
    if seen.cubes is None and seen.vectors is None:
        return []

    def matches(chip: Chip) -> bool:
        cores = chip.aic_count == seen.cubes if seen.cubes is not None else chip.aiv_count == seen.vectors
        return (
            cores and chip.name in bandwidths and (seen.stream or 0) <= _choice("stream_margin") * bandwidths[chip.name]
        )

    def distance(chip: Chip) -> tuple[float, float, str]:
        clock = abs((chip.clock_hz or 0) - (seen.clock_hz or chip.clock_hz or 0))
        return (bandwidths[chip.name] if seen.stream else 0.0), clock, chip.name

    return sorted((chip for chip in chips() if matches(chip)), key=distance)


def calibrate(kernels: MeasuredKernels, machine: Machine, profile: str, *, progress: Progress = silent) -> Calibration:
    """
    Fit `kernels` of profile `profile`: its odd rows (1, 3, ... of all its kernels) are fitted, even ones only checked.

    Raises `InputError` for a profile without compute kernels.
    """
    if not len(kernels):
        raise InputError("the profile holds no compute kernels with shapes", remedy="profile with shapes recorded")
    costs = [kernel_cost(kernel, machine) for kernel in kernels.kernels]
    rate = machine.hbm_bytes_per_second
    rows = _Rows(
        terms=np.array([correction_terms(k, c, rate) for k, c in zip(kernels.kernels, costs, strict=True)]),
        truth=kernels.duration_ns,
        odd=kernels.row % 2 == 1,
    )
    types: dict[str, list[int]] = {}
    classes: dict[str, list[int]] = {}
    for index, (kernel, cost) in enumerate(zip(kernels.kernels, costs, strict=True)):
        if cost.known:
            types.setdefault(kernel.type, []).append(index)
            classes.setdefault(op_class(kernel.type).rule, []).append(index)
    fits: dict[str, list[Correction]] = {"types": [], "classes": []}
    for kind, groups in (("types", types), ("classes", classes)):
        for number, (name, members) in enumerate(sorted(groups.items())):
            progress(number, len(groups), name)
            fit = _fit(name, np.array(members), rows)
            if fit is not None:
                fits[kind].append(fit)
    result = Calibration(
        profile=profile,
        chip=machine.name,
        cubes=machine.cubes,
        clock_hz=machine.clock_hz,
        types=tuple(fits["types"]),
        classes=tuple(fits["classes"]),
        train_error=0.0,
        check_error=None,
        model_error=_error(rows.terms[:, 1], rows.truth, ~rows.odd),
    )
    predicted = np.array([float(result.corrected_ns(k, c, rate)) for k, c in zip(kernels.kernels, costs, strict=True)])
    return replace(
        result,
        train_error=_error(predicted, rows.truth, rows.odd) or 0.0,
        check_error=_error(predicted, rows.truth, ~rows.odd),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """All rows: terms of the correction, measured time, and which rows are fitted."""

    terms: Array
    truth: Array
    odd: NDArray[np.bool_]


def _error(predicted: Array, truth: Array, rows: NDArray[np.bool_]) -> float | None:
    """Sum of absolute deviations over the sum of times; `None` for no rows."""
    total = float(truth[rows].sum())
    return float(np.abs(predicted - truth)[rows].sum()) / total if total else None


def _fit(name: str, members: NDArray[np.int64], rows: _Rows) -> Correction | None:
    """The fit of one class on its odd rows; `None` for too few of them."""
    train, check = members[rows.odd[members]], members[~rows.odd[members]]
    if len(train) < _choice("fewest_rows"):
        return None
    model = rows.terms[:, 1]
    chosen = _least_deviations(rows.terms[train], rows.truth[train])
    values: Array = np.maximum(rows.terms @ np.asarray(chosen), 1.0)
    mine, apart = np.zeros(len(model), bool), np.zeros(len(model), bool)
    mine[train], apart[check] = True, True
    return Correction(
        name=name,
        coefficients=chosen,
        span_ns=(float(model[train].min()), float(model[train].max())),
        train_rows=len(train),
        check_rows=len(check),
        train_error=_error(values, rows.truth, mine) or 0.0,
        check_error=_error(values, rows.truth, apart),
        model_error=_error(model, rows.truth, apart),
    )


def _least_deviations(terms: Array, truth: Array) -> tuple[float, ...]:
    """
    Coefficients that are never negative with the least sum of absolute deviations.

    Every subset of the terms is solved by iteratively reweighted least squares; of those without a negative
    coefficient the best is taken. A model time alone is always among them.
    """
    best = tuple(np.median(truth / terms[:, 1]) if name == "model" else 0.0 for name in FEATURES)
    least = float(np.abs(terms @ np.asarray(best) - truth).sum())
    for size in range(1, len(FEATURES) + 1):
        for subset in combinations(range(len(FEATURES)), size):
            columns = terms[:, subset]
            weights = np.ones(len(truth))
            solution = np.zeros(size)
            for _ in range(int(_choice("rounds"))):
                root = np.sqrt(weights)[:, None]
                solution = np.linalg.lstsq(columns * root, truth * root[:, 0], rcond=None)[0]
                rest = np.abs(columns @ solution - truth)
                weights = 1 / np.maximum(rest, 1e-3 * truth)
            deviation = float(np.abs(columns @ solution - truth).sum())
            # More terms have to earn their place, or rows never seen pay for it.
            if (solution >= 0).all() and deviation < _choice("least_gain") * least:
                least = deviation
                full = np.zeros(len(FEATURES))
                full[list(subset)] = solution
                best = tuple(full)
    return tuple(float(value) for value in best)
