"""What is painted when something changes: each view once, and what didn't change not at all."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QScrollBar

from memplan.gui.model.palette import load_palette
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.timeline.family_legend import FamilyLegend
from memplan.gui.views.timeline.run_strip import RunStrip
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import pixels
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each part of a frame was painted from now on, by a method that is called once for each."""
    counted: Counter[str] = Counter()
    parts: tuple[tuple[type, str], ...] = (
        (TimelineView, "paint_marks"), (TimelineView, "paint_pixels"), (RunStrip, "handle"), (FamilyLegend, "lines"),
    )  # fmt: skip
    for kind, name in parts:
        original = getattr(kind, name)

        def counting(*given: Any, _original: Any = original, _name: str = f"{kind.__name__}.{name}") -> Any:
            counted[_name] += 1
            return _original(*given)

        monkeypatch.setattr(kind, name, counting)
    return counted


def test_a_frame_paints_the_timeline_once_and_what_does_not_move_not_at_all(
    window: MainWindow, calls: Counter[str]
) -> None:
    """Went wrong: for the frame in the strip, which Qt took for transparent, every track was painted a second time."""
    viewport = window.session.viewport
    assert window.timeline.legend.isVisible()
    settle()
    calls.clear()
    viewport.show(viewport.start, viewport.start + viewport.span / 3)
    settle()
    viewport.pan(viewport.span / 10)
    settle()
    assert calls == {"TimelineView.paint_marks": 2, "TimelineView.paint_pixels": 2, "RunStrip.handle": 2}


def test_a_dragged_selection_paints_its_columns_and_nothing_of_the_tracks(
    window: MainWindow, calls: Counter[str]
) -> None:
    """The columns that come to it or go from it are on the screen as if everything had been painted."""
    viewport = window.session.viewport
    low, length = viewport.start, viewport.span
    settle()
    calls.clear()
    for first, last in ((0.2, 0.4), (0.2, 0.5), (0.3, 0.35), (0.6, 0.62)):
        viewport.selected_range = low + first * length, low + last * length
        viewport.cursor = low + last * length
        settle()
    viewport.cursor = low + 0.1 * length
    settle()
    assert set(calls) == {"TimelineView.paint_marks"}
    on_screen = pixels(window.screen().grabWindow(window.winId()).toImage())
    assert (on_screen == pixels(window.grab().toImage())).all()
    viewport.selected_range = viewport.cursor = None
    settle()
    on_screen = pixels(window.screen().grabWindow(window.winId()).toImage())
    assert (on_screen == pixels(window.grab().toImage())).all()


def test_details_that_change_only_in_figures_look_as_if_written_anew(window: MainWindow) -> None:
    session, details = window.session, window.docks.view(DetailsView)
    low, length = session.viewport.start, session.viewport.span
    window.docks.bring("details")
    written: list[str] = []
    for last in (0.3, 0.4, 0.5, 0.9):
        session.viewport.selected_range = low + 0.1 * length, low + last * length
        settle()
        shown = pixels(details.grab().toImage())
        written.append(details.toPlainText())
        details.set_palette(load_palette())  # writes the whole page
        assert details.toPlainText() == written[-1]
        settle()
        assert (pixels(details.grab().toImage()) == shown).all()
    assert len(set(written)) == len(written)
    session.viewport.selected_range = None
    assert details.toPlainText() not in written


def test_a_scroll_bar_at_rest_is_the_one_that_qt_paints(window: MainWindow) -> None:
    timeline = window.timeline
    window.resize(1000, 500)
    settle()
    bar = timeline.bar
    assert bar.isVisible()
    for value in (0, bar.maximum()):
        bar.setValue(value)
        kept = pixels(bar.grab().toImage())
        plain = QScrollBar(Qt.Orientation.Vertical, timeline)
        plain.setGeometry(bar.geometry())
        plain.setRange(bar.minimum(), bar.maximum())
        plain.setPageStep(bar.pageStep())
        plain.setValue(value)
        bar.show_marks((), QColor())
        assert (pixels(bar.grab().toImage()) == pixels(plain.grab().toImage())).all()
        assert len(np.unique(kept)) > 1
        plain.deleteLater()
