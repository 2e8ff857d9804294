"""Views as files and on the clipboard, and the plan exported from the window."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PySide6.QtCore import QBuffer, QIODevice, QSize
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from memplan.export import EXPORTERS
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.model.timeline.lanes import Lane
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.timeline.counter_shapes import draw_counters
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.view_export import svg
from memplan.schema import load_plan
from memplan.traces.profile import CounterSeries
from tests.gui.conftest import PLAN

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("suffix", [".png", ".svg", ".csv"])
def test_every_view_is_saved_as_picture_and_table(
    suffix: str, window: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    window.docks.show("roofline")
    plan = window.session.document.plan
    assert plan is not None
    window.session.select(OpRef(max(plan.ops, key=lambda op: op.flops).index))
    for name, view in tuple(window.docks.views.items()):
        target = tmp_path / f"{name}{suffix}"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, target=target: (str(target), ""))
        window.docks.bring(name)
        qtbot.wait(20)
        if name == "statistics":  # counted on a worker
            qtbot.waitUntil(lambda: bool(window.docks.views["statistics"].sheet().rows), timeout=30_000)
        window.exports.save_view(name)
        assert not window.problems.errors
        if suffix == ".csv":
            rows = list(csv.reader(target.open(encoding="utf-8")))
            assert tuple(rows[0]) == view.sheet().header
            assert len(rows) == 1 + len(view.sheet().rows)
            assert len(rows) > 1 or name in ("problems", "transfers", "arcs")
        elif suffix == ".png":
            assert QImage(str(target)).width() >= 200
        else:
            assert ET.parse(target).getroot().tag.endswith("svg")


def test_pictures_of_views_on_the_time_axis_are_vectors_with_a_ruler(window: MainWindow, qtbot: QtBot) -> None:
    canvases = {name: view for name, view in window.docks.widgets().items() if isinstance(view, TimeCanvas)}
    assert {"timeline", "map", "curve", "process", "difference", "arcs"} <= set(canvases)
    for name, view in canvases.items():
        window.docks.bring(name)
        QApplication.processEvents()
        drawn = svg(view).decode()
        assert "<image" not in drawn, name
        assert ">200 µs<" in drawn or ">500 µs<" in drawn, f"{name}: the ruler is in every picture"
    assert canvases["curve"].ruler_px == 0, "in the window one ruler is enough"


def test_counters_of_one_track_are_all_in_its_picture_to_one_scale(qtbot: QtBot) -> None:
    times = np.array([0, 100], dtype=np.int64)
    counters = [CounterSeries("read", "GB/s", times, np.array([50.0, 50.0])),
                CounterSeries("write", "GB/s", times, np.array([10.0, 10.0]))]  # fmt: skip
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(QSize(50, 44))
    painter = QPainter(generator)
    draw_counters(painter, counters, np.arange(0, 51, 5), (0.0, 0.0, 44.0), load_palette().category)
    painter.end()
    shapes = re.findall(r'points="([^"]*)"|<path[^>]* d="([^"]*)"', bytes(buffer.data().data()).decode())
    heights = sorted(
        44 - min(float(y) for y in re.findall(r"[\d.]+,([\d.]+)", points or path)) for points, path in shapes
    )
    assert heights == pytest.approx([8.0, 40.0], abs=0.5)


def test_saving_and_copying_go_by_the_view_with_the_keyboard(
    window: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    window.activateWindow()
    window.docks.bring("deviations")
    window.docks.view(DeviationsView).table.setFocus()
    qtbot.waitUntil(lambda: window.docks.active() == "deviations", timeout=2000)
    window.commands.run("copy-view")
    lines = QGuiApplication.clipboard().text().splitlines()
    assert len(lines) == 1 + len(window.docks.view(DeviationsView).model.rows)
    assert lines[0].split("\t") == list(window.docks.view(DeviationsView).sheet().header)
    assert not QGuiApplication.clipboard().image().isNull()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "differences"), "CSV (*.csv)"))
    window.commands.run("save-view")
    assert (tmp_path / "differences.csv").read_text(encoding="utf-8") == window.docks.view(
        DeviationsView
    ).sheet().text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "no" / "such.csv"), ""))
    window.commands.run("save-view")
    assert "such.csv" in window.problems.errors[0]
    window.commands.run("copy-window")
    assert not QGuiApplication.clipboard().image().isNull()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "window.png"), ""))
    window.commands.run("save-window")
    assert QImage(str(tmp_path / "window.png")).width() >= window.width()


def test_a_full_disk_is_a_line_and_leaves_the_old_file(
    window: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "map.csv"
    target.write_text("old", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("memplan.core.files.os.fsync", full)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    window.exports.save_view("map")
    assert "No space left" in window.problems.errors[0]
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["memplan", "csv", "chrome-trace"])
def test_the_plan_is_exported(
    kind: str, window: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    target = tmp_path / ("tables" if kind == "csv" else "plan.json")

    def choose(*arguments: object) -> tuple[str, str]:
        offered = str(arguments[3]).split(";;")
        return str(target), offered[["memplan", *EXPORTERS].index(kind)]

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    window.commands.run("export-plan")
    qtbot.waitUntil(lambda: str(target) in window.statusBar().currentMessage(), timeout=5000)
    if kind == "memplan":
        assert load_plan(target) == window.session.document.plan
    elif kind == "csv":
        assert {path.name for path in target.iterdir()} >= {"ops.csv", "tensors.csv"}
    else:
        assert json.loads(target.read_text(encoding="utf-8"))


def test_a_long_table_is_written_and_copied_on_a_worker(
    qtbot: QtBot, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)
    window.show()
    for track in session.tracks.all:
        session.tracks.load(track)
    target = tmp_path / "slices.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), ""))
    QGuiApplication.clipboard().clear()
    window.exports.save_view("timeline")
    window.exports.copy_view("timeline")
    assert window.jobs.running
    qtbot.waitUntil(target.exists, timeout=10_000)
    qtbot.waitUntil(lambda: QGuiApplication.clipboard().text() != "", timeout=10_000)
    lines = target.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + sum(len(lane.start_ns) for lane in every_lane(session))
    assert len(QGuiApplication.clipboard().text().splitlines()) == len(lines)
    window.close()


def test_what_was_copied_does_not_outlive_the_app_in_a_way_that_crashes() -> None:
    code = (
        "import sys; from pathlib import Path; from memplan.gui.application import application; qt = application();"
        "from memplan.gui.model.session.open_request import Request, open_session;"
        "from memplan.gui.window.main_window import MainWindow;"
        "window = MainWindow(open_session(Request(Path(sys.argv[1]))), background=False); window.show();"
        "window.exports.copy_view('curve'); qt.processEvents(); window.close()"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(PLAN)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def every_lane(session: Session) -> list[Lane]:
    """All lanes of the session's rows."""
    found = [session.tracks.lanes(track) for track in session.tracks.all]
    return [lane for lanes in found if lanes is not None for lane in lanes.lanes]
