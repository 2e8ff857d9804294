"""The window is there before anything is imported that only work on a document needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
    """Went wrong once: networkx, protobuf, the alignment and the models doubled the time to an empty window."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    run = subprocess.run(
        [sys.executable, "-c", _EMPTY_WINDOW], capture_output=True, text=True, check=True, env=environment
    )
    loaded = set(run.stdout.split())
    assert "memplan.gui.views.timeline.timeline_view" in loaded
    libraries = {"networkx", "google.protobuf", "numba", "scipy", "pyarrow", "pandas", "mindspore"}
    parts = ("align", "cost", "holders", "imports", "kv", "models", "placement.memory_layout", "planner")
    assert not loaded & (libraries | {f"memplan.{part}" for part in parts})
