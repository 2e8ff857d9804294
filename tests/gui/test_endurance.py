"""The window over a long time: what it holds after many documents, and what any order of actions does."""

from __future__ import annotations

import gc
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog, QInputDialog

from memplan.gui.model.session.open_request import Request
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.two_documents import settle

pytestmark = [pytest.mark.gui, pytest.mark.slow]

_ENDS = frozenset({"close"})
_SECONDS = float(os.environ.get("MEMPLAN_RANDOM_SECONDS", "60"))


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_rounds_of_opening_comparing_and_closing_hold_no_more(qtbot: Any, tmp_path: Path) -> None:
    """Went wrong once: 2.7 MB a round."""
    other = tmp_path / "other"
    shutil.copytree(PROFILE, other)
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1600, 1000)
    window.show()
    held = []
    for _ in range(20):
        window.opener.open_request(Request(PLAN, PROFILE))
        settle()
        window.opener.open_request(Request(None, other), new_tab=True)
        window.show_page("timeline")
        settle()
        window.documents.select(0)
        for _ in range(2):
            window.commands.run("side-by-side")
            settle()
        window.opener.close(1)
        window.opener.close(0)
        settle()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()  # what is only waiting for its turn is not held
        held.append(resident_mb())
    assert held[-1] - held[2] < 5, held


def test_no_order_of_actions_ends_in_an_exception(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, clicks, drags and keys at random; pytest-qt fails for whatever a slot raises."""
    other = tmp_path / "other"
    shutil.copytree(PROFILE, other)
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_, **__: ([], ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: ("", ""))
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_, **__: ("", False))
    monkeypatch.setattr(QInputDialog, "getInt", lambda *_, **__: (1, True))
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1500, 900)
    window.show()
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    until, done = time.monotonic() + _SECONDS, 0
    while time.monotonic() < until:
        _act(window, chance, other)
        done += 1
        settle()
        for dialog in window.findChildren(QDialog):
            dialog.close()
    assert done > 20, f"seed {seed}"
    window.close()


def _act(window: MainWindow, chance: random.Random, other: Path) -> None:
    """One action of a user who does anything."""
    kind = chance.random()
    if kind < 0.06:
        request = chance.choice([Request(PLAN, PROFILE), Request(PLAN), Request(None, PROFILE), Request(PLAN, other)])
        window.opener.open_request(request, new_tab=chance.random() < 0.4)
    elif kind < 0.09:
        window.opener.close()
    elif kind < 0.5:
        names = [name for name, action in window.commands.actions.items() if action.isEnabled()]
        name = chance.choice(names)
        if name not in _ENDS:
            window.commands.run(name)
    else:
        views = [view for view in window.docks.widgets().values() if not view.visibleRegion().isEmpty()]
        view = chance.choice(views or [window])
        places = [QPoint(chance.randrange(max(view.width(), 1)), chance.randrange(max(view.height(), 1))) for _ in "ab"]
        target = view.childAt(places[0]) or view
        at = target.mapFrom(view, places[0]) if target is not view else places[0]
        held = chance.choice([Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier])
        if kind < 0.75:
            QTest.mouseClick(target, Qt.MouseButton.LeftButton, held, at)
        elif kind < 0.8:
            QTest.mouseDClick(target, Qt.MouseButton.LeftButton, held, at)
        elif kind < 0.9:
            QTest.mousePress(target, Qt.MouseButton.LeftButton, held, at)
            QTest.mouseMove(target, places[1])
            QTest.mouseRelease(target, Qt.MouseButton.LeftButton, held, places[1])
        else:
            key = chance.choice([Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_Return, Qt.Key.Key_Tab, Qt.Key.Key_Right])
            QTest.keyClick(QApplication.focusWidget() or view, key)
