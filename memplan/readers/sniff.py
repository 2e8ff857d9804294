"""What a file holds, told by its content; a name counts only where the content of a profile's file says nothing."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence
from memplan.readers import ge
from memplan.readers.mindspore import actor_set, kernel_ir, somas
from memplan.traces.file_kinds import FileKind, is_archive_name, kind_by_name

MAX_TEXT_BYTES = 128 * 1024**2
"""No text dump comes near this; what lies beyond is not looked at."""

_HEAD = 1 << 16


class ContentKind(str, Enum):
    """What a file or folder is; the value is how it is called in messages."""

    MINDIR = "a MindIR graph"
    ONNX = "an ONNX graph"
    TORCH_EXPORT = "a program of torch.export"
    KERNEL_IR = "a text IR graph"
    ACTOR_SET = "an actor set without addresses"
    PLACED_ACTOR_SET = "an actor set with addresses"
    SOMAS = "a SOMAS dump"
    SOMAS_CACHE = "a SOMAS cache"
    GE_LOG = "a GE log"
    STATIC_OP_MEM = "a static_op_mem table"
    PLAN = "a plan of memplan"
    CALIBRATION = "a calibration"
    MODEL_CONFIG = "a model's config.json"
    PROFILE_FILE = "a file of a profile"
    PROFILE_ARCHIVE = "an archive of a profile"
    FOLDER = "a folder"
    TEXT = "text of no known kind"

    @property
    def is_graph(self) -> bool:
        """Whether it can be planned."""
        return self in _GRAPHS

    @property
    def is_plan(self) -> bool:
        """Whether it holds addresses or lifetimes that somebody decided, ours included."""
        return self in _PLANS


_DUMPS_OF_BOTH = frozenset({ContentKind.PLACED_ACTOR_SET, ContentKind.SOMAS})
_GRAPHS = _DUMPS_OF_BOTH | {
    ContentKind.MINDIR,
    ContentKind.ONNX,
    ContentKind.TORCH_EXPORT,
    ContentKind.KERNEL_IR,
    ContentKind.ACTOR_SET,
}
_PLANS = _DUMPS_OF_BOTH | {
    ContentKind.PLAN,
    ContentKind.SOMAS_CACHE,
    ContentKind.GE_LOG,
    ContentKind.STATIC_OP_MEM,
}


def sniff(path: str | Path) -> ContentKind:
    """
    What the file `path` holds, whatever it is called. Raises `InputError` when it can't be read or is empty.

    It is not read whole: bytes of it are looked at, of text at most `MAX_TEXT_BYTES`. That it is whole and sound is
    for its reader to say.
    """
    file = Path(path)
    try:
        if file.is_dir():
            return ContentKind.FOLDER
        if not file.stat().st_size:
            raise InputError("the file is empty", path=path, remedy="write it again")
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _kind(data, file.name)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else Sentence("it is no plain file")
        raise InputError("can't be read: {}", why, path=path) from error


_SQLITE = b"SQLite format 3\0"
_ZIP = b"PK\x03\x04"
_EXPORTED = b"/models/"
"""Where archives of torch.export keep their program; names of members are not compressed."""
_GZIP = b"\x1f\x8b"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_VARINT_FIELD_1 = b"\x08"
"""First byte of ONNX: field 1 of its model is a number, that of MindIR a string."""
_JSON = re.compile(rb"\s*(?:\{|\[\s*[{\]])")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _kind(data: mmap.mmap, name: str) -> ContentKind:
    head = data[:_HEAD].removeprefix(_BYTE_ORDER_MARK)
    if head.startswith(_ZIP) and data.find(_EXPORTED) >= 0:
        return ContentKind.TORCH_EXPORT
    if is_archive_name(name):
        return ContentKind.PROFILE_ARCHIVE
    if head.startswith((_SQLITE, _GZIP)) or _PICKLE.match(head):
        return ContentKind.PROFILE_FILE
    if not _is_text(head[:4096]):
        return ContentKind.ONNX if head.startswith(_VARINT_FIELD_1) else ContentKind.MINDIR
    found = _json_kind(data, head) if _JSON.match(head) else _table_kind(head) or _dump_kind(data)
    return found or (ContentKind.PROFILE_FILE if kind_by_name(name) in _PROFILES else ContentKind.TEXT)


_PROFILES = frozenset(FileKind) - {FileKind.TABLE, FileKind.IGNORED}


def _is_text(head: bytes) -> bool:
    """Whether `head` is UTF-8 (its last character may be cut) without control characters."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return not any(ord(char) < 9 or (13 < ord(char) < 32 and char != "\x1b") for char in text)


_TRACE_KEYS = re.compile(rb'"(?:traceEvents|ph)"\s*:')
_JSON_KINDS: tuple[tuple[ContentKind, re.Pattern[bytes]], ...] = (
    (ContentKind.PLAN, re.compile(rb'"format"\s*:\s*"memplan-plan"')),
    (ContentKind.CALIBRATION, re.compile(rb'"format"\s*:\s*"memplan calibration"')),
    (ContentKind.SOMAS_CACHE, re.compile(rb'"(?:reused_memory_size|lifelong_value)"\s*:')),
)
_CONFIG_KEYS = re.compile(rb'"(?:model_type|architectures|hidden_size)"\s*:')
_PROFILE_KEYS = re.compile(
    rb'"(?:p2p|collective|common_config|start_info|end_info|rank_id|distributed_args|parallel_group_info'
    rb'|ENV_VARIABLES|ms_profiler_info|torch_npu_version)"\s*:'
)


def _json_kind(data: mmap.mmap, head: bytes) -> ContentKind | None:
    """Told by keys: writers of plans and caches put theirs anywhere, the others' stand at the beginning."""
    for kind, pattern in _JSON_KINDS:
        if pattern.search(head):
            return kind
    if _TRACE_KEYS.search(head):
        return ContentKind.PROFILE_FILE
    for pattern, kind in ((_PROFILE_KEYS, ContentKind.PROFILE_FILE), (_CONFIG_KEYS, ContentKind.MODEL_CONFIG)):
        if pattern.search(head):
            return kind
    return next((kind for kind, pattern in _JSON_KINDS if pattern.search(data, 0, MAX_TEXT_BYTES)), None)


_UNITS = re.compile(r"\((?:us|ns|ms|s|KB|MB|GB|B|%|GB/s|MB/s)\)")
_ID_COLUMNS = frozenset({"Device_id", "Device ID", "Device Id", "Stream Id", "Stream ID", "Task Id", "Task ID"})


def _table_kind(head: bytes) -> ContentKind | None:
    """A table of CANN's, told by its header: columns carry their units in brackets or are ids of the device."""
    header = head.split(b"\n", 1)[0].decode("utf-8", errors="replace").strip()
    columns = {column.strip().strip('"') for column in header.split(",")}
    if columns.issuperset(ge.COLUMNS):
        return ContentKind.STATIC_OP_MEM
    if len(columns) > 1 and (any(map(_UNITS.search, columns)) or columns & _ID_COLUMNS):
        return ContentKind.PROFILE_FILE
    return None


_PLACED = re.compile(rb"somas_offset:\d+\tsomas_aligned_size:[1-9]")


def _dump_kind(data: mmap.mmap) -> ContentKind | None:
    marks: Iterable[tuple[ContentKind, str]] = (
        (ContentKind.KERNEL_IR, kernel_ir.KERNEL_IR_MARK),
        (ContentKind.ACTOR_SET, actor_set.ACTOR_SET_MARK),
        (ContentKind.SOMAS, somas.SOMAS_MARK),
        (ContentKind.GE_LOG, ge.GE_LOG_MARK),
    )
    kind = next((kind for kind, mark in marks if data.find(mark.encode(), 0, MAX_TEXT_BYTES) >= 0), None)
    if kind is ContentKind.ACTOR_SET and _PLACED.search(data, 0, MAX_TEXT_BYTES):
        return ContentKind.PLACED_ACTOR_SET
    return kind
