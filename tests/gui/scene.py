"""A window with the sample, and hands to drive it: what a case of a command is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog
from pytestqt.qtbot import QtBot

from memplan.gui.model.session.session import SliceRef
from memplan.gui.window.main_window import MainWindow


@dataclass
class Scene:
    """A window with the sample, and hands to drive it."""

    window: MainWindow
    qtbot: QtBot
    monkeypatch: pytest.MonkeyPatch
    folder: Path

    def press(self, name: str) -> None:
        """Do a command: by its first key where it has one, else by its entry in the menu."""
        command = next(command for command in self.window.commands.commands if command.name == name)
        self.window.commands.refresh()
        self.window.activateWindow()
        self.window.timeline.setFocus()
        QApplication.processEvents()
        if not command.keys:
            self.window.commands.actions[name].trigger()
            return
        count = []
        self.window.commands.actions[name].triggered.connect(lambda *_: count.append(1))
        QTest.keySequence(self.window, QKeySequence(command.keys[0]))
        if not count:
            # Offscreen there is no window manager to make the window active: the action gets the key's event itself.
            assert self.window.commands.actions[name].shortcut() == QKeySequence(command.keys[0])
            self.window.commands.actions[name].trigger()

    def answer(self, dialog: type, method: str, answer: object) -> list[tuple[object, ...]]:
        """Answer a dialog of Qt's; returns what it was asked."""
        asked: list[tuple[object, ...]] = []

        def reply(*arguments: object, **_: object) -> object:
            asked.append(arguments)
            return answer

        self.monkeypatch.setattr(dialog, method, reply)
        return asked

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to hold."""
        self.qtbot.waitUntil(holds, timeout=10_000)

    @property
    def span(self) -> float:
        """Visible nanoseconds."""
        return self.window.session.viewport.span

    def zoom_in(self) -> None:
        """Show a tenth of the time."""
        viewport = self.window.session.viewport
        viewport.zoom(0.1, viewport.start + viewport.span / 2)

    def select_a_kernel(self) -> SliceRef:
        """Select a slice of a stream."""
        tracks = self.window.session.tracks
        track = next(track for track in tracks.all if track.kind == "stream")
        tracks.load(track)
        item = SliceRef(track.key, 5)
        self.window.session.select(item)
        return item

    def dialog(self, kind: type[QDialog]) -> Any:
        """The open dialog of that kind."""
        return next(child for child in self.window.findChildren(kind) if child.isVisible())
