"""Memory of public runs of other frameworks, and the intervals that come from how far off they were first seen."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest

from benchmarks.framework_memory import (
    RESERVED,
    figure_interval,
    framework_rows,
    framework_runs,
    fullest_stage,
    told,
)
from benchmarks.measured_row import later_set
from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.models.training.memory import Trained, TrainingMemory
from memplan.models.training.phases import MemoryPart

FIRST_SEEN = Path(__file__).parents[2] / "benchmarks" / "training_first_seen.json"
_OTHERS = 8
"""The first set of other frameworks; before it those of `fully_shard` are torchtitan's."""


def told_inside(shared_data: Path, figure: str) -> Iterator[tuple[Mapping[str, Any], Trained, bool]]:
    """Of every run that tells `figure` and has a prediction its kind, and whether it lies in the interval told."""
    for run in framework_runs():
        if told(run) != figure:
            continue
        try:
            memory = fullest_stage(run, shared_data / "configs", figure)
        except InputError:
            continue
        low, high = figure_interval(memory, run, figure)
        yield run, memory.kind, low <= run[figure] * GIB <= high


def memory_of(kind: Trained) -> TrainingMemory:
    """A peak of 10^9 bytes, nothing of it between steps."""
    return TrainingMemory(0, 0, "", (MemoryPart("all", 10**9, ""),), (), 0, 0, (), kind=kind)


def first_seen(kind: Trained) -> dict[str, float]:
    """What the allocator had over predicted, of runs whose recipes had words for all of them."""
    found = {}
    for run in json.loads(FIRST_SEEN.read_text("utf-8"))["runs"]:
        ours = (
            run["kind"] == kind.value
            if run["set"] >= _OTHERS
            else kind is Trained.BY_PYTORCH and "fully_shard" in run["kind"]
        )
        if ours and "reserved" in run and "not_told" not in run and "refused" not in run:
            predicted, measured = run["reserved"]
            found[run["run"]] = measured / predicted
    return found


def seen_now(shared_data: Path, names: Collection[str]) -> list[float]:
    """The same of those runs as they are predicted now."""
    runs = [run for run in framework_runs() if run["name"] in names]
    held = [fullest_stage(run, shared_data / "configs", "reserved").reserved_bytes for run in runs]
    return [run["reserved"] * GIB / nbytes for run, nbytes in zip(runs, held, strict=True)]


@pytest.mark.parametrize("kind", [Trained.ADAPTERS, Trained.BY_PYTORCH])
def test_intervals_of_other_frameworks_are_those_of_runs_first_seen(kind: Trained, shared_data: Path) -> None:
    """
    Those with adapters as the same runs are predicted since what their code keeps was mended.

    None begins above what is predicted, which the allocator has at least.
    """
    shares = first_seen(kind)
    assert len(shares) >= 10
    told_now = seen_now(shared_data, shares) if kind is Trained.ADAPTERS else list(shares.values())
    assert len(told_now) == len(shares)
    cuts = quantiles(told_now, n=10, method="inclusive")
    low, high = memory_of(kind).reserved_interval_bytes
    assert (low / 1e9, high / 1e9) == pytest.approx((min(cuts[0], 1.0), cuts[-1]), abs=0.01)
    assert memory_of(kind).interval_bytes < (low, high)


def test_what_the_allocator_takes_is_that_of_runs_that_tell_both() -> None:
    runs = json.loads(RESERVED.read_text("utf-8"))["runs"]
    cuts = quantiles((run["reserved_gib"] / run["allocated_gib"] for run in runs), n=10, method="inclusive")
    memory = memory_of(Trained.BY_MEGATRON)
    taken = zip(memory.reserved_interval_bytes, memory.interval_bytes, strict=True)
    assert [more / held for more, held in taken] == pytest.approx((cuts[0], cuts[-1]), abs=0.01)


def test_runs_of_other_frameworks_are_met_as_far_as_is_told(shared_data: Path) -> None:
    """`benchmarks/README.md` names what is farther off."""
    rows = (row for row in framework_rows(shared_data / "configs") if ", set " not in row.kind)
    errors = [row.error for row in rows if row.error is not None]
    assert len(errors) > 40
    assert median(map(abs, errors)) < 0.12
    assert sum(abs(error) < 0.15 for error in errors) > 0.7 * len(errors)


@pytest.mark.parametrize(("figure", "share"), [("reserved", 0.8), ("peak", 0.6)])
def test_most_of_what_other_frameworks_take_is_inside_its_interval(
    shared_data: Path, figure: str, share: float
) -> None:
    """
    Fewer peaks of tensors are: by Megatron's intervals they are never fewer than predicted.

    Runs that made the intervals are left out: those that tell peaks made none.
    """
    made = {name for kind in (Trained.ADAPTERS, Trained.BY_PYTORCH) for name in first_seen(kind)}
    rows = told_inside(shared_data, figure)
    inside = [held for run, _, held in rows if run["name"] not in made and not later_set(run)]
    assert sum(inside) >= share * len(inside)


def test_the_interval_of_adapters_holds_runs_that_had_no_part_in_it(shared_data: Path) -> None:
    """
    Those of the eleven that made it only as if they hadn't: each by the interval that the ten others make.

    Of the others are nine by what their code keeps, which was mended with them in view, and twenty of later sets that
    were predicted before they were compared.
    """
    made = first_seen(Trained.ADAPTERS)
    others = [
        (bool(later_set(run)), held)
        for run, kind, held in told_inside(shared_data, "reserved")
        if kind is Trained.ADAPTERS and run["name"] not in made
    ]
    for later, least in ((False, 9), (True, 16)):
        held = [inside for of_later, inside in others if of_later is later]
        assert sum(held) >= least >= 0.8 * len(held)
    shares = seen_now(shared_data, made)
    alone = 0
    for place, share in enumerate(shares):
        cuts = quantiles(shares[:place] + shares[place + 1 :], n=10, method="inclusive")
        alone += min(cuts[0], 1.0) <= share <= cuts[-1]
    assert alone >= 8
