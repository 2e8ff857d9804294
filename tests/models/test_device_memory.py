"""What nvidia-smi and npu-smi show beside the allocator's share: contexts, and buffers of communicators."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from benchmarks.framework_memory import figure_bytes, figure_interval, framework_runs, fullest_stage, told
from memplan.core.units import GIB, MIB
from memplan.models.parallel import Layout
from memplan.models.training.device_memory import DeviceMemory, device_memory, usually_reserved
from memplan.models.training.memory import Trained, TrainingMemory
from memplan.models.training.phases import MemoryPart
from memplan.models.training.recipe_choices import Gpu, Sharding
from memplan.models.training.step_recipe import Recipe

RECIPE = Recipe(sequence=4096)


def memory_of(kind: Trained = Trained.BY_MEGATRON) -> TrainingMemory:
    return TrainingMemory(0, 0, "", (MemoryPart("all", 10 * GIB, ""),), (), 0, 0, (), 3 * GIB, kind=kind)


def outside(layout: Layout, recipe: Recipe = RECIPE) -> tuple[int, int, DeviceMemory]:
    """The least and the most that is shown beside the allocator's interval."""
    memory = memory_of()
    shown, (low, high) = device_memory(memory, layout, recipe), memory.reserved_interval_bytes
    return shown.low_bytes - low, shown.high_bytes - high, shown


def test_every_communicator_of_hccl_has_two_buffers() -> None:
    alone, none, one = outside(Layout())
    assert (one.fewest, one.most, one.tool) == (0, 0, "npu-smi")
    for layout, fewest, most in (
        (Layout(data=8), 1, 2),
        (Layout(tensor=8), 1, 3),
        (Layout(tensor=2, data=4), 2, 4),
        (Layout(pipeline=2, data=2), 2, 5),
        (Layout(tensor=2, pipeline=2, context=2, data=2, expert=4), 5, 9),
    ):
        least, largest, shown = outside(layout)
        assert (shown.fewest, shown.most) == (fewest, most)
        assert (least - alone, largest - none) == (fewest * 400 * MIB, most * 400 * MIB)


def test_others_than_megatron_have_no_groups_of_its_own() -> None:
    for sharding in (Sharding.FSDP2, Sharding.ZERO3):
        _, _, shown = outside(Layout(data=8), Recipe(sequence=4096, sharding=sharding))
        assert (shown.fewest, shown.most) == (1, 2)


def test_gpus_have_contexts_and_buffers_of_their_own() -> None:
    least, largest, shown = outside(Layout(tensor=8), Recipe(sequence=4096, gpu=Gpu.HOPPER))
    assert shown.tool == "nvidia-smi"
    # A ring of 16 channels, 10 and 2 MiB each, beside a context of few kernels.
    assert least == 287_047_680 + 16 * 12 * MIB
    assert largest == GIB + 3 * 4 * 32 * 12 * MIB


def test_megatrons_allocator_usually_takes_more_than_tensors_hold() -> None:
    """By the median of models whose runs tell both; others' have what their streams leave alone."""
    assert usually_reserved(memory_of()) == round(1.07 * 10 * GIB) + 3 * GIB
    assert usually_reserved(memory_of(Trained.BY_PYTORCH)) == 13 * GIB
    shown = device_memory(memory_of(), Layout(tensor=2, data=2), RECIPE)
    assert shown.low_bytes < shown.usual_bytes < shown.high_bytes


def test_a_profiled_step_has_as_much_beside_its_allocator() -> None:
    """Qwen3-0.6B on four NPUs (a sample of msprof-analyze): 1.52 GiB, 1.21 of them HCCL's; the rest made a bound."""
    least, largest, shown = outside(Layout(pipeline=2, data=2))
    assert shown.fewest * 400 * MIB <= 1.21 * GIB <= shown.most * 400 * MIB
    assert least <= 1.52 * GIB <= largest


def test_public_readings_are_met_as_far_as_their_readme_tells(shared_data: Path) -> None:
    """FlagPerf's, of which no constant and no bound comes: benchmarks/README.md names what is outside."""
    errors, inside = [], 0
    for run in framework_runs():
        if told(run) != "shown":
            continue
        memory = fullest_stage(run, shared_data / "configs", "shown")
        errors.append(figure_bytes(memory, run, "shown") / GIB / run["shown"] - 1)
        low, high = figure_interval(memory, run, "shown")
        inside += low <= run["shown"] * GIB <= high
    assert len(errors) == 17
    assert median(map(abs, errors)) == pytest.approx(0.11, abs=0.02)
    assert inside >= 11
