"""Memory of public runs of other frameworks than Megatron-LM and MindSpeed, beside what is predicted of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow, later_set
from benchmarks.training_rows import described, layout_of, recipe_of
from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.models.training.device_memory import DeviceMemory, device_memory
from memplan.models.training.memory import TrainingMemory, training_memory

RUNS = Path(__file__).with_name("training_frameworks.json")
RESERVED = Path(__file__).with_name("training_reserved.json")
KINDS = {"peak": "tensors", "reserved": "reserved", "shown": "shown by the device"}
"""What each figure of a run is of; the device shows what nvidia-smi and npu-smi do."""


def framework_rows(configs: Path) -> Iterator[MeasuredRow]:
    """Every run of `training_frameworks.json`; `configs` is the folder of published configs."""
    for run in framework_runs():
        figure = told(run)
        try:
            predicted, why = figure_bytes(fullest_stage(run, configs, figure), run, figure) / GIB, ""
        except InputError as error:
            predicted, why = None, str(error).splitlines()[0]
        name, kind = f"{run['framework']}: {run['name']}", f"training memory of other frameworks: {KINDS[figure]}"
        kind += later_set(run)
        yield MeasuredRow(kind, run["source"], run["chip"], name, "GiB", run[figure], predicted, why=why)


def framework_runs() -> list[dict[str, Any]]:
    """The runs as they are told."""
    return list(json.loads(RUNS.read_text("utf-8"))["runs"])


def told(run: Mapping[str, Any]) -> str:
    """Which figure a run tells: `peak`, `reserved` or `shown`."""
    return next(figure for figure in KINDS if figure in run)


def fullest_stage(run: Mapping[str, Any], configs: Path, figure: str) -> TrainingMemory:
    """What is predicted of the stage with the largest `figure`; raises `InputError` for what a recipe can't tell."""
    if "unknown" in run:
        raise InputError(run["unknown"])
    model, layout, recipe = described(run, configs)
    stages = (training_memory(model, layout, recipe, stage) for stage in range(layout.pipeline))
    return max(stages, key=lambda memory: held(memory, figure))


def held(memory: TrainingMemory, figure: str) -> int:
    """The bytes of the allocator that `figure` is about."""
    return memory.peak_bytes if figure == "peak" else memory.reserved_bytes


def figure_bytes(memory: TrainingMemory, run: Mapping[str, Any], figure: str) -> int:
    """What is predicted of a figure of `run`, whose stage has `memory`."""
    return _shown(memory, run).usual_bytes if figure == "shown" else held(memory, figure)


def figure_interval(memory: TrainingMemory, run: Mapping[str, Any], figure: str) -> tuple[int, int]:
    """The same of its interval."""
    if figure == "shown":
        shown = _shown(memory, run)
        return shown.low_bytes, shown.high_bytes
    return memory.reserved_interval_bytes if figure == "reserved" else memory.interval_bytes


def _shown(memory: TrainingMemory, run: Mapping[str, Any]) -> DeviceMemory:
    return device_memory(memory, layout_of(run), recipe_of(run))
