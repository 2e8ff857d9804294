"""The table of differences between plan and profile; each row is a jump to the place in every view."""

from __future__ import annotations

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QTableView, QVBoxLayout, QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.deviations import HEADER, DeviationRow, deviation_rows, verdict
from memplan.gui.model.session import OpPick, Session

_Index = QModelIndex | QPersistentModelIndex
_SORT_ROLE = Qt.ItemDataRole.UserRole


class DeviationsModel(QAbstractTableModel):
    """`DeviationRow`s for Qt."""

    def __init__(self, rows: list[DeviationRow]) -> None:
        super().__init__()
        self.rows = rows

    def rowCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        """One row a difference."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        """One column a field."""
        return 0 if parent.isValid() else len(HEADER)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Text, sort key or alignment of a cell."""
        row = self.rows[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            text = row.cells[index.column()]
            return tr(text) if index.column() == 0 else text
        if role == _SORT_ROLE:
            return row.sort_keys[index.column()]
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() >= 2:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Names of the columns."""
        if role == Qt.ItemDataRole.DisplayRole and orientation is Qt.Orientation.Horizontal:
            return tr(HEADER[section])
        return None


class DeviationsView(QWidget):
    """The verdict in a line, and the table under it. A click or Enter on a row shows its place in every view."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.verdict = QLabel(self)
        self.verdict.setWordWrap(True)
        self.verdict.setMargin(4)
        self.table = QTableView(self)
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
        layout.addWidget(self.verdict)
        layout.addWidget(self.table)
        self.show_session(session)

    def show_session(self, session: Session) -> None:
        """Show the differences of another session."""
        self.session = session
        self.model = DeviationsModel(deviation_rows(session.document))
        self.sorted = QSortFilterProxyModel(self)
        self.sorted.setSortRole(_SORT_ROLE)
        self.sorted.setSourceModel(self.model)
        self.table.setModel(self.sorted)
        self.table.sortByColumn(len(HEADER) - 1, Qt.SortOrder.DescendingOrder)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        text = verdict(session.document)
        self.verdict.setText(text or tr("Open a plan and a profile to see where they differ."))

    def jump(self, index: QModelIndex) -> None:
        """Show the row's place in every view."""
        row = self.model.rows[self.sorted.mapToSource(index).row()]
        if row.op is not None:
            self.session.pick(OpPick(row.op))
        origin = self.session.origin_ns
        self.session.viewport.reveal(float(row.span_ns[0] - origin), float(row.span_ns[1] - origin))
