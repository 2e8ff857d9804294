"""What a window shows is shared: a file that opens at the same place, vector pictures, and a report."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from memplan.core.errors import InputError
from memplan.core.progress import silent
from memplan.core.sentence import Text
from memplan.gui.i18n import catalogue
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import FindingRef, OpRef, SliceRef, TensorRef
from memplan.gui.model.session.view_file import VIEW_SUFFIX, read_view_file, write_view_file
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.notes_view import NotesView
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.sharing import session_report
from memplan.gui.window.view_export import svg
from memplan.reports.renderers.render_html import render_html
from memplan.reports.report import Drawing, Figures, Report, ReportTable, section
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the sample's plan and profile."""
    shutil.copy(PLAN, tmp_path / "llama.plan.json")
    shutil.copytree(PROFILE, tmp_path / "run")
    return tmp_path


@pytest.fixture
def shown(qtbot: QtBot, files: Path) -> MainWindow:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    window.opener.open_request(Request(files / "llama.plan.json", files / "run"))
    return window


def another(qtbot: QtBot) -> MainWindow:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    return window


def test_a_saved_view_opens_at_the_same_place(
    qtbot: QtBot, shown: MainWindow, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = shown.session
    shown.show_page("plan")
    session.viewport.show(100_000.0, 250_000.0)
    session.viewport.selected_range = (120_000.0, 130_000.0)
    session.select(OpRef(17))
    session.add_marker(123_456.0)
    shown.docks.bring("notes")
    notes = shown.docks.view(NotesView)
    settle()
    notes.markers.item(0, 0).setText("here it waits")
    notes.text.setFocus()
    QTest.keyClicks(notes.text, "look at the third layer")
    session.tracks.show_only("stream")
    place = files / f"look{VIEW_SUFFIX}"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(place), ""))
    shown.commands.run("save-place")
    moved = files.parent / f"{files.name}-moved"
    files.rename(moved)  # what lies beside the view is found wherever the folder is
    other = another(qtbot)
    other.opener.open([moved / place.name])
    settle()
    now = other.session
    assert other.pages.current == "plan"
    assert (now.viewport.start, now.viewport.end) == pytest.approx((100_000.0, 250_000.0))
    assert now.viewport.selected_range == pytest.approx((120_000.0, 130_000.0))
    assert now.selected == OpRef(17)
    assert now.markers == [123_456.0]
    assert now.marker_name(123_456.0) == "here it waits"
    assert now.notes == "look at the third layer"
    assert other.docks.view(NotesView).text.toPlainText() == now.notes
    assert other.timeline.filter.text() == "stream"
    assert not other.problems.errors


@pytest.mark.parametrize("what", ["slice", "tensor", "finding", "own clock"])
def test_what_is_picked_comes_back(qtbot: QtBot, shown: MainWindow, files: Path, what: str) -> None:
    session = shown.session
    stream = next(track for track in session.tracks.all if track.kind == "stream")
    picks: dict[str, Any] = {"slice": SliceRef(stream.key, 9), "tensor": TensorRef(5), "finding": FindingRef(0)}
    if what == "own clock":
        shown.commands.run("own-clock")
    else:
        session.select(picks[what])
    path = write_view_file(files / f"v{VIEW_SUFFIX}", shown.documents.current.request, shown.session)
    other = another(qtbot)
    other.opener.open([path])
    settle()
    other.show_page("overview")
    settle()
    if what == "own clock":
        assert other.session.document.own_clock
    else:
        assert other.session.selected == picks[what]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no saved view"),
        ("[1, 2]", "no saved view"),
        ('{"memplan_view": 99, "open": {"plan": "x"}}', "later version"),
        ('{"memplan_view": 1, "open": {}}', "names nothing"),
        ("[" * 5000, "no saved view"),
    ],
)
def test_a_damaged_view_is_one_line(shown: MainWindow, tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / f"bad{VIEW_SUFFIX}"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_view_file(path)
    before = shown.session
    shown.opener.open([path])
    assert shown.session is before
    assert says in shown.problems.errors[0]


def test_values_that_are_none_are_passed_over(qtbot: QtBot, shown: MainWindow, files: Path) -> None:
    path = write_view_file(files / f"v{VIEW_SUFFIX}", shown.documents.current.request, shown.session)
    values = json.loads(path.read_text())
    values |= {
        "page": 7, "shown_ns": ["a", None], "markers": [3, {"time_ns": "x"}], "selected": ["tensor", 10**9],
        "tier": "L9", "tracks": {"order": "abc"}, "notes": None, "filter": 1, "selected_range_ns": {},
    }  # fmt: skip
    path.write_text(json.dumps(values))
    other = another(qtbot)
    other.opener.open([path])
    settle()
    assert other.session.document.comparison is not None
    assert other.session.selected is None
    assert not other.problems.errors


def test_the_timeline_is_saved_as_vectors_with_all_its_tracks(shown: MainWindow) -> None:
    shown.show_page("timeline")
    settle()
    for track in shown.session.tracks.all:
        shown.session.tracks.load(track)
    shown.timeline.tracks_changed()
    text = svg(shown.timeline).decode()
    assert "<image" not in text
    assert text.count("<rect") > 600
    for track in shown.session.tracks.all:
        assert track.label[:12] in text, "whether or not it is on the screen"
    assert "Filter" not in text


def test_map_and_curves_are_saved_as_vectors(shown: MainWindow) -> None:
    shown.show_page("memory")
    settle()
    for kind in (MemoryMapView, CurveView):
        text = svg(shown.docks.view(kind)).decode()
        assert "<image" not in text, kind
        assert text.count("<rect") + text.count("<path") + text.count("<poly") > 10


def test_a_report_has_findings_pictures_and_notes(
    shown: MainWindow, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown.session.notes = "Seen by <b>us</b>."
    shown.session.add_marker(5_000.0)
    shown.session.name_marker(5_000.0, "begin")
    path = files / "report.html"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))
    shown.commands.run("report")
    text = path.read_text(encoding="utf-8")
    assert text.count("<svg") >= 4
    assert "Findings" in text
    assert "deviates" in text
    assert "Seen by &lt;b&gt;us&lt;/b&gt;." in text
    assert "begin" in text
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?!#|data:)[a-z]+:", text), "it loads nothing"
    assert len(text) < 8_000_000
    assert not shown.problems.errors


def test_a_report_shows_tracks_that_were_never_on_the_screen(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Went wrong once: a document opens on its overview, and the report's timeline said that it was being read."""
    window = MainWindow(open_session(Request(PLAN, PROFILE)), background=False)
    qtbot.addWidget(window)
    window.show()
    settle()
    assert not any(map(window.session.tracks.loaded, window.session.tracks.all))
    path = tmp_path / "report.html"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))
    window.commands.run("report")
    settle()
    assert "reading" not in re.sub(r"<style.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL).lower()
    assert any(map(window.session.tracks.loaded, window.session.tracks.all))


def test_tracks_that_get_room_when_others_are_read_are_read_too(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    """Went wrong: the picture has more tracks than the screen, and those below said that they were being read."""
    profile = shared_data / "profiles" / "mindspore-alexnet-2023"
    window = MainWindow(open_session(Request(None, profile)), background=False)
    qtbot.addWidget(window)
    window.show()
    settle()
    path = tmp_path / "report.html"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))
    window.commands.run("report")
    settle()
    assert "reading" not in re.sub(r"<style.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL).lower()
    names = [track.label for track in window.session.tracks.all]
    assert [str(name) for name in names if f">{name}</text>" not in path.read_text(encoding="utf-8")] == []
    window.close()


def test_names_in_the_window_s_pictures_stay_as_they_are() -> None:
    """Went wrong: of the tracks of a run, "Communication" was said in Chinese and its neighbours were not."""
    picture = Drawing('<svg><text x="1">Communication</text></svg>', title="Timeline", said=True)
    page = render_html(Report("a run", sections=(section("", picture),)), lambda text: f"<{text}>", "zh")
    assert ">Communication<" in page


def test_a_plan_alone_has_a_report(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = another(qtbot)
    window.opener.open_request(Request(PLAN))
    path = tmp_path / "plan"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))
    window.commands.run("report")
    assert "<svg" in (tmp_path / "plan.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("request_of", [Request(PLAN, PROFILE), Request(None, PROFILE), Request(PLAN)])
def test_a_report_speaks_chinese_where_the_window_does(request_of: Request) -> None:
    session = open_session(request_of)
    session.notes = "A note."
    session.add_marker(1000.0)
    report = session_report(session, [("Timeline", "<svg></svg>")], silent)
    words, missing = catalogue("zh"), set()

    def look(text: str) -> str:
        if text not in words:
            missing.add(text)
        return words.get(text, text)

    def said(text: Text) -> str:
        return words.get(text, text) if isinstance(text, str) else text.said(look)

    page = render_html(report, said, "zh")
    assert 'lang="zh"' in page
    heads = [report.title, *(one.title for one in report.sections)]
    parts = [part for one in report.sections for part in one.parts]
    for part in parts:
        if isinstance(part, ReportTable):
            heads += [part.title, *(column.title for column in part.columns if column.shown)]
        elif isinstance(part, Figures):
            heads += [figure.label for figure in part.items]
    own = {"M1", "#", "rank", "step", "op", "HBM", "SUPPORTED", "L2"}
    unknown = {head for head in heads if isinstance(head, str) and head and head not in words} - own
    assert not missing
    assert not {head for head in unknown if not re.match(r"\d+\. |memplan|Ascend", head)}


def test_a_click_on_a_markers_time_goes_there(shown: MainWindow) -> None:
    session = shown.session
    session.add_marker(600_000.0)
    session.viewport.show(0.0, 50_000.0)
    shown.docks.bring("notes")
    settle()
    notes = shown.docks.view(NotesView)
    at = notes.markers.visualItemRect(notes.markers.item(0, 1)).center()
    QTest.mouseClick(notes.markers.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(at.x(), at.y()))
    assert session.viewport.start <= 600_000.0 < session.viewport.end
    assert len(notes.sheet().rows) == 2
