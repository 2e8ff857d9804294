"""
Runs of the sample models in MindSpore's graph mode on a CPU, beside a plan of the MindIR of the same model.

`python -m tests.align.mindspore_runs NAME FOLDER` runs a sample; the tests start it as a process of its own, because
MindSpore keeps its configuration per process. Full names of kernels say the planned op; they are taken away before the
alignment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import memplan
from memplan.readers import read_graph
from tests.align.known_runs import KnownRun, without_stalls
from tests.readers.joined_kernels import join_kernels

SAMPLES_RUN = ("mlp_train", "cnn_train", "llama_infer", "llama_train")
_STEPS = 3


def mindspore_run(name: str, folder: Path) -> KnownRun:
    """Three steps of a sample, profiled into `folder`, where its MindIR is exported too."""
    subprocess.run([sys.executable, "-m", __name__, name, str(folder)], check=True, capture_output=True)
    kernels = memplan.open_profile(folder / "profile").rank(0).kernels()
    assert kernels is not None
    graph = folder / f"{name}.mindir"
    plan = memplan.plan(graph, chip="910B2")
    joined = join_kernels(read_graph(graph), list(kernels.name))
    truth = tuple(frozenset({plan.ops[joined[kernel].op].name if kernel in joined else "-"}) for kernel in kernels.name)
    alike = [f"{type_} {shapes}" for type_, shapes in zip(kernels.type, kernels.input_shapes, strict=True)]
    times = without_stalls(kernels.duration_ns, alike)
    return KnownRun(plan, replace(kernels, name=[""] * len(kernels), duration_ns=times), truth)


def _run(name: str, folder: Path) -> None:
    import mindspore as ms
    from mindspore.profiler import ProfilerActivity, profile, tensorboard_trace_handler

    from memplan.models.samples.mindir_export import SAMPLES, export_sample

    export_sample(name, folder)
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    sample = SAMPLES[name]()
    sample.cell(*sample.inputs)  # compiles
    os.chdir(folder)
    with profile(activities=[ProfilerActivity.CPU], on_trace_ready=tensorboard_trace_handler(str(folder / "profile"))):
        for _ in range(_STEPS):
            sample.cell(*sample.inputs)


if __name__ == "__main__":
    os.environ["GLOG_v"] = "3"  # noqa: SIM112 - MindSpore's own spelling
    _run(sys.argv[1], Path(sys.argv[2]))
