"""Notes on a document: its markers with their names, and what the user writes; both go into a saved view."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QPlainTextEdit,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from memplan.gui.i18n import say, tr
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.view import ViewServices
from memplan.gui.views.whole_rows import WholeRowsTable


class NotesView(QWidget):
    """A marker's name is changed in its row; a click on its time goes there. The text is the document's own."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.markers = WholeRowsTable(0, 2, self)
        self.markers.setHorizontalHeaderLabels([tr("Marker"), tr("At")])
        self.markers.verticalHeader().hide()
        self.markers.verticalHeader().setDefaultSectionSize(22)
        self.markers.setShowGrid(False)
        self.markers.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.markers.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.markers.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.markers.itemChanged.connect(self._renamed)
        self.markers.cellClicked.connect(self._clicked)
        self.hint = QLabel(tr("M sets a marker at the cursor; a double click on its name changes it."), self)
        self.hint.setWordWrap(True)
        self.hint.setMargin(4)
        self.text = QPlainTextEdit(self)
        self.text.setPlaceholderText(tr("Notes on this document: they are saved with the view (Ctrl+Shift+S)"))
        self.text.textChanged.connect(self._written)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.hint)
        column.addWidget(self.markers, 1)
        column.addWidget(self.text, 2)
        self._listener = session.markers_changed.connect(self._show)
        self._show()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.parent)

    def show_session(self, session: Session) -> None:
        """Show the notes of another session."""
        self.forget()
        self.session = session
        self._listener = session.markers_changed.connect(self._show)
        self._show()

    def forget(self) -> None:
        """Stop listening to the session."""
        self.session.markers_changed.disconnect(self._listener)

    def _show(self) -> None:
        session = self.session
        with QSignalBlocker(self.markers):
            self.markers.setRowCount(len(session.markers))
            for row, time in enumerate(session.markers):
                self.markers.setItem(row, 0, QTableWidgetItem(session.marker_name(time)))
                at = QTableWidgetItem(say(session.length_text(time)))
                at.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
                at.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.markers.setItem(row, 1, at)
        if self.text.toPlainText() != session.notes:
            with QSignalBlocker(self.text):
                self.text.setPlainText(session.notes)

    def _renamed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0 and item.row() < len(self.session.markers):
            self.session.name_marker(self.session.markers[item.row()], item.text())

    def _clicked(self, row: int, column: int) -> None:
        if column == 1 and row < len(self.session.markers):
            self.session.viewport.centre(self.session.markers[row])

    def _written(self) -> None:
        self.session.notes = self.text.toPlainText()

    def set_palette(self, palette: Palette) -> None:
        """Nothing here has colours of its own."""

    def sheet(self) -> Sheet:
        """Markers and notes."""
        session = self.session
        rows = [("marker", session.marker_name(time), session.origin_ns + round(time)) for time in session.markers]
        return Sheet(("what", "text", "time_ns"), [*rows, ("notes", session.notes, None)])
