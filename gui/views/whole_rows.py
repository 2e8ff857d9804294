"""Tables that show no row in part: one that the foot would cut is left out until the table is scrolled to it."""

from __future__ import annotations

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


def _leave_out(table: QTableView) -> None:
    viewport, foot = table.viewport(), foot_of_rows(table)
    if foot < viewport.height():
        QPainter(viewport).fillRect(0, foot, viewport.width(), viewport.height() - foot, table.palette().base())


class WholeRowsView(QTableView):
    """A table over a model."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the rows that are whole."""
        super().paintEvent(event)
        _leave_out(self)

    def indexAt(self, position: QPoint) -> QModelIndex:
        """The cell at a place of the viewport: none where nothing is shown."""
        return super().indexAt(position) if position.y() < foot_of_rows(self) else QModelIndex()

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Scroll, and paint all: what is moved on the screen was painted without the row that was cut."""
        super().scrollContentsBy(dx, dy)
        self.viewport().update()


class WholeRowsTable(QTableWidget):
    """A table of items."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the rows that are whole."""
        super().paintEvent(event)
        _leave_out(self)

    def indexAt(self, position: QPoint) -> QModelIndex:
        """The cell at a place of the viewport: none where nothing is shown."""
        return super().indexAt(position) if position.y() < foot_of_rows(self) else QModelIndex()

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Scroll, and paint all: what is moved on the screen was painted without the row that was cut."""
        super().scrollContentsBy(dx, dy)
        self.viewport().update()
