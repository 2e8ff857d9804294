"""Every command of the window, done with its own keys, and seen to do what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtGui import QGuiApplication, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog, QInputDialog

from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.session import SliceRef
from memplan.gui.views.colours_dialog import ColoursDialog
from memplan.gui.views.command_palette import CommandPalette
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.kernel.kernel_view import KernelView
from memplan.gui.views.plan_model_dialog import PlanModelDialog
from memplan.gui.window.main_window import MainWindow
from memplan.schema import load_plan
from tests.gui.conftest import PLAN, PROFILE, SAMPLES

pytestmark = pytest.mark.gui


@dataclass
class Scene:
    """A window with the sample, and hands to drive it."""

    window: MainWindow
    qtbot: Any
    monkeypatch: pytest.MonkeyPatch
    folder: Path

    def press(self, name: str) -> None:
        """Do a command: by its first key where it has one, else by its entry in the menu."""
        command = next(command for command in self.window.commands.commands if command.name == name)
        self.window.commands.refresh()
        self.window.activateWindow()
        self.window.timeline.setFocus()
        QApplication.processEvents()
        if not command.keys:
            self.window.commands.actions[name].trigger()
            return
        count = []
        self.window.commands.actions[name].triggered.connect(lambda *_: count.append(1))
        QTest.keySequence(self.window, QKeySequence(command.keys[0]))
        if not count:
            # Offscreen there is no window manager to make the window active: the action gets the key's event itself.
            assert self.window.commands.actions[name].shortcut() == QKeySequence(command.keys[0])
            self.window.commands.actions[name].trigger()

    def answer(self, dialog: type, method: str, answer: object) -> list[tuple[object, ...]]:
        """Answer a dialog of Qt's; returns what it was asked."""
        asked: list[tuple[object, ...]] = []

        def reply(*arguments: object, **_: object) -> object:
            asked.append(arguments)
            return answer

        self.monkeypatch.setattr(dialog, method, reply)
        return asked

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to hold."""
        self.qtbot.waitUntil(holds, timeout=10_000)

    @property
    def span(self) -> float:
        """Visible nanoseconds."""
        return self.window.session.viewport.span

    def zoom_in(self) -> None:
        """Show a tenth of the time."""
        viewport = self.window.session.viewport
        viewport.zoom(0.1, viewport.start + viewport.span / 2)

    def select_a_kernel(self) -> SliceRef:
        """Select a slice of a stream."""
        tracks = self.window.session.tracks
        track = next(track for track in tracks.all if track.kind == "stream")
        tracks.load(track)
        item = SliceRef(track.key, 5)
        self.window.session.select(item)
        return item

    def dialog(self, kind: type[QDialog]) -> Any:
        """The open dialog of that kind."""
        return next(child for child in self.window.findChildren(kind) if child.isVisible())


def _open_file(scene: Scene) -> None:
    scene.answer(QFileDialog, "getOpenFileNames", ([str(SAMPLES / "llama_train.plan.json")], ""))
    scene.window.opener.close()
    scene.press("open-file")
    assert scene.window.session.document.plan is not None
    assert scene.window.session.document.profile is None


def _open_folder(scene: Scene) -> None:
    scene.answer(QFileDialog, "getExistingDirectory", str(PROFILE))
    scene.window.opener.close()
    scene.press("open-folder")
    assert scene.window.session.document.profile is not None


def _plan_model(scene: Scene) -> None:
    scene.press("plan-model")
    dialog = next(item for item in scene.window.findChildren(PlanModelDialog) if item.isVisible())
    dialog.reject()


def _open_recent(scene: Scene) -> None:
    scene.window.opener.open_request(Request(PLAN, PROFILE))
    scene.window.opener.close()
    asked = scene.answer(QInputDialog, "getItem", (f"{PLAN} + {PROFILE}", True))
    scene.press("open-recent")
    if scene.window.settings.recent:
        assert asked
    else:  # nothing is kept without a store
        assert "Nothing was opened" in scene.window.statusBar().currentMessage()


def _open_sample(scene: Scene) -> None:
    scene.window.opener.close()
    scene.press("open-sample")
    assert scene.window.session.document.simulated


def _cancel(scene: Scene) -> None:
    scene.window.jobs.background = True
    scene.window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
    scene.press("cancel")
    scene.until(lambda: not scene.window.jobs.running)
    assert len(scene.window.documents.opened) == 1


def _export(scene: Scene) -> None:
    target = scene.folder / "out.json"
    scene.answer(QFileDialog, "getSaveFileName", (str(target), ""))
    scene.press("export-plan")
    scene.until(target.exists)
    assert load_plan(target).ops


def _save_view(scene: Scene) -> None:
    target = scene.folder / "view.csv"
    scene.answer(QFileDialog, "getSaveFileName", (str(target), ""))
    scene.press("save-view")
    assert target.read_text(encoding="utf-8").startswith("group,track,depth,name")


def _copy_view(scene: Scene) -> None:
    QGuiApplication.clipboard().clear()
    scene.press("copy-view")
    assert QGuiApplication.clipboard().text().startswith("group\ttrack")


def _save_window(scene: Scene) -> None:
    target = scene.folder / "window.svg"
    scene.answer(QFileDialog, "getSaveFileName", (str(target), ""))
    scene.press("save-window")
    assert "<svg" in target.read_text(encoding="utf-8")[:400]


def _copy_window(scene: Scene) -> None:
    QGuiApplication.clipboard().clear()
    scene.press("copy-window")
    assert QGuiApplication.clipboard().image().width() >= scene.window.width()


def _close_document(scene: Scene) -> None:
    scene.press("close-document")
    assert scene.window.session.document.empty
    assert scene.window.middle.currentWidget() is scene.window.welcome


def _documents(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        first = scene.window.session
        scene.window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
        assert scene.window.session is not first
        assert scene.window.tabs.count() == 2
        scene.press(name)
        assert scene.window.session is first

    return case


def _close(scene: Scene) -> None:
    scene.press("close")
    assert not scene.window.isVisible()


def _find(scene: Scene) -> None:
    scene.press("find")
    assert scene.window.search.isVisible()


def _find_step(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press("find")
        scene.qtbot.keyClicks(scene.window.search.edit, "MatMul")
        scene.press(name)
        first = scene.window.session.selected
        scene.press(name)
        assert isinstance(first, SliceRef)
        assert scene.window.session.selected != first

    return case


def _commands(scene: Scene) -> None:
    scene.press("commands")
    palette = scene.dialog(CommandPalette)
    assert palette.list.count() > 20
    palette.reject()


def _show_all(scene: Scene) -> None:
    scene.zoom_in()
    scene.press("show-all")
    bounds = scene.window.session.viewport.bounds
    assert scene.span == pytest.approx(bounds[1] - bounds[0])


def _zoom_to(scene: Scene) -> None:
    before = scene.span
    scene.select_a_kernel()
    scene.press("zoom-to")
    assert scene.span < before / 10


def _back(scene: Scene) -> None:
    before = scene.span
    _zoom_to(scene)
    scene.press("back")
    assert scene.span == pytest.approx(before)


def _peak(scene: Scene) -> None:
    peak = scene.window.session.peak
    assert peak is not None
    viewport = scene.window.session.viewport
    viewport.show_all()
    scene.press("peak")
    assert viewport.span < (viewport.bounds[1] - viewport.bounds[0]) / 5, "the peak is shown close up"
    assert viewport.start <= peak.time_ns - scene.window.session.origin_ns < viewport.end
    assert "peaks" in scene.window.docks.view(DetailsView).toPlainText()


def _costliest(scene: Scene) -> None:
    scene.press("costliest")
    table = scene.window.docks.view(DeviationsView)
    first = table.row_at(table.table.currentIndex())
    costs = [row.sort_keys[-1] for row in table.model.rows]
    assert first.sort_keys[-1] == max(costs)  # type: ignore[type-var]


def _along(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        forward = name == "next-slice"
        session = scene.window.session
        first = scene.select_a_kernel()
        lanes = session.tracks.lanes(session.tracks.track(first.track))
        assert lanes is not None
        for number in range(1, 4):
            scene.press(name)
            index = first.index + (number if forward else -number)
            assert session.selected == SliceRef(first.track, index), (
                "kernels of a stream don't nest: the next one follows"
            )
        span = session.selected_span()
        assert span is not None
        assert session.viewport.start <= sum(span) / 2 < session.viewport.end
        edge = len(lanes.slices) - 1 if forward else 0
        session.select(SliceRef(first.track, edge))
        scene.press(name)
        assert session.selected == SliceRef(first.track, edge)
        session.select(None)
        scene.press(name)
        assert isinstance(session.selected, SliceRef), "without an item it begins with what is in view"

    return case


def _across(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        session = scene.window.session
        order = [placed.track.key for placed in session.tracks.layout() if placed.track is not None]
        scene.window.commands.run("find")  # reads every track
        first = scene.select_a_kernel()
        middle = sum(session.selected_span() or (0.0, 0.0)) / 2
        scene.press(name)
        now = session.selected
        assert isinstance(now, SliceRef)
        step = order.index(now.track) - order.index(first.track)
        assert step > 0 if name == "slice-below" else step < 0
        start, end = session.selected_span() or (0.0, 0.0)
        assert max(start - middle, middle - end) < session.viewport.span, "it lies at the same moment, or near it"
        scene.press("slice-above" if name == "slice-below" else "slice-below")
        back = session.selected
        assert isinstance(back, SliceRef)
        assert back.track == first.track

    return case


def _next_view(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press(name)  # from the timeline
        seen = [scene.window.docks.active()]
        while seen[-1] != "timeline" and len(seen) < 12:
            scene.window.commands.run(name)
            seen.append(scene.window.docks.active())
        assert seen[-1] == "timeline", seen
        assert {"map", "curve", "details"} <= set(seen)
        assert len(set(seen)) == len(seen)

    return case


def _step(scene: Scene) -> None:
    scene.zoom_in()
    asked = scene.answer(QInputDialog, "getInt", (1, True))
    scene.press("step")
    assert asked
    origin = scene.window.session.origin_ns
    kernels = scene.window.session.document.rank.kernels()  # type: ignore[union-attr]
    assert kernels is not None
    assert scene.window.session.viewport.start <= float(kernels.start_ns[0] - origin)


def _step_beside(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        viewport = scene.window.session.viewport
        low, high = viewport.bounds
        # The sample has one step: it is the next one seen from before it, the one before seen from behind it.
        viewport.show(*((low, low + 10.0) if name == "next-step" else (high - 10.0, high)))
        before = viewport.span
        scene.press(name)
        assert viewport.span > before * 100

    return case


def _marker(scene: Scene) -> None:
    scene.window.session.viewport.cursor = 777.0
    scene.press("marker")
    assert scene.window.session.markers == [777.0]


def _clear_markers(scene: Scene) -> None:
    scene.window.session.add_marker(5.0)
    scene.press("clear-markers")
    assert scene.window.session.markers == []


def _clear(scene: Scene) -> None:
    scene.select_a_kernel()
    scene.press("clear")
    assert scene.window.session.selected is None


def _pin(scene: Scene) -> None:
    key = scene.select_a_kernel().track
    scene.press("pin-track")
    assert scene.window.timeline.visible()[1][0].track.key == key
    scene.press("pin-track")
    assert scene.window.session.tracks.pinned == []


def _hide(scene: Scene) -> None:
    key = scene.select_a_kernel().track
    scene.press("hide-track")
    assert key not in {placed.track.key for placed in scene.window.session.tracks.layout() if placed.track is not None}


def _show_hidden(scene: Scene) -> None:
    _hide(scene)
    scene.press("show-hidden")
    assert not scene.window.session.tracks.hidden


def _track(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        tracks = scene.window.session.tracks
        first = next(track for track in tracks.all if len(tracks.neighbours(track.key)) > 1)
        around = tracks.neighbours(first.key)
        moving, place = (around[0], 1) if name == "track-down" else (around[1], 0)
        tracks.load(tracks.track(moving))
        scene.window.session.select(SliceRef(moving, 0))
        scene.press(name)
        assert tracks.neighbours(moving).index(moving) == place

    return case


def _fold_all(scene: Scene) -> None:
    scene.press("fold-all")
    assert all(placed.track is None for placed in scene.window.session.tracks.layout())


def _unfold_all(scene: Scene) -> None:
    _fold_all(scene)
    scene.press("unfold-all")
    assert any(placed.track is not None for placed in scene.window.session.tracks.layout())


def _dock(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        dock = scene.window.docks[name.removeprefix("dock-")]
        scene.press(name)
        assert dock.isHidden()
        scene.press(name)
        assert dock.isVisible()

    return case


def _side_by_side(scene: Scene) -> None:
    scene.window.opener.open_request(Request(PLAN), new_tab=True)
    scene.press("side-by-side")
    assert scene.window.side_by_side.view is not None
    assert scene.window.side_by_side.view.timeline.isVisible()
    assert scene.window.commands.actions["side-by-side"].isChecked()
    scene.press("side-by-side")
    assert scene.window.side_by_side.view is None
    assert not scene.window.commands.actions["side-by-side"].isChecked()


def _roofline(scene: Scene) -> None:
    scene.press("roofline")
    assert scene.window.docks["roofline"].isVisible()


def _kernel(scene: Scene) -> None:
    scene.select_a_kernel()
    scene.press("kernel")
    assert scene.window.docks["kernel"].isVisible()
    assert scene.window.docks.find(KernelView) is not None
    assert scene.window.docks.view(KernelView).facts.name


def _kv(scene: Scene) -> None:
    scene.press("kv")
    assert scene.window.docks["kv"].isVisible()


def _next_tier(scene: Scene) -> None:
    session = scene.window.session
    scene.press("next-tier")
    assert session.tier is session.tiers[1 % len(session.tiers)]


def _theme(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press(name)
        assert scene.window.colours.theme == name.removeprefix("theme-")
        scene.press("theme-light")

    return case


def _colours(scene: Scene) -> None:
    scene.press("colours")
    dialog = scene.dialog(ColoursDialog)
    dialog.set.setCurrentIndex(1)
    assert scene.window.colours.name == "tol-bright"
    dialog.reject()


def _language(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        scene.press(name)
        words = {"language-en": "Details", "language-zh": "详情"}
        assert scene.window.docks["details"].windowTitle() == words[name]
        scene.press("language-en")
        assert scene.window.docks["details"].windowTitle() == "Details"
        assert not scene.window.session.document.empty

    return case


def _reset(scene: Scene) -> None:
    scene.window.docks["map"].hide()
    scene.press("reset-layout")
    assert scene.window.docks["map"].isVisible()


def _rank(name: str) -> Callable[[Scene], None]:
    def case(scene: Scene) -> None:
        # The sample holds one rank: the command is off, and says why when it is called all the same.
        assert not scene.window.commands.actions[name].isEnabled()

    return case


CASES: dict[str, Callable[[Scene], None]] = {
    "open-file": _open_file,
    "open-folder": _open_folder,
    "plan-model": _plan_model,
    "open-recent": _open_recent,
    "open-sample": _open_sample,
    "rank": _rank("rank"),
    "rank-new-tab": _rank("rank-new-tab"),
    "cancel": _cancel,
    "export-plan": _export,
    "save-view": _save_view,
    "copy-view": _copy_view,
    "save-window": _save_window,
    "copy-window": _copy_window,
    "close-document": _close_document,
    "next-document": _documents("next-document"),
    "previous-document": _documents("previous-document"),
    "close": _close,
    "find": _find,
    "find-next": _find_step("find-next"),
    "find-previous": _find_step("find-previous"),
    "commands": _commands,
    "show-all": _show_all,
    "zoom-to": _zoom_to,
    "back": _back,
    "next-slice": _along("next-slice"),
    "previous-slice": _along("previous-slice"),
    "slice-below": _across("slice-below"),
    "slice-above": _across("slice-above"),
    "next-view": _next_view("next-view"),
    "previous-view": _next_view("previous-view"),
    "peak": _peak,
    "costliest": _costliest,
    "step": _step,
    "next-step": _step_beside("next-step"),
    "previous-step": _step_beside("previous-step"),
    "marker": _marker,
    "clear-markers": _clear_markers,
    "clear": _clear,
    "pin-track": _pin,
    "hide-track": _hide,
    "show-hidden": _show_hidden,
    "track-up": _track("track-up"),
    "track-down": _track("track-down"),
    "fold-all": _fold_all,
    "unfold-all": _unfold_all,
    "side-by-side": _side_by_side,
    "roofline": _roofline,
    "kernel": _kernel,
    "kv": _kv,
    "next-tier": _next_tier,
    "theme-light": _theme("theme-light"),
    "theme-dark": _theme("theme-dark"),
    "colours": _colours,
    "language-en": _language("language-en"),
    "language-zh": _language("language-zh"),
    "reset-layout": _reset,
} | {
    f"dock-{name}": _dock(f"dock-{name}")
    for name in ("details", "problems", "map", "curve", "difference", "deviations", "alive", "transfers", "arcs")
}


@pytest.fixture
def scene(window: MainWindow, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    """The window of the sample."""
    return Scene(window, qtbot, monkeypatch, tmp_path)


def test_every_command_has_a_case(window: MainWindow) -> None:
    assert {command.name for command in window.commands.commands} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_command_does_what_it_says(name: str, scene: Scene) -> None:
    CASES[name](scene)


def test_no_key_means_two_things(window: MainWindow) -> None:
    keys = [key for command in window.commands.commands for key in command.keys]
    assert sorted(keys) == sorted(set(keys))


def test_the_tool_bar_fits_a_small_screen(window: MainWindow) -> None:
    assert window.toolbar.sizeHint().width() <= 1280
