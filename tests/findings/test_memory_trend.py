"""Growth over few steps, over thousands of them, and over hours of which no steps are known."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.core.units import KIB, MIB
from memplan.findings import diagnose
from memplan.findings.finding import Finding
from memplan.findings.memory_trend import EVERY_PART, EVERY_STEP, growth_by_step

US = 1_790_000_000_000_000
STEP_US = 2_000_000


def lows(steps: int, each: int, scatter: int, first: int = 20_000 * MIB) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    rng = random.Random(steps)
    return np.array([first + each * step + rng.randrange(scatter + 1) for step in range(steps)], dtype=np.int64)


@pytest.mark.parametrize(("steps", "each", "scatter", "formula"), [
    (5, 200 * MIB, 0, EVERY_STEP), (4000, MIB, 0, EVERY_PART), (4000, MIB, 200 * MIB, EVERY_PART),
    (300, 4 * MIB, 60 * MIB, EVERY_PART), (5, 10 * MIB, 0, None), (4000, 0, 200 * MIB, None), (4000, 50 * KIB, 0, None),
    (4000, -MIB, 0, None), (12, 30 * MIB, 100 * MIB, None),
])  # fmt: skip
def test_slow_growth_of_long_runs_counts_as_fast_growth_of_short_ones(
    steps: int, each: int, scatter: int, formula: str | None
) -> None:
    found = growth_by_step(lows(steps, each, scatter))
    assert (None if found is None else found.formula) == formula
    if found is not None:
        assert found.each == pytest.approx(each, rel=0.2)


def test_what_a_model_takes_once_is_no_growth() -> None:
    levels = lows(400, 0, MIB)
    levels[:3] //= 2
    assert growth_by_step(levels) is None


def recording(folder: Path, steps: int, leak: int, *, blocks: bool, kernels: bool) -> None:
    """A run that allocates and releases 40 blocks of 64 MiB a step and keeps one of `leak` bytes."""
    folder.mkdir()
    curve = ["Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Total Active(MB),Stream Ptr,Device Type"]
    made = ["Name,Size(KB),Allocation Time(us),Release Time(us),Duration(us),Device Type"]
    tasks = ["Step Id,Name,Type,Accelerator Core,Start Time(us),Duration(us),Wait Time(us)"]
    kept = 2_000 * MIB
    for step in range(steps):
        begin = US + step * STEP_US
        tasks += [f"{step},MatMul{n},MatMul,AI_CORE,{begin + 1000 + n * 400},390,1" for n in range(40)]
        for number in range(40):
            time = begin + number * 40_000
            made.append(f"aten::mm,65536,{time},{time + 30_000},30000,NPU:0")
            for at, level in ((time, kept + 64 * MIB), (time + 30_000, kept)):
                curve.append(f"PTA,{at}.5,{level / MIB},6000,,1,NPU:0")
        kept += leak
        if leak:
            made.append(f"aten::cat,{leak // KIB},{begin + 1_900_000},,,NPU:0")
            curve.append(f"PTA,{begin + 1_900_000}.5,{kept / MIB},6000,,1,NPU:0")
    (folder / "memory_record.csv").write_text("\n".join(curve) + "\n")
    if blocks:
        (folder / "operator_memory.csv").write_text("\n".join(made) + "\n")
    if kernels:
        (folder / "kernel_details.csv").write_text("\n".join(tasks) + "\n")


def growth_in(folder: Path) -> list[Finding]:
    return [one for one in diagnose(memplan.open_profile(folder)).findings if one.kind == "memory.growth"]


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("kernels", [True, False])
def test_a_slow_leak_is_told_with_its_rate_and_owner(tmp_path: Path, blocks: bool, kernels: bool) -> None:
    recording(tmp_path / "run", 200, MIB, blocks=blocks, kernels=kernels)
    (found,) = growth_in(tmp_path / "run")
    assert found.cost_bytes == pytest.approx(200 * MIB, rel=0.03)
    if kernels:
        assert "1.00 MiB a step" in str(found.title)
    if blocks:
        assert found.places[0].tensors[0] == "aten::cat"
    elif not kernels:
        assert "GiB an hour" in str(found.title)


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("kernels", [True, False])
def test_a_run_that_keeps_nothing_does_not_grow(tmp_path: Path, blocks: bool, kernels: bool) -> None:
    recording(tmp_path / "run", 60, 0, blocks=blocks, kernels=kernels)
    assert not growth_in(tmp_path / "run")
