"""Several traces of torch.profiler in one folder: one a process, or several recordings of one process."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from memplan.traces.tables.csv_table import open_source

_HANDLED = re.compile(r"(?P<worker>.+?)(?:\.(?P<time>\d{6,20}))?\.pt\.trace\.json(?:\.gz)?", re.IGNORECASE)
"""`host_pid.time.pt.trace.json`, as torch.profiler's handler for TensorBoard names its files."""
_RANK = re.compile(rb'"distributedInfo"\s*:\s*\{[^{}]*?"rank"\s*:\s*(\d{1,7})\b')
_HEAD = 1 << 16


def traces_by_worker(paths: Iterable[Path]) -> Mapping[str, list[Path]]:
    """Traces by the process that wrote them, each list in order of time; empty where a name tells no process."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in paths:
        match = _HANDLED.fullmatch(path.name)
        if match is None:
            return {}
        found.setdefault(match.group("worker"), []).append((int(match.group("time") or 0), path))
    return {worker: [path for _, path in sorted(traces)] for worker, traces in found.items()}


def rank_in_trace(path: Path) -> int:
    """The rank that the beginning of a trace tells, -1 where it tells none."""
    try:
        with open_source(path) as file:
            match = _RANK.search(file.read(_HEAD))
    except (OSError, EOFError, zlib.error):
        return -1
    return int(match.group(1)) if match else -1
