"""Memory of public training runs, each with its source, against what is predicted of them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median

from benchmarks.training_rows import training_rows
from memplan.models.training.memory import TrainingMemory
from memplan.models.training.phases import MemoryPart

KEPT_BACK_MISSES = (
    "deepseek_v3_tp2_pp2_dualpipev, stage 1",
    "mixtral_legacy_tp2_ep4, stage 0",
)
"""Of the runs that were kept back, those that miss 7 %: benchmarks/README.md names them."""


def interval_of_peak(nbytes: int) -> tuple[int, int]:
    """The interval of a peak of `nbytes`."""
    part = MemoryPart("all", nbytes, "")
    return TrainingMemory(0, 0, "", (part,), (), 0, 0, ()).interval_bytes


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
    assert all(error < 0 for error in errors["reserved"])


def test_four_of_five_public_peaks_are_inside_the_interval(shared_data: Path) -> None:
    ratios: dict[str, list[float]] = {}
    for row in training_rows(shared_data / "configs"):
        if not row.kind.endswith("states") and row.predicted is not None:
            ratios.setdefault(row.name.split(",")[0], []).append(row.measured / row.predicted)
    low, high = (share / 1e9 for share in interval_of_peak(10**9))
    inside = sum(low <= fmean(found) <= high for found in ratios.values()) / len(ratios)
    assert 0.75 <= inside <= 0.9
