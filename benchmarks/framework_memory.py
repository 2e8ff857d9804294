"""Memory of public runs of other frameworks than Megatron-LM and MindSpeed, beside what is predicted of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow, later_set
from benchmarks.training_rows import described
from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.models.training.memory import TrainingMemory, training_memory

RUNS = Path(__file__).with_name("training_frameworks.json")
RESERVED = Path(__file__).with_name("training_reserved.json")
KINDS = {"peak": "tensors", "reserved": "reserved"}
"""What each figure of a run is of."""


def framework_rows(configs: Path) -> Iterator[MeasuredRow]:
    """Every run of `training_frameworks.json`; `configs` is the folder of published configs."""
    for run in framework_runs():
        figure = told(run)
        try:
            predicted, why = held(fullest_stage(run, configs, figure), figure) / GIB, ""
        except InputError as error:
            predicted, why = None, str(error).splitlines()[0]
        name, kind = f"{run['framework']}: {run['name']}", f"training memory of other frameworks: {KINDS[figure]}"
        kind += later_set(run)
        yield MeasuredRow(kind, run["source"], run["chip"], name, "GiB", run[figure], predicted, why=why)


def framework_runs() -> list[dict[str, Any]]:
    """The runs as they are told."""
    return list(json.loads(RUNS.read_text("utf-8"))["runs"])


def told(run: Mapping[str, Any]) -> str:
    """Which figure a run tells: `peak` or `reserved`."""
    return next(figure for figure in KINDS if figure in run)


def fullest_stage(run: Mapping[str, Any], configs: Path, figure: str) -> TrainingMemory:
    """What is predicted of the stage with the largest `figure`; raises `InputError` for what a recipe can't tell."""
    if "unknown" in run:
        raise InputError(run["unknown"])
    model, layout, recipe = described(run, configs)
    stages = (training_memory(model, layout, recipe, stage) for stage in range(layout.pipeline))
    return max(stages, key=lambda memory: held(memory, figure))


def held(memory: TrainingMemory, figure: str) -> int:
    """The bytes that `figure` is about."""
    return memory.reserved_bytes if figure == "reserved" else memory.peak_bytes
