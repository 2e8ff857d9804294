"""
A training script of MindSpore with and without the two lines that plan it and apply the plan; writes JSON.

Started as a process of its own by the tests, because MindSpore keeps its configuration per process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STEPS = 3


def train(mode: str) -> dict[str, Any]:
    """Losses, peaks planned and measured of a decoder's training, as it is and with the plan applied, in `mode`."""
    import mindspore as ms
    import numpy as np

    import memplan
    from memplan.models.samples.decoder import DecoderShape, decoder, train_step

    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    ms.set_device("CPU")
    shape = DecoderShape(layers=3, sequence=128, batch=2)
    generator = np.random.default_rng(0)
    tokens = ms.Tensor(generator.integers(0, shape.vocabulary, (shape.batch, shape.sequence)).astype(np.int32))

    def step() -> Any:
        ms.set_seed(1)
        return train_step(decoder(shape), shape.vocabulary).set_train()

    cell = step()
    free = memplan.plan(cell, tokens, tokens, chip="910B3")
    plain = run(lambda: float(cell(tokens, tokens)))
    cell = step()
    plan = memplan.plan(cell, tokens, tokens, chip="910B3", hbm=int(peak(free) * 0.75))
    applied = plan.apply(cell)
    planned = run(lambda: float(cell(tokens, tokens)))
    applied.undo()
    after = memplan.plan(cell, tokens, tokens, chip="910B3")
    return {
        "moved": moved(step, tokens, int(peak(free) * 0.85)) if mode == "pynative" else {},
        "plain": {**plain, "planned": peak(free), "state": state_bytes(cell)},
        "applied": {**planned, "planned": peak(plan), "fits": plan.fits, "report": str(applied)},
        "recomputed": [] if plan.program is None else list(plan.program.recomputed),
        "undone": peak(after),
        "page": str(plan).splitlines(),
        "html": plan._repr_html_(),
        "refused": refusals(plan, cell, shape),
        "watched": watched(plan, cell, tokens),
    }


def moved(step: Any, tokens: Any, hbm: int) -> dict[str, Any]:
    """The same step with host moves alone."""
    import memplan
    from memplan.placement.recompute_policy import RecomputePolicy

    cell = step()
    plan = memplan.plan(cell, tokens, tokens, chip="910B3", hbm=hbm, recompute=RecomputePolicy.NEVER)
    applied = plan.apply(cell)
    with counted_copies():
        found = run(lambda: float(cell(tokens, tokens)))
    applied.undo()
    return {**found, "planned": peak(plan), "fits": plan.fits, "report": str(applied)}


@contextmanager
def counted_copies() -> Iterator[None]:
    """
    Within it what comes back from the host is copied by a kernel, as a device would.

    An array that becomes a tensor is not in what MindSpore's CPU allocator counts.
    """
    import mindspore as ms

    from memplan.runtime import saved_cell_tensors

    unpack = saved_cell_tensors._unpack

    def counted(packed: Any) -> Any:
        back = unpack(packed)
        on_host = isinstance(packed, saved_cell_tensors._Saved) and packed.tensor is None
        return ms.ops.add(back, 0) if on_host else back

    saved_cell_tensors._unpack = counted
    try:
        yield
    finally:
        saved_cell_tensors._unpack = unpack


def peak(plan: Any) -> int:
    """Bytes of HBM at the plan's peak."""
    return int(next(use.peak for use in plan.tiers if use.tier.value == "HBM"))


def state_bytes(cell: Any) -> int:
    """Bytes of weights and optimiser state, which MindSpore's CPU build keeps outside what its profiler counts."""
    return sum(int(parameter.nbytes) for parameter in cell.get_parameters())


def run(step: Callable[[], float]) -> dict[str, Any]:
    """Losses of some steps that `step` runs, and the most bytes that MindSpore had allocated in the last of them."""
    import mindspore as ms
    from mindspore.profiler import ProfilerActivity, profile, tensorboard_trace_handler

    losses = [step() for _ in range(STEPS - 1)]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.time_ns()
        with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True, on_trace_ready=tensorboard_trace_handler(folder)
        ):
            losses.append(step())
            # The loss is there before the optimiser has run and given back the gradients.
            ms.runtime.synchronize()
        file = next(Path(folder).glob("*/FRAMEWORK/cpu_ms_memory_record_0.txt"))
        rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    # The file begins with what an earlier profile of the process recorded.
    held = [int(row[1]) for row in rows if int(row[0]) >= begun]
    # In PyNative mode the weights are counted as well, which `state_bytes` has already; at the end of a step so are
    # constants of its kernels, of which MindSpore 2.10 keeps 512 B each for good.
    op_by_op = ms.get_context("mode") == ms.PYNATIVE_MODE
    return {"losses": losses, "measured": max(held) - (min(held) if op_by_op else 0)}


def watched(plan: Any, cell: Any, tokens: Any) -> dict[str, Any]:
    """Some steps with the callback's hooks around them, as `Model.train` calls them."""
    import mindspore as ms

    import memplan

    callback = memplan.Callback(plan, estimate=True)
    callback.on_train_begin(None)
    begun = time.perf_counter_ns()
    for _ in range(STEPS):
        callback.on_train_step_begin(None)
        float(cell(tokens, tokens))
        callback.on_train_step_end(None)
    took = time.perf_counter_ns() - begun
    callback.on_train_end(None)
    return {
        "is_callback": isinstance(callback, ms.train.Callback),
        "steps": callback.watch.steps,
        "share": callback.watch.spent_ns / took,
    }


def refusals(plan: Any, cell: Any, shape: Any) -> dict[str, str]:
    """What applying the plan elsewhere is refused with."""
    from dataclasses import replace

    import mindspore as ms

    from memplan.core.errors import InputError
    from memplan.models.samples.decoder import decoder, train_step

    def answer(change: Any) -> str:
        try:
            change()
        except InputError as error:
            return str(error)
        return ""

    fewer = train_step(decoder(replace(shape, layers=2)), shape.vocabulary)
    wider = train_step(decoder(replace(shape, hidden=64)), shape.vocabulary)
    found = {
        "chip": answer(lambda: plan.apply(cell, chip="910C")),
        "fewer layers": answer(lambda: plan.apply(fewer)),
        "other width": answer(lambda: plan.apply(wider)),
        "no cell": answer(lambda: plan.apply(object())),
    }
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE if mode == ms.GRAPH_MODE else ms.GRAPH_MODE)
    found["mode"] = answer(lambda: plan.apply(cell))
    ms.set_context(mode=mode)
    recompute = ms.nn.Cell.recompute
    del ms.nn.Cell.recompute
    found["knob"] = answer(lambda: plan.apply(cell))
    ms.nn.Cell.recompute = recompute
    return found


if __name__ == "__main__":
    os.environ["GLOG_v"] = "3"  # noqa: SIM112 - MindSpore's own spelling
    Path(sys.argv[2]).write_text(json.dumps(train(sys.argv[1])))
