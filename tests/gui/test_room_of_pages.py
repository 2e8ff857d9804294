"""What pages do with the room they have: empty stretches are given to what has more to show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtWidgets import QBoxLayout, QHeaderView
from pytestqt.qtbot import QtBot

from memplan.gui.model.cluster.rank_grid import link_grid
from memplan.gui.model.kernel.kernel_facts import UNASKED
from memplan.gui.model.memory.block_map import block_map
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.views.cluster.cluster_view import ClusterView
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.kernel.kernel_view import KernelView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.views.statistics_view import StatisticsView
from memplan.gui.views.timeline.counter_shapes import paint_counters
from memplan.gui.window.main_window import MainWindow
from memplan.schema import load_plan
from memplan.simulator import chosen_fault, simulate_job
from memplan.traces.link_totals import LinkTotal
from memplan.traces.profile import CounterSeries
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.two_documents import press, settle
from tests.traces.excerpts import table

pytestmark = pytest.mark.gui


def shown(qtbot: QtBot, session: Session, size: tuple[int, int] = (1280, 720)) -> MainWindow:
    """A window of that size on `session`."""
    window = MainWindow(session, background=False)
    qtbot.addWidget(window)
    window.resize(*size)
    window.show()
    settle()
    return window


def test_a_timeline_of_few_tracks_leaves_its_room_to_what_is_below(qtbot: QtBot) -> None:
    """Went wrong once: one lane over an empty stretch, and six rows of the differences under it."""
    heights = {}
    for name, request in (("plan", Request(PLAN)), ("both", Request(PLAN, PROFILE))):
        window = shown(qtbot, open_session(request), (1600, 1000))
        window.show_page("timeline")
        settle()
        heights[name] = window.docks["curve"].height()
        empty = window.timeline.height() - window.timeline.needed_height()
        assert empty < 100
        window.close()
    assert heights["plan"] > heights["both"] + 100


def test_the_table_of_differences_fills_its_dock(qtbot: QtBot, session: Session) -> None:
    """Went wrong once: a row was cut in half over an empty band."""
    window = shown(qtbot, session)
    window.show_page("plan")
    settle()
    view = window.docks.view(DeviationsView)
    assert view.table.geometry().bottom() >= view.height() - 2


def test_a_plan_alone_says_what_its_time_goes_to(qtbot: QtBot) -> None:
    window = shown(qtbot, open_session(Request(PLAN)))
    view = window.docks.view(OverviewView)
    plan = load_plan(PLAN)
    launched = [op for op in plan.ops if op.launches]
    assert view.types.isVisible()
    rows = [view.types.row_at(view.types.sorted.index(row, 0)) for row in range(view.types.sorted.rowCount())]
    assert {row.cells[0] for row in rows} == {op.type for op in launched}
    assert sum(int(row.sort_keys[3]) for row in rows) == sum(op.duration_ns for op in launched)
    assert [row.sort_keys[3] for row in rows] == sorted((row.sort_keys[3] for row in rows), reverse=True)
    view.types.jump(view.types.sorted.index(0, 0))
    selected = window.session.selected
    assert isinstance(selected, OpRef)
    assert plan.ops[selected.op].type == rows[0].cells[0]
    assert window.pages.current == "kernels"


def test_a_plan_beside_its_run_lists_findings_alone(qtbot: QtBot, session: Session) -> None:
    assert not shown(qtbot, session).docks.view(OverviewView).types.isVisible()


def test_the_page_of_kernels_opens_on_the_costliest(qtbot: QtBot) -> None:
    for request in (Request(PLAN), Request(None, PROFILE)):
        window = shown(qtbot, open_session(request))
        window.show_page("kernels")
        settle()
        assert UNASKED in window.docks.view(KernelView).head.text()
        window.close()


def write_ring(job: Path, ranks: int) -> None:
    """Links of a rank's directory: each rank sends to the next."""
    figures = {"Transport Type": "HCCS", "Transit Size(MB)": 8.4, "Transit Time(ms)": 0.5, "Bandwidth(GB/s)": 16.8}
    ring = {f"{rank}-{(rank + 1) % ranks}": figures for rank in range(ranks)}
    links = {"step1": {"p2p": {}, "collective": {"hcom_allReduce_@1": ring}}}
    table(next(job.rglob("step_trace_time.csv")).parent, "communication_matrix.json", json.dumps(links))


def test_links_stand_beside_few_ranks(qtbot: QtBot, tmp_path: Path) -> None:
    job = simulate_job(load_plan(PLAN), tmp_path / "job", fault=chosen_fault("slow-rank"), ranks=4, steps=2, seed=1)
    write_ring(job, 4)
    for width, direction in ((1600, QBoxLayout.Direction.LeftToRight), (700, QBoxLayout.Direction.TopToBottom)):
        window = shown(qtbot, open_session(Request(None, job)), (width, 720))
        window.show_page("cluster")
        settle()
        assert window.docks.view(ClusterView).parts.direction() is direction
        window.close()


def test_ranks_that_tell_of_no_link_have_no_empty_row() -> None:
    """Went wrong: a profile of two ranks of a job of ten showed ten rows, of which eight were empty."""
    told = [LinkTotal(source, target, "HCCS", 1_000_000, 50_000) for source in (0, 1) for target in (4, 7)]
    grid = link_grid(told)
    assert grid is not None
    assert (list(grid.rows), list(grid.columns)) == (["0", "1"], ["4", "7"])
    assert sorted(grid.values) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_links_of_sixteen_ranks_are_all_seen_beside_their_steps(qtbot: QtBot, tmp_path: Path) -> None:
    """Went wrong: half of the room beside few steps was empty, and the last rank's links were cut off below them."""
    job = simulate_job(load_plan(PLAN), tmp_path / "job", fault=chosen_fault("slow-rank"), ranks=16, steps=2, seed=1)
    write_ring(job, 16)
    window = shown(qtbot, open_session(Request(None, job)), (1920, 1080))
    window.show_page("cluster")
    settle()
    view = window.docks.view(ClusterView)
    assert len(view.links_map.grid.rows) == 16
    for area in (view.ranks_area, view.links_area):
        assert not area.verticalScrollBar().isVisible()
        assert not area.horizontalScrollBar().isVisible()


def test_two_timelines_stand_one_below_the_other_where_there_is_no_room_beside(two: MainWindow) -> None:
    """Went wrong once: at 1280 pixels each of them had less room than its names."""
    for width, stacked in ((1280, True), (1900, False)):
        two.resize(width, 900)
        settle()
        press(two)
        assert two.side_by_side.bar.stack.isChecked() is stacked
        press(two)


def test_a_column_of_names_stays_readable_in_a_narrow_table(qtbot: QtBot, session: Session) -> None:
    window = shown(qtbot, session, (900, 620))
    window.show_page("timeline")
    window.docks.bring("statistics")
    settle()
    view = window.docks.view(StatisticsView)
    assert view.table.horizontalHeader().sectionSize(0) >= 80
    view.resize(1600, 400)
    assert view.table.horizontalHeader().sectionResizeMode(0) is QHeaderView.ResizeMode.Stretch


def test_blocks_of_a_graph_are_told_apart_by_the_type_of_their_op() -> None:
    """Went wrong once: each scope name was a kind of its own, and grey was most of the map."""
    blocks = block_map(open_session(Request(None, PROFILE)).document)
    assert blocks is not None
    assert not [kind for kind in blocks.kinds if "/" in kind]
    alive = (blocks.start_ns <= blocks.peak_ns) & (blocks.peak_ns < blocks.end_ns) & (blocks.row >= 0)
    held = blocks.high - blocks.low
    others = alive & (blocks.kind == blocks.kinds.index("others"))
    assert held[others].sum() < held[alive].sum() / 2


def test_a_counter_alone_has_the_colour_of_no_family() -> None:
    palette = load_palette()
    series = CounterSeries("HBM", "APP/HBM", np.array([0, 10]), np.array([1.0, 1.0]))
    pixels = np.zeros((20, 10), dtype=np.uint32)
    asked: list[str] = []

    def colour(name: str) -> int:
        asked.append(name)
        return palette.role("part_wait")

    paint_counters(pixels, [series], (0, 20), np.arange(0, 11), colour)
    assert asked == [""]
    paint_counters(pixels, [series, series], (0, 20), np.arange(0, 11), colour)
    assert len(set(asked)) == 3
