"""The window, driven with real events and photographed offscreen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QMimeData, QModelIndex, QPoint, QPointF, QSettings, Qt, QUrl
from PySide6.QtGui import QDropEvent, QImage, QWheelEvent
from PySide6.QtWidgets import QAbstractButton, QApplication, QInputDialog, QTabBar

from memplan.gui.i18n import LANGUAGES, CatalogueTranslator, catalogue
from memplan.gui.main_window import MainWindow
from memplan.gui.model.flows import arrows
from memplan.gui.model.opening import Request
from memplan.gui.model.session import OpPick, Session, SlicePick, TensorPick
from memplan.gui.model.slice_text import slice_lines
from memplan.gui.model.table import TableRow
from memplan.gui.pictures import render
from memplan.gui.views import search, table
from memplan.gui.views.canvas import GUTTER_PX
from memplan.gui.views.command_palette import CommandPalette
from memplan.gui.views.table import RowsModel
from memplan.gui.views.timeline import TimelineView
from memplan.gui.window_commands import view_menu
from memplan.sentence import Sentence
from tests.gui.conftest import PLAN, PROFILE, SAMPLES

pytestmark = pytest.mark.gui


def pixels(image: QImage) -> np.ndarray:
    """`image` as (H, W) 32-bit pixels."""
    image = image.convertToFormat(QImage.Format.Format_RGB32)
    data = np.frombuffer(image.constBits(), dtype=np.uint32)
    return data.reshape(image.height(), image.bytesPerLine() // 4)[:, : image.width()].copy()


def wheel(view: object, x: float, y: float, delta: int, modifiers: Qt.KeyboardModifier) -> None:
    """One notch of the wheel over `view`."""
    event = QWheelEvent(
        QPointF(x, y), QPointF(x, y), QPoint(), QPoint(0, delta), Qt.MouseButton.NoButton, modifiers,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(view, event)  # type: ignore[arg-type]


def test_the_window_draws_every_view_and_says_that_the_profile_is_simulated(window: MainWindow) -> None:
    assert "[simulated profile]" in window.windowTitle()
    assert window.simulated_mark.isVisible()
    for view in (window.timeline, window.memory_map, window.curve):
        drawn = pixels(view.grab().toImage())[:, GUTTER_PX:]
        assert len(np.unique(drawn)) > 5, view


def test_ctrl_and_wheel_zoom_all_views_at_the_mouse(window: MainWindow) -> None:
    view = window.timeline
    before = view.time_at(700.0)
    span = window.session.viewport.span
    wheel(view, 700.0, 100.0, 120, Qt.KeyboardModifier.ControlModifier)
    assert window.session.viewport.span < span
    assert view.time_at(700.0) == pytest.approx(before, abs=view.ns_per_px)
    assert window.memory_map.time_at(700.0) == pytest.approx(
        before, abs=abs(window.memory_map.ns_per_px - view.ns_per_px) * 700 + view.ns_per_px
    )


def test_keys_move_and_zoom(window: MainWindow, qtbot: object) -> None:
    viewport = window.session.viewport
    whole = (viewport.start, viewport.end)
    qtbot.keyClick(window.timeline, Qt.Key.Key_W)  # type: ignore[attr-defined]
    qtbot.keyClick(window.timeline, Qt.Key.Key_W)  # type: ignore[attr-defined]
    zoomed = (viewport.start, viewport.end)
    assert zoomed[1] - zoomed[0] < whole[1] - whole[0]
    qtbot.keyClick(window.timeline, Qt.Key.Key_D)  # type: ignore[attr-defined]
    assert viewport.start > zoomed[0]
    window.commands.run("show-all")
    assert (viewport.start, viewport.end) == whole
    window.commands.run("back")
    assert viewport.start > zoomed[0]


def test_dragging_pans_and_shift_dragging_selects(window: MainWindow, qtbot: object) -> None:
    viewport = window.session.viewport
    viewport.zoom(0.2, (viewport.start + viewport.end) / 2)
    start = viewport.start
    view = window.curve
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(600, 80))  # type: ignore[attr-defined]
    qtbot.mouseMove(view, QPoint(550, 80))  # type: ignore[attr-defined]
    qtbot.mouseMove(view, QPoint(500, 80))  # type: ignore[attr-defined]
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=QPoint(500, 80))  # type: ignore[attr-defined]
    assert viewport.start > start
    shift = Qt.KeyboardModifier.ShiftModifier
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, shift, QPoint(400, 80))  # type: ignore[attr-defined]
    qtbot.mouseMove(view, QPoint(500, 80))  # type: ignore[attr-defined]
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, shift, QPoint(500, 80))  # type: ignore[attr-defined]
    assert viewport.selection is not None
    assert viewport.selection[1] - viewport.selection[0] == pytest.approx(100 * view.ns_per_px, rel=0.02)
    assert window.details.sections[0].title == Sentence("Selection")
    window.commands.run("clear")
    assert window.details.sections[0].title == Sentence("Plan")


def test_a_click_on_a_rectangle_explains_the_tensor(window: MainWindow, qtbot: object) -> None:
    view, mapped = window.memory_map, window.session.map
    assert mapped is not None
    largest = int(np.argmax((mapped.high - mapped.low) * (mapped.end_ns - mapped.start_ns)))
    middle = view.rectangle(mapped, largest).center().toPoint()
    qtbot.mouseMove(view, middle)  # type: ignore[attr-defined]
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=middle)  # type: ignore[attr-defined]
    picked = window.session.picked
    assert isinstance(picked, TensorPick)
    text = window.details.toPlainText()
    assert "Tensor" in text
    assert "HBM" in text
    lines = view.lines(mapped, picked.rectangle)
    assert any("float" in line or "int" in line for line in lines)


def test_a_click_on_a_slice_picks_it_and_folding_hides_a_group(window: MainWindow, qtbot: object) -> None:
    view = window.timeline
    placed, top = next((p, t) for p, t in view.visible() if p.row is not None and p.row.kind == "plan")
    lanes = window.session.rows.lanes(placed.row)
    assert lanes is not None
    first = float(lanes.slices.start_ns[0] - window.session.origin_ns)
    window.session.viewport.show(first, first + 5_000.0)
    x = int(view.x_of(first + float(lanes.slices.duration_ns[0]) / 2))
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(x, view.ruler_px + top + 10))  # type: ignore[attr-defined]
    assert window.session.picked == SlicePick(placed.row.key, 0)
    header_top = next(top for placed, top in view.visible() if placed.row is None and placed.group == "Plan")
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(20, view.ruler_px + header_top + 5))  # type: ignore[attr-defined]
    assert "Plan" in window.session.rows.folded
    assert all(placed.row is None or placed.row.kind != "plan" for placed, _ in view.visible())


def test_the_picked_kernel_shows_the_arrows_that_lead_to_it(window: MainWindow) -> None:
    rows = window.session.rows
    for row in rows.rows:
        rows.load(row)
    stream = next(row for row in rows.rows if row.kind == "stream")
    window.session.pick(SlicePick(stream.key, 3))
    found = arrows(window.session, window.session.picked)
    assert found
    for arrow in found:
        assert arrow.target.pick == SlicePick(stream.key, 3)
        assert arrow.source.time_ns <= arrow.target.time_ns
        assert arrow.source.row != stream.key
    assert "Arrows" in {str(section.title) for section in window.details.sections}
    with_arrows = pixels(window.timeline.grab().toImage())
    window.timeline._arrows = []
    assert not np.array_equal(pixels(window.timeline.grab().toImage()), with_arrows)


def test_a_row_of_the_differences_jumps_to_its_place(window: MainWindow) -> None:
    table = window.deviations
    indices = [table.sorted.index(row, 0) for row in range(table.sorted.rowCount())]
    index = next(index for index in indices if table.row_at(index).pick is not None)
    row = table.row_at(index)
    assert row.span_ns is not None
    table.jump(index)
    assert window.session.picked == row.pick
    viewport, origin = window.session.viewport, window.session.origin_ns
    assert viewport.start <= row.span_ns[0] - origin < viewport.end
    assert "Op" in window.details.toPlainText()


def test_what_is_alive_follows_the_cursor(window: MainWindow, qtbot: object) -> None:
    window.docks["alive"].raise_()
    assert "peak" in window.alive.headline.text()
    at_peak = window.alive.sorted.rowCount()
    mapped = window.session.map
    assert mapped is not None
    last = float(mapped.end_ns.max() - window.session.origin_ns) - 1.0
    window.session.viewport.cursor = last
    qtbot.waitUntil(lambda: "cursor" in window.alive.headline.text(), timeout=5000)  # type: ignore[attr-defined]
    assert window.alive.sorted.rowCount() < at_peak
    window.alive.jump(window.alive.sorted.index(0, 0))
    assert isinstance(window.session.picked, TensorPick)


def test_search_steps_through_the_hits_and_round(window: MainWindow, qtbot: object) -> None:
    window.commands.run("find")
    assert window.search.isVisible()
    qtbot.keyClicks(window.search.edit, "Adam-op")  # type: ignore[attr-defined]
    total = len(window.search.hits)
    assert total > 10
    seen = []
    for _ in range(3):
        qtbot.keyClick(window.search.edit, Qt.Key.Key_Return)  # type: ignore[attr-defined]
        seen.append(window.session.picked)
    assert len(set(seen)) == 3
    window.commands.run("find-previous")
    assert window.session.picked == seen[1]
    assert f"/ {total:,}" in window.search.count.text()
    qtbot.keyClick(window.search.edit, Qt.Key.Key_Escape)  # type: ignore[attr-defined]
    assert not window.search.isVisible()


def test_a_large_profile_is_searched_on_a_worker_and_the_first_hit_is_waited_for(
    qtbot: object, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_AT_ONCE", 0)
    window = MainWindow(session)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.show()
    window.commands.run("find")
    qtbot.waitUntil(  # type: ignore[attr-defined]
        lambda: all(session.rows.loaded(row) for row in session.rows.rows) and not window.reading.jobs.running
    )
    edit = window.search.edit
    qtbot.keyClicks(edit, "matmu")  # type: ignore[attr-defined]
    qtbot.keyClicks(edit, "l")  # type: ignore[attr-defined]
    qtbot.keyClick(edit, Qt.Key.Key_Return)  # type: ignore[attr-defined]
    qtbot.waitUntil(lambda: isinstance(session.picked, SlicePick))  # type: ignore[attr-defined]
    assert window.search.hits.text == "matmul"
    assert window.search.count.text().startswith("1 / ")
    assert session.picked == window.search.hits.pick(0)
    window.close()


def test_the_command_palette_filters_and_runs(window: MainWindow, qtbot: object) -> None:
    window.session.viewport.zoom(0.1, window.session.viewport.start)
    palette = CommandPalette(window.commands, window)
    qtbot.addWidget(palette)  # type: ignore[attr-defined]
    qtbot.keyClicks(palette.edit, "show every")  # type: ignore[attr-defined]
    assert palette.list.count() == 1
    qtbot.keyClick(palette.edit, Qt.Key.Key_Return)  # type: ignore[attr-defined]
    assert window.session.viewport.start == window.session.viewport.bounds[0]


def test_curves_are_turned_on_and_off_by_their_names(window: MainWindow, qtbot: object) -> None:
    view = window.curve
    view.grab()
    top, name = next((top, name) for top, name in view._legend if name in view.hidden)
    position = QPoint(40, int(top) + 4)
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=position)  # type: ignore[attr-defined]
    assert name not in view.hidden
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=position)  # type: ignore[attr-defined]
    assert name in view.hidden
    assert any("planned" in line for line in view.lines(window.session.viewport.span / 2))


def test_the_menu_of_the_curve_turns_every_line_on_and_off(window: MainWindow, qtbot: object) -> None:
    curve = window.curve
    fragmentation = window.session.curves.unused
    assert fragmentation is not None
    assert [line.name for line, _ in curve.lines_shown()] == [window.session.curves.measured[0].name]
    menu = view_menu(window, "curve")
    entries = {action.text(): action for action in menu.actions()}
    assert set(entries) >= {line.name for line, _ in curve.all_lines()}
    entries[fragmentation.name].trigger()
    assert fragmentation.name in {line.name for line, _ in curve.lines_shown()}
    entries = {action.text(): action for action in view_menu(window, "curve").actions()}
    assert entries[fragmentation.name].isChecked()
    entries[fragmentation.name].trigger()
    assert fragmentation.name not in {line.name for line, _ in curve.lines_shown()}


def test_a_plan_alone_shows_its_planned_curve_and_offers_the_fragmentation(qtbot: object) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.open_request(Request(PLAN))
    assert window.curve.lines_shown() == []
    assert [line.name for line, _ in window.curve.all_lines()] == ["fragmentation"]
    window.close()


def test_markers_are_set_and_cleared(window: MainWindow) -> None:
    window.session.viewport.cursor = 1234.0
    window.commands.run("marker")
    assert window.session.markers == [1234.0]
    window.commands.run("clear-markers")
    assert window.session.markers == []


def test_the_theme_changes_every_view(window: MainWindow) -> None:
    light = pixels(window.timeline.grab().toImage())
    window.commands.run("theme-dark")
    dark = pixels(window.timeline.grab().toImage())
    assert light.mean() > dark.mean()
    window.commands.run("theme-light")
    assert np.array_equal(pixels(window.timeline.grab().toImage()), light)


def test_buttons_in_titles_are_drawn_in_the_theme_s_colour_also_after_they_were_used(window: MainWindow) -> None:
    dock = window.docks["curve"]

    def colours() -> set[int]:
        button = dock.findChild(QAbstractButton, "qt_dockwidget_closebutton")
        image = button.icon().pixmap(32, 32).toImage()
        dots = [image.pixel(x, y) for x in range(32) for y in range(32)]
        return {dot & 0xFFFFFF for dot in dots if dot >> 24 == 255}

    for theme in ("dark", "light"):
        window.commands.run(f"theme-{theme}")
        faint = window.colours.role("faint") & 0xFFFFFF
        assert colours() == {faint}
        dock.setFloating(True)
        dock.setWindowTitle("another")
        dock.setFloating(False)
        QApplication.processEvents()
        assert colours() == {faint}


def test_the_layout_is_remembered_and_can_be_reset(session: Session, qtbot: object, tmp_path: Path) -> None:
    settings = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    first = MainWindow(session, settings=settings, background=False)
    first.show()
    first.commands.run("dock-map")
    assert not first.docks["map"].isVisible()
    first.close()
    second = MainWindow(session, settings=settings, background=False)
    second.show()
    assert not second.docks["map"].isVisible()
    second.commands.run("reset-layout")
    assert second.docks["map"].isVisible()
    second.close()


def test_files_are_opened_in_the_background_and_errors_go_to_the_panel(qtbot: object, tmp_path: Path) -> None:
    window = MainWindow()
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.show()
    window.open_request(Request(PLAN, PROFILE))
    assert window.session.document.empty
    qtbot.waitUntil(lambda: not window.session.document.empty, timeout=20_000)  # type: ignore[attr-defined]
    assert window.session.document.comparison is not None
    window.open([tmp_path / "missing.json"])
    qtbot.waitUntil(lambda: bool(window.problems.errors), timeout=20_000)  # type: ignore[attr-defined]
    assert "missing.json" in window.problems.errors[0]
    assert not window.session.document.empty
    window.close()


def test_a_search_reads_tracks_that_were_never_shown(qtbot: object, session: Session) -> None:
    window = MainWindow(session)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.resize(900, 300)
    window.show()
    window.commands.run("find")
    qtbot.keyClicks(window.search.edit, "adam-op0")  # type: ignore[attr-defined]
    rows = session.rows
    qtbot.waitUntil(lambda: all(rows.loaded(row) for row in rows.rows), timeout=20_000)  # type: ignore[attr-defined]
    qtbot.waitUntil(lambda: len(window.search.hits.rows) >= 3, timeout=20_000)  # type: ignore[attr-defined]
    window.close()


def test_dropped_files_are_opened(qtbot: object) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.show()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(PLAN)), QUrl.fromLocalFile(str(PROFILE))])
    event = QDropEvent(
        QPointF(10, 10), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier, QEvent.Type.Drop,
    )  # fmt: skip
    window.dropEvent(event)
    assert window.session.document.comparison is not None


def test_a_graph_is_planned_for_the_chip_that_is_asked_for(qtbot: object, monkeypatch: pytest.MonkeyPatch) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("910B4", True))
    window.open([SAMPLES / "cnn.mindir"])
    assert window.session.document.plan is not None
    assert window.session.document.plan.chip == "Ascend910B4"
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("", False))
    before = window.session
    window.open([SAMPLES / "llama_infer.mindir"])
    assert window.session is before
    window.close()


def test_an_op_shows_its_measured_time_beside_the_predicted(window: MainWindow) -> None:
    comparison = window.session.document.comparison
    assert comparison is not None
    op = int(comparison.matches.op[5])
    window.session.pick(OpPick(op))
    facts = {str(fact.label): str(fact.value) for section in window.details.sections for fact in section.facts}
    assert facts["measured"].endswith("%)")


def test_the_sample_is_one_command_away(qtbot: object) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.commands.run("open-sample")
    assert window.session.document.simulated
    window.close()


def test_the_roofline_s_axes_count_in_flop_however_often_it_is_drawn(window: MainWindow, qtbot: object) -> None:
    window.commands.run("roofline")
    view = window.later.roofline
    assert view is not None
    for _ in range(3):
        view.draw()
        view.grab()
        qtbot.wait(20)  # type: ignore[attr-defined]
        assert [view.plot.getAxis(side).autoSIPrefixScale for side in ("left", "bottom")] == [1.0, 1.0]
    highest = max(ceiling.flops_per_second for ceiling in view.model.ceilings)
    assert view.plot.getAxis("left").range[1] > np.log10(highest) + 1


def test_a_roofline_without_a_plan_says_what_it_lacks(window: MainWindow) -> None:
    window.commands.run("roofline")
    view = window.later.roofline
    assert view is not None
    assert view.plot.isVisibleTo(view)
    window.close_document()
    assert not view.plot.isVisibleTo(view)
    assert view.hint.text() == "No plan is open: the roofline needs one"


def test_the_roofline_shows_every_op_and_marks_the_picked_one(window: MainWindow) -> None:
    window.commands.run("roofline")
    view = window.later.roofline
    assert view is not None
    plan = window.session.document.plan
    assert plan is not None
    assert set(view.model.op.tolist()) == {op.index for op in plan.ops if op.flops and op.gm_bytes and op.duration_ns}
    for row, index in enumerate(view.model.op.tolist()):
        op = plan.ops[index]
        assert view.model.predicted[row] == pytest.approx(op.flops / op.duration_ns * 1e9)
    chosen = int(view.model.op[7])
    window.session.pick(OpPick(chosen))
    x, y = view.mark.getData()
    assert (x[0], y[0]) == pytest.approx((np.log10(view.model.intensity[7]), np.log10(view.model.predicted[7])))
    window.session.pick(None)
    assert len(view.mark.getData()[0]) == 0
    window.commands.run("theme-dark")
    window.commands.run("theme-light")


def test_both_themes_are_photographed(tmp_path: Path) -> None:
    pictures = render(PLAN, PROFILE, tmp_path, size=(1200, 800))
    assert [path.name for path in pictures] == ["window-light.png", "window-dark.png"]
    for path in pictures:
        assert len(np.unique(pixels(QImage(str(path))))) > 50


def test_a_dense_screen_is_painted_dot_by_dot(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from memplan.gui.pictures import render;"
        "render(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), size=(1200, 800))"
    )
    environment = {**os.environ, "QT_SCALE_FACTOR": "2"}
    run = [sys.executable, "-c", code, str(PLAN), str(PROFILE), str(tmp_path)]
    subprocess.run(run, check=True, env=environment, timeout=120)
    image = QImage(str(tmp_path / "window-light.png"))
    assert (image.width(), image.height()) == (2400, 1600)
    dots = pixels(image)
    assert (dots[:, 0::2] != dots[:, 1::2]).any(axis=0).sum() > 400, "more than a picture made larger"


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_every_command_and_view_is_translated(language: str, window: MainWindow) -> None:
    words = catalogue(language)
    texts = {command.text for command in window.commands.commands} | {c.menu for c in window.commands.commands}
    texts |= set(window.titles.values())
    assert texts <= set(words), sorted(texts - set(words))
    translator = CatalogueTranslator(language)
    assert translator.translate("memplan", "File") == words["File"]
    assert translator.translate("memplan", "never heard of") is None


def test_an_empty_window_says_what_to_do(qtbot: object) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.show()
    assert "Open a plan" in window.details.toPlainText()
    assert window.windowTitle() == "memplan"
    window.close()


def test_every_group_of_tabs_has_one_tab_bar(window: MainWindow) -> None:
    shown = [tuple(bar.tabText(i) for i in range(bar.count())) for bar in window.findChildren(QTabBar)]
    assert len(shown) == len(set(shown)), shown


def test_a_profile_deleted_while_open_is_a_line_in_the_panel_or_still_shown(qtbot: object, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(PROFILE, folder)
    window = MainWindow()
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.open_request(Request(PLAN, folder))
    qtbot.waitUntil(lambda: not window.session.document.empty, timeout=20_000)  # type: ignore[attr-defined]
    shutil.rmtree(folder)
    window.show()
    window.commands.run("find")
    rows = window.session.rows
    qtbot.waitUntil(  # type: ignore[attr-defined]
        lambda: bool(window.problems.errors) or all(rows.loaded(row) for row in rows.rows), timeout=20_000
    )
    window.open_request(Request(PLAN, folder))
    qtbot.waitUntil(lambda: any("run" in text for text in window.problems.errors), timeout=20_000)  # type: ignore[attr-defined]
    assert not window.session.document.empty
    window.close()


@pytest.mark.parametrize("name", ["trace_view.json", "kernel_details.csv", "memory_record.csv"])
def test_a_broken_profile_opens_with_what_it_has(name: str, qtbot: object, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(PROFILE, folder)
    path = next(folder.rglob(name))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    window = MainWindow(background=False)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.open_request(Request(PLAN, folder))
    window.show()
    window.commands.run("find")
    window.grab()
    assert not window.session.document.empty
    assert window.session.rows.rows
    window.close()


def test_two_windows_may_show_one_folder(qtbot: object) -> None:
    windows = [MainWindow(background=False) for _ in range(2)]
    for window in windows:
        qtbot.addWidget(window)  # type: ignore[attr-defined]
        window.open_request(Request(PLAN, PROFILE))
        window.show()
    windows[0].session.viewport.zoom(0.1, 0.0)
    assert windows[1].session.viewport.span > windows[0].session.viewport.span
    for window in windows:
        window.close()


def test_showing_a_long_table_looks_at_few_of_its_rows(
    window: MainWindow, qtbot: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[int] = set()

    class Noted(RowsModel):
        def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:  # type: ignore[override]
            if role == Qt.ItemDataRole.DisplayRole:
                asked.add(index.row())
            return super().data(index, role)

    row = TableRow(("op", "Add", "1 µs", "2 µs", "1 µs", "1 µs"), ("op", "Add", 1.0, 2.0, 1.0, 1.0))
    monkeypatch.setattr(table, "RowsModel", Noted)
    window.deviations.show_rows([row] * 3_000, "")
    asked.clear()
    window.show_view("deviations")
    qtbot.waitUntil(lambda: bool(asked))  # type: ignore[attr-defined]
    qtbot.wait(50)  # type: ignore[attr-defined]
    assert len(asked) < 300


def test_only_the_peak_is_dashed_in_the_map(window: MainWindow) -> None:
    window.memory_map.grab()
    assert window.session.peak is not None
    assert window.memory_map.pen("text").style() == Qt.PenStyle.SolidLine


def hover_lines(view: TimelineView, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the next frame says beside the mouse."""
    said: list[str] = []
    monkeypatch.setattr(type(view), "paint_hover", lambda _, __, lines: said.extend(lines))
    view.grab()
    return said


def test_what_is_said_beside_the_mouse_follows_the_view(
    window: MainWindow, qtbot: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, viewport = window.timeline, window.session.viewport
    placed, top = next((p, t) for p, t in view.visible() if p.row is not None and p.row.kind == "plan")
    lanes = window.session.rows.lanes(placed.row)
    assert lanes is not None
    names = [lanes.slices.names[code] for code in lanes.slices.name]
    first, second = (float(lanes.slices.start_ns[i] - window.session.origin_ns) for i in (10, 20))
    viewport.show(first, first + 200.0)
    qtbot.mouseMove(view, QPoint(GUTTER_PX + 20, view.ruler_px + top + 8))  # type: ignore[attr-defined]
    assert hover_lines(view, monkeypatch)[0] == names[10]
    viewport.show(second, second + 200.0)
    assert hover_lines(view, monkeypatch)[0] == names[20]
    assert viewport.cursor == pytest.approx(view.time_at(GUTTER_PX + 20.0))


def test_the_values_of_counters_are_said_beside_the_mouse(
    window: MainWindow, qtbot: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = window.timeline
    row = next(row for row in window.session.rows.rows if row.label == "AI Core Freq")
    view.show_row(row.key)
    top = next(top for placed, top in view.visible() if placed.row is row)
    for y in (1, view.ruler_px + top + 20):  # a mouse that is there already doesn't move
        qtbot.mouseMove(view, QPoint(view.width() // 2, y))  # type: ignore[attr-defined]
    title, *values = hover_lines(view, monkeypatch)
    assert "AI Core Freq" in title
    assert all(any(letter.isdigit() for letter in value) for value in values)


def test_the_text_beside_the_mouse_keeps_off_the_scroll_bar(window: MainWindow) -> None:
    view = window.timeline
    view.grab()
    assert view.covered_px == view.bar.width()


def test_the_deepest_call_of_a_stack_can_be_reached(window: MainWindow, tmp_path: Path) -> None:
    depth = 30
    events = [
        {"ph": "X", "pid": 1, "tid": 1, "ts": f"{1_000 + level}", "dur": 100 - 2 * level, "name": f"call {level}"}
        for level in range(depth)
    ]
    (tmp_path / "trace_view.json").write_text(json.dumps(events))
    window.open_request(Request(None, tmp_path), beside=True)
    view, session = window.timeline, window.session
    row = session.rows.rows[0]
    session.rows.load(row)
    view.rows_changed()
    lanes = session.rows.lanes(row)
    assert lanes is not None
    assert len(lanes.lanes) == depth
    for level in (0, depth - 1):
        session.pick(SlicePick(row.key, level))
        view.show_row(row.key)
        top = next(top for placed, top in view.visible() if placed.row is row)
        y = top + level * session.rows.lane_px + 8
        assert 0 <= y < view.plot.height()
        middle = float(lanes.slices.start_ns[level] + lanes.slices.duration_ns[level] // 2 - session.origin_ns)
        assert view.slice_at(QPointF(view.x_of(middle), view.ruler_px + y)) == SlicePick(row.key, level)


def test_the_peak_of_a_profile_alone_is_the_measured_one(window: MainWindow) -> None:
    window.close_document()
    window.commands.run("peak")
    assert "memory curve" in window.statusBar().currentMessage()
    window.open_request(Request(None, PROFILE))
    window.show_view("difference")
    moment, _ = window.session.curves.measured[0].peak
    window.commands.run("peak")
    viewport = window.session.viewport
    assert viewport.start <= moment - window.session.origin_ns < viewport.end
    assert viewport.span < (viewport.bounds[1] - viewport.bounds[0]) / 4
    assert not window.curve.visibleRegion().isEmpty()


def test_a_small_window_s_welcome_cuts_no_line(qtbot: object) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.resize(1280, 720)
    window.show()
    qtbot.waitExposed(window)  # type: ignore[attr-defined]
    assert window.height() <= 720
    buttons = window.welcome.buttons
    assert all(button.height() >= button.heightForWidth(button.width()) for button in buttons)
    assert buttons[-2].visibleRegion().boundingRect().height() == buttons[-2].height(), "three ways without scrolling"
    window.close()


def test_a_timeline_without_tracks_says_why(window: MainWindow, tmp_path: Path) -> None:
    view = window.timeline
    for row in window.session.rows.rows:
        window.session.rows.hide(row.key)
    hidden = pixels(view.grab().toImage())[:, GUTTER_PX:]
    (tmp_path / "step_trace_time.csv").write_text("Device_id,Step,Computing\n0,1,10.0\n")
    window.open_request(Request(None, tmp_path), beside=True)
    assert window.session.rows.rows == ()
    bare = pixels(view.grab().toImage())[:, GUTTER_PX:]
    middle = slice(view.plot.height() // 2 - 20, view.plot.height() // 2 + 60)
    for image in (hidden, bare):
        assert len(np.unique(image[middle])) > 3, "there is text in the middle"
    assert not np.array_equal(hidden[middle], bare[middle])


def test_very_long_names_and_arguments_do_not_bury_the_rest(window: MainWindow, tmp_path: Path) -> None:
    name = "first_" + "x" * 5_000 + "_last"
    event = {"ph": "X", "pid": 1, "tid": 1, "ts": "1000", "dur": 5, "name": name, "args": {"key" * 300: "<b>" * 9_000}}
    (tmp_path / "trace_view.json").write_text(json.dumps([event]))
    window.open_request(Request(None, tmp_path), beside=True)
    row = window.session.rows.rows[0]
    window.session.rows.load(row)
    pick = SlicePick(row.key, 0)
    window.session.pick(pick)
    shown = window.details.toPlainText()
    assert "first_" in shown
    assert "_last" in shown
    assert len(shown) < 2_500
    assert any(name in map(str, cells) for cells in window.details.sheet().rows)
    assert str(slice_lines(window.session, pick)[1]) == "5.000 µs @ 0 ns", "there is no category to name"


def test_what_was_chosen_last_comes_first_in_the_details(window: MainWindow) -> None:
    session = window.session
    row = next(row for row in session.rows.rows if row.kind == "stream")
    session.rows.load(row)
    session.viewport.selection = session.viewport.bounds
    assert window.details.sections[0].title == Sentence("Selection")
    session.pick(SlicePick(row.key, 2))
    assert window.details.sections[0].title == Sentence("Slice")
    assert Sentence("Selection") in [section.title for section in window.details.sections]
    session.viewport.selection = (0.0, 1_000.0)
    assert window.details.sections[0].title == Sentence("Selection")
    window.commands.run("clear")
    assert window.details.sections[0].title == Sentence("Plan")
