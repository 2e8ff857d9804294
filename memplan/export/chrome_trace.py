"""A plan as a trace that Perfetto, chrome://tracing and MindStudio Insight open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.core.units import microseconds
from memplan.schema import Plan, Tier, memory_curve

_Event = dict[str, Any]

_OPS, _TRANSFERS, _MEMORY = 1, 2, 3


def write_chrome_trace(plan: Plan, path: Path, progress: Progress) -> None:
    """
    Write a list of trace events: a lane a stream, a lane a link and direction, and the bytes in each tier.

    Times are decimal strings of microseconds with three decimals, as CANN's profilers write them; memory counters
    are split by kind of tensor, so that viewers stack them.
    """
    with replacing_file(path) as file:
        for done, event in enumerate(_events(plan)):
            file.write(",\n" if done else "[\n")
            json.dump(event, file, ensure_ascii=False)
            if done % 16384 == 0:
                progress(done, len(plan.ops) * 2 + len(plan.transfers), "trace events")
        file.write("\n]\n")


def _events(plan: Plan) -> Iterator[_Event]:
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
        yield _slice(op.name, op.bound, _OPS, op.stream, op.start_ns, op.duration_ns, about)

    names = {tensor.index: tensor.name for tensor in plan.tensors}
    lanes = {lane: tid for tid, lane in enumerate(sorted({(t.link, t.source, t.target) for t in plan.transfers}))}
    for (link, source, target), tid in lanes.items():
        lane = f"{source.value} to {target.value} over {link}"
        yield {"ph": "M", "name": "thread_name", "pid": _TRANSFERS, "tid": tid, "args": {"name": lane}}
    for move in plan.transfers:
        about = {"bytes": move.size, "after_step": move.after_step, "before_step": move.before_step}
        tid = lanes[move.link, move.source, move.target]
        took = move.end_ns - move.start_ns
        yield _slice(names[move.tensor], "transfer", _TRANSFERS, tid, move.start_ns, took, about)
    for tier in Tier:
        yield from _counters(plan, tier)


def _counters(plan: Plan, tier: Tier) -> Iterator[_Event]:
    """Bytes in `tier` by kind of tensor, wherever one of them changes."""
    placed = {placement.tensor for placement in plan.placements if placement.tier is tier}
    kinds = sorted({tensor.kind for tensor in plan.tensors if tensor.index in placed})
    if not kinds:
        return
    curves = [memory_curve(plan, tier, kinds={kind}) for kind in kinds]
    values = np.stack([curve.values for curve in curves], axis=1)
    changed = np.concatenate(([True], (values[1:] != values[:-1]).any(axis=1)))
    # The plan ends with everything released; viewers would draw that as a drop to nothing at the very end.
    for row in np.flatnonzero(changed[:-1]).tolist():
        yield {
            "ph": "C", "name": tier.value, "pid": _MEMORY, "tid": 0, "ts": microseconds(int(curves[0].time_ns[row])),
            "args": {kind: int(value) for kind, value in zip(kinds, values[row], strict=True)},
        }  # fmt: skip


def _slice(name: str, category: str, pid: int, tid: int, start_ns: int, duration_ns: int, args: _Event) -> _Event:
    return {
        "ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid, "ts": microseconds(start_ns),
        "dur": duration_ns / 1000, "args": args,
    }  # fmt: skip
