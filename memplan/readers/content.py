"""The content of a graph or plan file, read as its kind wants it: text, JSON, or bytes without weights."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence
from memplan.readers.sniff import MAX_TEXT_BYTES, ContentKind, sniff
from memplan.readers.wire import BrokenWireError, without_weights

_logger = logging.getLogger(__name__)

MAX_BYTES = 2 * 1024**3 - 1
"""Protobuf's own limit on one message; no text dump comes near it."""

LARGE_BYTES = 32 * 1024**2
"""Files above this are read without their weights."""

_BINARY = (ContentKind.MINDIR, ContentKind.ONNX)
_READ_ELSEWHERE = (
    ContentKind.TORCH_EXPORT,
    ContentKind.PLAN,
    ContentKind.CALIBRATION,
    ContentKind.MODEL_CONFIG,
    ContentKind.PROFILE_FILE,
    ContentKind.PROFILE_ARCHIVE,
    ContentKind.TEXT,
)


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's content and what it is: text kinds have `text`, JSON ones `document`, binary graphs `data`."""

    kind: ContentKind
    data: bytes = b""
    text: str = ""
    document: object = None


def read_content(path: str | Path) -> FileContent:
    """
    Read the file `path`; of a kind that is no graph and no foreign plan, the kind alone is told.

    Raises `InputError` when it can't be read, is empty or too large.
    """
    file = Path(path)
    kind = sniff(file)
    _logger.info("reading %s: %s", file, kind.value)
    if kind is ContentKind.FOLDER:
        raise InputError("this is a folder", path=path, remedy="name the file in it")
    if kind in _READ_ELSEWHERE:
        return FileContent(kind)
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                "{:,} bytes are more than a graph file can have",
                size,
                path=path,
                remedy="name the *_graph.mindir that MindSpore writes beside large weights",
            )
        if kind in _BINARY:
            return FileContent(kind, data=_lean(file, kind) if size > LARGE_BYTES else file.read_bytes())
        if size > MAX_TEXT_BYTES:
            raise InputError("{:,} bytes of text are more than can be read", size, path=path)
        text = file.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from error
    if kind is not ContentKind.SOMAS_CACHE:
        return FileContent(kind, text=text)
    try:
        return FileContent(kind, document=json.loads(text))
    except (ValueError, RecursionError):
        raise InputError("this is not JSON, or it is cut off", path=path, remedy="compile again") from None


def _lean(file: Path, kind: ContentKind) -> bytes:
    """A large MindIR file without its weights; other large files as they are, up to the limit for text."""
    try:
        if kind is ContentKind.MINDIR:
            return without_weights(file)
    except BrokenWireError as error:
        raise InputError("this is not a MindIR file, or it is cut off: {}", Sentence(str(error)), path=file) from None
    if file.stat().st_size > MAX_TEXT_BYTES:
        raise InputError(
            "{:,} bytes are more than can be read",
            file.stat().st_size,
            path=file,
            remedy="keep the weights in files of their own",
        )
    return file.read_bytes()
