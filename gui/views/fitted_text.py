"""Texts cut to the room there is for them, quickly enough for hundreds of them in every frame."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from PySide6.QtGui import QFontMetricsF

_MOST_KEPT = 20_000
_LONGEST = 400  # letters that are measured: no screen has room for more


class _Widths(dict[str, float]):
    """The width of each letter in a font, measured when it is first asked for."""

    def __init__(self, metrics: QFontMetricsF) -> None:
        super().__init__()
        self._metrics = metrics

    def __missing__(self, letter: str) -> float:
        width = self[letter] = self._metrics.horizontalAdvance(letter)
        return width


class FittedText:
    """
    Cuts texts by the widths of their letters in one font, which are measured once.

    Sums of letters' widths are what Qt draws or a little more, so that a text never reaches beyond its room.
    """

    def __init__(self, metrics: QFontMetricsF) -> None:
        self._width = _Widths(metrics).__getitem__
        self._ends: dict[str, tuple[float, ...]] = {}
        self._dots = self._width("…")

    def text(self, text: str, room: float, *, tail: bool = False) -> str:
        """
        As much of `text` as fits into `room` pixels, its end with `tail`; cut texts carry an ellipsis.

        Empty where not even one letter and the ellipsis fit.
        """
        ends = self._ends.get(text)
        if ends is None:
            if len(self._ends) >= _MOST_KEPT:
                self._ends.clear()
            ends = self._ends[text] = tuple(accumulate(map(self._width, text[:_LONGEST])))
        if len(text) <= _LONGEST and (not ends or ends[-1] <= room):
            return text
        if tail:
            reach, width = len(text), room - self._dots
            while reach and width >= (letter := self._width(text[reach - 1])):
                reach, width = reach - 1, width - letter
            return "…" + text[reach:] if reach < len(text) else ""
        count = bisect_right(ends, room - self._dots)
        return text[:count] + "…" if count else ""
