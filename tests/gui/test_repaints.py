"""What is painted when something changes: each view once, and what didn't change not at all."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QWidget

from memplan.gui.window.main_window import MainWindow
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


class Paints(QObject):
    """Counts how often `widget` is painted."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self.count = 0
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Count paints, and let everything through."""
        self.count += event.type() is QEvent.Type.Paint
        return False


def test_a_frame_paints_the_timeline_once_and_what_does_not_move_not_at_all(window: MainWindow) -> None:
    """Went wrong: for the frame in the strip, which Qt took for transparent, every track was painted a second time."""
    timeline, viewport = window.timeline, window.session.viewport
    settle()
    moved, still = [Paints(timeline), Paints(timeline.strip)], Paints(timeline.legend)
    viewport.show(viewport.start, viewport.start + viewport.span / 3)
    settle()
    viewport.pan(viewport.span / 10)
    settle()
    assert [paints.count for paints in moved] == [2, 2]
    assert timeline.legend.isVisible()
    assert not still.count
