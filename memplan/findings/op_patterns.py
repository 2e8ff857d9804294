"""Sequences of ops that a pattern describes: which ops in a row are what one fused op would do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from memplan.core.arrays import Int64s

_REPEAT = re.compile(r"(.*?)(\?|\{\d,\d\})?")
_FIRST = 0xE000
"""Of the characters that stand for ops: private use, so that none means anything to `re`."""


def pattern_matches(ops: Int64s, names: Sequence[str], pattern: Sequence[str]) -> list[tuple[int, int]]:
    """
    Half-open spans of `ops` (indices into `names`) that match `pattern`, without overlap, in order.

    A piece of a pattern is alternatives between bars, `mul|muls`, and may end in `?` or `{0,2}`. Nothing where a piece
    that must be there is no op of `names`.
    """
    known = {name: chr(_FIRST + place) for place, name in enumerate(names)}
    expression = []
    for piece, repeat in _pieces(tuple(pattern)):
        found = [known[name] for name in piece if name in known]
        if found:
            expression.append(f"[{''.join(found)}]{repeat}")
        elif not repeat:
            return []
    text = "".join(map(chr, (ops + _FIRST).tolist()))
    return [match.span() for match in re.finditer("".join(expression), text)]


@cache
def _pieces(pattern: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], str], ...]:
    found = []
    for text in pattern:
        match = _REPEAT.fullmatch(text)
        piece, repeat = match.groups() if match else (text, None)
        found.append((tuple(piece.split("|")), repeat or ""))
    return tuple(found)


def first_matches(
    ops: Int64s, names: Sequence[str], forms: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, list[tuple[int, int]]]:
    """Spans by name of form; a span that an earlier form takes is no longer there for later ones."""
    found: dict[str, list[tuple[int, int]]] = {}
    taken = bytearray(len(ops))
    for name, patterns in forms.items():
        for pattern in patterns:
            for start, end in pattern_matches(ops, names, pattern):
                if not any(taken[start:end]):
                    taken[start:end] = b"\x01" * (end - start)
                    found.setdefault(name, []).append((start, end))
    return found
