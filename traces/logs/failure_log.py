"""Allocations that failed, as the log of a run tells them: lines of torch_npu, PyTorch, MindSpore and GE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from memplan.core.errors import reason
from memplan.core.progress import Progress, silent
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.traces.notes import Notebook
from memplan.traces.profile import FailedAllocation

_LONGEST_LINE = 1 << 16
_MOST_BYTES = 4 << 30
_MOST_FAILURES = 1000
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([\d.,]+) ?([KMGT]?)i?(?:B|bytes)?", re.IGNORECASE)


def failures_in_log(path: Path, notes: Notebook, progress: Progress = silent) -> list[FailedAllocation]:
    """
    The failed allocations that the lines of `path` tell of, in their order; a line that repeats the last one is left
    out, as tracebacks do.

    A log that can't be read, or is larger than 4 GiB, is noted and tells of none.
    """
    marks = tuple(mark.encode() for mark in table("memplan.traces.logs", "oom_log_lines.json")["marks"])
    found: list[FailedAllocation] = []
    last = ""
    try:
        if path.stat().st_size > _MOST_BYTES:
            notes.add(path, "not read: larger than 4 GiB")
            return []
        progress(0, 1, path.name)
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(_LONGEST_LINE):
                number += 1
                if not any(mark in raw for mark in marks):
                    continue
                told = _told(raw.decode("utf-8", "replace"))
                if told is None or told[0] == last:
                    continue
                last = told[0]
                found.append(_failure(told[1], f"{path.name}, line {number}"))
                if len(found) == _MOST_FAILURES:
                    notes.add(
                        path,
                        Sentence(
                            "more than {} failed [allocation|allocations]: the rest was not read", (_MOST_FAILURES,)
                        ),
                    )
                    break
    except OSError as error:
        notes.add(path, Sentence("not read: {}", (reason(error),)))
    return found


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text) for text in table("memplan.traces.logs", "oom_log_lines.json")["patterns"])


def _told(line: str) -> tuple[str, Mapping[str, str | None]] | None:
    """The words of a line that tells of a failure, and its figures; of several patterns the one that tells most."""
    matches = [match for pattern in _patterns() if (match := pattern.search(line)) is not None]
    if not matches:
        return None
    best = max(matches, key=lambda match: sum(value is not None for value in match.groups()))
    return best.group(0), best.groupdict()


def _failure(told: Mapping[str, str | None], source: str) -> FailedAllocation:
    allocated, unused = _bytes(told.get("allocated")), _bytes(told.get("unallocated"))
    reserved = _bytes(told.get("reserved"))
    if reserved is None and allocated is not None and unused is not None:
        reserved = allocated + unused
    device = told.get("device")
    return FailedAllocation(
        time_ns=-1,
        device=f"NPU:{device}" if device is not None else "",
        size=_bytes(told.get("size")),
        free=_bytes(told.get("free")),
        allocated=allocated,
        reserved=reserved,
        capacity=_bytes(told.get("capacity")),
        name=(told.get("name") or "").strip(),
        source=source,
    )


def _bytes(text: str | None) -> int | None:
    match = _SIZE.fullmatch(text.strip()) if text else None
    if match is None:
        return None
    digits = match.group(1).replace(",", "").rstrip(".")
    if not re.fullmatch(r"\d{1,18}(\.\d{1,9})?", digits):
        return None
    return round(float(digits) * _FACTORS[match.group(2).upper()])
