"""What a user does to a window, as real events that are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.window.main_window import MainWindow
from tests.gui.two_documents import settle


class Hands:
    """What a user does to a window, counted."""

    def __init__(self, window: MainWindow) -> None:
        self.window = window
        self.actions = 0

    def drop(self, *paths: Path) -> None:
        """Drop files and folders on the window."""
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        none, left = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
        event = QDropEvent(QPointF(300, 300), Qt.DropAction.CopyAction, data, left, none)
        self.window.dropEvent(event)
        self._done()

    def key(self, name: str) -> None:
        """Press the key of the command called `name`."""
        action = self.window.commands.actions[name]
        assert not action.shortcut().isEmpty()
        fired: list[int] = []
        connection = action.triggered.connect(lambda *_: fired.append(1))
        self.window.activateWindow()
        QTest.keySequence(self.window, QKeySequence(action.shortcut()))
        if not fired:  # offscreen no window manager makes the window the active one
            action.trigger()
        action.triggered.disconnect(connection)
        self._done()

    def click(self, widget: QWidget, at: Any = None, *, ctrl: bool = False) -> None:
        """Click a widget, in its middle or at a place of it."""
        held = Qt.KeyboardModifier.ControlModifier if ctrl else Qt.KeyboardModifier.NoModifier
        place = at if at is not None else widget.rect().center()
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton, held, place)
        self._done()

    def tile(self, title: str) -> None:
        """Click a figure at the head of the overview."""
        view = self.window.docks.view(OverviewView)
        self.click(next(tile for tile in view.head.tiles if str(tile.figure.title) == title))

    def _done(self) -> None:
        self.actions += 1
        settle()

    def figures(self) -> dict[str, tuple[str, str]]:
        """The figures at the head of the overview with their notes."""
        tiles = self.window.docks.view(OverviewView).head.tiles
        return {str(tile.figure.title): (str(tile.figure.value), str(tile.figure.note)) for tile in tiles}

    def findings(self) -> list[str]:
        """What the table of findings says, from the top."""
        table = self.window.docks.view(OverviewView).findings
        return [str(table.row_at(table.sorted.index(row, 0)).cells[0]) for row in range(table.sorted.rowCount())]

    def details(self) -> str:
        """What the panel beside says."""
        return self.window.docks.view(DetailsView).toPlainText()
