"""What a profile's kernels show: which they are, how long each took, and what chip they ran on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.resources import table
from memplan.cost.kernels.kernel import CPU_CORES, Kernel
from memplan.cost.kernels.kernel_columns import KernelColumns, kernel_at
from memplan.cost.kernels.op_classes import CONVOLUTIONS, op_class
from memplan.cost.overlap import Array
from memplan.hardware import Chip, chips

_NOT_COMPUTE = ("COMMUNICATION", "HCCL", "DSA_SQE", *CPU_CORES, "EVENT", "SDMA")
_CUBE_KINDS = (
    "matmul", "grouped_matmul", "attention", "attention_gradient",
    *CONVOLUTIONS, "recurrent", "einsum", "chunk_products",
)  # fmt: skip
_VECTOR_KINDS = ("vector", "fill", "optimizer", "rows", "reduction")


def calibration_choice(name: str) -> float:
    """A choice of the method of calibrating, from `calibration.json`."""
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


def merged_kernels(several: Sequence[MeasuredKernels]) -> MeasuredKernels:
    """The kernels of several profiles of one chip as those of one, rows numbered on."""
    rows, offset = [], 0
    for kernels in several:
        rows.append(kernels.row + offset)
        offset += int(kernels.row.max(initial=-1)) + 1
    return MeasuredKernels(
        tuple(kernel for kernels in several for kernel in kernels.kernels),
        np.concatenate([kernels.duration_ns for kernels in several]),
        np.concatenate(rows),
    )


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
        if _streamed(kernel) >= calibration_choice("stream_bytes")
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
            cores
            and chip.name in bandwidths
            and (seen.stream or 0) <= calibration_choice("stream_margin") * bandwidths[chip.name]
        )

    def distance(chip: Chip) -> tuple[float, float, str]:
        clock = abs((chip.clock_hz or 0) - (seen.clock_hz or chip.clock_hz or 0))
        return (bandwidths[chip.name] if seen.stream else 0.0), clock, chip.name

    return sorted((chip for chip in chips() if matches(chip)), key=distance)
