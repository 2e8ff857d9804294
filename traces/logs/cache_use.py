"""
What of a KV cache was there and used: from the tables of msServiceProfiler, or from an engine's log or metrics.

An engine's log tells the size when it starts and how much is in use every few seconds; the profiler's tables have the
blocks at every change. Of several starts in one log the last one counts. Metrics are what an engine answers to
`GET /metrics`, in Prometheus' text form, once or as often as it was asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memplan.core.arrays import Floats
from memplan.core.errors import InputError, reason
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.core.units import GIB
from memplan.traces.notes import Notebook
from memplan.traces.tables.csv_table import read_table
from memplan.traces.tables.text_table import TextTable

_LONGEST_LINE = 1 << 16
_MOST_BYTES = 4 << 30
_USED = ("allocated_kvcache_blocks", "used_blocks")
_FREE = ("free_kvcache_blocks", "device_kvcache_left", "free_blocks")


@dataclass(frozen=True, slots=True)
class CacheUse:
    """
    A KV cache as it was, `None` for what `source` doesn't tell.

    `blocks` and `tokens` it has room for, `used_blocks` and `used_tokens` of them at most, `usage` the largest share in
    use.
    `sequences` ran at once at most, `waiting` were waiting; `concurrency` is how many sequences of `context` tokens the
    engine says fit. `preemptions` are sequences thrown out again. `nbytes` is the memory of the cache on one device;
    pages hold `page_tokens`, states are padded by `page_padding` (a share of what they are) to fill one, and up to
    `layer_padding` of the cache belongs to layers that are not there. `prompt_rate` are prompt tokens a second, the
    highest mean between two lines of a log.
    """

    source: str
    blocks: int | None = None
    tokens: int | None = None
    context: int | None = None
    concurrency: float | None = None
    used_blocks: int | None = None
    usage: float | None = None
    sequences: int | None = None
    waiting: int | None = None
    preemptions: int | None = None
    nbytes: int | None = None
    page_tokens: int | None = None
    page_padding: float | None = None
    layer_padding: float | None = None
    used_tokens: int | None = None
    prompt_rate: float | None = None

    @property
    def empty(self) -> bool:
        """Whether the source tells nothing."""
        return all(getattr(self, name) is None for name in self.__dataclass_fields__ if name != "source")


def cache_use(path: str | Path) -> CacheUse:
    """
    The use of the cache that the log `path`, or the tables in the folder `path`, tell.

    Raises `InputError` for what can't be read and for files that tell nothing of a KV cache.
    """
    path = Path(path)
    found = use_in_tables(path) if path.is_dir() or path.suffix == ".csv" else use_in_log(path)
    if found.empty:
        remedy = Sentence("give a log or metrics of the engine, or a folder with kvcache.csv of msServiceProfiler")
        raise InputError("tells nothing of a KV cache", path=path, remedy=remedy)
    return found


def use_in_tables(path: Path) -> CacheUse:
    """What the tables in folder `path`, or the table `path`, tell; maybe nothing."""
    files = [path] if path.is_file() else sorted(path.rglob("*.csv"))
    notes = Notebook(path)
    blocks = used = sequences = None
    usage = None
    for file in files:
        stem = file.name.split(".")[0]
        if stem.startswith("pd_split") or not ("kvcache" in stem or stem in ("batch", "request")):
            continue
        found = read_table(file, notes)
        if found is None:
            continue
        if stem == "batch" or stem == "request":
            sequences = _largest(sequences, _highest(found, ("batch_size",)))
            continue
        total = _highest(found, ("total_blocks",))
        free, allocated = _column(found, _FREE), _column(found, _USED)
        if total is None and free is not None and allocated is not None and len(free) == len(allocated):
            total = int(np.nanmax(free + allocated, initial=0)) or None
        if total is None and free is not None:
            total = int(np.nanmax(free, initial=0)) or None  # nothing is in use at some moment
        blocks = _largest(blocks, total)
        taken = int(np.nanmax(allocated, initial=0)) if allocated is not None else None
        if taken is None and free is not None and total is not None:
            taken = total - int(np.nanmin(free, initial=total))
        used = _largest(used, taken)
        rate = _column(found, ("kvcache_usage_rate",))
        if rate is not None:
            highest = float(np.nanmax(rate, initial=0.0))
            usage = max(usage or 0.0, highest / 100 if highest > 1 else highest)
    if blocks and used is not None:
        usage = used / blocks
    return CacheUse(str(path), blocks=blocks, used_blocks=used, usage=usage, sequences=sequences)


def _column(found: TextTable, headers: Sequence[str]) -> Floats | None:
    for header in headers:
        if found.has(header):
            values = found.floats(header)
            return values if not bool(np.isnan(values).all()) else None
    return None


def _highest(found: TextTable, headers: Sequence[str]) -> int | None:
    values = _column(found, headers)
    return None if values is None else int(np.nanmax(values, initial=0))


def _largest(first: int | None, second: int | None) -> int | None:
    known = [value for value in (first, second) if value is not None]
    return max(known, default=None)


def use_in_log(path: Path) -> CacheUse:
    """What the log `path` tells, maybe nothing; raises `InputError` for one that can't be read."""
    lines = table("memplan.traces.logs", "engine_log_lines.json")
    limits, used, summed = (_patterns(lines[part]) for part in ("limits", "used", "summed"))
    last: dict[str, float] = {}
    most: dict[str, float] = {}
    sums: dict[str, float] = {}
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError("is too large", path=path, remedy="logs up to 4 GiB are read")
        with path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(_LONGEST_LINE):
                for name, patterns in limits.items():
                    if (value := _value(patterns, line)) is not None:
                        last[name] = value
                for name, patterns in used.items():
                    if (value := _value(patterns, line)) is not None:
                        most[name] = max(most.get(name, 0.0), value)
                for name, patterns in summed.items():
                    if (value := _value(patterns, line)) is not None:
                        sums[name] = sums.get(name, 0.0) + value
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None

    def whole(found: Mapping[str, float], name: str) -> int | None:
        return int(found[name]) if name in found else None

    blocks, percent = whole(last, "blocks"), most.get("usage_percent")
    usage = most.get("usage_share") if percent is None else percent / 100
    return CacheUse(
        str(path),
        blocks=blocks,
        tokens=whole(last, "tokens"),
        context=whole(last, "context"),
        concurrency=last.get("concurrency"),
        used_blocks=None if blocks is None or usage is None else round(blocks * usage),
        usage=usage,
        sequences=whole(most, "running"),
        waiting=whole(most, "waiting"),
        preemptions=_largest(whole(sums, "preemptions"), whole(most, "preempted_in_all")),
        nbytes=round(last["memory_gib"] * GIB) if "memory_gib" in last else None,
        page_tokens=whole(last, "page_tokens"),
        page_padding=_share(last, "page_padding_percent"),
        layer_padding=_share(last, "layer_padding_percent"),
        used_tokens=whole(most, "used_tokens"),
        prompt_rate=most.get("prompt_rate"),
    )


def _share(found: Mapping[str, float], name: str) -> float | None:
    return found[name] / 100 if name in found else None


def _patterns(found: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, list[re.Pattern[str]]]:
    return {name: [re.compile(item["line"]) for item in items] for name, items in found.items()}


def _value(patterns: Sequence[re.Pattern[str]], line: str) -> float | None:
    for pattern in patterns:
        match = pattern.search(line)
        if match is not None:
            text = match.group(1).replace(",", "").rstrip(".")
            return float(text) if re.fullmatch(r"\d{1,18}(\.\d{1,18})?(e[+-]?\d{1,2})?", text) else None
    return None
