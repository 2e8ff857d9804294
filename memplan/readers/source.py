"""What kind of file a user named: settled by its content, never by its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from memplan.core.errors import InputError
from memplan.readers import ge
from memplan.readers.mindspore import actor_set
from memplan.readers.mindspore import kernel_ir
from memplan.readers.mindspore import somas
from memplan.readers.wire import BrokenWireError, without_weights

MAX_BYTES = 2 * 1024**3 - 1
"""Protobuf's own limit on one message; no text dump comes near it."""

LARGE_BYTES = 32 * 1024**2
"""Files above this are read without their weights."""

MAX_TEXT_BYTES = 128 * 1024**2


@dataclass(frozen=True, slots=True)
class Source:
    """
    A file's content and what it is.

    `kind` is one of `mindir`, `onnx`, `kernel_ir`, `actor_set`, `somas`, `somas_cache`, `ge_log`, `static_op_mem`,
    or `text` for text of no kind that is known. Text
    kinds have `text`, JSON ones `document`, the others `data`.
    """

    kind: str
    data: bytes = b""
    text: str = ""
    document: object = None


def load(path: str | Path) -> Source:
    """Read the file `path`; raises `InputError` when it can't be read, is empty or too large."""
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError("this is a folder", path=path, remedy="name the file in it")
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                f"{size:,} bytes are more than a graph file can have",
                path=path,
                remedy="name the *_graph.mindir that MindSpore writes beside large weights",
            )
        data = _lean(file) if size > LARGE_BYTES else file.read_bytes()
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", path=path) from error
    if not data:
        raise InputError("the file is empty", path=path, remedy="export the graph again")
    return _text_source(data, path) or Source("onnx" if data[0] == _VARINT_FIELD_1 else "mindir", data=data)


_STRING_FIELD_1 = b"\x0a"
_VARINT_FIELD_1 = 0x08
"""First byte of ONNX: field 1 of its model is a number, that of MindIR a string."""


def _lean(file: Path) -> bytes:
    """A large MindIR file without its weights; other large files as they are, up to the limit for text."""
    with file.open("rb") as opened:
        head = opened.read(1)
    try:
        if head == _STRING_FIELD_1:
            return without_weights(file)
    except BrokenWireError as error:
        raise InputError(f"this is not a MindIR file, or it is cut off: {error}", path=file) from None
    if file.stat().st_size > MAX_TEXT_BYTES:
        raise InputError(
            f"{file.stat().st_size:,} bytes are more than can be read",
            path=file,
            remedy="keep the weights in files of their own",
        )
    return file.read_bytes()


def _text_source(data: bytes, path: str | Path) -> Source | None:
    """`data` as text of a known kind, or `None` when it is binary."""
    if b"\0" in data[:4096]:
        return None
    try:
        head = data[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(data), 4096) - 4:
            return None
        head = data[: error.start].decode("utf-8")
    if not head.isprintable() and any(ord(char) < 9 or 13 < ord(char) < 32 for char in head):
        return None
    if len(data) > MAX_TEXT_BYTES:
        raise InputError(f"{len(data):,} bytes of text are more than can be read", path=path)
    text = data.decode("utf-8", errors="replace")
    if kernel_ir.MARK in text:
        return Source("kernel_ir", text=text)
    if actor_set.MARK in text:
        return Source("actor_set", text=text)
    if somas.MARK in text:
        return Source("somas", text=text)
    if ge.MARK in text:
        return Source("ge_log", text=text)
    if all(column in text.split("\n", 1)[0] for column in ge.COLUMNS):
        return Source("static_op_mem", text=text)
    if text.lstrip().startswith("{"):
        try:
            return Source("somas_cache", document=json.loads(text))
        except (ValueError, RecursionError):
            return Source("text", text=text)
    return Source("text", text=text)
