"""Tables that show no row in part: one that the foot would cut is left out until the table is scrolled to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QPoint
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QTableView, QTableWidget


def foot_of_rows(table: QTableView) -> int:
    """Where the last whole row ends, in pixels of the viewport; its height where no row is cut or one alone is seen."""
    height = table.viewport().height()
    row = table.rowAt(height - 1)
    if row < 0:
        return height
    top = table.rowViewportPosition(row)
    return top if top > 0 and top + table.rowHeight(row) > height else height


if TYPE_CHECKING:
    _Table = QTableView
else:
    _Table = object


class _WholeRows(_Table):
    """What both kinds of tables do alike."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the rows that are whole."""
        super().paintEvent(event)
        viewport, foot = self.viewport(), foot_of_rows(self)
        if foot < viewport.height():
            QPainter(viewport).fillRect(0, foot, viewport.width(), viewport.height() - foot, self.palette().base())

    def indexAt(self, position: QPoint) -> QModelIndex:
        """The cell at a place of the viewport: none where nothing is shown."""
        return super().indexAt(position) if position.y() < foot_of_rows(self) else QModelIndex()

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Scroll, and paint all: what is moved on the screen was painted without the row that was cut."""
        super().scrollContentsBy(dx, dy)
        self.viewport().update()


class WholeRowsView(_WholeRows, QTableView):
    """A table over a model."""


class WholeRowsTable(_WholeRows, QTableWidget):
    """A table of items."""
