"""Small files of JSON beside a profile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from memplan.core.sentence import Sentence
from memplan.traces.notes import Notebook

_MOST_JSON_BYTES = 64 * 1024 * 1024


def small_json(paths: Sequence[Path], notes: Notebook) -> Mapping[str, object]:
    """The object in the first of `paths`; empty, with a note, where it is not readable."""
    for path in paths[:1]:
        try:
            if path.stat().st_size > _MOST_JSON_BYTES:
                notes.add(path, "skipped: far larger than such a file is")
                return {}
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            notes.add(path, Sentence("skipped: not readable as JSON ({})", (type(error).__name__,)))
            return {}
        if isinstance(value, dict):
            return value
        notes.add(path, "skipped: not a JSON object")
    return {}
