"""
Steps of networks that are no language models, run on this machine's CPU and aligned with their plans, names hidden.

`python -m benchmarks.network_runs [NAME ...]` prints a table of those named, or of all: networks of MindSpore
(`profiled_networks_of_mindspore.py`, three steps in graph mode) and of PyTorch (`profiled_networks_of_pytorch.py`, two
steps). Each is planned, run and profiled by a process of its own; where PyTorch is not installed beside memplan, by the
Python of `build/torch-env`, which `make test-torch` makes.

Truth is in the names. MindSpore's kernels have those of their ops. PyTorch's topmost ops are matched with the planned
ones that launch something, in order, by their types, and what runs inside one is a part of it. Ops that the plan has
otherwise, where a kernel's code looks at data, stay unmatched; a kernel of no planned op is right where it is given
none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import memplan
from memplan.align import align
from memplan.core.errors import InputError
from memplan.readers import Target
from memplan.readers.pytorch.aten import aten_table
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.known_runs import KnownRun, Outcome, claimed_chance, nameless

NETWORKS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "unrolled_gru", "vision_transformer", "points", "densenet", "temporal_convolutions", "graph_convolutions",
            "differential_equation", "squeezed_residuals", "one_tower",
        ),
        "mindspore",
    ),
    **dict.fromkeys(
        (
            "perceiver", "radiance_field", "coupling_flow", "capsules", "shifted_windows", "conformer",
            "slot_attention", "second_derivatives", "residual_perceptrons",
        ),
        "torch",
    ),
}  # fmt: skip
"""The networks, with the framework that each is of."""
_TOP = Path(__file__).parents[1]
_OF_NONE = "-"


def framework_python(framework: str) -> str | None:
    """A Python that has this framework: the one that runs, or that of `build/torch-env`."""
    if find_spec(framework):
        return sys.executable
    apart = _TOP / "build" / "torch-env" / "bin" / "python"
    return str(apart) if framework == "torch" and apart.exists() else None


def network_run(name: str, folder: Path) -> KnownRun:
    """
    The network of that name, run by a process of its own, which leaves plan and profile in `folder`.

    `InputError` where nothing has the framework.
    """
    framework = NETWORKS[name]
    python = framework_python(framework)
    if python is None:
        raise InputError("{} is not installed", framework, remedy="make test-torch, or pip install it")
    paths = os.pathsep.join([str(_TOP), os.environ.get("PYTHONPATH", "")])
    command = [python, "-m", "benchmarks.network_runs", name, "--into", str(folder.absolute())]
    # GLOG_v is MindSpore's own spelling.
    environment = {**os.environ, "PYTHONPATH": paths, "GLOG_v": "3"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    if ran.returncode:
        raise RuntimeError(f"{name}: {ran.stderr.strip().splitlines()[-1]}")
    plan, kernels = memplan.load_plan(folder / "plan.json"), _kernels(folder / "profile")
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return KnownRun(plan, nameless(kernels), tuple(frozenset({op}) for op in truth))


def network_outcome(run: KnownRun) -> Outcome:
    """How the alignment does; a kernel of no planned op is right where it is given none, whatever it is called."""
    found = align(run.plan, run.kernels)
    named = [run.plan.ops[op].name if op >= 0 else _OF_NONE for op in found.op_of_kernel().tolist()]
    right = [name in truth for name, truth in zip(named, run.truth, strict=True)]
    return Outcome(right, claimed_chance(found), run.kernels.duration_ns.tolist())


def network_table(names: Sequence[str]) -> Iterator[str]:
    """Lines of the table of these networks."""
    yield "| network | planned ops | kernels | time right | kernels right | given less right | time of no planned op |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        with TemporaryDirectory() as folder:
            run = network_run(name, Path(folder))
            found = network_outcome(run)
        right, chance, times = np.array(found.right), np.array(found.chance), run.kernels.duration_ns
        told = ~np.isnan(chance)
        off = 100 * (chance[told].mean() - right[told].mean())
        none = np.average([truth == {_OF_NONE} for truth in run.truth], weights=times)
        title = f"{'MindSpore' if NETWORKS[name] == 'mindspore' else 'PyTorch'}: {name.replace('_', ' ')}"
        shares = f"{found.time_right:.1%} | {right.mean():.1%} | {off:+.0f} | {none:.1%}"
        yield f"| {title} | {len(run.plan.ops)} | {len(times)} | {shares} |"


def _kernels(profile: Path) -> Kernels:
    kernels = memplan.open_profile(profile).rank(0).kernels()
    assert kernels is not None
    return kernels


def _mindspore_run(make: Callable[[], Any], folder: Path) -> tuple[Plan, Sequence[str]]:
    import mindspore as ms
    from mindspore.profiler import ProfilerActivity, profile, tensorboard_trace_handler

    from memplan.readers.live import live_program
    from tests.align.mindspore_runs import joined_ops

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    ms.set_seed(0)
    step, batch = make()
    plan = memplan.plan(step, *batch, chip="910B2", kernels=Target.CPU)
    graph = live_program(step, batch, kernels=Target.CPU).graph()
    for _ in range(2):  # the first one compiles
        step(*batch)
    ms.runtime.synchronize()
    written = tensorboard_trace_handler(str(folder / "profile"))
    with profile(activities=[ProfilerActivity.CPU], on_trace_ready=written):
        for _ in range(3):
            step(*batch)
        ms.runtime.synchronize()
    return plan, [name for (name,) in joined_ops(graph, plan, _kernels(folder / "profile"))]


def _torch_run(make: Callable[[], Any], folder: Path) -> tuple[Plan, Sequence[str]]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(1)
    torch.manual_seed(0)
    step, batch = make()
    plan = memplan.plan(step, *batch, chip="910B2", kernels=Target.CPU)
    for _ in range(3):
        step(*batch)
    steps = 2
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(steps):
            step(*batch)
    trace = folder / "profile" / "run.pt.trace.json"
    trace.parent.mkdir()
    profiler.export_chrome_trace(str(trace))
    kernels = _kernels(folder / "profile")
    ran = inside_planned(plan, json.loads(trace.read_text(encoding="utf-8"), parse_float=Decimal)["traceEvents"], steps)
    of_kernels = zip(kernels.start_ns.tolist(), kernels.name, strict=True)
    return plan, [ran.get(kernel, _OF_NONE) for kernel in of_kernels]


def inside_planned(plan: Plan, events: Sequence[Mapping[str, Any]], steps: int) -> dict[tuple[int, str], str]:
    """The planned op that each op of a trace of PyTorch is, or runs inside, by start in ns and name."""
    # Of what launches nothing, a recording on tensors without data has more than runs.
    ops = [op for op in plan.ops if op.kernel is not None]
    planned = [op.type for op in ops] * steps
    kinds, types = frozenset(planned), aten_table()
    spans = sorted(
        (int(event["ts"] * 1000), -int(event["dur"] * 1000), str(event["name"]), event["tid"])
        for event in events
        if event.get("ph") == "X" and event.get("cat") == "cpu_op"
    )
    tops: list[str] = []
    inside: dict[tuple[int, str], int] = {}
    open_spans: dict[Any, list[tuple[int, int]]] = {}
    for start, less, name, thread in spans:
        outer = open_spans.setdefault(thread, [])
        while outer and start >= outer[-1][0]:
            outer.pop()
        top = outer[-1][1] if outer else -1
        # An op over a list runs others, one for each member, on a CPU; these are what is recorded.
        alone = name.startswith("aten::") and not name.startswith("aten::_foreach")
        if top < 0 and alone and (kind := types.op_type(name.removeprefix("aten::"))) in kinds:
            top = len(tops)
            tops.append(kind)
        outer.append((start - less, top))
        inside[start, name] = top
    op_of_top = {
        block.b + at: (block.a + at) % len(ops)
        for block in SequenceMatcher(None, planned, tops, autojunk=False).get_matching_blocks()
        for at in range(block.size)
    }
    return {key: ops[op_of_top[top]].name for key, top in inside.items() if top in op_of_top}


def _run(name: str, folder: Path) -> None:
    """Leave `plan.json`, `profile` and `truth.json`, the op of each kernel, in `folder`."""
    module, run = {
        "mindspore": ("profiled_networks_of_mindspore", _mindspore_run),
        "torch": ("profiled_networks_of_pytorch", _torch_run),
    }[NETWORKS[name]]
    plan, truth = run(getattr(import_module(f"benchmarks.{module}"), name), folder)
    plan.save(folder / "plan.json")
    (folder / "truth.json").write_text(json.dumps(list(truth)), encoding="utf-8")


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NETWORKS]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    if options.into:
        _run(options.names[0], options.into)
        return
    try:
        for line in network_table(options.names or list(NETWORKS)):
            print(line, flush=True)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
