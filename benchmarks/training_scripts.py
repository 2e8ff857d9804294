"""
Training scripts with the two lines added: losses bit by bit, and measured peaks beside the plan's.

`python -m benchmarks.training_scripts mindspore|pytorch [--seed N] [--out FILE] [SCRIPT ...]`

Every script (`scripts_of_mindspore.py`, `scripts_of_pytorch.py`) has sizes drawn by the seed and runs on the CPU, one
process a run: as it is, and with a plan for less HBM applied, which recomputation alone can reach where the script has
layers that recomputation makes smaller; else what layers save waits on the host. MindSpore runs it in both modes. The
measured peak is what the framework's own profiler says that its allocator gave out in the third step, with weights,
optimiser and batch, which were there before. Restored copies of MindSpore go through a kernel to be counted: its CPU
allocator doesn't see arrays that come from the host. A peak more than 3 % off the plan's, or a loss that differs, ends
with exit code 1; losses are compared with a second run as it is where MindSpore's own kernels differ from run to run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import memplan
from memplan.core.units import format_bytes
from memplan.placement.rounding import rounding
from memplan.readers import Target
from memplan.readers.live import live_program
from memplan.schema import Plan, Tier
from memplan.schema.storages import planned_tensors

STEPS = 3
TOLERANCE = 0.03
_MODES = {"mindspore": ("graph", "pynative"), "pytorch": ("eager",)}
_HEAD = (
    "script", "mode", "as it is: planned", "measured", "off",
    "layers again", "moved", "planned", "measured", "off", "losses",
)  # fmt: skip


def peak(plan: Plan) -> int:
    """Bytes of HBM at the plan's peak."""
    use = plan.tier(Tier.HBM)
    return 0 if use is None else use.peak


def room(planned: Any, batch: tuple[Any, ...], free: int) -> int:
    """
    Between what the step needs with all layers recomputed and `free`, what it needs as it is.

    85 % of that where recomputation saves next to nothing.
    """
    program = live_program(planned, batch, kernels=Target.CPU)
    graph, size = program.graph(program.modules), rounding(Target.CPU.value)
    change = np.zeros(len(graph.ops) + 1, dtype=np.int64)
    for tensor in planned_tensors(graph):
        change[tensor.start] += size(tensor.nbytes)
        change[tensor.end] -= size(tensor.nbytes)
    least = int(change.cumsum().max())
    return int(least + 0.3 * (free - least)) if least < 0.95 * free else int(0.85 * free)


def planned_twice(planned: Any, batch: tuple[Any, ...], *, applied: bool) -> Plan:
    """The plan of a step as it is, or for less than that needs."""
    free = memplan.plan(planned, *batch, chip="910B3", kernels=Target.CPU)
    if not applied:
        return free
    hbm = room(planned, batch, peak(free))
    return memplan.plan(planned, *batch, chip="910B3", kernels=Target.CPU, hbm=hbm)


def mindspore_run(name: str, mode: str, seed: int, *, applied: bool) -> dict[str, Any]:
    """One run of a script of MindSpore in this process."""
    os.environ.setdefault("GLOG_v", "3")
    import mindspore as ms

    from benchmarks.scripts_of_mindspore import SCRIPTS
    from tests.runtime.mindspore_training import counted_copies, run

    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    ms.set_device("CPU")
    script = SCRIPTS[name](np.random.default_rng([seed, list(SCRIPTS).index(name)]))
    ms.set_seed(seed)
    training = script.make()
    plan = planned_twice(training.planned, script.batch, applied=applied)
    report = plan.apply(training.target) if applied else None
    callbacks = [memplan.Callback(plan)] if applied else []
    with counted_copies():
        found = run(lambda: training.step(callbacks))
    kept = sum(tensor.nbytes for tensor in plan.tensors if tensor.kind in ("weight", "optimizer_state"))
    measured = found["measured"] + kept + sum(int(part.nbytes) for part in script.batch)
    return _row(plan, report, measured, found["losses"])


def pytorch_run(name: str, _mode: str, seed: int, *, applied: bool) -> dict[str, Any]:
    """One run of a script of PyTorch in this process."""
    import torch

    from benchmarks.scripts_of_pytorch import SCRIPTS
    from tests.runtime.torch_training import most_allocated, told_host_copies

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    training = SCRIPTS[name](np.random.default_rng([seed, list(SCRIPTS).index(name)]))
    plan = planned_twice(training.step, training.batch, applied=applied)
    report = plan.apply(training.model) if applied else None
    torch.manual_seed(seed)  # of dropout
    losses = [float(training.step(*training.batch)) for _ in range(STEPS - 1)]
    states = (value for state in training.optimizer.state.values() for value in state.values())
    held = (*training.model.parameters(), *training.model.buffers(), *training.batch, *states)
    kept = {item.data_ptr(): int(item.nbytes) for item in held if isinstance(item, torch.Tensor)}
    activities = [torch.profiler.ProfilerActivity.CPU]
    with told_host_copies(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        losses.append(float(training.step(*training.batch)))
    return _row(plan, report, sum(kept.values()) + most_allocated(profile), losses)


def _row(plan: Plan, report: Any, measured: int, losses: list[float]) -> dict[str, Any]:
    recomputed = () if plan.program is None else plan.program.recomputed
    return {
        "planned": peak(plan) if report is None else report.peak,
        "measured": measured,
        "losses": losses,
        "fits": plan.fits,
        "again": len(recomputed),
        "moved": len({transfer.tensor for transfer in plan.transfers}),
        "left": 0 if report is None else len([one for one in report.left if "set_memory" not in one.name]),
    }


def apart(framework: str, name: str, mode: str, seed: int, *, applied: bool) -> dict[str, Any]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "run.json"
        asked = [framework, name, "--seed", str(seed), "--mode", mode, "--one", str(target)]
        command = [sys.executable, "-m", "benchmarks.training_scripts", *asked, *(["--applied"] if applied else [])]
        # MindSpore writes networks that it has rewritten for mixed precision into the working folder.
        paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
        if ran.returncode:
            raise RuntimeError(f"{name}, {mode}: {ran.stderr.strip().splitlines()[-1]}")
        found: dict[str, Any] = json.loads(target.read_text())
        return found


def off(run: dict[str, Any]) -> float:
    """How far the planned peak is off the measured one."""
    return float(run["planned"] / run["measured"] - 1)


def _figures(run: dict[str, Any]) -> tuple[str, str, str]:
    return format_bytes(run["planned"]), format_bytes(run["measured"]), f"{off(run):+.2%}"


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=_MODES)
    parser.add_argument("scripts", nargs="*", help="how their names begin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a file that gets the table")
    parser.add_argument("--mode", choices=[mode for modes in _MODES.values() for mode in modes])
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--applied", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    if options.one:
        one = mindspore_run if options.framework == "mindspore" else pytorch_run
        found = one(options.scripts[0], options.mode, options.seed, applied=options.applied)
        options.one.write_text(json.dumps(found))
        return
    scripts = importlib.import_module(f"benchmarks.scripts_of_{options.framework}").SCRIPTS
    names = [name for name in scripts if name.startswith(tuple(options.scripts) or "")]
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    print("\n".join(lines))
    missed = 0
    for name in names:
        for mode in [options.mode] if options.mode else _MODES[options.framework]:
            plain, planned = (apart(options.framework, name, mode, options.seed, applied=use) for use in (False, True))
            losses = "equal" if plain["losses"] == planned["losses"] else "differ"
            if losses == "differ":
                again = apart(options.framework, name, mode, options.seed, applied=False)
                losses = "differ" if again["losses"] == plain["losses"] else "differ without the plan too"
            moved = f"{planned['moved']}, {planned['left']} not set" if planned["left"] else str(planned["moved"])
            cells = [name, mode, *_figures(plain), str(planned["again"]), moved, *_figures(planned), losses]
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
            missed += losses == "differ" or any(abs(off(run)) > TOLERANCE for run in (plain, planned))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
