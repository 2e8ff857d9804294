"""The chips of a host as `npu-smi info` lists them, where its output lies beside a profile or in a run's log."""

from __future__ import annotations

import re
from pathlib import Path

from memplan.core.errors import reason
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.traces.notes import Notebook

_LONGEST_LINE = 1 << 12
_MOST_BYTES = 64 << 20
"""Of a longer log only the beginning is searched: scripts print the listing first."""


def listed_chip(path: Path, notes: Notebook) -> str | None:
    """
    The name of the chip (`910B3`) that the file at `path` lists; `None` where it lists none, or several.

    A listing that says no more than the family (`Ascend910` on A3 servers) names no chip.
    """
    patterns = [re.compile(item["line"]) for item in table("memplan.traces.logs", "npu_listing_lines.json")["lines"]]
    names: dict[str, None] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            left = _MOST_BYTES
            while left > 0 and (line := file.readline(_LONGEST_LINE)):
                left -= len(line)
                names.update({match.group(1): None for pattern in patterns if (match := pattern.search(line))})
    except OSError as error:
        notes.add(path, Sentence("not read: {}", (reason(error),)))
    if len(names) > 1:
        notes.tell(
            path,
            Sentence("lists chips of several kinds ({}): none of them is taken for the run's", (", ".join(names),)),
        )
    return next(iter(names)) if len(names) == 1 else None
