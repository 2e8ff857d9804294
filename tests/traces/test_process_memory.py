"""The gap between a process and its allocator is itemised, whatever components a profile lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.core.units import MIB
from memplan.traces.process_memory import ProcessPart, process_memory
from memplan.traces.profile import MemoryCurve


def curve(name: str, reserved: int, allocated: int | None = None) -> MemoryCurve:
    """A component that holds the same MiB throughout."""
    times = np.array([0, 10**9], dtype=np.int64)
    held = None if allocated is None else np.full(2, allocated * MIB, dtype=np.int64)
    return MemoryCurve(name, "NPU:0", times, held, np.full(2, reserved * MIB, dtype=np.int64), None)


def curves(*found: MemoryCurve) -> Mapping[str, MemoryCurve]:
    return {item.component: item for item in found}


def items(found: Mapping[str, MemoryCurve]) -> dict[tuple[ProcessPart, str], int]:
    memory = process_memory(found)
    assert memory is not None
    assert sum(item.nbytes for item in memory.items) == memory.held
    return {(item.part, item.name): item.nbytes // MIB for item in memory.items}


@pytest.mark.parametrize("allocator", ["PTA", "MindSpore"])
def test_every_component_is_an_item_and_the_rest_is_said(allocator: str) -> None:
    assert items(
        curves(curve("APP", 2000), curve(allocator, 1000, 900), curve("GE", 200), curve("HCCL", 400), curve("ROCE", 30))
    ) == {
        (ProcessPart.ALLOCATED, allocator): 900,
        (ProcessPart.CACHED, allocator): 100,
        (ProcessPart.ALLOCATOR, "GE"): 200,
        (ProcessPart.MODULE, "HCCL"): 400,
        (ProcessPart.MODULE, "ROCE"): 30,
        (ProcessPart.REST, ""): 370,
    }


def test_sums_and_other_devices_are_not_counted_twice() -> None:
    found = dict(curves(curve("APP", 2000), curve("PTA", 1000, 900), curve("PTA+GE", 1200), curve("HCCL", 400)))
    found["HCCL NPU:1"] = curve("HCCL", 400)
    assert items(found)[ProcessPart.REST, ""] == 600


def test_a_module_that_counts_the_allocators_segments_as_its_own_is_told_without_them() -> None:
    found = items(curves(curve("APP", 1500), curve("PTA", 1000, 900), curve("RUNTIME", 1060), curve("HCCL", 400)))
    assert found[ProcessPart.MODULE, "RUNTIME"] == 60
    assert found[ProcessPart.REST, ""] == 40


def test_without_a_process_there_is_no_gap() -> None:
    assert process_memory(curves(curve("PTA", 1000, 900), curve("HCCL", 400))) is None
    assert process_memory(curves(curve("APP", 1000))) is None


@pytest.mark.parametrize(
    "name", ["qwen3-0.6b-train-4rank", "alexnet-ddp-2rank/text/level2", "alexnet-ddp-2rank/db/level2"]
)
def test_of_real_gaps_at_most_100_mb_are_left(shared_data: Path, name: str) -> None:
    memory = process_memory(memplan.open_profile(shared_data / "profiles" / name).rank(0).memory_curves())
    assert memory is not None
    assert memory.gap > 600 * MIB
    assert 0 <= memory.rest <= 100 * MIB
