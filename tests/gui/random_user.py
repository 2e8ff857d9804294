"""Someone who does anything to a window, by chance: what is opened, clicked, typed, dragged and answered."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QInputDialog, QWidget

from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.view_file import VIEW_SUFFIX
from memplan.gui.views.kv.kv_budget_view import KvBudgetView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.planning.planning_view import PlanningView
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.window.main_window import MainWindow
from memplan.schema import load_plan
from memplan.simulator import chosen_fault, simulate_job
from tests.gui.conftest import PLAN, PROFILE, SAMPLES
from tests.gui.two_documents import settle, wheel
from tests.traces.excerpts import database, mindspore_2023, snapshot

_ENDS = frozenset({"close"})


def documents(folder: Path, shared: Path | None) -> list[Request]:
    """What is opened at random: every kind of document, those of `shared`, a folder of real files, with them."""
    other = folder / "other"
    shutil.copytree(PROFILE, other)
    (folder / "database").mkdir()
    (folder / "mindspore").mkdir()
    job = simulate_job(load_plan(PLAN), folder / "job", fault=chosen_fault("slow-rank"), ranks=16, steps=2, seed=3)
    requests = [
        Request(PLAN, PROFILE),
        Request(PLAN, PROFILE, own_clock=True),
        Request(None, PROFILE),
        Request(PLAN, other),
        Request(PLAN),
        Request(SAMPLES / "cnn.mindir", chip="910B3"),
        Request(None, job),
        Request(PLAN, job, rank=5),
        Request(None, snapshot(folder)),
        Request(None, database(folder / "database")),
        Request(None, mindspore_2023(folder / "mindspore")),
        Request(None, folder / "gone"),
    ]
    if shared is not None:
        found = [shared / "profiles" / name for name in ("alexnet-ddp-2rank/db/level2", "gpt3-2023-handcut")]
        found += [*sorted((shared / "snapshots").glob("*.pkl")), shared / "profiles" / "cluster-16rank"]
        requests += [Request(None, path) for path in found if path.exists()]
    return requests


def answer_dialogs(monkeypatch: pytest.MonkeyPatch, chance: random.Random, folder: Path) -> None:
    """Choose in the system's dialogs of files, which no test can click: open a graph, write into `folder`."""

    def written(_parent: Any, _title: str, name: str, *_: Any) -> tuple[str, str]:
        return (str(folder / Path(name or "view.png").name), "") if chance.random() < 0.5 else ("", "")

    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(SAMPLES / "cnn.mindir"), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_, **__: ([], ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", written)
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_, **__: ("", False))
    monkeypatch.setattr(QInputDialog, "getInt", lambda *_, **__: (1, True))


class RandomUser:
    """Someone who does anything to `window`."""

    def __init__(self, window: MainWindow, chance: random.Random, requests: list[Request], folder: Path) -> None:
        self._window, self._chance = window, chance
        self._requests, self._folder = requests, folder

    def act(self) -> str:
        """One action; returns its kind."""
        kinds = {
            self.open: 6,
            self.close: 3,
            self.command: 36,
            self.plan: 2,
            self.budget: 2,
            self.size: 2,
            self.compare: 2,
            self.map: 5,
            self.clock: 3,
            self.filter: 4,
            self.share: 4,
            self.click: 20,
            self.double_click: 5,
            self.drag: 8,
            self.key: 8,
            self.wheel: 5,
        }
        act = self._chance.choices(list(kinds), list(kinds.values()))[0]
        act()
        return act.__name__

    def open(self) -> None:
        self._window.opener.open_request(self._chance.choice(self._requests), new_tab=self._chance.random() < 0.4)

    def close(self) -> None:
        self._window.opener.close()

    def command(self) -> None:
        self._window.commands.refresh()
        names = [name for name, action in self._window.commands.actions.items() if action.isEnabled()]
        name = self._chance.choice(names)
        if name not in _ENDS:
            self._window.commands.run(name)

    def plan(self) -> None:
        """Slide the memory of a plan, and perhaps open what came of it."""
        self._window.show_page("planning")
        view = self._window.docks.view(PlanningView)
        view.form.show_source(SAMPLES / "cnn.mindir")
        settle()
        view.hbm.slider.setValue(self._chance.randint(0, view.hbm.slider.maximum()))
        settle()
        button = view.buttons[self._chance.choice(list(view.buttons))]
        if button.isVisible() and button.isEnabled():
            button.click()

    def map(self) -> None:
        """Turn the map to what is planned or what was measured."""
        self._window.show_page("memory")
        view = self._window.docks.view(MemoryMapView)
        button = self._chance.choice(list(view.switch.buttons.values()))
        if button.isVisible():
            button.click()

    def clock(self) -> None:
        self._window.commands.refresh()
        if self._window.commands.actions["own-clock"].isEnabled():
            self._window.commands.run("own-clock")

    def filter(self) -> None:
        self._window.show_page("timeline")
        text = self._chance.choice(["", "aicore", "(", "no such track", "AI_.*"])
        self._window.docks.view(TimelineView).filter.setText(text)

    def share(self) -> None:
        """Write a report, or where the window stands; or go to where it stood once."""
        self._window.commands.refresh()
        name = self._chance.choice(["save-place", "report", ""])
        views = sorted(self._folder.glob(f"*{VIEW_SUFFIX}"))
        if name and self._window.commands.actions[name].isEnabled():
            self._window.commands.run(name)
        elif views:
            self._window.opener.open([self._chance.choice(views)])

    def budget(self) -> None:
        """Another model in the KV budget, perhaps with less memory."""
        self._window.show_page("kv")
        view = self._window.docks.view(KvBudgetView)
        if self._chance.random() < 0.5:
            view.show_model(SAMPLES / "example_config.json")

    def size(self) -> None:
        self._window.resize(self._chance.choice([900, 1280, 2200]), self._chance.choice([560, 720, 1300]))

    def compare(self) -> None:
        """Two documents beside each other."""
        for place in range(2):
            self._window.opener.open_request(self._chance.choice(self._requests), new_tab=bool(place))
        self._window.commands.refresh()
        if self._window.commands.actions["side-by-side"].isEnabled():
            self._window.commands.run("side-by-side")

    def _place(self) -> tuple[QWidget, QPoint, QPoint]:
        """A widget that can be seen, a place in it and another one in its view."""
        views = [view for view in self._window.docks.widgets().values() if not view.visibleRegion().isEmpty()]
        view = self._chance.choice(views or [self._window])
        places = [
            QPoint(self._chance.randrange(max(view.width(), 1)), self._chance.randrange(max(view.height(), 1)))
            for _ in "ab"
        ]
        target = view.childAt(places[0]) or view
        return target, target.mapFrom(view, places[0]) if target is not view else places[0], places[1]

    def _held(self) -> Qt.KeyboardModifier:
        return self._chance.choice([Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier])

    def click(self) -> None:
        target, at, _ = self._place()
        QTest.mouseClick(target, Qt.MouseButton.LeftButton, self._held(), at)

    def double_click(self) -> None:
        target, at, _ = self._place()
        QTest.mouseDClick(target, Qt.MouseButton.LeftButton, self._held(), at)

    def drag(self) -> None:
        target, at, to = self._place()
        held = self._held()
        QTest.mousePress(target, Qt.MouseButton.LeftButton, held, at)
        QTest.mouseMove(target, to)
        QTest.mouseRelease(target, Qt.MouseButton.LeftButton, held, to)

    def key(self) -> None:
        key = self._chance.choice([Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_Return, Qt.Key.Key_Tab, Qt.Key.Key_Right])
        QTest.keyClick(QApplication.focusWidget() or self._place()[0], key)

    def wheel(self) -> None:
        """Roll, or zoom with Ctrl held."""
        target, at, _ = self._place()
        held = self._chance.choice([Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier])
        wheel(target, self._chance.choice([-3, -1, 1, 3]), at, held)
