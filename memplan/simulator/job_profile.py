"""Profiles of all ranks of a simulated job, with or without a fault, as torch_npu would have left them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memplan.core.errors import InputError
from memplan.core.files import replacing_folder
from memplan.core.intervals import interval_difference, interval_total, interval_union, intervals_within
from memplan.core.units import KIB, MIB, microseconds
from memplan.core.version import MEMPLAN_VERSION
from memplan.schema import Plan, Tier
from memplan.simulator.faults import ChosenFault, FaultyJob, JobSettings, planted
from memplan.simulator.job_program import LINK_BYTES_PER_NS, Doing, program_of
from memplan.simulator.job_run import Ran, RankRun, run_job
from memplan.simulator.noise import Chance
from memplan.simulator.profile_tables import (
    KERNEL_DETAILS,
    MEMORY_RECORD,
    OPERATOR_MEMORY,
    STEP_TRACE_TIME,
    write_table,
)
from memplan.simulator.simulation import EPOCH_NS, is_simulated

_COMPUTE, _LINK, _COPIES = 2, 9, 11
_COLUMNS = {name: place for place, name in enumerate(KERNEL_DETAILS)}
_CLOCK_MHZ = 1800
_SAMPLES = 40


def simulate_job(
    plan: Plan,
    directory: str | Path,
    *,
    fault: ChosenFault | None = None,
    ranks: int = 4,
    steps: int = 4,
    seed: int = 0,
    replace: bool = False,
) -> Path:
    """
    Run `plan` on `ranks` ranks and write their profiles below `directory`, which is returned.

    All ranks run the plan's computing ops and reduce gradients over a ring; `fault` is planted in them. The same plan,
    fault and seed give the same files; they say that they are simulated, and what was planted. Raises `InputError`
    for a plan without times, numbers out of range, or a folder that is in the way.
    """
    if not any(op.launches and op.duration_ns > 0 for op in plan.ops):
        raise InputError("the plan has no ops with times", remedy="plan a graph that computes something")
    if not 1 <= steps <= 1000 or not 1 <= ranks <= 4096:
        raise InputError(f"{steps} steps of {ranks} ranks can't be simulated", remedy="give 1 or more of each")
    target = Path(directory)
    if target.is_dir() and any(target.iterdir()) and not (replace and is_simulated(target)):
        raise InputError("this folder is not empty", path=target, remedy="name a new folder, or add --replace")
    job = planted([program_of(plan, ranks)] * ranks, fault)
    runs = run_job(job, steps, Chance(seed))
    with replacing_folder(target, replace=replace) as folder:
        _write_json(folder / "profiler_metadata.json", {"memplan_simulated": True})
        for rank, run in enumerate(runs):
            _write_rank(folder / f"rank_{rank}_ascend_pt", plan, job, fault, rank, run)
    return target


def planted_ns(plan: Plan, fault: ChosenFault, *, ranks: int = 4, steps: int = 4, seed: int = 0) -> int:
    """How much longer the slowest rank of the job takes with `fault` than without; ns over all steps."""
    whole = FaultyJob((program_of(plan, ranks),) * ranks, JobSettings())
    without = fault.fault.without
    jobs = (planted(whole.programs, fault), whole if without is None else without(whole, fault.strength))
    ends = [max(run.steps[-1][1] for run in run_job(job, steps, Chance(seed))) for job in jobs]
    return ends[0] - ends[1]


def _write_rank(folder: Path, plan: Plan, job: FaultyJob, fault: ChosenFault | None, rank: int, run: RankRun) -> None:
    output = folder / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    write_table(output / "kernel_details.csv", KERNEL_DETAILS, _kernel_rows(run))
    write_table(output / "step_trace_time.csv", STEP_TRACE_TIME, _step_rows(run, rank))
    _write_memory(output, plan, job, rank, run)
    ranks = len(job.programs)
    _write_json(output / "communication.json", _communication(run))
    _write_json(output / "communication_matrix.json", _matrix(job, run, rank))
    _write_json(output / "trace_view.json", list(_events(job, run)))
    _write_json(folder / f"profiler_info_{rank}.json", {"rank_id": rank, "config": {}})
    _write_json(
        folder / "profiler_metadata.json",
        {
            "memplan_simulated": True,
            "memplan_version": MEMPLAN_VERSION,
            "memplan_fault": None if fault is None else {"kind": fault.kind, "strength": fault.strength},
            "memplan_plan": {"graph": plan.origin.graph, "chip": plan.chip},
            "distributed_args": {
                "tensor_model_parallel_size": 1,
                "pipeline_model_parallel_size": job.settings.stages,
                "data_parallel_size": ranks // job.settings.stages,
                "world_size": ranks,
                "rank": rank,
            },
            "parallel_group_info": _groups(rank, ranks, job.settings.stages),
        },
    )


def _groups(rank: int, ranks: int, stages: int) -> dict[str, Any]:
    each = ranks // stages
    stage, place = divmod(rank, each) if each else (0, 0)
    data = [stage * each + number for number in range(each)]
    line = [number * each + place for number in range(stages)]
    members = {"default_group": list(range(ranks)), "dp": data, "pp": line}
    return {
        f"group_name_{number}": {"group_name": name, "group_rank": own.index(rank), "global_ranks": own}
        for number, (name, own) in enumerate(members.items())
        if rank in own
    }


def _stamp(time_ns: int) -> str:
    return microseconds(EPOCH_NS + time_ns) + "\t"


def _kernel_rows(run: RankRun) -> Iterator[Sequence[object]]:
    last = 0
    for task, one in enumerate(sorted(run.ran, key=lambda one: one.start_ns)):
        item = one.item
        if item.doing not in (Doing.KERNEL, Doing.COLLECTIVE, Doing.EXCHANGE):
            continue
        row: list[object] = ["N/A"] * len(KERNEL_DETAILS)

        def put(values: dict[str, object], row: list[object] = row) -> None:
            for name, value in values.items():
                row[_COLUMNS[name]] = value

        communicates = item.doing is not Doing.KERNEL
        put({
            "Step Id": one.step + 1, "Device_id": 0, "Name": item.name, "Type": item.type,
            "Accelerator Core": "COMMUNICATION" if communicates else item.core,
            "Start Time(us)": _stamp(one.start_ns), "Duration(us)": microseconds(one.end_ns - one.start_ns),
            "Wait Time(us)": microseconds(max(one.start_ns - last, 0) if not communicates else 0), "Block Dim": 0,
        })  # fmt: skip
        if not communicates:
            put({"Task ID": task, "Stream ID": _COMPUTE, "Block Dim": 20, "OP State": "static"})
            if item.dtype:
                put({"Input Data Types": item.dtype, "Input Shapes": '"1024"'})
            put(_counters(item.op.bound if item.op else "hbm", item.core, one.end_ns - one.start_ns, item.busy))
            last = one.end_ns
        yield row


def _counters(bound: str, core: str, length_ns: int, busy: float) -> dict[str, object]:
    """The pipe that bounds a kernel is busy, the others a little."""
    if core == "AI_CPU":
        return {}
    cube = core in ("AI_CORE", "MIX_AIC")
    head = "aic" if cube else "aiv"
    main = {"cube": "mac", "vector": "vec"}.get(bound, "mte2")
    main = {"mac": "mte2", "vec": "vec"}.get(main, main) if not cube else "mac" if main == "vec" else main
    shares = {main: busy, "scalar": 0.2} | ({"mte2": 0.4} if main != "mte2" else {})
    found: dict[str, object] = {"aicore_time(us)" if cube else "aiv_time(us)": microseconds(length_ns)}
    for pipe, share in shares.items():
        found[f"{head}_{pipe}_ratio"] = share
        found[f"{head}_{pipe}_time(us)"] = round(share * length_ns / 1000, 3)
    return found


def _step_rows(run: RankRun, device: int) -> Iterator[Sequence[object]]:
    def of(kinds: tuple[Doing, ...]) -> tuple[Any, Any]:
        mine = [one for one in run.ran if one.item.doing in kinds]
        starts = np.array([one.start_ns for one in mine], dtype=np.int64)
        return interval_union(starts, np.array([one.end_ns for one in mine], dtype=np.int64))

    computing, communication = of((Doing.KERNEL,)), of((Doing.COLLECTIVE, Doing.EXCHANGE))
    alone = interval_difference(communication, computing)
    for number, (begin, end) in enumerate(run.steps):
        until = run.steps[number + 1][0] if number + 1 < len(run.steps) else end
        busy, both, bare = (
            interval_total(*intervals_within(part, begin, until)) for part in (computing, communication, alone)
        )
        free = until - begin - busy - bare
        figures = (busy, bare, both - bare, both, free, until - begin)
        yield (device, number + 1, *(value / 1000 for value in figures), 0, bare / 1000, 0)


def _write_memory(output: Path, plan: Plan, job: FaultyJob, device: int, run: RankRun) -> None:
    """Memory that rises and falls within each step; what a fault keeps, reserves or holds outside comes on top."""
    peak = max((use.peak for use in plan.tiers if use.tier is Tier.HBM), default=0) or 64 * MIB
    settings, npu = job.settings, f"NPU:{device}"
    end = run.steps[-1][1]
    rows: list[Sequence[object]] = []
    blocks: list[Sequence[object]] = []
    level = 0
    for begin, stop in run.steps:
        leak = round(settings.leak * peak)
        if leak:
            blocks.append(_block("Leaky", leak, begin + 1, None, level + leak, npu))
            level += leak
        for sample in range(_SAMPLES + 1):
            time = begin + 1 + (stop - begin - 2) * sample // _SAMPLES
            used = peak // 2 + (peak // 2) * (_SAMPLES // 2 - abs(sample - _SAMPLES // 2)) // (_SAMPLES // 2) + level
            reserved = round((peak + level) * (1.01 + settings.cached / (1 - min(settings.cached, 0.9))))
            rows.append(("PTA", _stamp(time), used / MIB, reserved / MIB, used / MIB, 0, npu))
        blocks.append(_block("Passing", peak // 2, begin + 1, stop - 1, peak + level, npu))
    top = round((peak + level) * (1.01 + settings.cached / (1 - min(settings.cached, 0.9))))
    outside = round(settings.outside / (1 - min(settings.outside, 0.9)) * top)
    held = (top + outside) / MIB
    rows.extend(("APP", _stamp(time), "", held, "", "", npu) for time in range(0, end, max(end // 50, 1)))
    write_table(output / "memory_record.csv", MEMORY_RECORD, rows)
    write_table(output / "operator_memory.csv", OPERATOR_MEMORY, blocks)
    modules = [("HCCL", _stamp(time), round(outside * 0.9) / KIB, npu) for time in range(0, end, max(end // 50, 1))]
    write_table(
        output / "npu_module_mem.csv", ("Component", "Timestamp(us)", "Total Reserved(KB)", "Device Type"), modules
    )


def _block(name: str, size: int, begin: int, end: int | None, total: int, npu: str) -> Sequence[object]:
    times = ("", "", "", "") if end is None else (_stamp(end), _stamp(end), *(microseconds(end - begin),) * 2)
    return (name, str(size / KIB), _stamp(begin), *times, *(total / MIB,) * 3, "", "", "", 0, npu)


def _communication(run: RankRun) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in run.ran:
        if one.item.doing not in (Doing.COLLECTIVE, Doing.EXCHANGE):
            continue
        kind = "collective" if one.item.doing is Doing.COLLECTIVE else "p2p"
        elapsed, size = one.end_ns - one.start_ns, _bytes(one)
        packet = max(min(one.item.packet, size), 1)
        count = max(size // packet, 1)
        # Ops are called alike in every step, as HCCL numbers them anew.
        found.setdefault(f"step{one.step + 1}", {"p2p": {}, "collective": {}})[kind][f"{one.item.name}@77"] = {
            "Communication Time Info": {
                "Start Timestamp(us)": float(microseconds(EPOCH_NS + one.start_ns)),
                "Elapse Time(ms)": elapsed / 1e6,
                "Transit Time(ms)": one.transfer_ns / 1e6,
                "Wait Time(ms)": (elapsed - one.transfer_ns) / 1e6,
                "Synchronization Time(ms)": (elapsed - one.transfer_ns) / 1e6,
                "Idle Time(ms)": 0,
            },
            "Communication Bandwidth Info": {
                "HCCS": {
                    "Transit Size(MB)": size / 1e6,
                    "Transit Time(ms)": one.transfer_ns / 1e6,
                    "Bandwidth(GB/s)": size / max(one.transfer_ns, 1),
                    "Size Distribution": {str(packet / 1e6): [count, one.transfer_ns / 1e6]},
                }
            },
        }
    return found


def _bytes(one: Ran) -> int:
    rate = LINK_BYTES_PER_NS if one.item.packet >= 1_000_000 else LINK_BYTES_PER_NS / 20
    return round(one.item.duration_ns * rate)


def _matrix(job: FaultyJob, run: RankRun, rank: int) -> dict[str, Any]:
    ranks = len(job.programs)
    found: dict[str, Any] = {}
    slow = job.settings.slow_link if rank == 1 else 1.0
    for one in run.ran:
        if one.item.doing is not Doing.COLLECTIVE or ranks < 2:
            continue
        size = _bytes(one)
        link = {
            f"{rank}-{rank}": {"Transport Type": "LOCAL", "Transit Size(MB)": size / 1e6, "Transit Time(ms)": 0.01},
            f"{rank}-{(rank + 1) % ranks}": {
                "Transport Type": "HCCS",
                "Transit Size(MB)": size / 1e6,
                "Transit Time(ms)": one.item.duration_ns * slow / 1e6,
                "Bandwidth(GB/s)": size / max(one.item.duration_ns * slow, 1),
                "Op Name": one.item.name,
            },
        }
        found.setdefault(f"step{one.step + 1}", {"p2p": {}, "collective": {}})["collective"][f"{one.item.name}@77"] = (
            link
        )
    return found


_HOST, _CANN, _DEVICE, _FREQUENCY, _GARBAGE = 1000, 2001, 2002, 2003, 2004


def _events(job: FaultyJob, run: RankRun) -> Iterator[dict[str, Any]]:
    names = {_HOST: "Python", _CANN: "CANN", _DEVICE: "Ascend Hardware", _FREQUENCY: "AI Core Freq", _GARBAGE: "GC"}
    for pid, name in names.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}
    for stream in (_COMPUTE, _LINK, _COPIES):
        yield {"ph": "M", "pid": _DEVICE, "tid": stream, "name": "thread_name", "args": {"name": f"Stream {stream}"}}
    for number, (begin, end) in enumerate(run.steps):
        yield _slice(f"ProfilerStep#{number + 1}", _HOST, 1, begin, end)
    for number, one in enumerate(run.ran):
        item = one.item
        if item.doing in (Doing.HOST, Doing.SYNCHRONISE):
            cann = item.name.startswith("AscendCL")
            pid = _GARBAGE if item.name == "GC" else _CANN if cann else _HOST
            yield _slice(item.name, pid, 1, one.start_ns, one.end_ns)
            continue
        stream = {Doing.KERNEL: _COMPUTE, Doing.COPY: _COPIES}.get(item.doing, _LINK)
        yield _slice(item.name, _DEVICE, stream, one.start_ns, one.end_ns)
        if item.doing is Doing.KERNEL:
            flow = {"name": f"HostToDevice{number}", "cat": "HostToDevice", "id": str(number)}
            yield _slice("Node@launch", _CANN, 2, one.launch_ns, one.launch_ns + 300)
            yield {"ph": "s", **flow, "pid": _CANN, "tid": 2, "ts": microseconds(EPOCH_NS + one.launch_ns)}
            yield {
                "ph": "f",
                **flow,
                "bp": "e",
                "pid": _DEVICE,
                "tid": stream,
                "ts": microseconds(EPOCH_NS + one.start_ns),
            }
    steps = len(run.steps)
    for number, (begin, _) in enumerate(run.steps):
        low = job.settings.clock < 1 and number >= max(steps // 3, 1)
        clock = round(_CLOCK_MHZ * (job.settings.clock if low else 1.0))
        yield {"ph": "C", "name": "AI Core Freq", "pid": _FREQUENCY, "tid": 0, "ts": microseconds(EPOCH_NS + begin),
               "args": {"MHz": clock}}  # fmt: skip


def _slice(name: str, pid: int, tid: int, start: int, end: int) -> dict[str, Any]:
    ts = microseconds(EPOCH_NS + start)
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": (end - start) / 1000, "args": {}}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
