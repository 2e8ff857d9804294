"""What an engine keeps on its device while it sleeps, as its log tells: between rollout and training, for instance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memplan.core.errors import reason
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.core.units import GIB
from memplan.traces.notes import Notebook

_LONGEST_LINE = 1 << 16
_MOST_BYTES = 4 << 30
_MOST_SLEEPS = 100_000


@dataclass(frozen=True, slots=True)
class SleepUse:
    """
    The sleeps of one worker in their order, bytes: what each freed, and what of the device was in use after it.

    `weights` and `cache` are what the log says of the model's weights and the KV cache, `None` where it doesn't.
    """

    source: str
    worker: str
    freed: tuple[int, ...]
    kept: tuple[int, ...]
    weights: int | None = None
    cache: int | None = None


def sleeps_in_log(path: Path, notes: Notebook) -> list[SleepUse]:
    """
    The sleeps that the log `path` tells of, by worker; lines that name no process are one worker's.

    A log that can't be read, or is larger than 4 GiB, is noted and tells of none.
    """
    facts = table("memplan.traces.logs", "sleep_log_lines.json")
    slept, worker = re.compile(facts["slept"]["line"]), re.compile(facts["worker"]["line"])
    lines = table("memplan.traces.logs", "worker_log_lines.json")["lines"]
    sizes = [(name, re.compile(entry["line"])) for name in ("weights_gib", "cache_gib") for entry in lines[name]]
    found: dict[str, list[tuple[int, int]]] = {}
    told: dict[str, int] = {}
    try:
        if path.stat().st_size > _MOST_BYTES:
            notes.add(path, "not read: larger than 4 GiB")
            return []
        with path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(_LONGEST_LINE):
                if (match := slept.search(line)) is not None:
                    name = worker.search(line)
                    mine = found.setdefault("" if name is None else name[1] or name[2], [])
                    if len(mine) < _MOST_SLEEPS:
                        mine.append((_bytes(match[1]), _bytes(match[2])))
                    continue
                for what, pattern in sizes:
                    if (match := pattern.search(line)) is not None:
                        told[what] = _bytes(match[1])
    except OSError as error:
        notes.add(path, Sentence("not read: {}", (reason(error),)))
    return [_use(path.name, name, mine, told) for name, mine in found.items()]


def _use(source: str, worker: str, sleeps: list[tuple[int, int]], told: Mapping[str, int]) -> SleepUse:
    freed, kept = zip(*sleeps, strict=True)
    return SleepUse(source, worker, freed, kept, told.get("weights_gib"), told.get("cache_gib"))


def _bytes(gibibytes: str) -> int:
    """Figures that the patterns of a worker's log take for numbers may end with a full stop."""
    digits = gibibytes.rstrip(".")
    return round(float(digits) * GIB) if re.fullmatch(r"\d{1,6}(\.\d{1,9})?", digits) else 0
