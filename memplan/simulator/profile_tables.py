"""The CSV files of a simulated profile, with the columns, units and spellings of torch_npu on CANN 8.3."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from memplan.core.units import KIB, MIB, microseconds
from memplan.simulator.kernel_records import COMMUNICATION, SimulatedKernel
from memplan.simulator.memory_events import MemoryLog

NOT_AVAILABLE = "N/A"
NO_MODEL = 4294967295
_MOST_SAMPLES = 10_000

_PIPES = (
    "aicore_time(us)", "aic_total_cycles", "aic_mac_time(us)", "aic_mac_ratio", "aic_scalar_time(us)",
    "aic_scalar_ratio", "aic_mte1_time(us)", "aic_mte1_ratio", "aic_mte2_time(us)", "aic_mte2_ratio",
    "aic_fixpipe_time(us)", "aic_fixpipe_ratio", "aic_icache_miss_rate", "aiv_time(us)", "aiv_total_cycles",
    "aiv_vec_time(us)", "aiv_vec_ratio", "aiv_scalar_time(us)", "aiv_scalar_ratio", "aiv_mte2_time(us)",
    "aiv_mte2_ratio", "aiv_mte3_time(us)", "aiv_mte3_ratio", "aiv_icache_miss_rate", "cube_utilization(%)",
)  # fmt: skip
KERNEL_DETAILS = (
    "Step Id", "Device_id", "Model ID", "Task ID", "Stream ID", "Name", "Type", "OP State", "Accelerator Core",
    "Start Time(us)", "Duration(us)", "Wait Time(us)", "Block Dim", "Mix Block Dim", "HF32 Eligible",
    "Input Shapes", "Input Data Types", "Input Formats", "Output Shapes", "Output Data Types", "Output Formats",
    "Context ID", *_PIPES,
)  # fmt: skip
MEMORY_RECORD = (
    "Component", "Timestamp(us)", "Total Allocated(MB)", "Total Reserved(MB)", "Total Active(MB)", "Stream Ptr",
    "Device Type",
)  # fmt: skip
OPERATOR_MEMORY = (
    "Name", "Size(KB)", "Allocation Time(us)", "Release Time(us)", "Active Release Time(us)", "Duration(us)",
    "Active Duration(us)", "Allocation Total Allocated(MB)", "Allocation Total Reserved(MB)",
    "Allocation Total Active(MB)", "Release Total Allocated(MB)", "Release Total Reserved(MB)",
    "Release Total Active(MB)", "Stream Ptr", "Device Type",
)  # fmt: skip
MODULE_MEMORY = ("Device_id", "Component", "Timestamp(us)", "Total Reserved(MB)", "Device")
STEP_TRACE_TIME = (
    "Device_id", "Step", "Computing", "Communication(Not Overlapped)", "Overlapped", "Communication", "Free", "Stage",
    "Bubble", "Communication(Not Overlapped and Exclude Receive)", "Preparing",
)  # fmt: skip
OP_STATISTIC = (
    "Device_id", "OP Type", "Core Type", "Count", "Total Time(us)", "Min Time(us)", "Avg Time(us)", "Max Time(us)",
    "Ratio(%)",
)  # fmt: skip
API_STATISTIC = (
    "Device_id", "Level", "API Name", "Time(us)", "Count", "Avg(us)", "Min(us)", "Max(us)", "Variance",
)  # fmt: skip


def _stamp(time_ns: int) -> str:
    # The profilers end times with a tab, so that spreadsheets keep them as text.
    return microseconds(time_ns) + "\t"


def _one_line(text: str) -> str:
    """A name without line breaks and other control characters, which readers of CSV would trip over."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def _mb(size: int) -> str:
    return str(size / MIB)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file as the profilers write them."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def kernel_rows(kernels: Iterable[SimulatedKernel], device: int) -> Iterator[Sequence[object]]:
    """Rows of kernel_details.csv; communication has neither task nor operands nor counters."""
    for kernel in kernels:
        head = (kernel.step, device, NO_MODEL)
        name = (_one_line(kernel.op.name), _one_line(kernel.op.type))
        times = (
            _stamp(kernel.start_ns),
            microseconds(kernel.duration_ns),
            f"{microseconds(kernel.wait_ns)}000",
        )
        if kernel.core == COMMUNICATION:
            absent = (NOT_AVAILABLE,) * (len(KERNEL_DETAILS) - 13)
            yield (*head, NOT_AVAILABLE, NOT_AVAILABLE, *name, NOT_AVAILABLE, kernel.core, *times, 0, *absent)
            continue
        yield (
            *head, kernel.task, kernel.op.stream, *name, "static", kernel.core, *times,
            kernel.blocks, kernel.mixed_blocks, "NO",
            f'"{kernel.inputs.shapes}"', kernel.inputs.dtypes, kernel.inputs.formats,
            f'"{kernel.outputs.shapes}"', kernel.outputs.dtypes, kernel.outputs.formats,
            "0" if kernel.core.startswith("MIX") else NOT_AVAILABLE,
            *(kernel.counters or (NOT_AVAILABLE,) * len(_PIPES)),
        )  # fmt: skip


def process_samples(log: MemoryLog, end_ns: int, process_bytes: int) -> Iterator[tuple[int, int]]:
    """
    When the device's own sampler looks, from the start of the first run, and the bytes that the process then holds.

    It looks every 20 ms, and less often in runs of minutes, so that files stay of bounded size.
    """
    reserved = log.before_reserved
    position = 0
    for time_ns in range(0, end_ns + 1, max(20_000_000, end_ns // _MOST_SAMPLES)):
        while position < len(log.events) and log.events[position].time_ns <= time_ns:
            reserved = log.events[position].reserved
            position += 1
        yield time_ns, reserved + process_bytes


def memory_record_rows(
    log: MemoryLog, epoch_ns: int, end_ns: int, process_bytes: int, device: int
) -> Iterator[Sequence[object]]:
    """Rows of memory_record.csv: samples of the process, then the allocator (`PTA`) at each of its events."""
    npu = f"NPU:{device}"
    for time_ns, held in process_samples(log, end_ns, process_bytes):
        yield "APP", _stamp(epoch_ns + time_ns), "", _mb(held), "", "", npu
    for event in log.events:
        allocated, reserved_mb = _mb(event.allocated), _mb(event.reserved)
        for component in ("PTA", "PTA+GE"):
            yield component, _stamp(epoch_ns + event.time_ns), allocated, reserved_mb, allocated, 0, npu


def module_memory_rows(
    modules: Sequence[tuple[str, int]], log: MemoryLog, epoch_ns: int, end_ns: int, device: int
) -> Iterator[Sequence[object]]:
    """Rows of npu_module_mem.csv: what each module of CANN holds whenever the sampler looks."""
    for time_ns, _ in process_samples(log, end_ns, 0):
        for name, held in modules:
            yield device, name, _stamp(epoch_ns + time_ns), _mb(held), f"NPU:{device}"


def allocations_in_order(log: MemoryLog) -> list[int]:
    """Rows of `log.allocations` as operator_memory.csv has them: in order of allocation."""
    made = {event.allocation: event for event in log.events if not event.release}
    return sorted(made, key=lambda row: (made[row].time_ns, row))


def operator_memory_rows(
    log: MemoryLog, names: Sequence[str], streams: Sequence[int], epoch_ns: int, device: int
) -> Iterator[Sequence[object]]:
    """
    Rows of operator_memory.csv in order of allocation; release columns are empty for what is never freed.

    `names` and `streams` are those of the plan's ops.
    """
    made = {event.allocation: event for event in log.events if not event.release}
    freed = {event.allocation: event for event in log.events if event.release}
    for row in allocations_in_order(log):
        allocation, begin, end = log.allocations[row], made[row], freed.get(row)
        release: tuple[str, ...] = ("",) * 4
        totals: tuple[str, ...] = ("",) * 3
        if end is not None:
            held = microseconds(end.time_ns - begin.time_ns) + "\t"
            release = (_stamp(epoch_ns + end.time_ns), _stamp(epoch_ns + end.time_ns), held, held)
            totals = (_mb(end.allocated), _mb(end.reserved), _mb(end.allocated))
        yield (
            _one_line(names[allocation.op]), str(allocation.size / KIB),
            _stamp(epoch_ns + begin.time_ns), *release,
            _mb(begin.allocated), _mb(begin.reserved), _mb(begin.allocated), *totals,
            streams[allocation.op], f"NPU:{device}",
        )  # fmt: skip


def op_statistic_rows(kernels: Iterable[SimulatedKernel], device: int) -> list[Sequence[object]]:
    """Rows of op_statistic.csv: computing kernels by type and core, the longest total first."""
    times: dict[tuple[str, str], list[int]] = {}
    for kernel in kernels:
        if kernel.core != COMMUNICATION:
            times.setdefault((_one_line(kernel.op.type), kernel.core), []).append(kernel.duration_ns)
    everything = sum(map(sum, times.values())) or 1
    ranked = sorted(times.items(), key=lambda item: (-sum(item[1]), item[0]))
    return [
        (
            device, kind, core, len(found), sum(found) / 1000, min(found) / 1000,
            round(sum(found) / len(found) / 1000, 3), max(found) / 1000, round(100 * sum(found) / everything, 3),
        )
        for (kind, core), found in ranked
    ]  # fmt: skip


def api_statistic_rows(kernels: Iterable[SimulatedKernel]) -> list[Sequence[object]]:
    """Rows of api_statistic.csv: the host's calls to launch kernels."""
    calls = [(kernel.issued_ns - kernel.issue_ns) / 1000 for kernel in kernels]
    if not calls:
        return []
    mean = sum(calls) / len(calls)
    variance = sum((call - mean) ** 2 for call in calls) / len(calls)
    figures = (round(sum(calls), 3), len(calls), round(mean, 3), min(calls), max(calls), round(variance, 3))
    return [("host", "node", "launch", *figures)]
