"""What the files of one folder tell of the rank that they are of: its number, and who wrote them."""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from memplan.core.sentence import Sentence
from memplan.traces.file_kinds import PROFILE_KINDS, FileKind, file_kind, is_archive, kind_by_name, sorted_by_kind
from memplan.traces.notes import Notebook
from memplan.traces.rank_source import RankSource
from memplan.traces.search.one_per_rank import MOST_NAMED, RANK_IN_NAME
from memplan.traces.search.profile_folders import MSPROF_FOLDER
from memplan.traces.search.small_json import small_json

MEMSCOPE_DATABASE = re.compile(r"memscope_dump_\w+\.db", re.IGNORECASE)
NOT_MEMSCOPE_CSV = "is the database form of an msMemScope dump, of which only the CSV form is read"
_PRODUCERS = {
    FileKind.MEMSCOPE: "msMemScope",
    FileKind.SNAPSHOT: "torch_npu snapshot",
    FileKind.MEMORY_BLOCKS: "MindSpore memory tracker",
    FileKind.MINDIE: "msServiceProfiler",
    FileKind.OPERATOR: "msopprof",
}
KINETO = "torch.profiler"
"""The producer of traces that name the schema of Kineto, or end as its handler for TensorBoard names them."""
_KINETO_KEYS = (b'"schemaVersion"', b'"deviceProperties"')
NUMBERED_FILE = re.compile(r"_(\d{1,6})\.(?:json|db)$")


def described_rank(folder: Path, files: Sequence[Path], notes: Notebook) -> RankSource:
    """The rank whose files these of `folder` are; notes those that are not read, and where several runs are mixed."""
    by_kind = sorted_by_kind(files)
    if len(files) == 1 and file_kind(files[0]) is FileKind.MEMSCOPE:
        by_kind = {FileKind.MEMSCOPE: list(files)}
    for file in files:
        if file_kind(file) is None and not is_archive(file):
            _tell_unread(file, notes)
        elif file.suffix.lower() == ".txt" and kind_by_name(file.stem) in PROFILE_KINDS:
            notes.add(file, Sentence("not read: its name ends in .txt; rename it to {}", (file.stem,)))
    info = small_json(by_kind.get(FileKind.INFO, ()), notes)
    metadata = small_json(by_kind.get(FileKind.METADATA, ()), notes)
    several = by_kind.get(FileKind.INFO, ())
    if len(several) > 1:
        listed = ", ".join(path.name for path in several[:MOST_NAMED])
        notes.add(
            folder,
            Sentence("several runs tell of themselves here ({}): its files are shown as of the first", (listed,)),
        )
    return RankSource(
        _rank(folder, by_kind, info, notes), folder, _producer(folder, by_kind, info), by_kind, info, metadata
    )


def _tell_unread(file: Path, notes: Notebook) -> None:
    if MEMSCOPE_DATABASE.fullmatch(file.name):
        notes.tell(file, Sentence("not read: {}", (NOT_MEMSCOPE_CSV,)))
    elif file.suffix.lower() in (".xlsx", ".xls", ".ods"):
        notes.add(file, "not read: a spreadsheet's own file; save its sheet as CSV")
    else:
        notes.tell(file, "not read: unknown name")


def _rank(folder: Path, files: Mapping[FileKind, Sequence[Path]], info: Mapping[str, object], notes: Notebook) -> int:
    """The rank, -1 where nothing tells it. The device number says nothing: rank 2 may run on device 4."""
    told = str(info.get("rank_id", ""))
    if told.isascii() and told.isdigit() and len(told) < 8:
        return int(told)
    for file in (*files.get(FileKind.INFO, ()), *files.get(FileKind.DATABASE, ())):
        if not file.name.startswith("msprof") and (match := NUMBERED_FILE.search(file.name)):
            return int(match.group(1))
    for device in files.get(FileKind.DEVICE_INFO, ()):
        told = str(small_json([device], notes).get("rank_id", ""))
        if told.isascii() and told.isdigit() and len(told) < 8:
            return int(told)
    # A framework's profiler notes the rank beside the data that it hands to msprof.
    if MSPROF_FOLDER.fullmatch(folder.name):
        beside = [file for file in _files_beside(folder) if kind_by_name(file.name) is FileKind.INFO]
        numbers = {match.group(1) for file in beside if (match := NUMBERED_FILE.search(file.name))}
        if len(numbers) == 1:
            return int(numbers.pop())
    for name in (folder.name, folder.parent.name):
        if match := RANK_IN_NAME.search(name):
            return int(match.group(1))
    return -1


def _files_beside(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.parent.iterdir() if entry.is_file()]
    except OSError:
        return []


def _producer(folder: Path, files: Mapping[FileKind, Sequence[Path]], info: Mapping[str, object]) -> str:
    databases = [file.name for file in files.get(FileKind.DATABASE, ())]
    if "_ascend_ms" in folder.name or "ms_profiler_info" in info or any("mindspore" in name for name in databases):
        return "MindSpore"
    if MSPROF_FOLDER.fullmatch(folder.name):
        return "msprof"
    for kind, producer in _PRODUCERS.items():
        if kind in files:
            return producer
    if any(is_kineto(file) for file in files.get(FileKind.TRACE, ())[:1]):
        return KINETO
    if "_ascend_pt" in folder.name or "torch_npu_version" in info or any("pytorch" in name for name in databases):
        return "torch_npu"
    return "torch_npu" if "config" in info else "CANN"


def is_kineto(path: Path) -> bool:
    """Whether a trace begins as Kineto writes one."""
    head = trace_head(path, 4096)
    return any(key in head for key in _KINETO_KEYS) and b"traceEvents" not in head[:16]


def trace_head(trace: Path, most: int) -> bytes:
    """The first bytes of a trace, unpacked, as far as they can be read."""
    head = b""
    with (
        contextlib.suppress(OSError, EOFError, zlib.error),
        gzip.open(trace) if trace.suffix == ".gz" else trace.open("rb") as file,
    ):
        while len(head) < most and (piece := file.read1(most - len(head))):
            head += piece
    return head
