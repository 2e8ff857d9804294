"""A profile directory of a run that never was: a plan executed by a simulated machine, in the real files' format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.core.files import replacing_folder
from memplan.core.intervals import interval_difference, interval_total, interval_union
from memplan.core.progress import Progress, silent
from memplan.core.version import MEMPLAN_VERSION
from memplan.hardware import chip
from memplan.schema import Plan
from memplan.simulator.execution import execute
from memplan.simulator.hidden_names import asking_name
from memplan.simulator.kernel_records import COMMUNICATION, KernelRecorder, SimulatedKernel
from memplan.simulator.memory_events import MemoryLog, record_memory
from memplan.simulator.noise import Behaviour, Chance
from memplan.simulator.profile_tables import (
    API_STATISTIC,
    KERNEL_DETAILS,
    MEMORY_RECORD,
    MODULE_MEMORY,
    OP_STATISTIC,
    OPERATOR_MEMORY,
    STEP_TRACE_TIME,
    allocations_in_order,
    api_statistic_rows,
    kernel_rows,
    memory_record_rows,
    module_memory_rows,
    op_statistic_rows,
    operator_memory_rows,
    write_table,
)
from memplan.simulator.profile_trace import SimulatedStep, write_trace

EPOCH_NS = 1_767_225_600 * 10**9
"""When simulated runs begin: 2026-01-01 00:00:00 UTC, so that the same plan and seed give the same files."""
_LEAD_NS = 50_000  # from the start of a step on the host to its first call


def simulate(
    plan: Plan,
    directory: str | Path,
    *,
    behaviour: Behaviour | None = None,
    seed: int = 0,
    steps: int = 1,
    rank: int = 0,
    first_step: int = 1,
    replace: bool = False,
    progress: Progress = silent,
) -> Path:
    """
    Run `plan` on a simulated machine and write the profile that torch_npu (CANN 8.3, Level1) would have left.

    With names hidden, `truth_kernels.csv` and `truth_blocks.csv` beside it tell what they hide; nothing reads them.

    `directory` becomes the profile and is returned; `msprof-analyze` takes it for torch_npu's without a word if its
    name ends with `_ascend_pt`, and warns that it has to guess otherwise. `profiler_metadata.json` says that it is
    simulated. The same plan, seed and behaviour give the same bytes. With `replace`, a profile that was simulated
    before is replaced.

    Raises `InputError` for a plan without ops, fewer than one step, or a folder that is in the way.
    """
    if not plan.ops:
        raise InputError("the plan has no ops", remedy="plan a graph that computes something")
    if steps < 1 or rank < 0 or first_step < 0:
        raise InputError(f"{steps} steps from {first_step} of rank {rank} can't be simulated", remedy="give 1 or more")
    behaviour = behaviour or Behaviour()
    target = Path(directory)
    if target.is_dir() and not (replace and is_simulated(target)) and any(target.iterdir()):
        remedy = "name a new folder" if not is_simulated(target) else "name a new folder, or replace it with --replace"
        raise InputError("this folder is not empty", path=target, remedy=remedy)
    with replacing_folder(target, replace=replace) as folder:
        _write(folder, plan, behaviour, Chance(seed), steps, rank, first_step, progress)
    return target


def is_simulated(folder: Path) -> bool:
    """Whether a simulator wrote the profile in `folder`."""
    try:
        metadata = json.loads((folder / "profiler_metadata.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(metadata, dict) and metadata.get("memplan_simulated") is True


def _write(
    folder: Path,
    plan: Plan,
    behaviour: Behaviour,
    chance: Chance,
    steps: int,
    rank: int,
    first_step: int,
    progress: Progress,
) -> None:
    recorder = KernelRecorder(plan, chip(plan.chip), behaviour)
    done: list[SimulatedStep] = []
    kernels: list[SimulatedKernel] = []
    start = EPOCH_NS
    for number in range(first_step, first_step + steps):
        progress(number - first_step, steps, "steps")
        run = execute(plan, behaviour, chance)
        kernels += recorder.record(number, start + _LEAD_NS, run, chance)
        end = start + _LEAD_NS + run.makespan_ns
        done.append(SimulatedStep(number, start + _LEAD_NS, end, run))
        start = end + behaviour.step_gap_ns
    runs = [(step.start_ns - EPOCH_NS, step.run) for step in done]
    log = record_memory(plan, runs, behaviour, chance, progress)
    overlap = _overlap(kernels)

    output = folder / "ASCEND_PROFILER_OUTPUT"
    output.mkdir()
    write_table(output / "kernel_details.csv", KERNEL_DETAILS, kernel_rows(kernels, rank))
    record = memory_record_rows(log, EPOCH_NS, done[-1].end_ns - EPOCH_NS, behaviour.process_bytes, rank)
    write_table(output / "memory_record.csv", MEMORY_RECORD, record)
    names = [asking_name(op) if behaviour.hidden_names else op.name for op in plan.ops]
    blocks = operator_memory_rows(log, names, [op.stream for op in plan.ops], EPOCH_NS, rank)
    write_table(output / "operator_memory.csv", OPERATOR_MEMORY, blocks)
    if behaviour.modules:
        modules = module_memory_rows(behaviour.modules, log, EPOCH_NS, done[-1].end_ns - EPOCH_NS, rank)
        write_table(output / "npu_module_mem.csv", MODULE_MEMORY, modules)
    if behaviour.hidden_names:
        _write_truth(folder, log, kernels)
    write_table(output / "step_trace_time.csv", STEP_TRACE_TIME, _step_rows(done, kernels, overlap, rank))
    write_table(output / "op_statistic.csv", OP_STATISTIC, op_statistic_rows(kernels, rank))
    write_table(output / "api_statistic.csv", API_STATISTIC, api_statistic_rows(kernels))
    write_trace(
        output / "trace_view.json",
        plan,
        done,
        kernels,
        overlap,
        log,
        epoch_ns=EPOCH_NS,
        process_bytes=behaviour.process_bytes,
        clock_mhz=recorder.clock_mhz,
        progress=progress,
    )
    _write_json(folder / f"profiler_info_{rank}.json", _info(rank, first_step, steps, done[-1].end_ns))
    _write_json(folder / "profiler_metadata.json", _metadata(plan))


def _write_truth(folder: Path, log: MemoryLog, kernels: Sequence[SimulatedKernel]) -> None:
    """What the names hide, beside the profile: the planned op of each kernel and the planned tensor of each block."""
    ordered = sorted(kernels, key=lambda kernel: kernel.start_ns)
    write_table(folder / "truth_kernels.csv", ("row", "op"), ((row, item.op.index) for row, item in enumerate(ordered)))
    found = [log.allocations[row] for row in allocations_in_order(log)]
    blocks = ((row, item.op, item.tensor) for row, item in enumerate(found))
    write_table(folder / "truth_blocks.csv", ("row", "op", "tensor"), blocks)


def _overlap(kernels: Sequence[SimulatedKernel]) -> list[tuple[Int64s, Int64s]]:
    """Computing, communication, communication that nothing computes beside, and free: disjoint intervals of each."""

    def busy(communication: bool) -> tuple[Int64s, Int64s]:
        chosen = [kernel for kernel in kernels if (kernel.core == COMMUNICATION) is communication]
        starts = np.array([kernel.start_ns for kernel in chosen], dtype=np.int64)
        return interval_union(
            starts, np.array([kernel.end_ns for kernel in chosen], dtype=np.int64), keep_touching=True
        )

    computing, communication = busy(False), busy(True)
    alone = interval_difference(communication, computing)
    starts = np.concatenate((computing[0], communication[0]))
    ends = np.concatenate((computing[1], communication[1]))
    if len(starts):
        whole = (starts.min(keepdims=True), ends.max(keepdims=True))
        free = interval_difference(whole, interval_union(starts, ends, keep_touching=True))
    else:
        free = (starts, ends)
    return [computing, communication, alone, free]


def _step_rows(
    steps: Sequence[SimulatedStep],
    kernels: Sequence[SimulatedKernel],
    overlap: Sequence[tuple[Int64s, Int64s]],
    device: int,
) -> list[Sequence[object]]:
    """Rows of step_trace_time.csv: a step reaches from its first kernel to the next step's."""
    first: dict[int, int] = {}
    for kernel in kernels:
        first[kernel.step] = min(first.get(kernel.step, kernel.start_ns), kernel.start_ns)
    last = max((kernel.end_ns for kernel in kernels), default=0)
    present = [step for step in steps if step.number in first]
    rows: list[Sequence[object]] = []
    for position, step in enumerate(present):
        begin = first[step.number]
        end = first[present[position + 1].number] if position + 1 < len(present) else last
        computing, communication, alone, free = (
            interval_total(np.clip(starts, begin, end), np.clip(ends, begin, end)) for starts, ends in overlap
        )
        figures = (computing, alone, communication - alone, communication, free, computing + alone + free)
        preparing = begin - (step.start_ns - _LEAD_NS)
        # A single device has no pipeline and so no bubble.
        rows.append((device, step.number, *(value / 1000 for value in figures), 0, alone / 1000, preparing / 1000))
    return rows


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=4), encoding="utf-8")


def _info(rank: int, first_step: int, steps: int, end_ns: int) -> dict[str, Any]:
    return {
        "config": {
            "common_config": {
                "activities": ["ProfilerActivity.CPU", "ProfilerActivity.NPU"],
                "schedule": {"wait": 0, "active": steps, "warmup": 0, "repeat": 1, "skip_first": first_step},
                "record_shapes": True,
                "profile_memory": True,
                "with_stack": False,
                "with_flops": False,
                "with_modules": False,
            },
            "experimental_config": {
                "_profiler_level": "Level1",
                "_aic_metrics": "ACL_AICORE_PIPE_UTILIZATION",
                "_l2_cache": False,
                "_msprof_tx": False,
                "_data_simplification": True,
                "record_op_args": False,
                "_export_type": ["text"],
                "_op_attr": False,
                "_gc_detect_threshold": None,
            },
        },
        "start_info": {"syscnt_enable": True, "freq": 100, "start_cnt": 0, "start_monotonic": 0},
        "end_info": {"collectionTimeEnd": end_ns, "MonotonicTimeEnd": end_ns - EPOCH_NS},
        "rank_id": rank,
    }


def _metadata(plan: Plan) -> dict[str, Any]:
    names = (
        "ASCEND_GLOBAL_LOG_LEVEL", "HCCL_RDMA_TC", "HCCL_RDMA_SL", "ACLNN_CACHE_LIMIT", "HOST_CACHE_CAPACITY",
        "ASCEND_ENHANCE_ENABLE", "PYTORCH_NPU_ALLOC_CONF", "ASCEND_LAUNCH_BLOCKING", "HCCL_ALGO",
    )  # fmt: skip
    return {
        "memplan_simulated": True,
        "memplan_version": MEMPLAN_VERSION,
        "memplan_plan": {"graph": plan.origin.graph, "chip": plan.chip, "memplan_version": plan.memplan_version},
        "ENV_VARIABLES": dict.fromkeys(names, ""),
    }
