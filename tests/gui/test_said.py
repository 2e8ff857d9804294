"""What the window says of things: beside the mouse, and in the details."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from memplan.cli import main
from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.session import OpRef, SliceRef
from memplan.gui.model.slices.slice_text import slice_lines
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import PLAN

pytestmark = pytest.mark.gui


def hover_lines(view: TimelineView, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the next frame says beside the mouse."""
    said: list[str] = []
    monkeypatch.setattr(type(view), "paint_hover", lambda _, __, lines: said.extend(lines))
    view.grab()
    return said


def test_what_is_said_beside_the_mouse_follows_the_view(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, viewport = window.timeline, window.session.viewport
    placed, top = next((p, t) for p, t in view.visible() if p.track is not None and p.track.kind == "plan")
    lanes = window.session.tracks.lanes(placed.track)
    assert lanes is not None
    names = [lanes.slices.names[code] for code in lanes.slices.name]
    first, second = (float(lanes.slices.start_ns[i] - window.session.origin_ns) for i in (10, 20))
    viewport.show(first, first + 200.0)
    QTest.mouseMove(view, QPoint(GUTTER_PX + 20, view.ruler_px + top + 8))
    assert hover_lines(view, monkeypatch)[0] == names[10]
    viewport.show(second, second + 200.0)
    assert hover_lines(view, monkeypatch)[0] == names[20]
    assert viewport.cursor == pytest.approx(view.time_at(GUTTER_PX + 20.0))


def test_the_values_of_counters_are_said_beside_the_mouse(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = window.timeline
    track = next(track for track in window.session.tracks.all if track.label == "AI Core Freq")
    view.show_track(track.key)
    top = next(top for placed, top in view.visible() if placed.track is track)
    for y in (1, view.ruler_px + top + 20):  # a mouse that is there already doesn't move
        QTest.mouseMove(view, QPoint(view.width() // 2, y))
    title, *values = hover_lines(view, monkeypatch)
    assert "AI Core Freq" in title
    assert all(any(letter.isdigit() for letter in value) for value in values)


def test_the_text_beside_the_mouse_keeps_off_the_scroll_bar(window: MainWindow) -> None:
    view = window.timeline
    view.grab()
    assert view.covered_px == view.bar.width()


def test_very_long_names_and_arguments_do_not_bury_the_rest(window: MainWindow, tmp_path: Path) -> None:
    name = "first_" + "x" * 5_000 + "_last"
    event = {"ph": "X", "pid": 1, "tid": 1, "ts": "1000", "dur": 5, "name": name, "args": {"key" * 300: "<b>" * 9_000}}
    (tmp_path / "trace_view.json").write_text(json.dumps([event]))
    window.opener.open_request(Request(None, tmp_path), new_tab=True)
    track = window.session.tracks.all[0]
    window.session.tracks.load(track)
    item = SliceRef(track.key, 0)
    window.session.select(item)
    shown = window.docks.view(DetailsView).toPlainText()
    assert "first_" in shown
    assert "_last" in shown
    assert len(shown) < 2_500
    assert any(name in map(str, cells) for cells in window.docks.view(DetailsView).sheet().rows)
    assert str(slice_lines(window.session, item)[1]) == "5.000 µs @ 0 ns", "there is no category to name"


def test_what_was_chosen_last_comes_first_in_the_details(window: MainWindow) -> None:
    session = window.session
    track = next(track for track in session.tracks.all if track.kind == "stream")
    session.tracks.load(track)
    session.viewport.selected_range = session.viewport.bounds
    assert window.docks.view(DetailsView).sections[0].title == Sentence("Selection")
    session.select(SliceRef(track.key, 2))
    assert window.docks.view(DetailsView).sections[0].title == Sentence("Slice")
    assert Sentence("Selection") in [section.title for section in window.docks.view(DetailsView).sections]
    session.viewport.selected_range = (0.0, 1_000.0)
    assert window.docks.view(DetailsView).sections[0].title == Sentence("Selection")
    window.commands.run("clear")
    assert window.docks.view(DetailsView).sections[0].title == Sentence("Plan")


def test_an_op_shows_its_measured_time_beside_the_predicted(window: MainWindow) -> None:
    comparison = window.session.document.comparison
    assert comparison is not None
    op = int(comparison.matches.op[5])
    window.session.select(OpRef(op))
    facts = {
        str(fact.label): str(fact.value)
        for section in window.docks.view(DetailsView).sections
        for fact in section.facts
    }
    assert facts["measured"].endswith("%)")


def test_a_plan_s_bytes_through_global_memory_have_one_name(
    window: MainWindow, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: the command line called HBM traffic what the window called global memory's."""
    session = window.session
    plan = session.document.plan
    assert plan is not None
    op = next(op for op in plan.ops if op.type == "MatMul")
    named = f"{format_bytes(op.gm_bytes)} of GM traffic"
    session.select(OpRef(op.index))
    assert any(
        named in str(fact.value) for section in window.docks.view(DetailsView).sections for fact in section.facts
    )
    track, planned = next(
        (track, track.planned)
        for track in session.tracks.all
        if track.planned is not None and op in (track.planned.ops or ())
    )
    session.tracks.load(track)
    assert any(named in str(line) for line in slice_lines(session, SliceRef(track.key, list(planned.ops).index(op))))
    assert main(["show", str(PLAN)]) == 0
    shown = capsys.readouterr().out
    assert "GM traffic" in shown
    assert "HBM traffic" not in shown
