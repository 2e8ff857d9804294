"""What is painted when something changes: each view once, and what didn't change not at all."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from memplan.gui.views.timeline.family_legend import FamilyLegend
from memplan.gui.views.timeline.run_strip import RunStrip
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.window.main_window import MainWindow
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
