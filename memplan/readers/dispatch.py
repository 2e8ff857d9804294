"""Which reader reads a file: settled by what is in it, never by its name alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from memplan.errors import InputError
from memplan.graph.model import Graph
from memplan.progress import Progress, silent
from memplan.readers.mindir import read_mindir
from memplan.readers.mindspore_ops import Target

MAX_BYTES = 2 * 1024**3 - 1
"""Protobuf's own limit on one message."""


def read_graph(
    path: str | Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: Target = Target.ASCEND,
    progress: Progress = silent,
) -> Graph:
    """
    The compiled graph in the file `path`.

    `shapes` binds open dimensions: input name -> full shape. `target` says whose kernels will run the graph. Raises
    `InputError` for what is no graph or can't be planned, `CancelledError` when `progress` asks to stop.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if file.is_dir():
            raise InputError("this is a folder", path=path, remedy="name the graph file in it")
        if size > MAX_BYTES:
            raise InputError(
                f"{size:,} bytes are more than a graph file can have",
                path=path,
                remedy="name the *_graph.mindir that MindSpore writes beside large weights",
            )
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", path=path) from error
    if not data:
        raise InputError("the file is empty", path=path, remedy="export the graph again")
    return read_mindir(data, path, shapes=shapes, target=target, progress=progress)
