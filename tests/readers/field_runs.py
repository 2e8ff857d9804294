"""
Runs cells of `field_cells.py` on MindSpore's CPU backend: `python -m tests.readers.field_runs FOLDER [NAME ...]`.

Leaves for each `NAME.json` (memory records, kernels by start, bytes of its result) and `NAME.ir`, its kernel graph. A
process of its own, because MindSpore keeps its configuration per process.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore.profiler import ProfilerActivity, profile, tensorboard_trace_handler

from tests.readers.field_cells import CELLS, FieldCell

_PAUSE = 200_000_000
"""Nanoseconds between two sessions at the least."""


def made_inputs(cell: FieldCell) -> list[Any]:
    """Inputs that the cell runs with: numbers around zero, integers below `high`."""
    source = np.random.default_rng(0)
    found = []
    for shape, kind in cell.inputs:
        whole = "int" in kind or "bool" in kind
        array = source.integers(0, cell.high, shape) if whole else source.standard_normal(shape)
        found.append(ms.Tensor(array.astype(getattr(np, kind))))
    return found


def measured(name: str, scratch: Path) -> dict[str, object]:
    """Memory records `(time ns, allocated bytes)` and kernels `(start ns, full name)` of the second run of a cell."""
    graphs = scratch / f"ir_{name}"
    ms.set_context(save_graphs=1, save_graphs_path=str(graphs))
    cell, inputs = CELLS[name].make(), made_inputs(CELLS[name])
    if not name.startswith("mlp_") and not name.endswith("_trained"):
        cell.set_train(False)
    first = cell(*inputs)
    del first
    gc.collect()  # cells measured before hold themselves in circles
    folder = scratch / f"profile_{name}"
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, on_trace_ready=tensorboard_trace_handler(str(folder))
    ):
        cell(*inputs)
    memory = next(folder.glob("*/FRAMEWORK/cpu_ms_memory_record_0.txt")).read_text().splitlines()[1:]
    kernels = []
    for row in next(folder.glob("*/FRAMEWORK/cpu_op_execute_timestamp_0.txt")).read_text().splitlines():
        parts = row.split(";")
        if len(parts) == 3:
            kernels += [[int(run.split(",")[0]), parts[0]] for run in parts[2].split()]
    dumps = sorted(graphs.glob("graph_build_*.ir"))
    records = [[int(part) for part in row.split(",")[:2]] for row in memory]
    # The file begins with what earlier sessions of the process recorded, seconds before.
    begins = max(
        (place for place in range(1, len(records)) if records[place][0] - records[place - 1][0] > _PAUSE), default=0
    )
    return {
        "memory": records[begins:],
        "kernels": [kernel for _, kernel in sorted(kernels)],
        "graphs": len(dumps),
        "kernel_graph": dumps[0].read_text(),
    }


def main(target: Path, names: list[str]) -> None:
    """Measure the cells called `names`, all that run by default, and write what was seen into `target`."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    target.mkdir(parents=True, exist_ok=True)
    target = target.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for name in names or [name for name, cell in CELLS.items() if cell.runs]:
            try:
                found = measured(name, Path(scratch))
            except (RuntimeError, TypeError, ValueError, StopIteration, IndexError) as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                (target / f"{name}.refused").write_text(lines[0])
                continue
            (target / f"{name}.ir").write_text(str(found.pop("kernel_graph")))
            (target / f"{name}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
