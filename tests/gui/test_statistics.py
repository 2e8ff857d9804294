"""Statistics of slices: what is counted, how it is grouped, and how it is held against the plan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import Session, SliceRef, SpansRef
from memplan.gui.model.tables.slice_statistics import GroupBy, SliceStatistics, slice_statistics
from memplan.gui.views.statistics_view import StatisticsView
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def read() -> Session:
    """The sample with every track read."""
    session = open_session(Request(PLAN, PROFILE))
    for track in session.tracks.all:
        session.tracks.load(track)
    return session


def whole(session: Session) -> tuple[int, int]:
    """All of its time."""
    start, end = session.viewport.bounds
    return session.origin_ns + int(start), session.origin_ns + int(end) + 1


def sums(found: SliceStatistics) -> dict[str, tuple[float, float]]:
    """Count and total by name."""
    return {str(row.cells[0]): (float(row.sort_keys[1]), float(row.sort_keys[2])) for row in found.rows}


@pytest.mark.parametrize("group", [GroupBy.TYPE, GroupBy.NAME, GroupBy.LAYER, GroupBy.EACH])
def test_groups_add_up_to_the_kernels(read: Session, group: GroupBy) -> None:
    kernels = read.document.rank.kernels()
    assert kernels is not None
    found = slice_statistics(read, group, whole(read))
    assert found.count == len(kernels)
    assert found.total_ns == int(kernels.duration_ns.sum())
    assert sum(float(row.sort_keys[1]) for row in found.rows) == len(kernels)
    totals = [float(row.sort_keys[2]) for row in found.rows]
    assert totals == sorted(totals, reverse=True)


def test_types_are_those_of_the_kernel_table(read: Session) -> None:
    kernels = read.document.rank.kernels()
    assert kernels is not None
    rows = [row for row in range(len(kernels)) if kernels.type[row] == "MatMul"]
    expected = len(rows), float(kernels.duration_ns[rows].sum())
    named = slice_statistics(read, GroupBy.NAME, whole(read), "matmul-op")
    assert (named.count, named.total_ns) == expected


def test_a_stretch_counts_what_lies_in_it(read: Session) -> None:
    low, high = whole(read)
    middle = (low + high) // 2
    left, right = (slice_statistics(read, GroupBy.TYPE, part) for part in ((low, middle), (middle, high)))
    assert left.total_ns + right.total_ns == slice_statistics(read, GroupBy.TYPE, (low, high)).total_ns


def test_planned_times_stand_beside_the_same_kernels(read: Session) -> None:
    found, plan = read.document.comparison, read.document.plan
    assert found is not None
    assert plan is not None
    rows = slice_statistics(read, GroupBy.NAME, whole(read)).rows
    planned = sum(float(row.sort_keys[7]) for row in rows)
    difference = sum(float(row.sort_keys[8]) for row in rows)
    assert planned == sum(plan.ops[op].duration_ns for op in found.matches.op.tolist())
    assert difference == float(found.matches.duration_ns.sum()) - planned


def test_self_is_without_what_lies_within(read: Session) -> None:
    tracks = slice_statistics(read, GroupBy.TRACK, whole(read)).rows
    host = next(row for row in tracks if "Python" in str(row.cells[0]))
    assert float(host.sort_keys[3]) < float(host.sort_keys[2])
    device = next(row for row in tracks if str(row.cells[0]).endswith("Stream 0"))
    assert device.sort_keys[3] == device.sort_keys[2]


def test_a_pattern_that_is_none_is_taken_as_it_stands(read: Session) -> None:
    assert slice_statistics(read, GroupBy.NAME, whole(read), "(").count == 0
    assert slice_statistics(read, GroupBy.NAME, whole(read), "matmul|gather").count > 0


@pytest.fixture
def view(qtbot: QtBot, read: Session) -> Iterator[StatisticsView]:
    """The table on its page."""
    read.page = "timeline"
    read.select(None)
    read.viewport.selected_range = None
    read.viewport.show(*read.viewport.bounds)
    window = MainWindow(read, background=False)
    window.resize(1400, 900)
    window.show()
    qtbot.waitExposed(window)
    window.docks.bring("statistics")
    settle()
    qtbot.waitUntil(lambda: window.docks.view(StatisticsView).model.rowCount() > 0, timeout=5_000)
    yield window.docks.view(StatisticsView)
    window.close()


def test_the_table_follows_what_is_selected_and_typed(view: StatisticsView, qtbot: QtBot) -> None:
    everything = view.model.rowCount()
    assert "in view" in view.headline.text()
    viewport = view.session.viewport
    low, high = viewport.bounds
    viewport.selected_range = low + 0.4 * (high - low), low + 0.5 * (high - low)
    qtbot.waitUntil(lambda: "selected" in view.headline.text(), timeout=5_000)
    assert 0 < view.model.rowCount() <= everything
    viewport.selected_range = None
    QTest.keyClicks(view.wanted, "MatMul")
    qtbot.waitUntil(lambda: view.model.rowCount() < everything and "in view" in view.headline.text(), timeout=5_000)
    assert all("matmul" in str(row.cells[0]).casefold() for row in view.model.rows)
    view.wanted.clear()


def test_names_are_read_before_figures_that_can_be_spared(view: StatisticsView) -> None:
    """Went wrong once: in a window of 1280 pixels every name was cut to a few letters."""
    window, header = view.window(), view.table.horizontalHeader()
    narrow: list[str] = []
    wide: list[str] = []
    for width, names in ((1280, narrow), (2400, wide)):
        window.resize(width, 800)
        settle()
        names.extend(name for column, name in enumerate(view.shape.header) if not header.isSectionHidden(column))
        assert header.sectionSize(view.shape.wide) >= 120
    assert wide == list(view.shape.header)
    assert set(wide) - set(narrow) <= {"Self", "Longest"}
    assert len(view.sheet().header) == len(wide)
    view.table.sortByColumn(3, Qt.SortOrder.DescendingOrder)
    window.resize(1280, 800)
    settle()
    assert not header.isSectionHidden(3)
    view.table.sortByColumn(2, Qt.SortOrder.DescendingOrder)


def test_a_click_lights_up_every_instance(view: StatisticsView) -> None:
    place = view.table.visualRect(view.sorted.index(0, 0)).center()
    QTest.mouseClick(view.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    selected = view.session.selected
    assert isinstance(selected, SpansRef)
    row = view.row_at(view.sorted.index(0, 0))
    assert len(selected.spans) == row.sort_keys[1]
    assert sum(end - start for start, end in selected.spans) == row.sort_keys[2]


def test_a_hit_leads_to_its_slice(view: StatisticsView, qtbot: QtBot) -> None:
    view.group.setCurrentIndex(view.group.findData(GroupBy.EACH))
    QTest.keyClicks(view.wanted, "MatMul-op0$")
    qtbot.waitUntil(lambda: 0 < view.model.rowCount() < 40, timeout=5_000)
    place = view.table.visualRect(view.sorted.index(0, 0)).center()
    QTest.mouseClick(view.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    selected = view.session.selected
    assert isinstance(selected, SliceRef)
    lanes = view.session.tracks.lanes(view.session.tracks.track(selected.track))
    assert lanes is not None
    assert lanes.slices.names[lanes.slices.name[selected.index]].endswith("MatMul-op0")
    start = int(lanes.slices.start_ns[selected.index]) - view.session.origin_ns
    assert view.session.viewport.start <= start < view.session.viewport.end
    assert np.isfinite(view.session.viewport.span)
    view.wanted.clear()
    view.group.setCurrentIndex(0)


def test_a_plan_alone_says_where_its_ops_are(qtbot: QtBot) -> None:
    """Nothing was measured, which is not that nothing lies in view."""
    window = MainWindow(open_session(Request(PLAN)), background=False)
    window.show()
    qtbot.waitExposed(window)
    window.docks.bring("statistics")
    settle()
    view = window.docks.view(StatisticsView)
    assert view.model.rowCount() == 0
    assert "Nothing was measured" in view.headline.text()
    window.close()
