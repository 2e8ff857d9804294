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
from pathlib import Path

import memplan
from memplan.graph.model import Graph
from memplan.readers import read_graph
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.known_runs import KnownRun, nameless
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
    return KnownRun(plan, nameless(kernels), joined_ops(read_graph(graph), plan, kernels))


def joined_ops(graph: Graph, plan: Plan, kernels: Kernels) -> tuple[frozenset[str], ...]:
    """What each kernel's name says that it runs of `plan`, which is of `graph`; `-` where it says no op."""
    joined = join_kernels(graph, list(kernels.name))
    return tuple(frozenset({plan.ops[joined[name].op].name if name in joined else "-"}) for name in kernels.name)


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
