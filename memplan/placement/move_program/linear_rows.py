"""Rows of a linear program as they are added, and the sparse matrix that solvers take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Floats, Int64s

if TYPE_CHECKING:
    from scipy.sparse import csc_array

Entries = tuple[Int64s, Int64s, Floats]
"""Rows, columns and values of entries; of one value all have it."""
ONE = np.ones(1)


class LinearRows:
    """Sums of columns with a limit each; an entry given twice counts twice."""

    def __init__(self) -> None:
        self.height = 0
        self._entries: list[Entries] = []
        self._limits: list[Floats] = []

    def add(self, limit: Floats, *parts: Entries) -> int:
        """Add a row for each entry of `limit`, to which the rows of `parts` count from 0; the number of the first."""
        first = self.height
        self.extend(first, *parts)
        self._limits.append(limit)
        self.height += len(limit)
        return first

    def extend(self, first: int, *parts: Entries) -> None:
        """Put `parts` into rows that are there, counted from `first`."""
        for row, column, value in parts:
            self._entries.append((row + first, column, np.broadcast_to(value, row.shape).astype(float)))

    @property
    def limits(self) -> Floats:
        """The limit of every row."""
        return np.concatenate(self._limits)

    def matrix(self, width: int) -> csc_array:
        """The entries in `width` columns."""
        from scipy.sparse import coo_array

        rows, columns, values = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        return coo_array((values, (rows, columns)), shape=(self.height, width)).tocsc()
