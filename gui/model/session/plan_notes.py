"""What a plan says of itself, which its file holds as English text, as sentences that any language can say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from memplan.core.resources import table
from memplan.core.sentence import Sentence, Text, joined

_DEEPEST = 4
"""How far sentences stand within sentences."""


def note_in_words(text: str) -> Text:
    """`text`, a note of a plan or what makes it impossible, as the sentence it was made from; itself where none is."""
    return _recognised(text, _DEEPEST)


def _recognised(text: str, deeper: int) -> Text:
    for template, parts in _templates() if deeper else ():
        values = _between(text, parts)
        if values is not None:
            return Sentence(template, tuple(_recognised(value, deeper - 1) for value in values))
    first, separator, more = text.partition("; ")
    if not separator or not deeper:
        return text
    return joined((_recognised(first, deeper - 1), _recognised(more, deeper - 1)), "{}; {}")


@cache
def _templates() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each template and what is between its values; those that say most in words of their own come first."""
    found = [(template, tuple(template.split("{}"))) for template in table("memplan.gui", "data/zh_notes.json")]
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
