"""Kernels of a first-generation Ascend 910, as an old profile without shapes has them, and their predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.aicore import roofline_ns
from benchmarks.measured_row import MeasuredRow
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.hardware import chip

ROWS = Path(__file__).with_suffix(".json")
_FOLDER = "profiles/mindspore-alexnet-2023"


def first_generation_total(data: Path) -> tuple[int, float, float, float]:
    """Kernels, the model's time-weighted error, a roofline's, and the model's bias."""
    document = json.loads(ROWS.read_text("utf-8"))
    core, rows = machine(chip(document["chip"])), list(first_generation_rows(data))
    simple = [roofline_ns(kernel_of(row), core) / 1e3 for row in document["rows"]]
    spent = sum(row.measured for row in rows)
    missed = sum(abs((row.predicted or 0.0) - row.measured) for row in rows)
    plain = sum(abs(time - row.measured) for time, row in zip(simple, rows, strict=True))
    return len(rows), missed / spent, plain / spent, sum(row.predicted or 0.0 for row in rows) / spent - 1


def first_generation_rows(data: Path) -> Iterator[MeasuredRow]:
    """Each kernel with the median of its steps; `data` is the shared data folder."""
    document = json.loads(ROWS.read_text("utf-8"))
    core, measured = machine(chip(document["chip"])), _durations(data)
    for row in document["rows"]:
        kernel = kernel_of(row)
        predicted = kernel_cost(kernel, core).duration_ns / 1e3
        shape = "x".join(map(str, kernel.outputs[0].shape))
        name = f"{row['type']} {kernel.outputs[0].dtype} {kernel.outputs[0].layout} {shape}"
        yield MeasuredRow(
            "first generation", document["source"], document["chip"], name, "us",
            median(next(times for full, times in measured.items() if full.endswith(row["op"]))), predicted,
        )  # fmt: skip


def kernel_of(row: Mapping[str, Any]) -> Kernel:
    """The kernel that a row describes."""
    attributes = tuple(sorted((name, value) for name, value in row.items() if name.startswith("transpose")))
    inputs, outputs = (tuple(_operand(text) for text in row[side]) for side in ("in", "out"))
    return Kernel(row["type"], inputs, outputs, attributes)


def _operand(text: str) -> Operand:
    dtype, layout, shape = text.split()
    return Operand(tuple(int(item) for item in shape.split(",")), dtype, layout)


def _durations(data: Path) -> dict[str, list[float]]:
    """Microseconds of every AI core task by name, over all steps."""
    found: dict[str, list[float]] = {}
    for path in sorted((data / _FOLDER).glob("*/device_0/timeline/msprof_*.json")):
        for event in json.loads(path.read_text("utf-8")):
            if event.get("ph") == "X" and event.get("args", {}).get("Task Type") == "AI_CORE":
                found.setdefault(event["name"], []).append(float(event["dur"]))
    return found
