"""Kernels of a first-generation Ascend 910, as profiles have them, and their predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.aicore import roofline_ns
from benchmarks.measured_row import MeasuredRow
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.l2 import costs_in_order
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
"""Its other half, from which nothing was taken."""
_KINDS = {
    OLDER: "first generation, 2020", LENET: "first generation, LeNet",
    RESNET: "first generation, ResNet", RESNET_BACK: "first generation, ResNet, first seen",
}  # fmt: skip
_FOLDER = "profiles/mindspore-alexnet-2023"
SHARE_OF_OLDER = 0.46
"""`cube_share` by the convolutions of 2020 alone, for a prediction of 2023 to which those of 2023 gave nothing."""


def first_generation_total(data: Path) -> tuple[int, float, float, float]:
    """Kernels of 2023, the time-weighted error of a model with nothing taken from them, a roofline's, and its bias."""
    rows = [replace(row, predicted=row.left_out) for row in first_generation_rows(data)]
    return _total(ROWS, rows)


def told_total(path: Path, *, products: bool) -> tuple[int, float, float, float]:
    """The same of the kernels of `path` as they are, all of them or those that multiply no matrices."""
    return _total(path, list(told_rows(path)), products=products)


def _total(path: Path, rows: Sequence[MeasuredRow], *, products: bool = True) -> tuple[int, float, float, float]:
    document = json.loads(path.read_text("utf-8"))
    core = machine(chip(document["chip"]))
    chosen = [
        (row.measured, row.predicted or 0.0, roofline_ns(kernel_of(told), core) / 1e3)
        for told, row in zip(document["rows"], rows, strict=True)
        if products or told["type"] != "MatMul"
    ]
    spent = sum(measured for measured, _, _ in chosen)
    missed, plain = (sum(abs(row[column] - row[0]) for row in chosen) for column in (1, 2))
    return len(chosen), missed / spent, plain / spent, sum(predicted for _, predicted, _ in chosen) / spent - 1


def first_generation_rows(data: Path) -> Iterator[MeasuredRow]:
    """Each kernel of 2023 with the median of its steps; `data` is the shared data folder."""
    measured = _durations(data)
    document = json.loads(ROWS.read_text("utf-8"))
    times = (
        median(next(run for full, run in measured.items() if full.endswith(row["op"]))) for row in document["rows"]
    )
    core = machine(chip(document["chip"]))
    apart = replace(core, constants={**core.constants, "cube_share": SHARE_OF_OLDER})
    for told, row in zip(document["rows"], _rows("first generation", document, times), strict=True):
        yield replace(row, left_out=kernel_cost(kernel_of(told), apart).duration_ns / 1e3)


def told_rows(path: Path) -> Iterator[MeasuredRow]:
    """Each kernel of a profile whose shapes are known, `OLDER`, `LENET`, `RESNET` or `RESNET_BACK`."""
    document = json.loads(path.read_text("utf-8"))
    yield from _rows(_KINDS[path], document, (row["us"] for row in document["rows"]))


def _rows(kind: str, document: Mapping[str, Any], times: Iterable[float]) -> Iterator[MeasuredRow]:
    core = machine(chip(document["chip"]))
    kernels = [kernel_of(row) for row in document["rows"]]
    ordered = document.get("in_order", False)
    costs = costs_in_order(kernels, core) if ordered else [kernel_cost(kernel, core) for kernel in kernels]
    for row, kernel, cost, time in zip(document["rows"], kernels, costs, times, strict=True):
        made = (kernel.outputs or kernel.present)[0]
        shape = "x".join(map(str, made.shape))
        cores = f" on {kernel.block_count}" if kernel.block_count else ""
        name = f"{row['type']} {made.dtype} {made.layout} {shape}{cores}"
        predicted, is_source = cost.duration_ns / 1e3, "source_of" in row
        yield MeasuredRow(kind, document["source"], document["chip"], name, "us", time, predicted, is_source=is_source)


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
