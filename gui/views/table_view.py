"""A headline and a sortable table under it; a click or Enter on a row shows its place in every view."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QVBoxLayout, QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.tables.table import TableRow, TableShape
from memplan.gui.views.view import ViewServices
from memplan.gui.views.whole_rows import WholeRowsView

_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()
_SORT_ROLE = Qt.ItemDataRole.UserRole
_LEAST_WIDE_PX = 88  # of the columns that take what is left: a narrower table is moved sideways
_READABLE_PX = 160  # of such columns, beneath which spare ones leave them their room
_LOOKED_AT = 40  # rows beside the visible ones whose texts tell how wide a column is: all of them take too long


class RowsModel(QAbstractTableModel):
    """`TableRow`s for Qt."""

    def __init__(self, shape: TableShape, rows: Sequence[TableRow]) -> None:
        super().__init__()
        self.shape = shape
        self.rows = rows
        self.sorted_by: tuple[int, Qt.SortOrder] | None = None

    def rowCount(self, parent: _Index = _ROOT) -> int:
        """One row a thing."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: _Index = _ROOT) -> int:
        """One column a field."""
        return 0 if parent.isValid() else len(self.shape.header)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Text, sort key or alignment of a cell."""
        row, column = self.rows[index.row()], index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return say(row.cells[column])
        if role == _SORT_ROLE:
            return row.sort_keys[column]
        if role == Qt.ItemDataRole.TextAlignmentRole and column >= self.shape.numbers:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Names of the columns, above their texts and figures."""
        if role == Qt.ItemDataRole.TextAlignmentRole and orientation is Qt.Orientation.Horizontal:
            side = Qt.AlignmentFlag.AlignRight if section >= self.shape.numbers else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.DisplayRole and orientation is Qt.Orientation.Horizontal:
            return f"{tr(self.shape.header[section])}{self._arrow(section)}"
        return None

    def _arrow(self, section: int) -> str:
        """Which way the rows are sorted by a column: Qt's own sign would lie over the name."""
        if self.sorted_by is None or self.sorted_by[0] != section:
            return ""
        return " ↑" if self.sorted_by[1] is Qt.SortOrder.AscendingOrder else " ↓"

    def say_sorted(self, section: int, order: Qt.SortOrder) -> None:
        """Say in the head that the rows are sorted by a column."""
        self.sorted_by = section, order
        self.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, self.columnCount() - 1)


class TableView(QWidget):
    """A table of `shape`, which the class of the view gives, over a session; `show_rows` fills it."""

    shape: TableShape

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.headline = QLabel(self)
        self.headline.setWordWrap(True)
        self.headline.setMargin(6)
        self.table = WholeRowsView(self)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setAlternatingRowColors(True)
        self.table.setShowGrid(False)
        self.table.setSortingEnabled(True)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setWordWrap(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(22)
        self.table.activated.connect(self.jump)
        self.table.clicked.connect(self.jump)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.headline)
        layout.addWidget(self.table)
        self.model = RowsModel(self.shape, ())
        self.sorted = QSortFilterProxyModel(self)
        self.sorted.setSortRole(_SORT_ROLE)
        self.sorted.setSourceModel(self.model)
        self.table.setModel(self.sorted)
        header = self.table.horizontalHeader()
        header.sortIndicatorChanged.connect(lambda section, order: self.model.say_sorted(section, order))
        self.table.sortByColumn(self.shape.sorted_by, Qt.SortOrder.DescendingOrder)
        header.setSortIndicatorShown(False)  # the model's own arrow says it, without room for Qt's beside every name
        header.setHighlightSections(False)
        header.setResizeContentsPrecision(_LOOKED_AT)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self._stretch()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.parent)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Let the wide columns take what is left, where that is enough to read them."""
        super().resizeEvent(event)
        self._stretch()

    def showEvent(self, event: QShowEvent) -> None:
        """Columns have their widths once the table was seen."""
        super().showEvent(event)
        self._stretch()

    def _stretch(self) -> None:
        header, wide = self.table.horizontalHeader(), (self.shape.wide, *self.shape.also_wide)
        # Of the view itself: while it is resized its table still has its size of before.
        room = self.width() - self.table.verticalScrollBar().sizeHint().width()
        room -= sum(self._wanted(column) for column in range(header.count()) if column not in wide)
        for column in self.shape.spare:
            left_out = room < _READABLE_PX * len(wide) and column != header.sortIndicatorSection()
            room += self._wanted(column) if left_out else 0
            self.table.setColumnHidden(column, left_out)
        enough = room >= _LEAST_WIDE_PX * len(wide)
        for column in wide:
            mode = QHeaderView.ResizeMode.Stretch if enough else QHeaderView.ResizeMode.Fixed
            header.setSectionResizeMode(column, mode)
            if not enough:
                header.resizeSection(column, _LEAST_WIDE_PX)

    def _wanted(self, column: int) -> int:
        """The width that a column has where it is not hidden."""
        header = self.table.horizontalHeader()
        if not header.isSectionHidden(column):
            return header.sectionSize(column)
        return max(header.sectionSizeHint(column), self.table.sizeHintForColumn(column))

    def show_rows(self, rows: Sequence[TableRow], headline: str) -> None:
        """Show other rows, sorted as the user has it."""
        self.model = RowsModel(self.shape, rows)
        self.model.sorted_by = self.table.horizontalHeader().sortIndicatorSection(), self._order()
        self.sorted.setSourceModel(self.model)
        self._stretch()
        self.headline.setText(headline)
        self.headline.setVisible(bool(headline))

    def _order(self) -> Qt.SortOrder:
        return self.table.horizontalHeader().sortIndicatorOrder()

    def sheet(self) -> Sheet:
        """The rows in the order they are sorted by, numbers as bytes and nanoseconds."""
        shown = [self.row_at(self.sorted.index(row, 0)) for row in range(self.sorted.rowCount())]
        first = self.shape.numbers
        return Sheet(self.shape.header, [(*map(str, row.cells[:first]), *row.sort_keys[first:]) for row in shown])

    def set_palette(self, palette: Palette) -> None:
        """Nothing here has colours of its own."""

    def forget(self) -> None:
        """Nothing here listens to the session."""

    def row_at(self, index: QModelIndex) -> TableRow:
        """The row behind an index of the table."""
        return self.model.rows[self.sorted.mapToSource(index).row()]

    def jump(self, index: QModelIndex) -> None:
        """Show the row's place in every view."""
        row = self.row_at(index)
        if row.item is not None:
            self.session.select(row.item)
        if row.span_ns is not None:
            origin = self.session.origin_ns
            self.session.viewport.reveal(float(row.span_ns[0] - origin), float(row.span_ns[1] - origin))
