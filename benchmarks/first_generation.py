"""Kernels of a first-generation Ascend 910, as profiles have them, and their predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.aicore import roofline_ns
from benchmarks.measured_row import MeasuredRow
from memplan.cost import Kernel, KernelCost, Operand, kernel_cost, machine
from memplan.cost.ordered_costs import costs_in_order
from memplan.hardware import chip

ROWS = Path(__file__).with_suffix(".json")
"""A profile of 2023, which tells no shapes."""
OLDER = Path(__file__).with_name("first_generation_2020.json")
"""A profile of 2020, which tells shapes and cores."""
LENET = Path(__file__).with_name("first_generation_lenet.json")
"""A profile of a small network, which tells them too."""
RESNET = Path(__file__).with_name("first_generation_resnet.json")
"""A timeline of a network with batch norms, in the order of which its kernels find their operands in L2."""
RESNET_BACK = Path(__file__).with_name("first_generation_resnet_back.json")
"""Its other half, from which nothing was taken but its part in how much wider intervals are; predicted anew since."""
_KINDS = {
    ROWS: "first generation", OLDER: "first generation, 2020", LENET: "first generation, LeNet",
    RESNET: "first generation, ResNet", RESNET_BACK: "first generation, ResNet's second half",
}  # fmt: skip
_FOLDER = "profiles/mindspore-alexnet-2023"
SHARE_OF_OTHERS = 0.61
"""`cube_share` by the other three networks, for a prediction of 2023 to which those of 2023 gave nothing."""


def first_generation_total(data: Path) -> tuple[int, float, float, float]:
    """Kernels of 2023, the time-weighted error of a model with nothing taken from them, a roofline's, and its bias."""
    return _total((replace(row, predicted=row.left_out), kernel) for row, kernel, _ in costed_rows(ROWS, data))


def told_total(path: Path, *, products: bool) -> tuple[int, float, float, float]:
    """The same of the kernels of `path` as they are, all of them or those that multiply no matrices."""
    return _total((row, kernel) for row, kernel, _ in costed_rows(path) if products or kernel.type != "MatMul")


def _total(rows: Iterable[tuple[MeasuredRow, Kernel]]) -> tuple[int, float, float, float]:
    chosen = [
        (row.measured, row.predicted or 0.0, roofline_ns(kernel, machine(chip(row.chip))) / 1e3) for row, kernel in rows
    ]
    spent = sum(measured for measured, _, _ in chosen)
    missed, plain = (sum(abs(row[column] - row[0]) for row in chosen) for column in (1, 2))
    return len(chosen), missed / spent, plain / spent, sum(predicted for _, predicted, _ in chosen) / spent - 1


def first_generation_rows(data: Path) -> Iterator[MeasuredRow]:
    """Each kernel of 2023 with the median of its steps; `data` is the shared data folder."""
    return (row for row, _, _ in costed_rows(ROWS, data))


def told_rows(path: Path) -> Iterator[MeasuredRow]:
    """Each kernel of a profile whose shapes are known, `OLDER`, `LENET`, `RESNET` or `RESNET_BACK`."""
    return (row for row, _, _ in costed_rows(path))


def costed_rows(path: Path, data: Path | None = None) -> Iterator[tuple[MeasuredRow, Kernel, KernelCost]]:
    """Each kernel of a profile with its cost; the times of `ROWS` are read from `data`, the shared data folder."""
    document = json.loads(path.read_text("utf-8"))
    rows, core = document["rows"], machine(chip(document["chip"]))
    kernels = [kernel_of(row) for row in rows]
    costs = costs_in_order(kernels, core) if document.get("in_order") else [kernel_cost(each, core) for each in kernels]
    apart = replace(core, constants={**core.constants, "cube_share": SHARE_OF_OTHERS})
    runs = {} if data is None else _durations(data)
    for row, kernel, cost in zip(rows, kernels, costs, strict=True):
        made = (kernel.outputs or kernel.present)[0]
        shape = "x".join(map(str, made.shape))
        cores = f" on {kernel.block_count}" if kernel.block_count else ""
        name = f"{row['type']} {made.dtype} {made.layout} {shape}{cores}"
        time, left_out = row.get("us"), None
        if path == ROWS:
            time = median(next(own for full, own in runs.items() if full.endswith(row["op"])))
            left_out = kernel_cost(kernel, apart).duration_ns / 1e3
        found = MeasuredRow(
            _KINDS[path], document["source"], document["chip"], name, "us", time, cost.duration_ns / 1e3,
            left_out=left_out, is_source="source_of" in row,
        )  # fmt: skip
        yield found, kernel, cost


def kernel_of(row: Mapping[str, Any]) -> Kernel:
    """The kernel that a row describes."""
    attributes = tuple(sorted((name, value) for name, value in row.items() if name.startswith("transpose")))
    inputs, outputs = (tuple(_operand(text) for text in row[side]) for side in ("in", "out"))
    return Kernel(row["type"], inputs, outputs, attributes, row.get("cores", 0))


def _operand(text: str) -> Operand:
    dtype, layout, *shape = text.split()
    return Operand(tuple(int(item) for part in shape for item in part.split(",")), dtype, layout)


def _durations(data: Path) -> dict[str, list[float]]:
    """Microseconds of every AI core task by name, over all steps."""
    found: dict[str, list[float]] = {}
    for path in sorted((data / _FOLDER).glob("*/device_0/timeline/msprof_*.json")):
        for event in json.loads(path.read_text("utf-8")):
            if event.get("ph") == "X" and event.get("args", {}).get("Task Type") == "AI_CORE":
                found.setdefault(event["name"], []).append(float(event["dur"]))
    return found
