"""Links between ranks: what `communication_matrix.json` says was sent, over what, how fast. Its MB are 10⁶ bytes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from memplan.core.sentence import Sentence
from memplan.traces.decimals import number, scaled
from memplan.traces.notes import Notebook
from memplan.traces.profile import LinkTraffic

_MB = 10**6
_PAIR = re.compile(r"(\d{1,7})-(\d{1,7})")
STEP_NAME = re.compile(r"(?:step)?(\d{1,9})")
MOST_MATRIX_BYTES = 256 * 1024 * 1024


def communication_documents(paths: Sequence[Path], notes: Notebook) -> Iterator[tuple[Path, object]]:
    """Each of `paths` with the JSON in it, numbers with a point as text; those that can't be read are noted."""
    for path in paths:
        try:
            if path.stat().st_size > MOST_MATRIX_BYTES:
                notes.add(path, "skipped: far larger than such a file is")
                continue
            text = path.read_bytes()
            value = json.loads(text, parse_float=str, strict=False)
            if b"\0" in text:
                notes.add(path, "holds NUL bytes: what they replaced is missing")
        except (OSError, ValueError, RecursionError) as error:
            notes.add(path, Sentence("skipped: not readable as JSON ({})", (type(error).__name__,)))
            continue
        if not isinstance(value, dict):
            notes.add(path, "skipped: no table of communications")
            continue
        yield path, value


def read_links(paths: Sequence[Path], notes: Notebook) -> list[LinkTraffic]:
    """
    The uses of links in `communication_matrix.json` or `cluster_communication_matrix.json` files.

    The first nests step, kind, op; the second kind, step, op; both then hold pairs of ranks.
    """
    found: list[LinkTraffic] = []
    for path, value in communication_documents(paths, notes):
        found.extend(_uses(value, path, notes))
    return found


def _uses(value: object, path: Path, notes: Notebook) -> Iterator[LinkTraffic]:
    for outer, inner_of in _items(value):
        for inner, ops in _items(inner_of):
            step = step_told(outer, inner)
            for op, pairs in _items(ops):
                if not isinstance(pairs, dict):
                    notes.add(path, Sentence("{}: holds no pairs of ranks; skipped", (op[:80],)))
                for pair, told in _items(pairs) if op != "Total Op Info" else ():
                    ends = _PAIR.fullmatch(pair)
                    if ends is None or not isinstance(told, dict):
                        notes.add(path, Sentence("{}: an entry that is no pair of ranks was skipped", (op,)))
                        continue
                    if nested := [name for name, one in told.items() if isinstance(one, dict)]:
                        notes.add(
                            path,
                            Sentence("{} {}: holds {!r}, which is not read there", (op[:80], pair, nested[0][:40])),
                        )
                    use = link_traffic(step, op, int(ends[1]), int(ends[2]), told)
                    if use is None:
                        notes.add(path, Sentence("{} {}: no usable size and time; skipped", (op, pair)))
                    else:
                        yield use


def step_told(*levels: str) -> int | None:
    """The step that one of the names of nested levels is; the others are kinds or groups of ranks."""
    found = [match for name in levels if (match := STEP_NAME.fullmatch(name))]
    return int(found[0].group(1)) if found else None


def link_traffic(step: int | None, op: str, source: int, target: int, told: Mapping[str, object]) -> LinkTraffic | None:
    """One use of a link from its size in MB and time in ms; `None` where these are no numbers."""
    size = scaled(str(told.get("Transit Size(MB)", "")), _MB)
    time = scaled(str(told.get("Transit Time(ms)", "")), 10**6)
    if size is None or time is None:
        return None
    rate = number(str(told.get("Bandwidth(GB/s)", "")))
    transport = str(told.get("Transport Type", ""))
    single = told.get("Op Name")
    return LinkTraffic(
        step, op, source, target, transport, size, time, None if math.isnan(rate) else rate * 1e9, str(single or "")
    )


def _items(value: object) -> Iterator[tuple[str, object]]:
    return iter(value.items()) if isinstance(value, dict) else iter(())
