"""The window is there before anything is imported that only work on a document needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QSettings

from memplan.gui.model.timeline import lane_kernels
from memplan.gui.model.timeline.lanes import build_lane
from memplan.gui.settings import Settings
from memplan.gui.work.preparation import prepare_aside
from tests.gui.conftest import PROFILE

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
    findings, imported for how alike findings are folded, took a tenth of a second.
    """
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    run = subprocess.run(
        [sys.executable, "-c", _EMPTY_WINDOW], capture_output=True, text=True, check=True, env=environment
    )
    loaded = set(run.stdout.split())
    assert "memplan.gui.views.timeline.timeline_view" in loaded
    libraries = {"networkx", "google.protobuf", "numba", "scipy", "pyarrow", "pandas", "mindspore"}
    parts = (
        "align", "cost", "findings.diagnosis", "holders", "imports", "kv", "models", "placement.memory_layout",
        "planner", "traces.readers",
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
    before = len(lane_kernels.fill_cells.signatures)  # type: ignore[attr-defined]
    for column in columns:
        column.flags.writeable = False
    build_lane(*columns, None)
    assert len(lane_kernels.fill_cells.signatures) == before  # type: ignore[attr-defined]


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
window.opener.open_request(Request(None, Path(sys.argv[1])))
while window.session.document.empty:
    qt.processEvents()
window.show_page("timeline")
track = next(track for track in window.session.tracks.all if track.kind == "stream")
while not window.session.tracks.loaded(track):
    qt.processEvents()
print(time.process_time() - begin)
window.close()
"""


@pytest.mark.slow
def test_after_the_preparation_the_first_document_shows_its_first_tracks_at_once(tmp_path: Path) -> None:
    """Went wrong once: the first document after an installation said "reading" in every track for seconds."""
    environment = {
        **os.environ, "QT_QPA_PLATFORM": "offscreen", "NUMBA_CACHE_DIR": str(tmp_path / "compiled"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "memplan.gui.work.preparation"], check=True, env=environment)
    run = subprocess.run(
        [sys.executable, "-c", _FIRST_TRACKS, str(PROFILE)], capture_output=True, text=True, check=True, env=environment
    )
    assert float(run.stdout) < 1.5
