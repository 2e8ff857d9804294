"""The kernel view in the window: what is shown, what the mouse tells, themes, languages and missing parts."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, QRectF, Qt
from PySide6.QtGui import QHelpEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QToolTip, QWidget
from pytestqt.qtbot import QtBot

from memplan.gui.i18n import catalogue, choose_language
from memplan.gui.model.document import make_document
from memplan.gui.model.kernel import kernel_analysis
from memplan.gui.model.kernel.kernel_facts import BufferLane
from memplan.gui.model.kernel.kernel_layout import cells, heights, operand_of, operands
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session, SliceRef, TensorRef
from memplan.gui.views.kernel.kernel_view import KernelView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.window.main_window import MainWindow
from memplan.gui.work.jobs import Jobs
from memplan.schema import OnChipBuffer, Tier
from memplan.traces.profile import TrackKind
from tests.gui.conftest import PROFILE
from tests.small_plans import layered_plan

pytestmark = pytest.mark.gui


def shown(window: MainWindow) -> KernelView:
    """The window's kernel view, in front."""
    window.commands.run("kernel")
    assert window.docks.find(KernelView) is not None
    QApplication.processEvents()
    return window.docks.view(KernelView)


def op_of(session: Session, kind: str) -> OpRef:
    """The first op of that type."""
    plan = session.document.plan
    assert plan is not None
    return OpRef(next(op.index for op in plan.ops if op.type == kind))


def tip_at(widget: QWidget, x: float, y: float) -> str:
    """What the tooltip says when the mouse rests at a place."""
    at = QPoint(round(x), round(y))
    QApplication.sendEvent(widget, QHelpEvent(QHelpEvent.Type.ToolTip, at, widget.mapToGlobal(at)))
    return QToolTip.text()


def middle(box: QRectF) -> tuple[float, float]:
    """The centre of a rectangle."""
    return box.center().x(), box.center().y()


@pytest.fixture
def view(session: Session, qtbot: QtBot) -> KernelView:
    """The view by itself, on the sample's first matmul."""
    session.select(op_of(session, "MatMul"))
    made = KernelView(session, load_palette("light"), Jobs(background=False))
    qtbot.addWidget(made)
    made.resize(1400, 500)
    made.show()
    qtbot.waitExposed(made)
    return made


# -- in the window ----------------------------------------------------------------------------------------------------


def test_a_click_on_a_kernel_in_the_timeline_shows_it(window: MainWindow, qtbot: QtBot) -> None:
    view = shown(window)
    session = window.session
    assert view.facts.unasked
    assert "Nothing is selected" in view.head.text()

    track = next(track for track in session.tracks.all if track.kind == TrackKind.STREAM.value)
    session.tracks.load(track)
    lanes = session.tracks.lanes(track)
    assert lanes is not None
    slices = lanes.slices
    place = next(i for i in range(len(slices.name)) if "MatMul" in slices.names[slices.name[i]])
    start = float(slices.start_ns[place] - session.origin_ns)
    length = float(slices.duration_ns[place])
    session.viewport.show(start - 3 * length, start + 4 * length)
    timeline = window.timeline
    timeline.show_track(track.key)
    QApplication.processEvents()
    x = timeline.x_of(start + length / 2)
    y = next(y for y in range(timeline.height()) if timeline.slice_at(QPointF(x, y)) == SliceRef(track.key, place))
    QTest.mouseClick(timeline, Qt.MouseButton.LeftButton, pos=QPoint(round(x), y + 3))
    assert session.selected == SliceRef(track.key, place)
    assert view.facts.name == slices.names[slices.name[place]]
    assert view.facts.lanes
    assert view.pipes.isVisible()
    assert view.maps.isVisible()
    assert "M × N × K" in view.words.text()


def test_a_click_on_a_tensor_shows_the_kernel_that_makes_it(window: MainWindow, qtbot: QtBot) -> None:
    view = shown(window)
    mapped, session = window.session.map, window.session
    assert mapped is not None
    made = [place for place in range(len(mapped)) if session.planned_op_of(TensorRef(place)) is not None]
    largest = max(made, key=lambda i: (mapped.high[i] - mapped.low[i]) * float(mapped.end_ns[i] - mapped.start_ns[i]))
    at = window.docks.view(MemoryMapView).rectangle(mapped, largest).center().toPoint()
    QTest.mouseClick(window.docks.view(MemoryMapView), Qt.MouseButton.LeftButton, pos=at)
    step = session.planned_op_of(session.selected)
    plan = session.document.plan
    assert step is not None
    assert plan is not None
    assert view.facts.name == plan.ops[step].name


def test_a_view_that_cannot_be_seen_works_nothing_out_until_it_is(window: MainWindow) -> None:
    view = shown(window)
    window.docks["kernel"].close()
    QApplication.processEvents()
    window.session.select(op_of(window.session, "MatMul"))
    assert view.facts.unasked
    window.docks.bring("kernel")
    QApplication.processEvents()
    assert "MatMul" in view.facts.name


def test_the_view_outlives_a_change_of_language_and_of_document(window: MainWindow) -> None:
    view = shown(window)
    window.session.select(op_of(window.session, "MatMul"))
    try:
        window.commands.run("language-zh")
        assert window.docks.find(KernelView) is not None
        assert window.docks.view(KernelView) is not view
        QApplication.processEvents()
        window.docks.bring("kernel")
        QApplication.processEvents()
        assert window.docks["kernel"].windowTitle() == "算子"
        assert "预测" in window.docks.view(KernelView).head.text()
        assert "切分" in window.docks.view(KernelView).words.text()
    finally:
        window.commands.run("language-en")
    window.opener.close()
    assert window.docks.find(KernelView) is not None
    assert window.docks.view(KernelView).facts.name == ""


# -- on worker threads ------------------------------------------------------------------------------------------------


def test_the_interface_waits_for_no_kernel_and_shows_the_last_one_picked(
    session: Session, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out = []

    def recorded(*given: Any, item: OpRef | None) -> Any:
        worked_out.append(item)
        return kernel_analysis_facts(*given, item=item)

    kernel_analysis_facts = kernel_analysis.kernel_facts
    monkeypatch.setattr(kernel_analysis, "kernel_facts", recorded)
    jobs, gate = Jobs(threads=1), threading.Event()
    view = KernelView(session, load_palette("light"), jobs)
    qtbot.addWidget(view)
    view.show()
    qtbot.waitUntil(lambda: not jobs.running, timeout=10_000)
    assert view.facts.unasked
    worked_out.clear()
    jobs.start("in the way", lambda _: gate.wait(10), lambda _: None)
    session.select(op_of(session, "MatMul"))
    session.select(op_of(session, "Adam"))
    assert view.facts.unasked
    gate.set()
    qtbot.waitUntil(lambda: "Adam" in view.facts.name and not view.facts.unasked, timeout=10_000)
    assert worked_out == [op_of(session, "Adam")]  # nobody waited for the other any more
    gate.clear()
    jobs.start("in the way", lambda _: gate.wait(10), lambda _: None)
    session.select(op_of(session, "MatMul"))
    session.select(None)
    gate.set()
    qtbot.waitUntil(lambda: not jobs.running, timeout=10_000)
    assert view.facts.unasked
    assert op_of(session, "MatMul") not in worked_out
    assert jobs.stop()


def test_a_window_works_kernels_out_on_a_worker(session: Session, qtbot: QtBot) -> None:
    window = MainWindow(session, background=True)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    view = shown(window)
    session.select(op_of(session, "MatMul"))
    qtbot.waitUntil(lambda: "MatMul" in view.facts.name, timeout=10_000)
    window.close()


# -- pipes and buffers ------------------------------------------------------------------------------------------------


def test_bars_have_one_scale_and_what_is_not_known_has_none(view: KernelView, session: Session) -> None:
    session.select(op_of(session, "Adam"))
    pipes = view.pipes
    left, right, _, _ = pipes.columns()
    known = 0
    for place, line in enumerate(pipes.lines):
        for bar, time in zip(pipes.bars(place), (line.predicted_ns, line.measured_ns), strict=True):
            assert (bar is None) == (time is None)
            if bar is not None and time is not None:
                known += 1
                assert bar.width() == pytest.approx((right - left) * time / pipes.longest_ns, abs=1.5)
                assert bar.right() <= right + 1
    assert known > 4
    scalar = next(place for place, line in enumerate(pipes.lines) if line.name == "scalar")
    assert pipes.bars(scalar)[0] is None


def test_the_mouse_over_a_pipe_tells_its_times_and_cores(view: KernelView) -> None:
    pipes = view.pipes
    place = next(place for place, line in enumerate(pipes.lines) if line.name == "cube")
    bar = pipes.bars(place)[1]
    assert bar is not None
    text = tip_at(pipes, *middle(bar))
    assert "predicted" in text
    assert "measured" in text
    assert "cube cores, mean over them" in text


def test_the_mouse_over_a_block_tells_the_buffer_and_over_free_room_how_much(view: KernelView) -> None:
    maps = view.maps
    lane = next(place for place, lane in enumerate(maps.lanes) if lane.tier is Tier.L0A)
    cell = cells(maps.lanes[lane], maps.slots)[0]
    text = tip_at(maps, *middle(maps.box(lane, cell)))
    assert "A tile, copy 1 of 2" in text
    assert f"L0A {cell.buffer.offset:,} – {cell.buffer.offset + cell.buffer.size:,} B" in text
    assert "iteration 1, slots 2 – 3" in text
    assert "filled by MTE1, read by cube" in text
    frame = maps.frame(lane)
    capacity = maps.lanes[lane].capacity
    assert capacity is not None
    free = capacity - sum(buffer.size for buffer in maps.lanes[lane].buffers)
    assert f"{free / 1024:.2f} KiB free" in tip_at(maps, frame.left() + 2, frame.top() + 2)


def test_blocks_lie_in_their_map_and_none_over_another(view: KernelView, session: Session) -> None:
    for kind in ("MatMul", "Adam", "Softmax"):
        session.select(op_of(session, kind))
        for width in (500, 900, 1400):
            view.resize(width, 400)
            QApplication.processEvents()
            for place, lane in enumerate(view.maps.lanes):
                frame = view.maps.frame(place).adjusted(-0.5, -0.5, 0.5, 0.5)
                boxes = [view.maps.box(place, cell) for cell in cells(lane, view.maps.slots)]
                assert all(frame.contains(box) for box in boxes)
                for i, one in enumerate(boxes):
                    assert not any(one.intersected(other).width() * one.intersected(other).height() > 0.5
                                   for other in boxes[:i])  # fmt: skip
            assert view.page.width() <= view.area.viewport().width()


def test_double_buffers_take_turns_and_what_stays_is_one_block() -> None:
    def buffer(name: str, offset: int, intervals: tuple[tuple[int, int], ...], fills: tuple[int, ...]) -> OnChipBuffer:
        return OnChipBuffer(f"{name} {offset}", Tier.L1, offset, 100, intervals, "MTE2", "MTE1", name, fills)

    lane = BufferLane(
        Tier.L1,
        1000,
        300,
        (
            buffer("A slice", 0, ((0, 4),), (0, 2)),
            buffer("A slice", 100, ((1, 5),), (1, 3)),
            buffer("B panel", 200, ((0, 5),), (0,)),
        ),
    )
    found = cells(lane, 5)
    assert [(cell.start, cell.end, cell.iteration, cell.copy) for cell in found] == [
        (0, 2, 0, 0), (2, 4, 2, 0), (1, 3, 1, 1), (3, 5, 3, 1), (0, 5, None, 0),
    ]  # fmt: skip
    assert operands([lane]) == ("A", "B")
    assert operand_of(dataclasses.replace(lane.buffers[0], of="row maxima and sums")) == "row maxima and sums"


def test_free_room_is_drawn_to_scale_only_where_buffers_can_be_read_beside_it() -> None:
    def of(peak: int, capacity: int | None) -> BufferLane:
        return BufferLane(Tier.UB, capacity, peak, ())

    half = heights(of(600, 1000))
    assert (half.used_height, half.to_scale, half.free) == (0.6, True, 400)
    little = heights(of(10, 1000))
    assert not little.to_scale
    assert little.free == 990
    assert little.share(10) == little.used_height > 0.5
    assert heights(of(1200, 1000)).free == 0
    unknown = heights(of(10, None))
    assert (unknown.free, unknown.used_height) == (None, 1.0)


# -- what is missing, looks -------------------------------------------------------------------------------------------


def test_a_profile_alone_shows_its_counters_and_asks_for_the_chip(qtbot: QtBot) -> None:
    session = open_session(Request(None, PROFILE))
    view = KernelView(session, load_palette("light"), Jobs(background=False))
    qtbot.addWidget(view)
    view.resize(900, 400)
    view.show()
    track = next(track for track in session.tracks.all if track.kind == TrackKind.STREAM.value)
    session.tracks.load(track)
    table = session.document.rank.kernels() if session.document.rank is not None else None
    lanes = session.tracks.lanes(track)
    assert table is not None
    assert lanes is not None
    matmul = table.type.tolist().index("MatMul") if hasattr(table.type, "tolist") else list(table.type).index("MatMul")
    session.select(SliceRef(track.key, int(np.flatnonzero(lanes.slices.start_ns == table.start_ns[matmul])[0])))
    assert "does not name its chip" in view.head.text()
    assert view.chip_box.isVisible()
    assert not view.maps.isVisible()
    assert all(view.pipes.bars(place)[0] is None for place in range(len(view.pipes.lines)))
    assert "not predicted" in view.pipes.line_text(view.pipes.lines[1])

    view.chip_box.setFocus()
    place = view.chip_box.findText("Ascend910B3")
    view.chip_box.setCurrentIndex(place - 1)
    QTest.keyClick(view.chip_box, Qt.Key.Key_Down)
    assert view.chip_box.currentText() == "Ascend910B3"
    assert view.facts.chip == "Ascend910B3"
    assert view.maps.isVisible()
    assert view.chip_box.isVisible()


def test_a_plan_alone_measures_nothing(qtbot: QtBot) -> None:
    session = Session(make_document(layered_plan(3)))
    session.select(OpRef(0))
    view = KernelView(session, load_palette("light"), Jobs(background=False))
    qtbot.addWidget(view)
    view.show()
    assert view.facts.predicted_ns
    assert all(view.pipes.bars(place)[1] is None for place in range(len(view.pipes.lines)))
    assert "not measured" in view.pipes.line_text(view.pipes.lines[0])


def test_what_launches_no_kernel_says_so(view: KernelView, session: Session) -> None:
    session.select(op_of(session, "Reshape"))
    assert "launches no kernel" in view.head.text()
    assert not view.maps.isVisible()
    assert [row[0] for row in view.sheet().rows] == ["kernel"]


def test_the_sheet_is_what_is_shown(view: KernelView) -> None:
    rows = view.sheet().rows
    assert sum(row[0] == "pipe" for row in rows) == len(view.facts.pipes)
    assert sum(row[0] == "buffer" for row in rows) == sum(len(lane.buffers) for lane in view.maps.lanes)


def test_the_words_tell_tiling_traffic_and_the_place_under_the_roof(view: KernelView) -> None:
    words = view.words.text()
    for part in ("64 × 128 × 128 (M × N × K)", "GM traffic", "FLOP per byte of HBM traffic", "of the roof", "(MTE2) →"):
        assert part in words
    flops = 2 * 64 * 128 * 128
    assert view.facts.measured_ns is not None
    assert f"measured {flops / view.facts.measured_ns:.3g} G FLOP/s" in words


def test_the_dark_theme_changes_every_part(view: KernelView) -> None:
    before = view.grab().toImage()
    view.set_palette(load_palette("dark"))
    after = view.grab().toImage()
    assert before != after
    assert load_palette("dark").css("measured") in view.head.text()


def test_every_word_of_the_sample_is_said_in_chinese(session: Session, view: KernelView) -> None:
    plan = session.document.plan
    assert plan is not None
    choose_language("zh")
    try:
        words = catalogue("zh")
        for kind in sorted({op.type for op in plan.ops}):
            session.select(op_of(session, kind))
            facts = view.facts
            said: list[Any] = [
                *facts.tiling,
                *facts.traffic,
                *facts.roofline,
                *facts.notes,
                *([facts.problem] if facts.problem else []),
            ]
            for sentence in said:
                assert sentence.text in words, sentence.text
                assert words[sentence.text].count("{}") == sentence.text.count("{}")
            for stage in facts.stages:
                assert stage.name in words, stage.name
    finally:
        choose_language("en")
