"""The plan's ops as points of a roofline: work per byte against work per second, predicted and measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.core.sentence import Text
from memplan.cost import machine
from memplan.gui.model.document import Document
from memplan.gui.model.kernel.kernel_roofline import hbm_text
from memplan.hardware import chip

_NAME_PLACES = (0.5, 0.6, 0.7, 0.8, 0.4, 0.3)
"""Shares of the memory's line at which its name may end, the best first."""
_NAME_WIDTH, _NAME_HEIGHT = 1.5, 1.5
"""Powers of ten that a name takes at the most where the picture is small."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A level that no op passes, in FLOP/s, and what it is."""

    name: str
    flops_per_second: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """
    Points of equal length, one an op that computes and moves bytes: FLOP per byte of GM traffic against FLOP/s.

    `measured` is NaN where the op was not found in the profile. `bound` names what the prediction is limited by.
    `ceilings` and `bytes_per_second` are the chip's peaks, empty and `None` where the chip isn't known;
    `memory` names what the rate is of, and says what it rests on where no vendor states it.
    """

    op: NDArray[np.int64]
    intensity: NDArray[np.float64]
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    bound: tuple[str, ...]
    ceilings: tuple[Ceiling, ...]
    bytes_per_second: float | None
    memory: Text

    def __len__(self) -> int:
        return len(self.op)

    def clear_place(self, low: float, high: float) -> tuple[float, float]:
        """
        Where the name of the memory's line lies over the fewest points, of places between two intensities.

        In powers of ten, as the picture has its axes; the name ends there, above the line. The middle where nothing
        tells. Needs `bytes_per_second`.
        """
        rate = np.log10(self.bytes_per_second or 1.0)
        ends = np.log10(low) + (np.log10(high) - np.log10(low)) * np.array(_NAME_PLACES)
        x, across = np.log10(self.intensity)[:, np.newaxis], ends[np.newaxis, :]
        covered = np.zeros(len(ends), dtype=np.int64)
        for values in (self.predicted, self.measured):
            above = np.log10(values)[:, np.newaxis] - across - rate
            inside = (x > across - _NAME_WIDTH) & (x < across) & (above > 0) & (above < _NAME_HEIGHT)
            covered += np.count_nonzero(inside, axis=0)
        end = float(ends[np.argmin(covered)])
        return end, float(end + rate)


def plan_roofline(document: Document) -> Roofline:
    """The roofline of the document's plan; no points without one."""
    plan = document.plan
    ops = [op for op in plan.ops if op.flops and op.gm_bytes and op.duration_ns] if plan is not None else []
    measured = {}
    if document.comparison is not None:
        matches = document.comparison.matches
        measured = dict(zip(matches.op.tolist(), matches.duration_ns.tolist(), strict=True))
    times = np.array([measured.get(op.index) or np.nan for op in ops], dtype=np.float64)
    flops = np.array([op.flops for op in ops], dtype=np.float64)
    ceilings, bandwidth, memory = _peaks(plan.chip) if plan is not None else _NO_PEAKS
    return Roofline(
        op=np.array([op.index for op in ops], dtype=np.int64),
        intensity=flops / np.array([op.gm_bytes for op in ops], dtype=np.float64),
        predicted=flops / np.array([op.duration_ns for op in ops], dtype=np.float64) * 1e9,
        measured=flops / times * 1e9,
        bound=tuple(op.bound for op in ops),
        ceilings=ceilings,
        bytes_per_second=bandwidth,
        memory=memory,
    )


_Peaks = tuple[tuple[Ceiling, ...], float | None, Text]
_NO_PEAKS: _Peaks = ((), None, "")


def _peaks(name: str) -> _Peaks:
    try:
        core = machine(chip(name))
    except InputError:
        return _NO_PEAKS
    wanted = ("float16", "float32", "int8")
    cube = [Ceiling(f"cube {dtype}", peak) for dtype in wanted if (peak := core.cube_peak(dtype)) is not None]
    return (*cube, Ceiling("vector float32", core.vector_peak)), core.hbm_bytes_per_second, hbm_text(core)
