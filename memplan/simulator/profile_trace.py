"""trace_view.json of a simulated profile: host calls, streams, overlap analysis, counters and flows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.arrays import Int64s
from memplan.core.progress import Progress
from memplan.core.units import microseconds
from memplan.schema import Plan, Tier
from memplan.simulator.execution import Execution
from memplan.simulator.kernel_records import COMMUNICATION, SimulatedKernel
from memplan.simulator.memory_events import MemoryLog
from memplan.simulator.profile_tables import NO_MODEL, process_samples

JsonEvent = dict[str, Any]

_NO_SUBTASK = 4294967295
_PYTHON, _CANN, _HARDWARE, _FREQUENCY, _COMMUNICATION, _MEMORY, _OVERLAP = (
    1000, 2001, 2002, 2003, 2004, 2005, 2006,
)  # fmt: skip
_PROCESSES = (
    (_PYTHON, "Python", "CPU", 0),
    (_CANN, "CANN", "CPU", 7),
    (_HARDWARE, "Ascend Hardware", "NPU", 13),
    (_FREQUENCY, "AI Core Freq", "NPU", 14),
    (_COMMUNICATION, "Communication", "NPU", 15),
    (_MEMORY, "NPU MEM", "NPU", 19),
    (_OVERLAP, "Overlap Analysis", "NPU", 23),
)
OVERLAP_TRACKS = ("Computing", "Communication", "Communication(Not Overlapped)", "Free")


@dataclass(frozen=True, slots=True)
class SimulatedStep:
    """One run of the plan: its number, absolute start and end in nanoseconds, and when what happened in it."""

    number: int
    start_ns: int
    end_ns: int
    run: Execution


def write_trace(
    path: Path,
    plan: Plan,
    steps: Sequence[SimulatedStep],
    kernels: Sequence[SimulatedKernel],
    overlap: Sequence[tuple[Int64s, Int64s]],
    log: MemoryLog,
    *,
    epoch_ns: int,
    process_bytes: int,
    clock_mhz: int,
    progress: Progress,
) -> None:
    """Write the trace as one list; `overlap` are the intervals of each of `OVERLAP_TRACKS`."""
    with path.open("w", encoding="utf-8") as file:
        first = True
        events = _events(plan, steps, kernels, overlap, log, epoch_ns, process_bytes, clock_mhz)
        for done, event in enumerate(events):
            file.write("[" if first else ",")
            json.dump(event, file, separators=(",", ":"))
            first = False
            if done % 65536 == 0:
                progress(done, 7 * len(kernels), "trace events")
        file.write("]")


def _events(
    plan: Plan,
    steps: Sequence[SimulatedStep],
    kernels: Sequence[SimulatedKernel],
    overlap: Sequence[tuple[Int64s, Int64s]],
    log: MemoryLog,
    epoch_ns: int,
    process_bytes: int,
    clock_mhz: int,
) -> Iterator[JsonEvent]:
    thread, communication = _PYTHON, any(kernel.core == COMMUNICATION for kernel in kernels)
    copies = _copy_streams(plan)
    streams = sorted({kernel.op.stream for kernel in kernels} | set(copies.values()))
    for pid, name, label, position in _PROCESSES:
        if pid == _COMMUNICATION and not communication:
            continue
        yield _meta("process_name", pid, 0, "name", name)
        yield _meta("process_labels", pid, 0, "labels", label)
        yield _meta("process_sort_index", pid, 0, "sort_index", position)
    for pid in (_PYTHON, _CANN):
        yield _meta("thread_name", pid, thread, "name", f"Thread {thread}")
    for stream in streams:
        yield _meta("thread_name", _HARDWARE, stream, "name", f"Stream {stream}")
        yield _meta("thread_sort_index", _HARDWARE, stream, "sort_index", stream)
    if communication:
        yield _meta("thread_name", _COMMUNICATION, 0, "name", "Group 0 Communication")
    for tid, name in enumerate(OVERLAP_TRACKS):
        yield _meta("thread_name", _OVERLAP, tid, "name", name)

    for step in steps:
        yield _slice(f"ProfilerStep#{step.number}", _PYTHON, thread, step.start_ns, step.end_ns - step.start_ns, {},
                     category="cpu_op")  # fmt: skip
    for kernel in kernels:
        yield from _kernel_events(kernel, thread)
    for step in steps:
        yield from _copy_events(plan, step, copies)
    for tid, (starts, ends) in enumerate(overlap):
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield _slice(OVERLAP_TRACKS[tid], _OVERLAP, tid, start, end - start, None)
    for time_ns in (steps[0].start_ns, steps[-1].end_ns):
        yield _counter("AI Core Freq", _FREQUENCY, time_ns, {"MHz": clock_mhz})
    for time_ns, held in process_samples(log, steps[-1].end_ns - epoch_ns, process_bytes):
        yield _counter("APP/HBM", _MEMORY, epoch_ns + time_ns, {"KB": held / 1024})


def _kernel_events(kernel: SimulatedKernel, thread: int) -> Iterator[JsonEvent]:
    """The host's call, the runtime's launch, the kernel, and the flows between them."""
    op = kernel.op
    pid, tid = (_COMMUNICATION, 0) if kernel.core == COMMUNICATION else (_HARDWARE, op.stream)
    issue, start = microseconds(kernel.issue_ns), microseconds(kernel.start_ns)
    call_ns = kernel.issued_ns - kernel.issue_ns
    yield _slice(op.name, _PYTHON, thread, kernel.issue_ns, call_ns, {}, category="cpu_op")
    launch_ns = kernel.issue_ns + call_ns // 4
    yield _slice("Node@launch", _CANN, thread, launch_ns, call_ns // 2, {
        "Thread Id": thread, "Mode": "launch", "level": "node", "id": "0", "item_id": op.name,
        "connection_id": kernel.connection,
    })  # fmt: skip
    if kernel.core == COMMUNICATION:
        about: JsonEvent = {"connection_id": kernel.connection, "model id": NO_MODEL}
    else:
        about = {
            "Model Id": NO_MODEL, "Task Type": kernel.core, "Physic Stream Id": op.stream,
            "Task Id": kernel.task, "Batch Id": 0, "Subtask Id": _NO_SUBTASK, "connection_id": kernel.connection,
        }  # fmt: skip
    yield _slice(op.name, pid, tid, kernel.start_ns, kernel.duration_ns, about)
    flow: JsonEvent = {"name": f"HostToDevice{kernel.connection}", "cat": "HostToDevice", "id": str(kernel.connection)}
    yield {"ph": "s", **flow, "pid": _CANN, "tid": thread, "ts": microseconds(launch_ns)}
    yield {"ph": "f", **flow, "pid": pid, "tid": tid, "ts": start, "bp": "e"}
    # The number of this flow is the kernel's start with the point left out.
    flow = {"bp": "e", "name": "torch_to_npu", "id": kernel.start_ns, "cat": "async_npu"}
    yield {"ph": "s", **flow, "pid": _PYTHON, "tid": thread, "ts": issue}
    yield {"ph": "f", **flow, "pid": pid, "tid": tid, "ts": start}


def _copy_streams(plan: Plan) -> dict[tuple[str, Tier, Tier], int]:
    """A stream beside those of the ops for each link and direction that the plan moves bytes over."""
    after = max((op.stream for op in plan.ops), default=-1) + 1
    lanes = sorted({(move.link, move.source, move.target) for move in plan.transfers})
    return {lane: after + position for position, lane in enumerate(lanes)}


def _copy_events(plan: Plan, step: SimulatedStep, streams: dict[tuple[str, Tier, Tier], int]) -> Iterator[JsonEvent]:
    names = {Tier.HBM: "device", Tier.HOST: "host", Tier.REMOTE: "remote"}
    for index, move in enumerate(plan.transfers):
        stream = streams[move.link, move.source, move.target]
        start = step.start_ns + int(step.run.transfer_start_ns[index])
        end = step.start_ns + int(step.run.transfer_end_ns[index])
        route = f"{names.get(move.source, move.source.value)} to {names.get(move.target, move.target.value)}"
        yield _slice("MEMCPY_ASYNC", _HARDWARE, stream, start, end - start, {
            "Model Id": NO_MODEL, "Task Type": "PCIE_DMA_SQE", "Physic Stream Id": stream, "Task Id": index,
            "Batch Id": 0, "Subtask Id": _NO_SUBTASK, "data size(Byte)": move.size, "memcpy direction": route,
        })  # fmt: skip


def _meta(kind: str, pid: int, tid: int, key: str, value: object) -> JsonEvent:
    return {"name": kind, "pid": pid, "tid": tid, "args": {key: value}, "ph": "M"}


def _slice(
    name: str,
    pid: int,
    tid: int,
    start_ns: int,
    duration_ns: int,
    args: JsonEvent | None,
    *,
    category: str | None = None,
) -> JsonEvent:
    event: JsonEvent = {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": microseconds(start_ns)}
    event["dur"] = duration_ns / 1000
    if category is not None:
        event["cat"] = category
    if args is not None:
        event["args"] = args
    return event


def _counter(name: str, pid: int, time_ns: int, values: JsonEvent) -> JsonEvent:
    return {"name": name, "ts": microseconds(time_ns), "pid": pid, "tid": 0, "args": values, "ph": "C"}
