"""The window is there before anything is imported that only work on a document needs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QSettings
from pytestqt.qtbot import QtBot

from memplan.core.progress import Progress
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.timeline import lane_kernels
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.gui.model.timeline.lanes import build_lane
from memplan.gui.settings import Settings
from memplan.gui.views.memory.memory_curve_view import CurveView
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.window.main_window import MainWindow
from memplan.gui.work.preparation import prepare_aside
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui

_EMPTY_WINDOW = """
import sys
from memplan.gui.application import application
from memplan.gui.window.main_window import MainWindow
qt = application()
window = MainWindow()
window.show()
qt.processEvents()
print(*sys.modules)
"""


def test_an_empty_window_imports_nothing_that_only_a_document_needs() -> None:
    """
    Went wrong: networkx, protobuf, the alignment and the models doubled the time to an empty window; the rules of
    findings, imported for how alike findings are folded, took a tenth of a second; every reader of graphs, request,
    report and chip another tenth, for names of types and for what only an open document is asked.
    """
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    run = subprocess.run(
        [sys.executable, "-c", _EMPTY_WINDOW], capture_output=True, text=True, check=True, env=environment
    )
    loaded = set(run.stdout.split())
    assert "memplan.gui.views.timeline.timeline_view" in loaded
    libraries = {"networkx", "google.protobuf", "numba", "scipy", "pyarrow", "pandas", "mindspore"}
    parts = (
        "align", "compare.result", "cost", "findings.diagnosis", "findings.finding", "graph.model", "hardware",
        "holders", "imports", "kv", "models", "placement", "planner", "readers.sniff", "reports", "requests",
        "schema.plan", "traces.rank", "traces.readers",
    )  # fmt: skip
    assert not loaded & (libraries | {f"memplan.{part}" for part in parts})


def test_loops_are_compiled_beforehand_once_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "not-there"))
    settings = Settings(QSettings(str(tmp_path / "kept.ini"), QSettings.Format.IniFormat))
    assert prepare_aside(settings)
    assert not prepare_aside(settings)
    settings.prepared = "0.0 0.0 3.0"
    assert prepare_aside(settings), "another version compiles anew"


def test_mapped_columns_and_own_ones_share_a_compiled_loop() -> None:
    """Went wrong once: prepared on a small trace, the first large one still compiled twelve loops anew, for 5 s."""
    columns = np.arange(1, 5, dtype=np.int64), np.ones(4, dtype=np.int64), np.zeros(4, dtype=np.uint8)
    build_lane(*columns, None)
    compiled: Any = lane_kernels.fill_cells  # typed as what it was compiled from
    before = len(compiled.signatures)
    for column in columns:
        column.flags.writeable = False
    build_lane(*columns, None)
    assert len(compiled.signatures) == before


def test_the_first_tracks_wait_for_no_loop(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Went wrong: what was opened after an installation said "reading" in every track while the loops that draw it were
    compiled. Tracks are drawn by NumPy until then, and the loops take over what is on the screen.
    """
    compiled, load = threading.Event(), DrawingLoops.load

    def slow(self: DrawingLoops, progress: Progress) -> None:
        while not compiled.wait(0.01):
            progress(0, 1, "")
        load(self, progress)

    monkeypatch.setattr(DrawingLoops, "load", slow)
    window = MainWindow()
    qtbot.addWidget(window)
    window.resize(1600, 1000)
    window.show()
    window.opener.open_request(Request(PLAN, PROFILE))
    qtbot.waitUntil(lambda: not window.session.document.empty, timeout=20_000)
    window.show_page("timeline")
    tracks = window.session.tracks
    first = [track for track in tracks.all if track.kind in ("plan", "stream")]

    def drawn(compiled: bool) -> bool:
        return all((lanes := tracks.lanes(track)) is not None and lanes.compiled is compiled for track in first)

    qtbot.waitUntil(lambda: drawn(False), timeout=20_000)
    view = next(view for view in window.findChildren(TimelineView) if view.isVisible())
    before = view.grab().toImage()
    window.show_page("memory")
    curve = next(view for view in window.findChildren(CurveView) if view.isVisible())
    waiting = curve.grab().toImage()
    compiled.set()
    qtbot.waitUntil(lambda: window.session.loops.loaded, timeout=60_000)
    qtbot.waitUntil(lambda: curve.grab().toImage() != waiting, timeout=20_000)
    window.show_page("timeline")
    qtbot.waitUntil(lambda: drawn(True), timeout=20_000)
    settle()
    after = view.grab().toImage()
    pair = [np.frombuffer(image.bits(), dtype=np.uint32) for image in (before, after)]
    assert (pair[0] != pair[1]).mean() < 0.05


_FIRST_TRACKS = """
import sys, time
from pathlib import Path
from memplan.gui.application import application
from memplan.gui.model.session.open_request import Request
from memplan.gui.window.main_window import MainWindow
qt = application()
window = MainWindow()
window.resize(1600, 1000)
window.show()
qt.processEvents()
begin = time.process_time()
window.opener.open_request(Request(*(Path(name) if name else None for name in sys.argv[1:])))
while window.session.document.empty:
    qt.processEvents()
window.show_page("timeline")
track = next(track for track in window.session.tracks.all if track.kind in ("stream", "plan"))
while not window.session.tracks.loaded(track):
    qt.processEvents()
qt.processEvents()
print(time.process_time() - begin)
window.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("opened", [("", PROFILE), (PLAN, ""), (PLAN, PROFILE)], ids=["profile", "plan", "both"])
def test_with_nothing_compiled_the_first_document_shows_its_first_tracks_at_once(
    opened: tuple[object, object], tmp_path: Path
) -> None:
    """Went wrong once: the first document after an installation said "reading" in every track for seconds."""
    environment = {
        **os.environ, "QT_QPA_PLATFORM": "offscreen", "NUMBA_CACHE_DIR": str(tmp_path / "compiled"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }  # fmt: skip
    command = [sys.executable, "-c", _FIRST_TRACKS, *map(str, opened)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(run.stdout) < 1.5
