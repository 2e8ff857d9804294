"""A grid of figures by row and column, as it is coloured and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from memplan.core.sentence import Text

_LEAST_SPREAD = 0.1
"""Figures that lie closer together than this share of the largest don't use the whole range of colours."""


@dataclass(frozen=True, slots=True)
class HeatGrid:
    """
    Figures by (row, column), with a text for each; what is not known is left out.

    `warned` are cells out of bounds, `notes` what stands beside a row, `groups` a line above the first row of each. The
    colours go from `low` to `high`; with `fewer_is_worse` low figures are the ones that stand out.
    """

    rows: Sequence[Text]
    columns: Sequence[Text]
    values: Mapping[tuple[int, int], float]
    texts: Mapping[tuple[int, int], str]
    warned: frozenset[tuple[int, int]] = frozenset()
    notes: Sequence[Text] = ()
    groups: Mapping[int, Text] = field(default_factory=dict)
    fewer_is_worse: bool = False

    @property
    def low(self) -> float:
        """The smallest figure; 0 where there is none."""
        return min(self.values.values(), default=0.0)

    @property
    def high(self) -> float:
        """The largest figure; 0 where there is none."""
        return max(self.values.values(), default=0.0)

    def share(self, cell: tuple[int, int]) -> float:
        """How far the figure of `cell` stands out among all: 0 to 1."""
        spread = max(self.high - self.low, _LEAST_SPREAD * abs(self.high))
        off = self.high - self.values[cell] if self.fewer_is_worse else self.values[cell] - self.low
        return off / spread if spread > 0 else 0.0
