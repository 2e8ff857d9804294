"""The window over a long time: what it holds after many documents, and what any order of actions does."""

from __future__ import annotations

import gc
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QtMsgType
from PySide6.QtWidgets import QDialog
from pytestqt.qtbot import QtBot

from memplan.gui.model.session.open_request import Request
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.random_user import RandomUser, answer_dialogs, documents
from tests.gui.two_documents import settle

pytestmark = [pytest.mark.gui, pytest.mark.slow]

_SECONDS = float(os.environ.get("MEMPLAN_RANDOM_SECONDS", "60"))


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_rounds_of_opening_comparing_and_closing_hold_no_more(qtbot: QtBot, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("background", [False, True], ids=["at-once", "by-workers"])
def test_no_order_of_actions_ends_in_an_exception(
    background: bool, qtbot: QtBot, qtlog: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    """
    Commands, clicks, keys and what the pages are for, at random, with nothing that Qt warns of.

    pytest-qt fails for whatever a slot raises.
    """
    shared = request.config.rootpath.parent / "shared" / "data"
    seed = int(os.environ.get("MEMPLAN_RANDOM_SEED", random.randrange(1 << 30)))
    chance = random.Random(seed)
    answer_dialogs(monkeypatch, chance, tmp_path)
    window = MainWindow(background=background)
    qtbot.addWidget(window)
    window.resize(1500, 900)
    window.show()
    user = RandomUser(window, chance, documents(tmp_path, shared if shared.is_dir() else None), tmp_path)
    until = time.monotonic() + _SECONDS
    done: Counter[str] = Counter()
    while time.monotonic() < until:
        done[user.act()] += 1
        settle()
        for dialog in window.findChildren(QDialog):
            dialog.close()
    print(f"seed {seed}: {done.total()} actions, {dict(sorted(done.items()))}")
    assert done.total() > 20, f"seed {seed}"
    window.close()
    warned = [record.message for record in qtlog.records if record.type != QtMsgType.QtDebugMsg]
    assert not [text for text in warned if "This plugin does not support" not in text], f"seed {seed}"
