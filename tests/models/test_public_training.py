"""Memory of public training runs, each with its source, against what is predicted of them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, median, quantiles

import pytest

from benchmarks.training_rows import training_rows
from memplan.core.units import GIB, MIB
from memplan.models.training.memory import TrainingMemory
from memplan.models.training.phases import MemoryPart

KEPT_BACK_MISSES = (
    "deepseek_v3_tp2_pp2_dualpipev, stage 1",
    "bert_tp4, stage 0",
    "prm_llama2_pp8, stage 7",
    "Llama3.1-8B FSDP64 BS1 s8192 selective AC, 2025-10, stage 0",
    "Llama3.1-70B FSDP32 TP8 BS16 s8192 full AC, stage 0",
    "te_tp2_zp_z3_resume_fsdp_dtensor_a100, stage 0",
)
"""Of the runs that were kept back, those that miss 7 %: benchmarks/README.md names them."""


FIRST_SEEN = Path(__file__).parents[2] / "benchmarks" / "training_first_seen.json"


def memory_of(between: int, peak: int) -> TrainingMemory:
    """What a run with these bytes takes."""
    return TrainingMemory(0, 0, "", (MemoryPart("all", peak, ""),), (), between, 0, ())


def tenths(shares: dict[str, list[float]]) -> tuple[float, float]:
    """The 10 and 90 % quantiles of runs, the stages of each taken together."""
    found = quantiles([fmean(values) for values in shares.values()], n=10, method="inclusive")
    return found[0], found[-1]


def test_public_training_runs_are_met(shared_data: Path) -> None:
    """Each within 7 %, but for those that were kept back."""
    rows = [row for row in training_rows(shared_data / "configs") if row.error is not None]
    errors = {
        kind: [row.error or 0.0 for row in rows if row.kind.endswith(kind) and row.name not in KEPT_BACK_MISSES]
        for kind in ("states", "first step", "steady step", "reserved")
    }
    assert len(errors["states"]) > 60
    assert all(abs(error) < 0.07 for found in errors.values() for error in found)
    assert median(map(abs, errors["states"])) < 0.01
    assert median(map(abs, errors["first step"])) < 0.01
    assert median(map(abs, errors["steady step"])) < 0.03
    assert -0.03 < median(errors["reserved"]) < 0


def test_intervals_are_those_of_runs_first_seen() -> None:
    """As wide as four of five runs were off that were predicted before anybody had looked at what they took."""
    states: dict[str, list[float]] = {}
    beyond: dict[str, list[float]] = {}
    for run in json.loads(FIRST_SEEN.read_text("utf-8"))["runs"]:
        if "not_told" in run or "states" not in run:
            continue
        predicted, measured = run["states"]
        states.setdefault(run["run"], []).append(measured / predicted)
        if "steady_step" in run:
            peak, held = run["steady_step"]
            beyond.setdefault(run["run"], []).append((held - predicted) / (peak - predicted))
    assert len(states) >= 30
    assert len(beyond) >= 20
    kept = memory_of(10**9, 10**9).between_interval_bytes
    above = memory_of(0, 10**9).interval_bytes
    for shares, interval in ((states, kept), (beyond, above)):
        assert tuple(share / 1e9 for share in interval) == pytest.approx(tenths(shares), abs=0.01)


def test_four_of_five_public_peaks_are_inside_the_interval(shared_data: Path) -> None:
    """More are: what missed when it was first seen has been mended."""
    kept: dict[str, float] = {}
    inside: dict[str, list[bool]] = {}
    for row in training_rows(shared_data / "configs"):
        if row.predicted is None:
            continue
        if row.kind.endswith("states"):
            kept[row.name] = row.predicted * MIB
        elif row.kind.endswith("steady step") and row.name in kept:
            low, high = memory_of(round(kept[row.name]), round(row.predicted * GIB)).interval_bytes
            inside.setdefault(row.name.split(",")[0], []).append(low <= row.measured * GIB <= high)
    share = sum(all(found) for found in inside.values()) / len(inside)
    assert share >= 0.8
