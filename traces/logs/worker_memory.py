"""The memory of a worker as its log tells it at the start: weights, activations, what else there is, and the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.units import GIB

_LONGEST = 1 << 16
_COLOURS = re.compile(r"(?:\x1b|\\u001b|\\x1b)\[[0-9;]*m")
"""What terminals take for colours, also as loggers of JSON write it."""
_MOST = 1 << 30


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """
    Bytes of one worker, `None` for what the log does not tell.

    `total` is the device as the framework sees it, `free` what of it is free at the start, `utilization` the share
    asked for; `weights`, `activations`, `non_torch` and `graphs` what each took, `cache` what was left, which may be
    below zero. The cache has `blocks` and `tokens`; `concurrency` sequences of `context` tokens fit at once. `needed`
    is what one sequence was said to need. Of several lines of a kind the last one counts, of workers of one start they
    are alike.
    """

    source: str
    total: int | None = None
    free: int | None = None
    utilization: float | None = None
    weights: int | None = None
    activations: int | None = None
    non_torch: int | None = None
    graphs: int | None = None
    cache: int | None = None
    blocks: int | None = None
    tokens: int | None = None
    context: int | None = None
    concurrency: float | None = None
    needed: int | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """Names of what the log tells."""
        names = (name for name in self.__dataclass_fields__ if name != "source")
        return tuple(name for name in names if getattr(self, name) is not None)


def read_worker_log(path: Path) -> WorkerMemory:
    """
    What the log `path` of a worker tells of its memory.

    Raises `InputError` for a file that can't be read, is too large, or tells nothing of it.
    """
    lines = table("memplan.traces.logs", "worker_log_lines.json")["lines"]
    patterns = {name: [re.compile(entry["line"]) for entry in entries] for name, entries in lines.items()}
    found: dict[str, tuple[int, float]] = {}
    try:
        if path.stat().st_size > _MOST:
            raise InputError("is too large", path=path, remedy="give the part of the log from the start of the engine")
        with path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(_LONGEST):
                plain = _COLOURS.sub("", line)
                for name, kinds in patterns.items():
                    _note(found, name, kinds, plain)
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", path=path) from error
    told = {name: value for name, (_, value) in found.items()}
    memory = WorkerMemory(str(path), **_values(told))
    if not memory.told:
        raise InputError(
            "tells nothing of a worker's memory", path=path, remedy="give the log from the start of the engine"
        )
    return memory


def _note(found: dict[str, tuple[int, float]], name: str, kinds: list[re.Pattern[str]], line: str) -> None:
    """Keep what `line` tells of `name`, unless something better is known: the patterns are in order of preference."""
    for rank, pattern in enumerate(kinds):
        match = pattern.search(line)
        if match is not None:
            if name not in found or rank <= found[name][0]:
                found[name] = rank, float(match[1].replace(",", ""))
            return


def _values(told: dict[str, float]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in told.items():
        if name.endswith("_gib"):
            values.setdefault(name.removesuffix("_gib"), round(value * GIB))
        elif name.endswith("_bytes"):
            values[name.removesuffix("_bytes")] = int(value)
        else:
            values[name] = value if name in ("utilization", "concurrency") else int(value)
    consumed = values.pop("consumed", None)
    if consumed is not None and values.get("weights") is not None:
        # What a release tells of both together; it may have measured weights before they were rearranged.
        values.setdefault("non_torch", max(consumed - values["weights"], 0))
    return values
