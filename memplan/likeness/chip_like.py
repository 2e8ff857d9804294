"""The chip of a run, from the cores its kernels used, its clock, its fastest stream and the memory it held."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from memplan.core.arrays import Bools
from memplan.core.progress import Progress, silent
from memplan.core.units import format_bytes
from memplan.graph import DTYPE_BITS
from memplan.hardware import Chip, chips
from memplan.hardware import chip as find_chip
from memplan.hardware.chip import SourcedValue
from memplan.likeness.kernel_kinds import KernelKind, KernelSteps
from memplan.likeness.setting import LikeSettings
from memplan.schema import Certainty
from memplan.traces.profile import Kernels
from memplan.traces.rank import RankProfile

_STREAMS = frozenset(
    {"add", "mul", "cast", "copy", "sub", "gate", "gate_grad", "activation", "concat", "fused_multiply_add"}
)
"""Families that read each operand and write each output once, and do little besides."""
_LARGE = 256 << 20
"""Bytes no L2 of any generation holds: what streams more than this comes from HBM."""
_OVER = 1.05
_USUAL_SHARE = 0.85
"""What a large stream of elementwise work reaches of HBM's rate."""
_CUBE, _VECTOR = ("AI_CORE", "MIX_AIC"), ("AI_VECTOR_CORE", "MIX_AIV")
_DTYPE_NAMES = {"bf16": "bfloat16", "float": "float32", "double": "float64"}
_DEFAULT = "910B3"


@dataclass(frozen=True, slots=True)
class ChipTraces:
    """What kernels tell of their chip: most cores used by cube and by vector kernels, clock, bytes per second."""

    cube_cores: int
    vector_cores: int
    clock_hz: float | None
    stream: float | None
    held_bytes: int


def chip_traces(rank: RankProfile, kernels: Kernels, step: KernelSteps, progress: Progress = silent) -> ChipTraces:
    """What the kernels and the memory of `rank` tell of its chip."""
    most = [int(np.max(kernels.block_count[used], initial=0)) for used in _core_kinds(kernels, step)]
    curves = rank.memory_curves(progress)
    held = [
        int(np.max(column, initial=0))
        for curve in curves.values()
        for column in (curve.reserved, curve.allocated)
        if column is not None
    ]
    return ChipTraces(most[0], most[1], _clock(kernels), _stream(kernels, step), max(held, default=0))


def _core_kinds(kernels: Kernels, step: KernelSteps) -> tuple[Bools, Bools]:
    """Kernels that use cube and vector cores: as they say, else products and work on single elements."""
    cores = np.array([str(core) for core in kernels.core])
    cube, vector = np.isin(cores, _CUBE), np.isin(cores, _VECTOR)
    if not cube.any() and not vector.any():
        families = np.array([kind.family for kind in step.kinds])[step.kind]
        cube, vector = families == "product", np.isin(families, list(_STREAMS))
    return cube, vector


def _clock(kernels: Kernels) -> float | None:
    """Cycles of all cores over their time: each core counts its own."""
    found = []
    for cycles, time in (("aic_total_cycles", "aicore_time(us)"), ("aiv_total_cycles", "aiv_time(us)")):
        if cycles in kernels.pmu and time in kernels.pmu:
            busy = kernels.pmu[time] * kernels.block_count * 1e-6
            good = np.isfinite(busy) & (busy > 0) & np.isfinite(kernels.pmu[cycles]) & (kernels.pmu[cycles] > 0)
            found.append(kernels.pmu[cycles][good] / busy[good])
    rates = np.concatenate(found) if found else np.empty(0)
    return float(np.median(rates)) if len(rates) else None


def _stream(kernels: Kernels, step: KernelSteps) -> float | None:
    """The fastest stream past L2, bytes per second."""
    best = None
    for number, kind in enumerate(step.kinds):
        size = _bytes(kind) if kind.family in _STREAMS else 0
        if size >= _LARGE:
            time = int(np.median(kernels.duration_ns[step.kind == number]))
            best = max(best or 0.0, size / max(time, 1) * 1e9)
    return best


def _bytes(kind: KernelKind) -> int:
    """Bytes that go in and out; outputs are taken to have the type of the first input unless it is cast."""
    if len(kind.dtypes) < len(kind.inputs) or not kind.outputs:
        return 0
    sizes = [_bits(name) for name in kind.dtypes]
    out = min(sizes[0], 16) if kind.family == "cast" else sizes[0]
    read = sum(prod(shape) * bits for shape, bits in zip(kind.inputs, sizes, strict=False) if shape)
    return (read + sum(prod(shape) * out for shape in kind.outputs if shape)) // 8


def _bits(name: str) -> int:
    plain = name.strip().removeprefix("DT_").lower()
    return DTYPE_BITS.get(_DTYPE_NAMES.get(plain, plain), 0)


def chip_like(told: str | None, traces: ChipTraces | None, settings: LikeSettings) -> Chip:
    """
    The chip a profile was taken on; `told` is its name where the files have it.

    Its clock is set to the measured one where the two differ.
    """
    given = settings.take("chip")
    if given is not None:
        return find_chip(given)
    if told:
        settings.put("chip", find_chip(told).name, "the profile names it", Certainty.TOLD)
        return find_chip(told)
    if traces is None or not traces.cube_cores:
        settings.put("chip", _DEFAULT, "nothing in the profile tells it", Certainty.ASSUMED)
        return find_chip(_DEFAULT)
    fitting = sorted(
        (item for item in chips() if _has_cores(item, traces) and _holds(item, traces)),
        key=lambda item: (_unlikely(item, traces), item.name),
    )
    if not fitting:
        why = f"no known chip has {traces.cube_cores} cube and {traces.vector_cores} vector cores"
        settings.put("chip", _DEFAULT, why, Certainty.ASSUMED)
        return find_chip(_DEFAULT)
    best = fitting[0]
    others = [item.name for item in fitting[1:] if _unlikely(item, traces) < _unlikely(best, traces) + 0.1][:3]
    evidence = _evidence(best, traces) + (f"; {', '.join(others)} would do as well" if others else "")
    settings.put("chip", best.name, evidence, Certainty.LIKELY)
    if traces.clock_hz is not None and best.clock_hz and abs(traces.clock_hz / best.clock_hz - 1) > 0.005:
        settings.put(
            "clock",
            f"{traces.clock_hz / 1e6:,.0f} MHz",
            f"cycles over time of its kernels; {best.name} is listed with {best.clock_hz / 1e6:,.0f} MHz",
        )
        return _clocked(best, traces.clock_hz)
    return best


def _clocked(chip: Chip, clock_hz: float) -> Chip:
    measured = SourcedValue(round(clock_hz / 1e6), "MHz", "measured: cycles over time of a profile's kernels")
    values: Mapping[str, SourcedValue] = {
        **chip.values,
        **{key: measured for key in ("cube_freq", "vec_freq") if key in chip.values},
    }
    return replace(chip, values=values)


def _has_cores(chip: Chip, traces: ChipTraces) -> bool:
    vector = chip.aiv_count or chip.aic_count
    return chip.aic_count == traces.cube_cores and traces.vector_cores in (0, vector)


def _holds(chip: Chip, traces: ChipTraces) -> bool:
    return not chip.hbm_bytes or traces.held_bytes <= chip.hbm_bytes


def _unlikely(chip: Chip, traces: ChipTraces) -> float:
    """How far the chip's clock and rate of HBM lie from what was seen, as a sum of logarithms."""
    apart = 0.0
    if traces.clock_hz is not None and chip.clock_hz:
        apart += abs(math.log(traces.clock_hz / chip.clock_hz))
    if traces.stream is not None and chip.hbm_bytes_per_second:
        share = traces.stream / chip.hbm_bytes_per_second
        apart += 10.0 if share > _OVER else abs(math.log(share / _USUAL_SHARE))
    if not chip.hbm_bytes:
        apart += 0.05  # the same die with known memory goes first
    return apart


def _evidence(chip: Chip, traces: ChipTraces) -> str:
    parts = (
        [f"{traces.cube_cores} cube cores", f"{traces.vector_cores} vector cores"]
        if traces.vector_cores
        else [f"{traces.cube_cores} cores"]
    )
    if traces.clock_hz is not None:
        parts.append(f"{traces.clock_hz / 1e6:,.0f} MHz")
    if traces.stream is not None and chip.hbm_bytes_per_second:
        share = traces.stream / chip.hbm_bytes_per_second
        parts.append(f"{traces.stream / 1e9:,.0f} GB/s of large streams, {share:.0%} of its HBM's rate")
    if traces.held_bytes:
        parts.append(f"{format_bytes(traces.held_bytes)} held")
    return ", ".join(parts)
