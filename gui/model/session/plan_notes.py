"""English text with figures and names in it, of a plan's file or a report, as sentences that any language can say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from memplan.core.resources import table
from memplan.core.sentence import Sentence, Text, joined

_SENTENCES = re.compile(r"(?<=\.) (?=[A-Z])")
_DEEPEST = 6
"""How far sentences stand within sentences."""


def note_in_words(text: str) -> Text:
    """`text`, a note of a plan or words of a report, as the sentence it was made from; itself where none is."""
    sentences = _SENTENCES.split(text) if text.endswith(".") else [text]
    return joined([_recognised(sentence, _DEEPEST) for sentence in sentences], "{} {}")


def _recognised(text: str, deeper: int) -> Text:
    """`text` whole, if a template has its semicolons; else by what is between them, if all of that is known."""
    if not deeper:
        return text
    first, separator, more = text.partition("; ")
    found = _matched(text, deeper, whole=bool(separator))
    if found is not None or not separator:
        return found or text
    parts = _recognised(first, deeper - 1), _recognised(more, deeper - 1)
    apart = joined(parts, "{}; {}")
    if not any(isinstance(part, str) for part in parts):
        return apart
    return _matched(text, deeper, whole=False) or (text if all(isinstance(part, str) for part in parts) else apart)


def _matched(text: str, deeper: int, *, whole: bool) -> Sentence | None:
    """The sentence that `text` was made from, of a template with a semicolon where `whole`."""
    for template, parts in _templates():
        if whole and "; " not in template:
            continue
        values = _between(text, parts)
        if values is not None:
            return Sentence(template, tuple(_recognised(value, deeper - 1) for value in values))
    return None


@cache
def _templates() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each template and what is between its values; those that say most in words of their own come first."""
    known = (*table("memplan.gui", "data/zh_notes.json"), *table("memplan.gui", "data/zh_reports.json"))
    found = [(template, tuple(template.split("{}"))) for template in known]
    return tuple(sorted(found, key=lambda row: -sum(map(len, row[1]))))


def _between(text: str, parts: Sequence[str]) -> list[str] | None:
    """What stands in `text` between `parts`, of which each is behind the one before; `None` where one lacks."""
    first, *middle = parts
    if not middle:
        return [] if text == first else None
    *middle, last = middle
    stop = len(text) - len(last)
    if not text.startswith(first) or not text.endswith(last) or stop < len(first):
        return None
    values, at = [], len(first)
    for part in middle:
        found = text.find(part, at, stop) if part else at
        if found < 0:
            return None
        values.append(text[at:found])
        at = found + len(part)
    return [*values, text[at:stop]]
