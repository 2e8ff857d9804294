"""What goes wrong around the window: a line in the problems panel, what was open stays, nothing is lost."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QSettings
from pytestqt.qtbot import QtBot

from memplan.cli import main
from memplan.core.errors import InputError
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import FileRemark, Request, open_session
from memplan.gui.model.timeline import timeline_tracks
from memplan.gui.model.timeline.lanes import build_lanes
from memplan.gui.settings import Settings
from memplan.gui.views.problems_panel import ProblemsView
from memplan.gui.window.export_dialogs import OWN_FORMAT
from memplan.gui.window.main_window import MainWindow
from memplan.gui.work import loader
from memplan.schema import load_plan
from memplan.traces.readers import trace_file
from memplan.traces.timeline import store
from tests.gui.conftest import PLAN, PROFILE, SAMPLES

pytestmark = pytest.mark.gui


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trace counts as large, and is imported into the cache."""
    monkeypatch.setattr(trace_file, "SMALL", 1000)


def opened(qtbot: QtBot, request: Request) -> MainWindow:
    """A window that has read `request` on its workers, every track included."""
    window = MainWindow()
    qtbot.addWidget(window)
    window.show()
    window.opener.open_request(request)
    qtbot.waitUntil(lambda: not window.session.document.empty or bool(window.problems.errors), timeout=30_000)
    read_all(qtbot, window)
    return window


def read_all(qtbot: QtBot, window: MainWindow) -> None:
    """Have every track read, as a search does."""
    window.commands.run("find")
    tracks = window.session.tracks
    qtbot.waitUntil(
        lambda: all(tracks.loaded(track) for track in tracks.all) and not window.jobs.running, timeout=30_000
    )


def said(window: MainWindow) -> str:
    """Everything in the problems panel."""
    return "\n".join([*window.problems.errors, *(str(remark.text) for remark in window.problems.remarks)])


def test_a_cache_that_cannot_be_written_is_a_line(
    qtbot: QtBot, large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    window = opened(qtbot, Request(PLAN, PROFILE))
    assert "can't be kept" in said(window)
    assert window.session.document.comparison is not None
    assert window.session.tracks.unreadable == {}
    window.close()


def test_a_full_disk_during_the_import_is_a_line(qtbot: QtBot, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, column: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    window = opened(qtbot, Request(PLAN, PROFILE))
    assert "No space left on device" in said(window)
    assert window.session.document.comparison is not None
    window.close()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("the worker's own fault"), InputError("no good")])
def test_a_worker_that_fails_leaves_what_was_open(
    error: Exception, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    window = opened(qtbot, Request(PLAN))
    shown = window.session

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(loader, "open_session", fail)
    window.opener.open_request(Request(PLAN, PROFILE))
    qtbot.waitUntil(lambda: bool(window.problems.errors), timeout=10_000)
    (line,) = window.problems.errors
    assert (str(error) or type(error).__name__) in line
    assert "\n" not in line
    assert window.session is shown
    monkeypatch.undo()
    window.opener.open_request(Request(PLAN, PROFILE))
    qtbot.waitUntil(lambda: window.session.document.profile is not None, timeout=30_000)
    window.close()


def test_a_track_that_cannot_be_read_does_not_stop_the_others(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(slices: Any, compiled: bool) -> Any:
        if len(slices) == bad.count:
            raise OSError(errno.EIO, "Input/output error")
        return build_lanes(slices, compiled=compiled)

    bad = next(track for track in open_session(Request(PLAN, PROFILE)).tracks.all if track.label == "Free")
    monkeypatch.setattr(timeline_tracks, "build_lanes", some)
    window = opened(qtbot, Request(PLAN, PROFILE))
    shown = window.session.tracks
    assert "Input/output error" in said(window)
    assert list(shown.unreadable) == [bad.key]
    assert all(shown.lanes(track) or shown.counters(track) for track in shown.all if track.key != bad.key)
    window.grab()
    window.close()


def test_settings_that_cannot_be_written_do_not_matter(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = QSettings(str(tmp_path / "file" / "memplan.ini"), QSettings.Format.IniFormat)
    window = MainWindow(open_session(Request(PLAN)), settings=kept, background=False)
    qtbot.addWidget(window)
    window.show()
    window.commands.run("theme-dark")
    window.close()
    kept.sync()
    assert (tmp_path / "file").read_text() == "in the way"
    assert Settings(kept).palette.theme in ("dark", "light")


def test_a_plan_that_cannot_be_written_is_a_line(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    window = opened(qtbot, Request(PLAN))

    def wait_for_errors(more_than: int) -> None:
        qtbot.waitUntil(lambda: len(window.problems.errors) > more_than, timeout=10_000)

    for to in (OWN_FORMAT, "chrome-trace", "csv"):
        before = len(window.problems.errors)
        window.exports.write_plan(load_plan(PLAN), to, tmp_path / "file" / to)
        wait_for_errors(before)
        assert str(tmp_path / "file") in window.problems.errors[0]
    assert (tmp_path / "file").read_text() == "in the way"
    window.close()


@pytest.mark.parametrize(
    ("name", "kept", "line"),
    [
        ("trace_view.json", 0.5, "trace_view.json"),
        ("trace_view.json", 0.0, "trace_view.json"),
        ("kernel_details.csv", 0.5, "kernel_details.csv"),
        ("memory_record.csv", 0.0, "memory_record.csv"),
    ],
)
def test_a_damaged_file_is_named(name: str, kept: float, line: str, qtbot: QtBot, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(PROFILE, folder)
    path = next(folder.rglob(name))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    window = opened(qtbot, Request(PLAN, folder))
    assert line in said(window)
    assert window.session.tracks.all, "the rest is shown"
    assert path.read_bytes() == content[: int(len(content) * kept)]
    window.close()


def test_two_windows_import_one_folder_at_once(qtbot: QtBot, large: None) -> None:
    windows = [MainWindow() for _ in range(2)]
    for window in windows:
        qtbot.addWidget(window)
        window.show()
        window.opener.open_request(Request(PLAN, PROFILE))
    qtbot.waitUntil(lambda: not any(window.session.document.empty for window in windows), timeout=30_000)
    for window in windows:
        read_all(qtbot, window)
        assert window.problems.errors == []
        assert window.session.tracks.unreadable == {}
    first, second = ([track.key for track in window.session.tracks.all] for window in windows)
    assert first == second
    for window in windows:
        window.close()


def test_notes_on_files_deep_in_folders_are_wrapped_not_cut(qtbot: QtBot) -> None:
    view = ProblemsView(load_palette())
    qtbot.addWidget(view)
    view.resize(300, 400)
    view.show()
    qtbot.waitExposed(view)
    path = "PROF_000001_20230818142704322_COJGGGCANRMICFBC/device_0/timeline/hccl_0_2_1.json: not read"
    view.show_remarks([FileRemark(path)])
    view.add_error(path)
    view.add_error(path)
    view.grab()
    assert view.count() == 3  # with the heading of what is lost
    assert view.horizontalScrollBar().maximum() == 0
    assert all(view.visualItemRect(view.item(row)).width() <= view.viewport().width() for row in range(3))
    lines = view.visualItemRect(view.item(2)).height() / view.fontMetrics().height()
    assert lines > view.fontMetrics().horizontalAdvance(path) / view.viewport().width()
    assert view.item(2).toolTip() == path
    assert view.sheet().rows == [("error", path), ("lost", path)]


def test_without_a_display_a_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert main(["gui", str(PLAN)]) == 2
    assert "there is no display" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gui", "missing.json"], "no such file"),
        (["gui", str(PLAN), "missing"], "no such file"),
        (["gui", str(PLAN), "--render", "file/out"], "can't be written"),
        (["gui", str(SAMPLES / "cnn.mindir"), "--render", "out"], "needs a chip"),
        (["gui", str(SAMPLES / "cnn.mindir"), "--chip", "none", "--render", "out"], "none"),
    ],
)
def test_what_cannot_be_opened_or_drawn_is_a_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_graph_is_drawn_for_the_chip_that_is_named(tmp_path: Path) -> None:
    assert main(["gui", str(SAMPLES / "cnn.mindir"), "--chip", "910B3", "--render", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["window-dark.png", "window-light.png"]


def test_files_are_opened_in_the_background_and_errors_go_to_the_panel(qtbot: QtBot, tmp_path: Path) -> None:
    window = MainWindow()
    qtbot.addWidget(window)
    window.show()
    window.opener.open_request(Request(PLAN, PROFILE))
    assert window.session.document.empty
    qtbot.waitUntil(lambda: not window.session.document.empty, timeout=20_000)
    assert window.session.document.comparison is not None
    window.opener.open([tmp_path / "missing.json"])
    qtbot.waitUntil(lambda: bool(window.problems.errors), timeout=20_000)
    assert "missing.json" in window.problems.errors[0]
    assert not window.session.document.empty
    window.close()


def test_a_profile_deleted_while_open_is_a_line_in_the_panel_or_still_shown(qtbot: QtBot, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(PROFILE, folder)
    window = MainWindow()
    qtbot.addWidget(window)
    window.opener.open_request(Request(PLAN, folder))
    qtbot.waitUntil(lambda: not window.session.document.empty, timeout=20_000)
    shutil.rmtree(folder)
    window.show()
    window.commands.run("find")
    tracks = window.session.tracks
    qtbot.waitUntil(
        lambda: bool(window.problems.errors) or all(tracks.loaded(track) for track in tracks.all), timeout=20_000
    )
    window.opener.open_request(Request(PLAN, folder))
    qtbot.waitUntil(lambda: any("run" in text for text in window.problems.errors), timeout=20_000)
    assert not window.session.document.empty
    window.close()


@pytest.mark.parametrize("name", ["trace_view.json", "kernel_details.csv", "memory_record.csv"])
def test_a_broken_profile_opens_with_what_it_has(name: str, qtbot: QtBot, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(PROFILE, folder)
    path = next(folder.rglob(name))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.opener.open_request(Request(PLAN, folder))
    window.show()
    window.commands.run("find")
    window.grab()
    assert not window.session.document.empty
    assert window.session.tracks.all
    window.close()


def test_two_windows_may_show_one_folder(qtbot: QtBot) -> None:
    windows = [MainWindow(background=False) for _ in range(2)]
    for window in windows:
        qtbot.addWidget(window)
        window.opener.open_request(Request(PLAN, PROFILE))
        window.show()
    windows[0].session.viewport.zoom(0.1, 0.0)
    assert windows[1].session.viewport.span > windows[0].session.viewport.span
    for window in windows:
        window.close()
