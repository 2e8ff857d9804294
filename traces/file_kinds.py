"""Which file is what: the names that profilers give to their outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path


class FileKind(str, Enum):
    """What a profiler's output file holds."""

    TRACE = "trace"
    PARTIAL_TRACE = "partial trace"
    KERNELS = "kernels"
    TASK_TIME = "task time"
    MEMORY_RECORD = "memory record"
    OPERATOR_MEMORY = "operator memory"
    MODULE_MEMORY = "module memory"
    PROCESS_MEMORY = "process memory"
    STEPS = "steps"
    ITERATIONS = "iterations"
    COMMUNICATION = "communication"
    COMMUNICATION_MATRIX = "communication matrix"
    DATABASE = "database"
    ANALYSIS_DATABASE = "analysis database"
    INFO = "info"
    METADATA = "metadata"
    DEVICE_INFO = "device info"
    MEMSCOPE = "msMemScope dump"
    SNAPSHOT = "memory snapshot"
    MEMORY_BLOCKS = "memory blocks"
    MEMORY_USAGE = "memory usage"
    MINDIE = "service table"
    CLUSTER_STEPS = "cluster steps"
    CLUSTER_LINKS = "cluster links"
    CLUSTER_COMMUNICATIONS = "cluster communications"
    OPERATOR = "operator metrics"
    HOST_OPS = "times of ops on the host"
    HOST_LAUNCHES = "launches of ops on the host"
    LOG = "log"
    TABLE = "table"
    IGNORED = "ignored"


PROFILE_KINDS = frozenset(
    {
        FileKind.TRACE, FileKind.PARTIAL_TRACE, FileKind.KERNELS, FileKind.TASK_TIME, FileKind.MEMORY_RECORD,
        FileKind.OPERATOR_MEMORY, FileKind.MODULE_MEMORY, FileKind.PROCESS_MEMORY, FileKind.STEPS,
        FileKind.ITERATIONS,
        FileKind.COMMUNICATION, FileKind.COMMUNICATION_MATRIX, FileKind.DATABASE, FileKind.ANALYSIS_DATABASE,
        FileKind.MINDIE, FileKind.OPERATOR,
    }
)  # fmt: skip
"""What makes a folder a profile."""
CLUSTER_KINDS = frozenset({FileKind.CLUSTER_STEPS, FileKind.CLUSTER_LINKS, FileKind.CLUSTER_COMMUNICATIONS})
"""Files that tell of all ranks of a job."""

_NUMBERED = r"(?:_slice_\d+)?(?:_\d+)*"
_NAMES: tuple[tuple[FileKind, str], ...] = (
    (FileKind.TRACE, rf"(?:trace_view|msprof){_NUMBERED}\.json|.*\.pt\.trace\.json"),
    (
        FileKind.PARTIAL_TRACE,
        rf"(?:hccl|task_time|step_trace|msprof_tx|api|thread_group|ai_stack_time){_NUMBERED}\.json",
    ),
    (FileKind.KERNELS, rf"(?:kernel_details|op_summary){_NUMBERED}\.csv"),
    (FileKind.TASK_TIME, rf"task_time{_NUMBERED}\.csv"),
    (FileKind.MEMORY_RECORD, rf"memory_record{_NUMBERED}\.csv|cpu_ms_memory_record_\d+\.txt"),
    (FileKind.OPERATOR_MEMORY, rf"operator_memory{_NUMBERED}\.csv"),
    (FileKind.MODULE_MEMORY, rf"npu_module_mem{_NUMBERED}\.csv"),
    (FileKind.PROCESS_MEMORY, rf"npu_mem{_NUMBERED}\.csv"),
    (FileKind.STEPS, r"step_trace_time\.csv"),
    (FileKind.ITERATIONS, rf"step_trace{_NUMBERED}\.csv"),
    (FileKind.COMMUNICATION_MATRIX, r"communication_matrix\.json"),
    (FileKind.COMMUNICATION, r"communication\.json"),
    (FileKind.ANALYSIS_DATABASE, r"analysis\.db|communication_analyzer\.db"),
    (FileKind.DATABASE, r"(?:ascend_pytorch_profiler|ascend_mindspore_profiler|msprof)(?:_\d+)*\.db"),
    (FileKind.INFO, r"profiler_info(?:_\d+)?\.json"),
    (FileKind.METADATA, r"profiler_metadata\.json"),
    (FileKind.DEVICE_INFO, r"info\.json\.\d+"),
    (FileKind.MEMSCOPE, r"memscope_dump_\w+\.csv"),
    (FileKind.SNAPSHOT, r".*\.(?:pkl|pickle)"),
    (FileKind.MEMORY_BLOCKS, r"memory_block\.csv"),
    (FileKind.MEMORY_USAGE, r"mindspore\.memory_usage"),
    (FileKind.MINDIE, r"(?:kvcache|batch|request|forward|coordinator|pd_split_\w+)\.csv"),
    (FileKind.CLUSTER_STEPS, r"cluster_step_trace_time\.csv|cluster_analysis\.db"),
    (FileKind.CLUSTER_LINKS, r"cluster_communication_matrix\.json"),
    (FileKind.CLUSTER_COMMUNICATIONS, r"cluster_communication\.json"),
    (
        FileKind.OPERATOR,
        r"(?:OpBasicInfo|PipeUtilization|ArithmeticUtilization|Memory|MemoryL0|MemoryUB|L2Cache|ResourceConflictRatio)"
        r"(?:_\d+)*\.csv",
    ),
    (FileKind.HOST_OPS, r"cpu_op_execute_timestamp_\d+\.txt"),
    (FileKind.HOST_LAUNCHES, r"cpu_framework_\d+\.txt"),
    (FileKind.LOG, r".*\.(?:log|out|err|prom)|metrics.*\.txt|.*(?:npu[-_]?smi|ascend[-_]?dmi).*\.txt"),
    (FileKind.TABLE, r".*\.csv"),
    (
        FileKind.IGNORED,
        r".*\.(?:done|txt)|.*\.db-(?:wal|shm|journal)|README.*|communication_group\.json|config\.json|.*\.(?:so|py|md)|(?:start|end)_info(?:\.\d+)?|\..*",
    ),
)
_ARCHIVE = re.compile(r".+\.(?:zip|tar|tgz|tar\.gz|tar\.xz|tar\.bz2|7z|rar|(?:tar\.)?(?:zst|lz4))", re.IGNORECASE)
_KINDS = tuple(kind for kind, _ in _NAMES)
_PATTERN = re.compile("|".join(rf"({pattern})(?:\.gz)?" for _, pattern in _NAMES), re.IGNORECASE)
"""One group for each kind, in their order: the first that fits the whole name counts."""

_MEMSCOPE_HEADER = b"ID,Event,Event Type,Name,Timestamp(ns),"
UNPACK_BY_HAND = "unpack it yourself"
"""What to do about an archive that can't be read."""


def is_archive_name(name: str) -> bool:
    """Whether a file is called as an archive of several files is."""
    return _ARCHIVE.fullmatch(name) is not None


def is_archive(path: Path) -> bool:
    """Whether `path` is called as an archive of several files is."""
    return is_archive_name(path.name) and path.is_file()


def kind_by_name(name: str) -> FileKind | None:
    """What the file called `name` holds, or `None` where its name says nothing."""
    found = _PATTERN.fullmatch(name)
    return _KINDS[found.lastindex - 1] if found is not None and found.lastindex is not None else None


def sorted_by_kind(paths: Iterable[Path]) -> Mapping[FileKind, list[Path]]:
    """Files by what they hold, each list in natural order of names (slice 2 before slice 10)."""
    found: dict[FileKind, list[Path]] = {}
    for path in sorted(paths, key=lambda path: natural_key(str(path))):
        kind = kind_by_name(path.name)
        if kind is not None:
            found.setdefault(kind, []).append(path)
    return found


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorting key under which numbers inside a name count as numbers."""
    parts = re.findall(r"\d{1,30}|\D+|\d+", text)
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts]


def file_kind(path: Path) -> FileKind | None:
    """What a file holds, by its name and, for tables of no known name, by its first line."""
    kind = kind_by_name(path.name)
    if kind is FileKind.TABLE:
        try:
            with path.open("rb") as file:
                head = file.read(256)
        except OSError:
            return kind
        if head.startswith(_MEMSCOPE_HEADER):
            return FileKind.MEMSCOPE
    return kind
