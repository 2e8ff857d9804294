"""A plan as a trace that Perfetto, chrome://tracing and MindStudio Insight open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.core.units import microseconds
from memplan.schema import Plan, Tier, memory_curve
from memplan.traces.kernel_lanes import kernel_lanes
from memplan.traces.profile import Kernels
from memplan.traces.rank import RankProfile
from memplan.traces.steps import StepSpan, step_spans

_Event = dict[str, Any]

_MEASURED, _OPS, _TRANSFERS, _MEMORY = 0, 1, 2, 3
_STEP_LANE = 0


def write_chrome_trace(plan: Plan, path: Path, progress: Progress) -> None:
    """
    Write a list of trace events: a lane a stream, a lane a link and direction, and the bytes in each tier.

    Times are decimal strings of microseconds with three decimals, as CANN's profilers write them; memory counters
    are split by kind of tensor, so that viewers stack them.
    """
    _write(path, _events(plan, (0,)), len(plan.ops) * 2 + len(plan.transfers), progress)


def write_trace_beside(plan: Plan, rank: RankProfile, path: Path, progress: Progress) -> None:
    """
    The same below the kernels of `rank`: a lane a stream and one for its steps, from whose starts the plan runs anew.

    Times are those of the profile from its first step on. Raises `InputError` for a profile without kernels.
    """
    kernels = rank.kernels(progress)
    if kernels is None or not len(kernels):
        raise InputError(f"rank {rank.rank} has no kernels to show beside the plan", remedy="profile with level 1")
    spans = step_spans(rank, progress)
    zero = spans[0].start_ns if spans else int(kernels.start_ns.min())
    starts = [span.start_ns - zero for span in spans] or [0]
    events = chain(_measured(rank.rank, kernels, spans, zero), _events(plan, starts))
    _write(path, events, len(kernels) + len(starts) * (len(plan.ops) * 2 + len(plan.transfers)), progress)


def _write(path: Path, events: Iterable[_Event], total: int, progress: Progress) -> None:
    with replacing_file(path) as file:
        for done, event in enumerate(events):
            file.write(",\n" if done else "[\n")
            json.dump(event, file, ensure_ascii=False)
            if done % 16384 == 0:
                progress(done, total, "trace events")
        file.write("\n]\n")


def _measured(rank: int, kernels: Kernels, spans: Sequence[StepSpan], zero: int) -> Iterator[_Event]:
    yield _named("process_name", _MEASURED, 0, f"Measured: rank {rank}")
    yield {"ph": "M", "name": "process_sort_index", "pid": _MEASURED, "tid": 0, "args": {"sort_index": _MEASURED}}
    if spans:
        yield _named("thread_name", _MEASURED, _STEP_LANE, "Steps")
    for span in spans:
        told: _Event = {} if span.number is None else {"step": span.number}
        words = "Step" if span.number is None else f"Step {span.number}"
        length = span.end_ns - span.start_ns
        yield _slice(words, "step", _MEASURED, _STEP_LANE, span.start_ns - zero, length, told)
    lanes = kernel_lanes(kernels)
    # Counted from the steps' lane on: Perfetto leaves the names of threads with negative numbers out.
    for lane, name in enumerate(lanes.names, start=_STEP_LANE + 1):
        yield _named("thread_name", _MEASURED, lane, name)
    times = zip(kernels.start_ns.tolist(), kernels.duration_ns.tolist(), lanes.lane.tolist(), strict=True)
    for row, (start, length, lane) in enumerate(times):
        about = {"type": kernels.type[row], "core": kernels.core[row]}
        yield _slice(
            kernels.name[row], kernels.type[row], _MEASURED, lane + _STEP_LANE + 1, start - zero, length, about
        )


def _named(kind: str, pid: int, tid: int, name: str) -> _Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _events(plan: Plan, starts: Sequence[int]) -> Iterator[_Event]:
    """The plan as run from each of `starts` on, ns; its lanes are named once."""
    title = f"plan of {plan.origin.graph} on {plan.chip}"
    processes = ((_OPS, f"Ops: {title}"), (_TRANSFERS, f"Transfers: {title}"), (_MEMORY, f"Memory: {title}"))
    for pid, name in processes:
        if pid == _TRANSFERS and not plan.transfers:
            continue
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    for stream in sorted({op.stream for op in plan.ops}):
        yield {"ph": "M", "name": "thread_name", "pid": _OPS, "tid": stream, "args": {"name": f"Stream {stream}"}}
    for op in plan.ops:
        if op.duration_ns <= 0:
            continue
        about: _Event = {"step": op.index, "type": op.type, "bound": op.bound, "flops": op.flops,
                        "gm_bytes": op.gm_bytes, "stalled_ns": op.stalled_ns}  # fmt: skip
        if op.source is not None:
            about["source"] = op.source
        if op.tiling is not None:
            about["tile"] = {size.name: size.value for size in plan.tilings[op.tiling].tile}
            about["l2_bytes"] = plan.tilings[op.tiling].l2_bytes
        for start in starts:
            yield _slice(op.name, op.bound, _OPS, op.stream, start + op.start_ns, op.duration_ns, about)

    names = {tensor.index: tensor.name for tensor in plan.tensors}
    lanes = {lane: tid for tid, lane in enumerate(sorted({(t.link, t.source, t.target) for t in plan.transfers}))}
    for (link, source, target), tid in lanes.items():
        lane = f"{source.value} to {target.value} over {link}"
        yield {"ph": "M", "name": "thread_name", "pid": _TRANSFERS, "tid": tid, "args": {"name": lane}}
    for move in plan.transfers:
        about = {"bytes": move.size, "after_step": move.after_step, "before_step": move.before_step}
        tid = lanes[move.link, move.source, move.target]
        took = move.end_ns - move.start_ns
        for start in starts:
            yield _slice(names[move.tensor], "transfer", _TRANSFERS, tid, start + move.start_ns, took, about)
    for tier in Tier:
        yield from _counters(plan, tier, starts)


def _counters(plan: Plan, tier: Tier, starts: Sequence[int]) -> Iterator[_Event]:
    """Bytes in `tier` by kind of tensor, wherever one of them changes."""
    placed = {placement.tensor for placement in plan.placements if placement.tier is tier}
    kinds = sorted({tensor.kind for tensor in plan.tensors if tensor.index in placed})
    if not kinds:
        return
    curves = [memory_curve(plan, tier, kinds={kind}) for kind in kinds]
    values = np.stack([curve.values for curve in curves], axis=1)
    changed = np.concatenate(([True], (values[1:] != values[:-1]).any(axis=1)))
    # The plan ends with everything released; viewers would draw that as a drop to nothing at the very end.
    for start in starts:
        for row in np.flatnonzero(changed[:-1]).tolist():
            yield {
                "ph": "C", "name": tier.value, "pid": _MEMORY, "tid": 0,
                "ts": microseconds(start + int(curves[0].time_ns[row])),
                "args": {kind: int(value) for kind, value in zip(kinds, values[row], strict=True)},
            }  # fmt: skip


def _slice(name: str, category: str, pid: int, tid: int, start_ns: int, duration_ns: int, args: _Event) -> _Event:
    return {
        "ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": microseconds(start_ns),
        "dur": duration_ns / 1000, "args": args,
    }  # fmt: skip
