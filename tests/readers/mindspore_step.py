"""
Runs one step of a sample model on MindSpore's CPU backend and prints what its profiler measured, as JSON.

Started as a process of its own by the tests, because MindSpore keeps its configuration per process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path


def measure(name: str, folder: Path) -> dict[str, object]:
    """Memory records `(time ns, allocated bytes)` and kernels `(start ns, full name)` of one step of sample `name`."""
    import mindspore as ms
    from mindspore.profiler import ProfilerActivity, profile, tensorboard_trace_handler

    from memplan.models.samples.mindir_export import SAMPLES

    ms.set_context(mode=ms.GRAPH_MODE, save_graphs=1, save_graphs_path=str(folder.parent / "ir"))
    ms.set_device("CPU")
    sample = SAMPLES[name]()
    first = sample.cell(*sample.inputs)
    del first
    with profile(
        activities=[ProfilerActivity.CPU],
        profile_memory=True,
        on_trace_ready=tensorboard_trace_handler(str(folder)),
    ):
        sample.cell(*sample.inputs)
    memory = next(folder.glob("*/FRAMEWORK/cpu_ms_memory_record_0.txt")).read_text().splitlines()[1:]
    records = [[int(cell) for cell in row.split(",")[:2]] for row in memory]
    kernels = []
    for row in next(folder.glob("*/FRAMEWORK/cpu_op_execute_timestamp_0.txt")).read_text().splitlines():
        parts = row.split(";")
        if len(parts) == 3:
            kernels += [[int(run.split(",")[0]), parts[0]] for run in parts[2].split()]
    dump = next((folder.parent / "ir").glob("graph_build_0_*.ir")).read_text()
    return {"memory": records, "kernels": sorted(kernels), "kernel_graph": dump}


if __name__ == "__main__":
    os.environ["GLOG_v"] = "3"  # noqa: SIM112 - MindSpore's own spelling
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        result = measure(sys.argv[1], Path(scratch) / "profile")
    Path(sys.argv[2]).write_text(json.dumps(result))
