"""Several documents in one window, and what is kept between two starts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from PySide6.QtCore import QPoint, QSettings, Qt
from PySide6.QtGui import QColor, QIcon
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QColorDialog, QInputDialog
from pytestqt.qtbot import QtBot

from memplan.gui.model.palette import contrast, load_palette, theme_names
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.model.session.open_request import Request, open_session, requests_for
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline.timeline_tracks import TimelineTracks
from memplan.gui.settings import Settings
from memplan.gui.views.colours_dialog import ColoursDialog
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.window.main_window import MainWindow
from memplan.traces.rank import RankProfile
from memplan.traces.readers.text import TextReader
from tests.gui.conftest import PLAN, PROFILE, SAMPLES

pytestmark = pytest.mark.gui


@pytest.fixture
def store(tmp_path: Path) -> QSettings:
    """Settings in a file of their own."""
    return QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)


def make(qtbot: QtBot, store: QSettings | None = None) -> MainWindow:
    """An empty window that opens files at once."""
    window = MainWindow(settings=store, background=False)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    return window


def other_profile(folder: Path) -> Path:
    """A second profile beside the sample's."""
    shutil.copytree(PROFILE, folder / "other_profile")
    return folder / "other_profile"


def test_what_is_opened_goes_where_it_belongs(tmp_path: Path) -> None:
    other = other_profile(tmp_path)
    both = Request(PLAN, PROFILE)
    assert requests_for([PLAN, PROFILE]) == [both]
    assert requests_for([PROFILE], Request(PLAN)) == [both]
    assert requests_for([PLAN], Request(None, PROFILE, 3)) == [Request(PLAN, PROFILE, 3)]
    assert requests_for([PROFILE], Request(None, other)) == [Request(None, PROFILE)]
    assert requests_for([PROFILE, other]) == [Request(None, PROFILE), Request(None, other)]
    assert requests_for([PLAN, PROFILE, other]) == [both, Request(PLAN, other)]
    files = sorted(path for path in PROFILE.rglob("*.csv"))
    assert len(requests_for(files[:2])) == 1


def test_documents_are_tabs_that_can_be_closed() -> None:
    documents = OpenDocuments()
    changes: list[int] = []
    documents.changed.connect(lambda: changes.append(documents.index))
    first, second = open_session(Request(PLAN)), open_session(Request(None, PROFILE))
    documents.show(Request(PLAN), first, new_tab=True)
    assert len(documents.opened) == 1  # an empty document gives way
    documents.show(Request(None, PROFILE), second, new_tab=True)
    assert [item.session for item in documents.opened] == [first, second]
    assert documents.current.session is second
    assert [item.session for item in documents.others] == [first]
    documents.close(0)
    assert documents.current.session is second
    documents.close(0)
    assert documents.current.session.document.empty
    assert changes == [0, 1, 0, 0]


def test_a_second_profile_opens_beside_the_first(qtbot: QtBot, tmp_path: Path) -> None:
    window = make(qtbot)
    assert not window.tabs.isVisible()
    window.opener.open([PROFILE])
    first = window.session
    window.opener.open([other_profile(tmp_path)])
    assert [window.tabs.tabText(index) for index in range(2)] == ["llama_train_profile", "other_profile"]
    assert window.tabs.isVisible()
    assert window.session.document.name == "other_profile"
    window.session.viewport.zoom(0.1, 0.0)
    tab = window.tabs.tabRect(0).center()
    QTest.mouseClick(window.tabs, Qt.MouseButton.LeftButton, pos=tab)
    assert window.session is first
    assert window.timeline.session is first
    assert window.docks.view(CurveView).session is first
    window.opener.open([PLAN])  # goes with the profile that is shown
    assert len(window.documents.opened) == 2
    assert window.session.document.comparison is not None
    window.tabs.tabCloseRequested.emit(0)
    assert window.session.document.name == "other_profile"
    window.close()


def test_the_next_start_shows_what_was_open(qtbot: QtBot, store: QSettings) -> None:
    first = make(qtbot, store)
    first.opener.open_request(Request(PLAN, PROFILE))
    first.session.viewport.show(1_000.0, 50_000.0)
    key = first.session.tracks.all[-1].key
    first.session.tracks.pin(key)
    first.session.tracks.fold("Plan")
    first.commands.run("theme-dark")
    first.close()
    second = make(qtbot, store)
    second.opener.reopen()
    assert second.session.document.comparison is not None
    assert (second.session.viewport.start, second.session.viewport.end) == (1_000.0, 50_000.0)
    assert second.session.tracks.pinned == [key]
    assert "Plan" in second.session.tracks.folded
    assert second.colours.theme == "dark"
    second.commands.run("theme-light")
    second.opener.close()
    button = second.welcome.recent_buttons[0]
    assert PLAN.name in button.text()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert second.session.document.comparison is not None
    second.close()


def test_views_made_on_first_use_come_back_where_they_were(qtbot: QtBot, store: QSettings) -> None:
    first = make(qtbot, store)
    first.opener.open([PLAN])
    first.docks.show("roofline")
    first.docks.show("kernel")
    qtbot.waitUntil(lambda: {"roofline", "kernel"} <= set(first.docks), timeout=20_000)
    first.docks["roofline"].setFloating(True)
    first.docks["kernel"].raise_()
    first.close()
    second = make(qtbot, store)
    second.opener.reopen()
    second.pages.show("kernels")
    qtbot.waitUntil(lambda: {"roofline", "kernel"} <= set(second.docks), timeout=20_000)
    qtbot.waitUntil(lambda: second.docks["roofline"].isFloating(), timeout=5_000)
    second.docks["kernel"].hide()
    second.close()
    third = make(qtbot, store)
    third.opener.reopen()
    third.pages.show("kernels")
    qtbot.waitUntil(lambda: "roofline" in third.docks, timeout=20_000)
    assert "kernel" not in third.docks
    third.close()


def test_what_has_gone_since_is_a_line(qtbot: QtBot, store: QSettings, tmp_path: Path) -> None:
    profile = other_profile(tmp_path)
    first = make(qtbot, store)
    first.opener.open([profile])
    first.close()
    shutil.rmtree(profile)
    second = MainWindow(settings=store)
    qtbot.addWidget(second)
    second.show()
    second.opener.reopen()
    qtbot.waitUntil(lambda: bool(second.problems.errors), timeout=10_000)
    assert "other_profile" in second.problems.errors[0]
    assert second.session.document.empty
    second.close()


@pytest.mark.parametrize(
    "text", ["", "null", "{", "[1, 2]", '{"a": 3}', '[{"plan": 7}]', '[{"profile": "x", "rank": "y"}]']
)
def test_damaged_settings_give_the_defaults(text: str, store: QSettings) -> None:
    for name in ("recent", "open", "models", "tracks", "own_colours", "theme", "colours", "language", "geometry"):
        store.setValue(name, text)
    settings = Settings(store)
    assert settings.palette.theme == "light"
    assert settings.language in ("en", "zh")
    assert settings.geometry is None
    assert settings.page_layouts == {}
    assert settings.models == []
    assert all(request.profile == Path("x") for request in settings.recent)
    assert settings.arrangement == {}
    assert all(time_range is None for _, time_range in settings.open_at_start)


def test_recent_documents_are_kept_once_and_latest_first(store: QSettings) -> None:
    settings = Settings(store)
    for number in range(14):
        settings.opened(Request(Path(f"/plans/{number}.json")))
    settings.opened(Request(Path("/plans/9.json"), None, None, "910B3"))
    assert len(settings.recent) == 10
    assert settings.recent[0] == Request(Path("/plans/9.json"), None, None, "910B3")
    assert sum(request.plan == Path("/plans/9.json") for request in settings.recent) == 1


def test_tracks_are_pinned_hidden_and_moved_with_the_mouse(window: MainWindow, qtbot: QtBot) -> None:
    view, tracks = window.timeline, window.session.tracks
    first = next(track for track in tracks.all if len(tracks.neighbours(track.key)) > 1)
    around = tracks.neighbours(first.key)
    places = {placed.track.key: top for placed, top in view.visible() if placed.track is not None}
    start = QPoint(60, view.ruler_px + places[around[0]] + 8)
    end = QPoint(60, view.ruler_px + places[around[1]] + 8)
    QTest.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    QTest.mouseMove(view, (start + end) / 2)
    QTest.mouseMove(view, end)
    QTest.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)
    assert tracks.neighbours(around[0])[:2] == [around[1], around[0]]
    assert start.x() < GUTTER_PX
    QTest.mouseMove(view, end)
    menu_row = view.acted_track()
    assert menu_row is not None
    view.customContextMenuRequested.emit(end)
    menu = window.findChildren(type(window.commands.menus["File"]))[-1]
    texts = [action.text() for action in menu.actions()]
    assert "Pin the track, or let it go" in texts
    menu.actions()[texts.index("Pin the track, or let it go")].trigger()
    assert tracks.pinned == [menu_row.key]
    menu.close()


def test_an_arrangement_keeps_what_other_documents_have(session: Session) -> None:
    tracks = TimelineTracks(session.document)
    assert not tracks.arranged
    tracks.hide(tracks.all[0].key)
    assert tracks.arranged
    kept = tracks.arrangement({"hidden": ["elsewhere/1"], "order": ["elsewhere/1"], "pinned": ["elsewhere/2"]})
    assert kept["hidden"] == [tracks.all[0].key, "elsewhere/1"]
    assert kept["pinned"] == ["elsewhere/2"]
    again = TimelineTracks(session.document)
    again.arrange(kept)
    assert again.hidden == tracks.hidden
    assert not again.arranged


def test_own_colours_are_set_and_forgotten(window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    window.commands.run("colours")
    dialog = next(child for child in window.findChildren(ColoursDialog) if child.isVisible())
    QTest.keyClicks(dialog.filter, "weight")
    shown = [row for row in range(dialog.names.count()) if not dialog.names.item(row).isHidden()]
    assert [dialog.names.item(row).text() for row in shown] == ["weight"]
    dialog.names.setCurrentRow(shown[0])
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#123456"))
    QTest.mouseClick(dialog.change, Qt.MouseButton.LeftButton)
    assert window.colours.kind("weight") == 0xFF123456
    assert 0xFF123456 in window.docks.view(MemoryMapView).painted
    QTest.mouseClick(dialog.reset, Qt.MouseButton.LeftButton)
    assert window.colours.kind("weight") == load_palette().kind("weight")
    dialog.reject()


@pytest.mark.parametrize("theme", theme_names())
def test_the_swatch_of_the_chosen_row_is_told_from_the_row(theme: str, qtbot: QtBot) -> None:
    """Went wrong once: the blue of weights, tinted by the style, was that of the row."""
    palette = load_palette(theme)
    dialog = ColoursDialog(palette, [], lambda _: None)
    qtbot.addWidget(dialog)
    icon = dialog.names.item(0).icon()
    swatch = icon.pixmap(icon.availableSizes()[0], QIcon.Mode.Selected).toImage()
    middle = swatch.pixel(swatch.width() // 2, swatch.height() // 2)
    assert middle == palette.kind(dialog.names.item(0).data(Qt.ItemDataRole.UserRole))
    assert contrast(swatch.pixel(0, 0), palette.role("accent")) >= 4.5


@pytest.mark.parametrize("background", [False, True])
def test_the_shape_that_a_graph_leaves_open_is_asked_for_and_kept(
    background: bool, qtbot: QtBot, store: QSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Path(__file__).parents[1] / "readers" / "data" / "dynamic_batch.mindir"
    asked: list[tuple[str, str]] = []
    answers = [("x=8,sixty", True), ("", False), ("x=8,64", True)]

    def answer(_: object, __: str, label: str, ___: object, suggestion: str) -> tuple[str, bool]:
        asked.append((label, suggestion))
        return answers.pop(0)

    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("910B3", True))
    monkeypatch.setattr(QInputDialog, "getText", answer)
    window = MainWindow(settings=store, background=background)
    qtbot.addWidget(window)
    window.show()

    def wait_for_error(says: str) -> None:
        qtbot.waitUntil(lambda: any(says in text for text in window.problems.errors), timeout=10_000)

    for says in ("is not NAME=1,128", "has open dimensions"):
        window.opener.open([graph])
        wait_for_error(says)
        assert window.session.document.empty
    window.opener.open([graph])
    qtbot.waitUntil(lambda: window.session.document.plan is not None, timeout=20_000)
    assert [suggestion for _, suggestion in asked] == ["x=DIM,64"] * 3
    plan = window.session.document.plan
    assert plan is not None
    assert (8, 256) in {tensor.shape for tensor in plan.tensors}
    assert Settings(store).recent[0].shapes == (("x", (8, 64)),)
    window.close()
    second = make(qtbot, store)
    second.opener.reopen()
    assert second.session.document.plan is not None, "without being asked again"
    second.close()


def test_another_rank_replaces_or_stands_beside(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    folder = next(iter(sorted(shared_data.rglob("*level2*"))), None)
    if folder is None:
        pytest.skip("no profile of several ranks")
    window = make(qtbot)
    window.opener.open([folder])
    profile = window.session.document.profile
    assert profile is not None
    if len(profile.ranks) < 2:
        pytest.skip("no profile of several ranks")
    last = str(profile.ranks[-1])
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: (last, True))
    window.opener.open_rank()
    assert len(window.documents.opened) == 1
    assert window.session.document.rank is not None
    assert str(window.session.document.rank.rank) == last
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: (str(profile.ranks[0]), True))
    window.opener.open_rank(new_tab=True)
    assert len(window.documents.opened) == 2
    window.close()


def test_the_language_is_changed_in_place(qtbot: QtBot, store: QSettings) -> None:
    window = make(qtbot, store)
    window.opener.open([SAMPLES / "llama_train.plan.json"])
    window.commands.run("language-zh")
    assert window.docks["map"].windowTitle() == "内存分布图"
    assert window.commands.menus["File"].title() == "文件(&F)"
    assert window.session.document.plan is not None
    assert Settings(store).language == "zh"
    window.commands.run("language-en")
    assert window.docks["map"].windowTitle() == "Memory map"
    window.close()


def test_profiles_dropped_together_are_all_opened_by_workers(qtbot: QtBot, tmp_path: Path) -> None:
    window = MainWindow(background=True)
    qtbot.addWidget(window)
    window.show()
    others = [other_profile(tmp_path / name) for name in ("one", "two")]
    window.opener.open([PROFILE, *others, PLAN])
    qtbot.waitUntil(lambda: len(window.documents.opened) == 3, timeout=30_000)
    qtbot.waitUntil(lambda: not window.loader.opening, timeout=30_000)
    assert {item.request.profile for item in window.documents.opened} == {PROFILE, *others}
    assert all(item.request.plan == PLAN for item in window.documents.opened)
    window.close()


def test_documents_of_one_name_are_told_apart(tmp_path: Path) -> None:
    documents = OpenDocuments()
    first, second = (shutil.copytree(PROFILE, tmp_path / run / "level2") for run in ("db", "text"))
    documents.show(Request(None, first), open_session(Request(None, first)), new_tab=True)
    assert [str(name) for name in documents.names()] == ["level2"]
    documents.show(Request(None, second), open_session(Request(None, second)), new_tab=True)
    assert [str(name) for name in documents.names()] == ["db/level2", "text/level2"]
    documents.show(Request(PLAN), open_session(Request(PLAN)), new_tab=True)
    documents.show(Request(PLAN), open_session(Request(PLAN)), new_tab=True)
    assert [str(name) for name in documents.names()][2:] == [f"{PLAN.name} (1)", f"{PLAN.name} (2)"]


def test_ranks_and_chips_tell_documents_apart() -> None:
    first = open_session(Request(PLAN, PROFILE))
    other = first.document
    assert other.plan is not None
    assert other.rank is not None
    documents = OpenDocuments(first)
    stand_in = SimpleNamespace(rank=3, span_ns=other.rank.span_ns, tracks=(), memory_components=tuple)
    rank = cast(RankProfile, stand_in)
    documents.add(Request(), Session(replace(other, rank=rank, comparison=None)))
    assert [str(name).rsplit(" · ", 1)[1] for name in documents.names()] == ["rank 0", "rank 3"]
    documents.close(1)
    documents.add(Request(), Session(replace(other, plan=replace(other.plan, chip="Ascend310P3"))))
    assert [str(name).rsplit(" for ", 1)[1] for name in documents.names()] == [other.plan.chip, "Ascend310P3"]


def test_opening_reads_what_the_panel_says_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = open_session(Request(None, PROFILE)).document.rank
    assert isinstance(rank, RankProfile)
    monkeypatch.delattr(TextReader, "device")  # nothing is read any more
    assert rank.device == "NPU:0"
