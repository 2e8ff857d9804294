"""The problems panel: errors, what is lost of the open files, and how they were read, so that no dialog interrupts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PySide6.QtCore import QDateTime, QEvent, Qt, Signal
from PySide6.QtGui import QColor, QFont, QGuiApplication, QKeyEvent, QKeySequence, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.open_request import FileRemark
from memplan.gui.model.sheet import Sheet
from memplan.gui.views.view import ViewServices

_KIND = Qt.ItemDataRole.UserRole
_WHOLE = Qt.ItemDataRole.UserRole + 1
_ERROR, _HEADING, _NOTE = "error", "heading", "note"
_JOINTS = re.compile(r"(?<=[/\\_.\-])(?=\w)")


class ProblemsView(QListWidget):
    """
    Errors with their time, then what is lost of the open files, then how these were read.

    What is copied of it is the text itself, without the joints at which long paths are broken.
    """

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
        self.remarks: list[FileRemark] = []
        self.errors_ever = 0

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view without problems."""
        return cls(services.palette, services.parent)

    def add_error(self, text: str) -> None:
        """One thing that went wrong, at the top; the same one twice in a row is listed once."""
        if self.errors[:1] != [text]:
            self.errors.insert(0, text)
            self.errors_ever += 1
            item = _item(text, _ERROR, f"{QDateTime.currentDateTime().toString('hh:mm:ss')}  ")
            item.setForeground(QColor(self.colours.css("warning")))
            self.insertItem(0, item)
        self.changed.emit()

    def forget_errors(self, before: int) -> None:
        """Take away errors that were there when `errors_ever` was `before`: something else has been opened since."""
        fresh = max(self.errors_ever - before, 0)
        for row in reversed(range(fresh, len(self.errors))):
            self.takeItem(row)
        del self.errors[fresh:]
        self.changed.emit()

    def show_remarks(self, remarks: Sequence[FileRemark]) -> None:
        """What is lost of the open files, and how they were read; replaces earlier remarks."""
        while self.count() > len(self.errors):
            self.takeItem(self.count() - 1)
        self.remarks = list(remarks)
        for lost, title in ((True, "Missing or inexact"), (False, "How the files were read")):
            texts = [say(remark.text) for remark in remarks if remark.lost is lost]
            if not texts:
                continue
            heading = _item(f"{tr(title)} ({len(texts)})", _HEADING)
            bold = QFont(self.font())
            bold.setBold(True)
            heading.setFont(bold)
            heading.setFlags(Qt.ItemFlag.ItemIsEnabled)
            self.addItem(heading)
            for text in texts:
                item = _item(text, _NOTE)
                if not lost:
                    item.setForeground(QColor(self.colours.css("faint")))
                self.addItem(item)
        self.changed.emit()

    def set_palette(self, palette: Palette) -> None:
        """Write with other colours."""
        self.colours = palette
        for row in range(self.count()):
            if self.item(row).data(_KIND) == _ERROR:
                self.item(row).setForeground(QColor(palette.css("warning")))
        self.show_remarks(self.remarks)

    def paintEvent(self, event: QPaintEvent) -> None:
        """An empty list says what that means."""
        super().paintEvent(event)
        if self.count():
            return
        painter = QPainter(self.viewport())
        painter.setPen(QColor(self.colours.css("faint")))
        flags = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap
        text = tr("Nothing went wrong, and nothing is lost of what is open")
        painter.drawText(self.viewport().rect().adjusted(12, 12, -12, -12), flags, text)
        painter.end()

    def event(self, event: QEvent) -> bool:
        """Copying selected lines goes before what the window does with its key."""
        if (
            event.type() is QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.matches(QKeySequence.StandardKey.Copy)
            and self.selectedItems()
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy whole lines as they are."""
        if event.matches(QKeySequence.StandardKey.Copy):
            lines = [str(item.data(_WHOLE)) for item in sorted(self.selectedItems(), key=self.row)]
            QGuiApplication.clipboard().setText("\n".join(lines))
            return
        super().keyPressEvent(event)

    def sheet(self) -> Sheet:
        """Errors and remarks, one row each."""
        rows = [("error", text) for text in self.errors]
        rows += [("lost" if remark.lost else "note", say(remark.text)) for remark in self.remarks]
        return Sheet(("kind", "text"), rows)

    @property
    def title(self) -> str:
        """The panel's title with how much went wrong or is lost."""
        count = len(self.errors) + sum(remark.lost for remark in self.remarks)
        return f"{tr('Problems')} ({count})" if count else tr("Problems")


def _item(text: str, kind: str, head: str = "") -> QListWidgetItem:
    """A line that wraps within long paths and names too, not only at spaces; whole as its tool tip."""
    item = QListWidgetItem(head + _JOINTS.sub("\u200b", text))
    item.setToolTip(text)
    item.setData(_KIND, kind)
    item.setData(_WHOLE, text)
    return item
