"""The blocks of a run's allocator in the memory map, beside what the plan has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from memplan.compare import DeviationWhat
from memplan.gui.model.amount_names import BEFORE, OTHERS
from memplan.gui.model.compare.ab_profile import held_at_peak
from memplan.gui.model.memory.block_map import block_map, stacked, without_gaps
from memplan.gui.model.memory.rectangles import MapRectangles
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import BlockRef, Session
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.window.main_window import MainWindow
from memplan.traces.readers.block_events import BlockEvent, allocations_of_events
from tests.gui.conftest import PLAN, PROFILE, pixels
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui

BLOCKS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(1, 5000)), min_size=1, max_size=60)


@given(BLOCKS)
def test_no_two_blocks_of_one_time_overlap(blocks: list[tuple[int, int, int]]) -> None:
    start, life, size = (np.array(column, dtype=np.int64) for column in zip(*blocks, strict=True))
    low = stacked(start, start + life, size)
    assert (low >= 0).all()
    for one in range(len(blocks)):
        for other in range(one):
            together = start[one] < start[other] + life[other] and start[other] < start[one] + life[one]
            apart = low[one] + size[one] <= low[other] or low[other] + size[other] <= low[one]
            assert apart or not together


def test_memory_that_is_free_again_is_used_again() -> None:
    start = np.arange(1000, dtype=np.int64) * 10
    low = stacked(start, start + 10, np.full(1000, 4096, dtype=np.int64))
    assert set(low.tolist()) == {0}


def test_blocks_are_all_that_the_curve_holds(session: Session) -> None:
    blocks = block_map(session.document)
    assert blocks is not None
    assert blocks.joined
    rank = session.document.rank
    assert rank is not None
    curve = rank.memory(blocks.component)
    assert curve is not None
    assert curve.allocated is not None
    held = int((blocks.high - blocks.low)[blocks.alive(blocks.peak_ns)].sum())
    assert held == pytest.approx(int(curve.allocated.max()), rel=0.002)
    assert blocks.kinds[int(blocks.kind[-1])] == BEFORE


@pytest.mark.parametrize("files", ["text/level0", "db/level2"])
def test_what_was_there_before_goes_as_the_curve_does(files: str, shared_data: Path) -> None:
    """Went wrong once: 234 MiB freed in the first third of a run were drawn to its end, below blocks in their place."""
    document = open_session(Request(None, shared_data / "profiles" / "alexnet-ddp-2rank" / files)).document
    blocks = block_map(document)
    assert blocks is not None
    assert document.rank is not None
    curve = document.rank.memory(blocks.component)
    assert curve is not None
    assert curve.allocated is not None
    sizes = blocks.high - blocks.low
    shown = np.array([sizes[blocks.alive(time)].sum() for time in curve.time_ns.tolist()])
    off = np.abs(shown - curve.allocated)
    assert np.percentile(off, 95) < 0.02 * curve.allocated.max()
    assert blocks.top < 1.15 * curve.allocated.max()
    before = np.flatnonzero(blocks.row < 0)
    assert 1 < len(before) <= 64
    assert {blocks.name(int(row)) for row in before} == {BEFORE}


def test_what_is_held_longer_than_planned_is_told(session: Session) -> None:
    blocks, found = block_map(session.document), session.document.comparison
    assert blocks is not None
    assert found is not None
    longer = [item for item in found.deviations if item.what == DeviationWhat.HELD_TOO_LONG]
    assert longer
    plan = session.document.plan
    assert plan is not None
    maker = {tensor.index: tensor.producer for tensor in plan.tensors}
    late = {
        maker.get(int(blocks.tensor[row])): blocks.held_longer_ns(row)
        for row in range(len(blocks))
        if blocks.planned_end_ns[row] >= 0
    }
    for item in longer:
        assert late[item.op] == pytest.approx(item.end_ns - item.start_ns, rel=0.6, abs=60_000)
        assert late[item.op] > np.median(list(late.values()))


def test_addresses_are_kept_where_the_profile_has_them() -> None:
    base = 0x12C0_4000_0000
    events = [
        BlockEvent(10, "PTA", "0", base | 7 << 64, 512),
        BlockEvent(5, "PTA", "0", base + 4096 | 7 << 64, 1024),
        BlockEvent(20, "PTA", "0", base | 7 << 64, None),
    ]
    found, lost = allocations_of_events(events)
    assert lost == 0
    assert found.address is not None
    assert found.address.tolist() == [base + 4096, base]
    assert found.allocation_ns.tolist() == [5, 10]


def test_a_snapshot_is_drawn_by_its_addresses(shared_data: Path) -> None:
    found = open_session(Request(None, shared_data / "snapshots"))
    blocks = block_map(found.document)
    assert blocks is not None
    assert blocks.addressed
    known = blocks.allocations.address
    assert known is not None
    assert blocks.address(0) == known[blocks.row[0]]
    assert blocks.top <= 1 << 30, "segments far apart are drawn beside each other"
    overlapping = 0
    order = np.argsort(blocks.start_ns, kind="stable")
    for one in order[:400].tolist():
        alive = blocks.alive(int(blocks.start_ns[one]))
        mine = alive[(blocks.low[alive] < blocks.high[one]) & (blocks.low[one] < blocks.high[alive])]
        overlapping += len(mine) - 1
    assert overlapping == 0, "an allocator gives no byte twice"


def test_the_map_shows_plan_or_run(window: MainWindow) -> None:
    window.show_page("memory")
    settle()
    view = window.docks.view(MemoryMapView)
    planned = pixels(view.grab().toImage())
    assert view.switch.buttons["plan"].isChecked()
    QTest.mouseClick(view.switch.buttons["run"], Qt.MouseButton.LeftButton)
    settle()
    blocks = window.session.blocks
    assert blocks is not None
    shown: Any = view.layer.rectangles
    assert shown is blocks
    (top,) = view.layer.levels()
    assert top.text.startswith("highest address" if blocks.addressed else "top of the stack")
    measured = pixels(view.grab().toImage())
    assert (planned != measured).mean() > 0.05
    hatched = load_palette().role("excess") & 0xFFFFFF
    row = max(range(len(blocks)), key=blocks.held_longer_ns)
    window.session.viewport.reveal(
        float(blocks.planned_end_ns[row] - window.session.origin_ns),
        float(blocks.end_ns[row] - window.session.origin_ns),
    )
    view.show_addresses(float(blocks.low[row]) - 4096, float(blocks.high[row]) + 4096)
    settle()
    assert (pixels(view.grab().toImage()) & 0xFFFFFF == hatched).any()
    middle = view.rectangle(blocks, row).intersected(view.plot.toRectF()).center().toPoint()
    QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=middle)
    assert window.session.selected == BlockRef(row)
    text = window.docks.view(DetailsView).toPlainText()
    assert "held longer by" in text
    assert any("longer than planned" in line for line in view.lines(row))
    QTest.mouseClick(view.switch.buttons["plan"], Qt.MouseButton.LeftButton)
    assert view.layer.rectangles is window.session.map


def test_a_profile_alone_has_its_map_and_says_why_it_peaks(qtbot: QtBot) -> None:
    window = MainWindow(open_session(Request(None, PROFILE)), background=False)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    window.show_page("memory")
    settle()
    view = window.docks.view(MemoryMapView)
    blocks = window.session.blocks
    assert blocks is not None
    assert view.isVisible()
    assert not view.switch.buttons["plan"].isVisible(), "there is nothing to choose between"
    assert not blocks.joined
    assert OTHERS in blocks.kinds
    window.session.select(None)
    sections = {str(section.title): section for section in window.docks.view(DetailsView).sections}
    assert "Why PTA peaks" in sections
    largest = next(fact for section in sections.values() for fact in section.facts if isinstance(fact.target, BlockRef))
    window.session.select(largest.target)
    assert "asked for by" in window.docks.view(DetailsView).toPlainText()
    assert len(view.sheet().rows) == len(blocks)
    window.close()


def test_a_profile_without_blocks_says_how_to_get_them(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "kernel_details.csv").write_text(
        "Name,Type,Accelerator Core,Start Time(us),Duration(us)\nMatMul1,MatMul,AI_CORE,1767225600000051.5,3.2\n"
    )
    window = MainWindow(open_session(Request(None, tmp_path)), background=False)
    qtbot.addWidget(window)
    window.show()
    window.show_page("memory")
    settle()
    view = window.docks.view(MemoryMapView)
    assert window.session.blocks_read
    assert isinstance(view.layer.rectangles, MapRectangles | None)
    assert "profile_memory=True" in view.layer.empty()
    window.close()


def test_a_plan_alone_has_no_blocks() -> None:
    assert block_map(open_session(Request(PLAN)).document) is None


def test_addresses_far_apart_are_drawn_without_the_gap() -> None:
    """Went wrong once: blocks of two segments were two lines at the edges of a map of 70 GiB."""
    address = np.array([1 << 40, (1 << 40) + 512, 7 << 40, (7 << 40) + 4096, 1 << 40], dtype=np.int64)
    size = np.array([512, 1024, 4096, 512, 256], dtype=np.int64)
    assert without_gaps(address, size).tolist() == [0, 512, 1536, 1536 + 4096, 0]


def test_two_snapshots_beside_each_other_say_who_holds_what(qtbot: QtBot, shared_data: Path) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1500, 900)
    window.show()
    window.opener.open_request(Request(None, shared_data / "snapshots", rank=0))
    window.ranks.beside(0, 1)
    settle()
    table = window.side_by_side.table
    assert table is not None
    rows = [row for row in table.sheet().rows if "Held at the peak" in row]
    assert len(rows) > 3
    held = [held_at_peak(item.session) for item in window.documents.opened]
    peaks = [item.session.curves.measured[0].peak[1] for item in window.documents.opened]
    for found, peak in zip(held, peaks, strict=True):
        assert found is not None
        assert sum(amount.total for amount in found.values()) == pytest.approx(peak, rel=0.05)
    window.close()


def test_texts_on_a_canvas_keep_clear_of_each_other(window: MainWindow) -> None:
    """Went wrong once: "capacity" lay over "peak", and "highest address" over both."""
    window.show_page("memory")
    settle()
    view, session = window.docks.view(MemoryMapView), window.session
    assert session.peak is not None
    at = float(session.peak.time_ns - session.origin_ns)
    for width in (1.0, 0.5, 0.1, 0.02):
        span = (session.viewport.bounds[1] - session.viewport.bounds[0]) * width
        session.viewport.show(at - span * 0.9, at + span * 0.1)
        view.grab()
        assert len(view._tags.placed) >= 2
        for place, one in enumerate(view._tags.placed):
            assert not any(one.area.intersects(other.area) for other in view._tags.placed[:place])
