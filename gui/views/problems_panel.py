"""The problems panel: errors and notes in one list, so that no dialog ever has to interrupt."""

from __future__ import annotations

import re

from PySide6.QtCore import QDateTime, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.palette import Palette
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.view import ViewServices

_KIND = Qt.ItemDataRole.UserRole
_NOTE = "note"
_JOINTS = re.compile(r"(?<=[/\\_.\-])(?=\w)")


class ProblemsView(QListWidget):
    """Errors with their time, and what could not be read of the open files."""

    changed = Signal()

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.setWordWrap(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setAlternatingRowColors(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.errors: list[str] = []
        self.notes: list[str] = []

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view without problems."""
        return cls(services.palette, services.parent)

    def add_error(self, text: str) -> None:
        """One thing that went wrong, at the top; the same one twice in a row is listed once."""
        if self.errors[:1] != [text]:
            self.errors.insert(0, text)
            item = _item(f"{QDateTime.currentDateTime().toString('hh:mm:ss')}  {text}")
            item.setForeground(QColor(self.colours.css("warning")))
            self.insertItem(0, item)
        self.changed.emit()

    def show_notes(self, notes: list[str]) -> None:
        """What could not be read or was assumed in the open files; replaces earlier notes."""
        for row in reversed(range(self.count())):
            if self.item(row).data(_KIND) == _NOTE:
                self.takeItem(row)
        self.notes = list(notes)
        for text in notes:
            item = _item(text)
            item.setData(_KIND, _NOTE)
            self.addItem(item)
        self.changed.emit()

    def set_palette(self, palette: Palette) -> None:
        """Write with other colours."""
        self.colours = palette
        for row in range(self.count()):
            if self.item(row).data(_KIND) != _NOTE:
                self.item(row).setForeground(QColor(palette.css("warning")))

    def sheet(self) -> Sheet:
        """Errors and notes, one row each."""
        rows = [("error", text) for text in self.errors] + [("note", text) for text in self.notes]
        return Sheet(("kind", "text"), rows)

    @property
    def title(self) -> str:
        """The panel's title with how much is in it."""
        count = len(self.errors) + len(self.notes)
        return f"{tr('Problems')} ({count})" if count else tr("Problems")


def _item(text: str) -> QListWidgetItem:
    """A line that wraps within long paths and names too, not only at spaces; whole as its tool tip."""
    item = QListWidgetItem(_JOINTS.sub("\u200b", text))
    item.setToolTip(text)
    return item
