"""Two windows at once under hundreds of actions by chance: each goes on showing one document, and keeps no other."""

from __future__ import annotations

import gc
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QtMsgType
from PySide6.QtWidgets import QDialog
from pytestqt.qtbot import QtBot

from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.session import Session, SliceRef
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.side_by_side_controller import TABLE, VIEW
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.hands import Hands
from tests.gui.random_user import RandomUser, answer_dialogs, documents
from tests.gui.two_documents import settle

pytestmark = [pytest.mark.gui, pytest.mark.slow]

_ACTIONS = 600
_EVERY = 4
"""Every so many actions are of files that come and go rather than of what is seen."""
_HUGE = 256 << 20


def dropped(folder: Path) -> list[Path]:
    """What is dropped on windows: right files, and wrong, empty, huge, broken and missing ones."""
    written = {
        "letter.txt": b"Dear reader,\n", "empty.json": b"", "half.plan.json": PLAN.read_bytes()[:5000],
        "binary.db": bytes(range(256)) * 40, "list.json": b"[1, 2, 3]", "not.mindir": b"\x08\x96\x01" * 50,
    }  # fmt: skip
    bad = folder / "dropped"
    (bad / "nothing").mkdir(parents=True)
    for name, content in written.items():
        (bad / name).write_bytes(content)
    with (bad / "huge.json").open("wb") as file:
        file.truncate(_HUGE)  # of nothing but zeros, and without a place on the disk
    return [PLAN, PROFILE, bad / "nothing", bad / "huge.json", bad / "gone.json", *(bad / name for name in written)]


class _Visitor:
    """Someone who opens what comes and goes, and stops what is under way."""

    def __init__(self, window: MainWindow, chance: random.Random, requests: list[Request], folder: Path) -> None:
        self._window, self._chance, self._requests, self._folder = window, chance, requests, folder
        self._files = dropped(folder)
        self._hands, self._copies = Hands(window), 0

    def act(self) -> str:
        """One action; returns its kind."""
        kinds: list[Callable[[], None]] = [self.drop, self.drop_two, self.other_meanwhile, self.cancel, self.vanish]
        act = self._chance.choice(kinds)
        act()
        return act.__name__

    def drop(self) -> None:
        self._hands.drop(self._chance.choice(self._files))

    def drop_two(self) -> None:
        self._hands.drop(*self._chance.sample(self._files, 2))

    def other_meanwhile(self) -> None:
        """Ask for another document before the first is there."""
        for request in self._chance.choices(self._requests, k=3):
            self._window.opener.open_request(request)

    def cancel(self) -> None:
        self._window.opener.open_request(self._chance.choice(self._requests))
        for job in list(self._window.jobs.running):
            job.cancel()

    def vanish(self) -> None:
        """Open a profile of which the files go."""
        self._copies += 1
        copy = self._folder / f"copy{self._copies}"
        shutil.copytree(PROFILE, copy)
        self._window.opener.open_request(Request(None, copy))
        if self._chance.random() < 0.5:
            settle()
        shutil.rmtree(copy)


def check_one_document(window: MainWindow) -> None:
    """Title, views, search and selection are all of the document in front."""
    session = window.session
    assert window.windowTitle().startswith(session.document.name or "memplan")
    shown = {name: view.session for name, view in window.docks.widgets().items() if hasattr(view, "session")}
    assert not [name for name, other in shown.items() if other is not session and name not in (VIEW, TABLE)]
    assert len(shown) > 5
    assert window.search.session is session
    if isinstance(session.selected, SliceRef):
        lanes = session.tracks.lanes(session.tracks.track(session.selected.track))
        assert lanes is None or session.selected.index < len(lanes.slices)


def close_all(window: MainWindow, qtbot: QtBot) -> None:
    """Close every document, once nothing is on its way any more."""
    qtbot.waitUntil(lambda: not window.jobs.running, timeout=120_000)
    while not window.session.document.empty:
        window.opener.close()
        settle()


@pytest.mark.parametrize("seed", [7, 20261128])
def test_two_windows_each_show_one_document_whatever_is_done(
    seed: int, qtbot: QtBot, qtlog: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    """pytest-qt fails for whatever a slot raises; workers make the order of what ends first one of chance as well."""
    shared = request.config.rootpath.parent / "shared" / "data"
    chance = random.Random(seed)
    answer_dialogs(monkeypatch, chance, tmp_path)
    windows, users = [], []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        window = MainWindow(background=True)
        qtbot.addWidget(window)
        window.resize(1300, 800)
        window.show()
        requests = documents(folder, shared if shared.is_dir() else None)
        windows.append(window)
        users.append((RandomUser(window, chance, requests, folder), _Visitor(window, chance, requests, folder)))
    done: Counter[str] = Counter()
    for number in range(_ACTIONS):
        user = users[chance.randrange(2)][number % _EVERY == 0]
        done[user.act()] += 1
        settle()
        for window in windows:
            for dialog in window.findChildren(QDialog):
                dialog.close()
            check_one_document(window)
        assert windows[0].session is not windows[1].session
    print(f"seed {seed}: {dict(sorted(done.items()))}")
    for window in windows:
        close_all(window, qtbot)
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    held = [one.document.name for one in gc.get_objects() if isinstance(one, Session)]
    assert len(held) <= 2 * len(windows), held  # an empty one of each, and what was opened last to be reopened
    for window in windows:
        window.close()
    warned = [record.message for record in qtlog.records if record.type != QtMsgType.QtDebugMsg]
    assert not [text for text in warned if "This plugin does not support" not in text], f"seed {seed}"
