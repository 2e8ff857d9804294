"""What a device shows of a training step: the allocator's share, and what the process has there outside of it."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.resources import table
from memplan.models.parallel import Layout, training_layout
from memplan.models.training.memory import Trained, TrainingMemory
from memplan.models.training.recipe_choices import Gpu
from memplan.models.training.step_recipe import Recipe


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """
    Bytes of a device that are in use at a rank's peak, as `tool` shows them: between `low_bytes` and `high_bytes`.

    That is what the allocator has taken by its interval, the context of the process, and the buffers of between
    `fewest` and `most` communicators. `usual_bytes` has what allocators usually take and the middle of the rest.
    """

    tool: str
    usual_bytes: int
    low_bytes: int
    high_bytes: int
    fewest: int
    most: int


def device_memory(memory: TrainingMemory, layout: Layout, recipe: Recipe) -> DeviceMemory:
    """
    What nvidia-smi or, with no GPU told, npu-smi shows at the peak of `memory`.

    Sizes are those of outside.json. Where Megatron has the states, the allocator's segments are not filled: what it
    usually takes is more than tensors hold by the median of models of which public runs tell both.
    """
    layout = training_layout(layout)
    name, tool = ("npu", "npu-smi") if recipe.gpu is Gpu.NONE else ("gpu", "nvidia-smi")
    rows = table("memplan.models.training", "outside.json")["devices"]
    row = next(entry for entry in rows if entry["name"] == name)
    fewest = _exchanging(layout)
    most = fewest + _exchanging_besides(layout, recipe)
    context, each = row["context"], row["communicator"]
    least = int(context["low"]) + fewest * int(each["low"])
    largest = int(context["high"]) + most * int(each["high"])
    low, high = memory.reserved_interval_bytes
    usual = (least + largest) // 2 + usually_reserved(memory)
    return DeviceMemory(tool, usual, low + least, high + largest, fewest, most)


def usually_reserved(memory: TrainingMemory) -> int:
    """Bytes that the allocator has usually taken at the peak of `memory`: what holds tensors, and what lies between."""
    if memory.kind is not Trained.BY_MEGATRON:
        return memory.reserved_bytes
    usual = float(table("memplan.models.training", "intervals.json")["reserved"]["usual"])
    return round(memory.peak_bytes * usual) + memory.gathering_bytes


def _exchanging(layout: Layout) -> int:
    """Groups of more than one rank whose exchanges every step has: of tensors, stages, data, context and experts."""
    replicas = layout.data * layout.context
    counts = (layout.tensor, layout.pipeline, replicas, layout.context, layout.expert)
    return sum(count > 1 for count in counts)


def _exchanging_besides(layout: Layout, recipe: Recipe) -> int:
    """
    Those that have buffers of their own where a framework makes them and something is sent in them: all ranks, and of
    Megatron (`parallel_state.py`) the ranks of one replica, the ends of a pipeline and the replicas of experts.
    """
    if not recipe.of_megatron:
        return int(layout.ranks > 1)
    counts = (layout.ranks, layout.tensor * layout.pipeline, layout.pipeline, layout.expert)
    return sum(count > 1 for count in counts)
