"""The command palette: every command of the window by name, run with Enter."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QDialog, QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from memplan.gui.commands import Command, Commands
from memplan.gui.i18n import tr


def matching(commands: Commands, text: str) -> list[Command]:
    """Commands that can be done now and whose title holds every word of `text`, in menu order."""
    words = text.casefold().split()
    return [
        command
        for command in commands.commands
        if commands.actions[command.name].isEnabled() and all(word in command.title.casefold() for word in words)
    ]


class CommandPalette(QDialog):
    """Type to filter, arrows to choose, Enter to do."""

    def __init__(self, commands: Commands, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.commands = commands
        self.setWindowTitle(tr("Commands"))
        self.resize(460, 360)
        self.edit = QLineEdit(self)
        self.edit.setPlaceholderText(tr("What to do"))
        self.list = QListWidget(self)
        self.list.setUniformItemSizes(True)
        self.column = QVBoxLayout(self)
        self.column.addWidget(self.edit)
        self.column.addWidget(self.list)
        self.edit.textChanged.connect(self.filter)
        self.edit.returnPressed.connect(self.run_chosen)
        self.list.itemActivated.connect(lambda _: self.run_chosen())
        self.filter("")

    def resizeEvent(self, event: QResizeEvent) -> None:
        """List whole lines: what would be left of the height stays empty below them."""
        super().resizeEvent(event)
        edge, row = 2 * self.list.frameWidth(), self.list.sizeHintForRow(0)
        margins = self.contentsMargins() + self.column.contentsMargins()
        room = self.height() - margins.top() - margins.bottom() - self.edit.sizeHint().height()
        room -= self.column.spacing() + edge
        if row > 0:
            self.list.setMaximumHeight(max(room // row, 1) * row + edge)

    def filter(self, text: str) -> None:
        """List what matches `text`."""
        self.list.clear()
        for command in matching(self.commands, text):
            keys = f"   ({command.keys[0]})" if command.keys else ""
            item = QListWidgetItem(f"{command.title}{keys}")
            item.setData(Qt.ItemDataRole.UserRole, command.name)
            self.list.addItem(item)
        self.list.setCurrentRow(0)

    def run_chosen(self) -> None:
        """Do the marked command and close."""
        item = self.list.currentItem()
        if item is not None:
            self.accept()
            self.commands.run(str(item.data(Qt.ItemDataRole.UserRole)))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and down move the mark while the text keeps the focus."""
        if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            step = -1 if event.key() == Qt.Key.Key_Up else 1
            self.list.setCurrentRow(min(max(self.list.currentRow() + step, 0), self.list.count() - 1))
        else:
            super().keyPressEvent(event)
