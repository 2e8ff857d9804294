"""Profiles of all ranks of a simulated job, with or without a fault, as torch_npu would have left them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memplan.core.errors import InputError
from memplan.core.files import replacing_folder
from memplan.core.intervals import interval_difference, interval_total, interval_union, intervals_within
from memplan.core.units import microseconds
from memplan.core.version import MEMPLAN_VERSION
from memplan.models.steps.options import is_served
from memplan.schema import Plan
from memplan.simulator.faults.known_faults import ChosenFault, planted
from memplan.simulator.job_communication import exchange_document, group_document, matrix_document
from memplan.simulator.job_layouts import job_of, launched_in_time
from memplan.simulator.job_logs import engine_bytes, engine_log, shortage_bytes, shortage_log
from memplan.simulator.job_memory import peak_of, planted_bytes, room_share, write_job_memory
from memplan.simulator.job_program import Doing
from memplan.simulator.job_run import RankRun, run_job, shifted
from memplan.simulator.job_settings import FaultyJob
from memplan.simulator.kernel_records import operand_texts
from memplan.simulator.oom_snapshot import failed_run, write_snapshot
from memplan.simulator.profile_tables import (
    KERNEL_DETAILS,
    STEP_TRACE_TIME,
    write_table,
)
from memplan.simulator.simulation import EPOCH_NS, is_simulated

_COMPUTE, _LINK, _COPIES = 2, 9, 11
_COLUMNS = {name: place for place, name in enumerate(KERNEL_DETAILS)}
_CLOCK_MHZ = 1800
_ROOM = 0.1
"""Share of the device memory that has to be free for anything to be called needless that saves memory."""


def simulate_job(
    plan: Plan,
    directory: str | Path,
    *,
    fault: ChosenFault | None = None,
    ranks: int = 4,
    steps: int = 4,
    seed: int = 0,
    layout: str = "",
    background: bool = False,
    replace: bool = False,
) -> Path:
    """
    Run `plan` on `ranks` ranks and write their profiles below `directory`, which is returned.

    All ranks run the plan's computing ops and reduce gradients over a ring; `fault` is planted in them. `layout` is one
    of `LAYOUTS`; the fault's own by default. With `background`, or a fault that comes with it, machines and hosts are
    as unlike and as busy as real ones. The same plan, fault and seed give the same files; they say that they are
    simulated, and what was planted. Raises `InputError` for a plan without times, numbers out of range, a layout that
    doesn't fit, or a folder that is in the way.
    """
    if not any(op.launches and op.duration_ns > 0 for op in plan.ops):
        raise InputError("the plan has no ops with times", remedy="plan a graph that computes something")
    if not 1 <= steps <= 1000 or not 1 <= ranks <= 4096:
        raise InputError(f"{steps} steps of {ranks} ranks can't be simulated", remedy="give 1 or more of each")
    target = Path(directory)
    if target.is_dir() and any(target.iterdir()) and not (replace and is_simulated(target)):
        raise InputError("this folder is not empty", path=target, remedy="name a new folder, or add --replace")
    job, _ = _jobs(plan, fault, ranks, seed, layout, background)
    room = room_share(plan, job.settings.memory, steps)
    grows = fault is not None and any(kind.startswith("memory.") for kind in fault.fault.findings)
    if fault is not None and grows and room is not None and room < 0:
        raise InputError(
            f"with {fault.kind} the job needs {1 - room:.0%} of the device memory in {steps} steps",
            remedy="plant it weaker or in fewer steps, or oom-leak, which ends a run",
        )
    runs = run_job(job, steps, seed)
    conditions = job.settings.conditions
    with replacing_folder(target, replace=replace) as folder:
        _write_json(folder / "profiler_metadata.json", {"memplan_simulated": True})
        for rank, run in enumerate(runs):
            if conditions.speeds:
                run = shifted(run, conditions.skews_ns[rank], conditions.drifts[rank])
            _write_rank(folder / f"rank_{rank}_ascend_pt", plan, job, fault, rank, run)
    return target


def planted_ns(plan: Plan, fault: ChosenFault, *, ranks: int = 4, steps: int = 4, seed: int = 0) -> int:
    """How much longer the slowest rank of the job takes with `fault` than without; ns over all steps."""
    jobs = _jobs(plan, fault, ranks, seed)
    ends = [max(run.steps[-1][1] for run in run_job(job, steps, seed)) for job in jobs]
    return ends[0] - ends[1]


def planted_memory(plan: Plan, fault: ChosenFault, *, ranks: int = 4, steps: int = 4, seed: int = 0) -> int:
    """How many bytes `fault` costs a rank by the end of the last step."""
    job, _ = _jobs(plan, fault, ranks, seed)
    settings = job.settings
    if settings.shortage is not None:
        return shortage_bytes(settings.shortage, plan)
    if settings.exhaustion is not None:
        return failed_run(plan, settings.exhaustion, peak_of(plan), steps).lacking
    if settings.engine is not None:
        return engine_bytes(settings.engine, plan, steps, seed)
    return planted_bytes(plan, settings.memory, steps)


def _jobs(
    plan: Plan, fault: ChosenFault | None, ranks: int, seed: int, layout: str = "", background: bool = False
) -> tuple[FaultyJob, FaultyJob]:
    """The job with its fault, and what it is held against."""
    noisy = background or (fault is not None and fault.fault.background)
    chosen = layout or (fault.fault.layout if fault is not None else "data")
    batches = None if fault is None or fault.fault.batches is None else fault.fault.batches(fault.strength)
    base = job_of(plan, chosen, ranks, background=seed if noisy else None, batches=batches)
    if fault is None:
        return base, base
    room = room_share(plan, base.settings.memory) if fault.fault.roomy else None
    if room is not None and room < _ROOM:
        raise InputError(
            f"{fault.kind} is no fault where {max(room, 0):.0%} of the device memory are left",
            remedy="plan fewer or shorter samples",
        )
    without = fault.fault.without
    faulty = launched_in_time(planted(base, fault))
    held_against = base if without is None else without(base, fault.strength)
    settings = dataclasses.replace(held_against.settings, call_ns=faulty.settings.call_ns)
    return faulty, dataclasses.replace(held_against, settings=settings)


def _write_rank(folder: Path, plan: Plan, job: FaultyJob, fault: ChosenFault | None, rank: int, run: RankRun) -> None:
    output = folder / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    _write_json(folder / "profiler_metadata.json", _metadata(plan, job, fault, rank))
    if job.settings.exhaustion is not None:
        # A run that fails leaves what it dumps, for no profile is parsed of it.
        output.rmdir()
        failed = failed_run(plan, job.settings.exhaustion, peak_of(plan), len(run.steps))
        write_snapshot(folder / f"rank_{rank}_oom.pickle", failed)
        return
    operands = _operand_columns(plan)
    write_table(output / "kernel_details.csv", KERNEL_DETAILS, _kernel_rows(run, operands))
    write_table(output / "step_trace_time.csv", STEP_TRACE_TIME, _step_rows(run, rank))
    write_job_memory(output, plan, job.settings.memory, rank, run)
    settings = job.settings
    if settings.engine is not None:
        (folder / "engine.log").write_text(engine_log(settings.engine, plan, len(run.steps)), encoding="utf-8")
    if settings.shortage is not None:
        (folder / "train.log").write_text(shortage_log(settings.shortage, plan, rank), encoding="utf-8")
    _write_json(output / "communication.json", exchange_document(job, run, rank))
    _write_json(output / "communication_matrix.json", matrix_document(job, run, rank))
    _write_json(output / "trace_view.json", list(_events(job, run, rank)))
    _write_json(folder / f"profiler_info_{rank}.json", {"rank_id": rank, "config": {}})


def _metadata(plan: Plan, job: FaultyJob, fault: ChosenFault | None, rank: int) -> dict[str, Any]:
    settings = job.settings
    return {
        "memplan_simulated": True,
        "memplan_version": MEMPLAN_VERSION,
        "memplan_fault": None if fault is None else {"kind": fault.kind, "strength": fault.strength},
        "memplan_plan": {"graph": plan.origin.graph, "chip": plan.chip},
        **({} if is_served(plan) else _megatron_arguments(job, rank)),
        "parallel_group_info": group_document(job, rank),
        "ENV_VARIABLES": dict(settings.environment),
    }


def _megatron_arguments(job: FaultyJob, rank: int) -> dict[str, Any]:
    """How the job is laid out, as training scripts are told; no engine knows of these arguments."""
    ranks, settings = len(job.programs), job.settings
    return {
        "distributed_args": {
            "tensor_model_parallel_size": settings.tensor,
            "pipeline_model_parallel_size": settings.stages,
            "data_parallel_size": ranks // settings.stages // settings.tensor,
            "world_size": ranks,
            "rank": rank,
        }
    }


def _stamp(time_ns: int) -> str:
    return microseconds(EPOCH_NS + time_ns) + "\t"


def _operand_columns(plan: Plan) -> dict[int, dict[str, object]]:
    """The columns of kernel_details.csv that tell the operands of an op, by its index."""
    found: dict[int, dict[str, object]] = {}
    for op in plan.ops:
        if op.kernel is None:
            continue
        kernel = plan.kernels[op.kernel]
        inputs = operand_texts([item for item in kernel.inputs if item is not None])
        outputs = operand_texts(kernel.outputs)
        found[op.index] = {
            "Input Shapes": f'"{inputs.shapes}"', "Input Data Types": inputs.dtypes, "Input Formats": inputs.formats,
            "Output Shapes": f'"{outputs.shapes}"', "Output Data Types": outputs.dtypes,
            "Output Formats": outputs.formats,
        }  # fmt: skip
    return found


def _kernel_rows(run: RankRun, operands: Mapping[int, Mapping[str, object]]) -> Iterator[Sequence[object]]:
    last = 0
    for task, one in enumerate(sorted(run.ran, key=lambda one: one.start_ns)):
        item = one.item
        if item.doing not in (Doing.KERNEL, Doing.COLLECTIVE, Doing.EXCHANGE):
            continue
        row: list[object] = ["N/A"] * len(KERNEL_DETAILS)

        def put(values: Mapping[str, object], row: list[object] = row) -> None:
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
            if item.op is not None and item.op.index in operands:
                put(operands[item.op.index])
            if item.dtype:
                put({"Input Data Types": item.dtype, "Input Shapes": f'"{item.elements}"'})
                put({"Output Data Types": item.dtype, "Output Shapes": f'"{item.elements}"'})
            put(_counters(item.op.bound if item.op else "hbm", item.core, one.end_ns - one.start_ns, item.busy))
            last = one.end_ns
        yield row


def _counters(bound: str, core: str, length_ns: int, busy: float) -> dict[str, object]:
    """The pipe that bounds a kernel is busy, the others a little; one that is over at once starts up all the time."""
    if core == "AI_CPU":
        return {}
    cube = core in ("AI_CORE", "MIX_AIC")
    head = "aic" if cube else "aiv"
    main = {"cube": "mac", "vector": "vec", "launch": "scalar"}.get(bound, "mte2")
    main = {"mac": "mte2", "vec": "vec"}.get(main, main) if not cube else "mac" if main == "vec" else main
    shares = {"scalar": 0.2, main: busy} | ({"mte2": 0.4} if main != "mte2" else {})
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


_HOST, _CANN, _DEVICE, _FREQUENCY, _GARBAGE = 1000, 2001, 2002, 2003, 2004


def _events(job: FaultyJob, run: RankRun, rank: int) -> Iterator[dict[str, Any]]:
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
        clock = round(_CLOCK_MHZ * job.settings.clock_at(rank, number, steps))
        yield {"ph": "C", "name": "AI Core Freq", "pid": _FREQUENCY, "tid": 0, "ts": microseconds(EPOCH_NS + begin),
               "args": {"MHz": clock}}  # fmt: skip


def _slice(name: str, pid: int, tid: int, start: int, end: int) -> dict[str, Any]:
    ts = microseconds(EPOCH_NS + start)
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": (end - start) / 1000, "args": {}}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
