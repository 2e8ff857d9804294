"""A trained step as it was profiled beside what is predicted for it, part by part."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
from memplan.serving import training_time

_FOLDER = "profiles/qwen3-0.6b-train-4rank"
_CONFIG = "configs/Qwen--Qwen3-0.6B.json"
_SOURCE = "Ascend/msinsight, sample profile of a Qwen3-0.6B training run on four dies"
_CHIP = "910B4"
_RANKS = ((0, 0), (3, 1))
"""Ranks whose times are told, and their pipeline stages."""


def training_step_rows(data: Path) -> Iterator[MeasuredRow]:
    """
    The step and its parts on both stages.

    On the first stage waiting for the other is what its transfers take beyond the bytes they carry, and all else that
    dies exchange is communication. The other one waits inside its collectives too, so that both are one row there.
    """
    model = load_config(data / _CONFIG)
    recipe = Recipe(sequence=4096, micro_batch=1, micro_batches=2)
    time = training_time(model, Layout(pipeline=2, data=2), recipe, chip(_CHIP))
    for rank, stage in _RANKS:
        folder = data / _FOLDER / f"rank_{rank}_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
        with (folder / "step_trace_time.csv").open(encoding="utf-8") as file:
            told = next(csv.DictReader(file))
        own = time.stages[stage]
        exchanged, waited = own.communication_ns, own.bubble_ns
        rows = [("compute", float(told["Computing"]), own.compute_ns), ("host", float(told["Free"]), own.host_ns)]
        everything = float(told["Communication(Not Overlapped)"])
        if stage == 0:
            bubble = _waiting_us(json.loads((folder / "communication.json").read_text("utf-8")))
            rows = [("the step", float(told["Stage"]), time.duration_ns), *rows, ("bubble", bubble, waited),
                    ("exposed communication", everything - bubble, exchanged)]  # fmt: skip
        else:
            rows.append(("bubble and exposed communication", everything, exchanged + waited))
        for name, measured, predicted in rows:
            what = f"Qwen3-0.6B TP1 PP2 DP2, stage {stage}: {name}"
            yield MeasuredRow("training step", _SOURCE, _CHIP, what, "ms", measured / 1e3, predicted / 1e6)


def _waiting_us(document: Any) -> float:
    """Microseconds that transfers between stages take beyond the bytes they carry."""
    total = 0.0
    for step in document.values():
        for name, item in step["p2p"].items():
            if name != "Total Op Info":
                carried = item["Communication Bandwidth Info"]["HCCS"]["Transit Time(ms)"]
                total += (item["Communication Time Info"]["Elapse Time(ms)"] - carried) * 1e3
    return total
