"""
Questions that a user comes with, answered by real events, with how many actions each takes from opening to the answer.

An action is a drop of files, a click, or a key.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from memplan.core.sentence import Sentence
from memplan.gui.model.session.session import FindingRef, OpRef, SpansRef
from memplan.gui.model.slices.counterparts import framed_slices, op_rectangles
from memplan.gui.views.cluster.cluster_view import ClusterView
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.kernel.kernel_view import KernelView
from memplan.gui.views.kv.kv_budget_view import KvBudgetView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.views.overview.overview_view import OverviewView
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.hands import Hands
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


def test_where_does_the_time_go(hands: Hands) -> None:
    hands.drop(PLAN, PROFILE)
    assert hands.figures()["Step time"] == ("852.165 µs", "planned 738.567 µs (+15.4%)")
    assert hands.figures()["Idle"] == ("11.9%", "101.671 µs a step")
    assert "shorter than their launch" in hands.findings()[0]
    assert hands.actions == 1


def test_where_does_the_time_of_a_run_of_two_ranks_go(hands: Hands, shared_data: Path) -> None:
    """Went wrong once: without a plan five of eight views were empty, and none said what the profile told."""
    hands.drop(shared_data / "profiles" / "alexnet-ddp-2rank" / "text" / "level2")
    share = float(hands.figures()["Exposed communication"][0].removesuffix("%"))
    assert share == pytest.approx(73.9, abs=3)
    assert "Communication that no computing hides" in hands.findings()[0]
    assert "hcom_allReduce__271_0_1" in hands.findings()[0]
    assert hands.actions == 1


def test_what_makes_the_planned_peak(hands: Hands) -> None:
    hands.drop(PLAN)
    hands.tile("Memory peak")
    assert hands.window.pages.current == "memory"
    assert "Why HBM peaks" in hands.details()
    assert "optimizer state: 3.28 MiB" in hands.details()
    assert hands.actions == 2


def test_what_makes_the_measured_peak(hands: Hands, shared_data: Path) -> None:
    """Went wrong once: the peak of a run was marked, and nothing said who held it."""
    hands.drop(shared_data / "profiles" / "qwen3-0.6b-train-4rank")
    hands.tile("Memory peak")
    assert "10.04 GiB" in hands.details()
    assert "from before the profile began" in hands.details()
    assert "aten::matmul" in hands.details()
    assert hands.actions == 2


def test_what_is_outside_the_allocator(hands: Hands, shared_data: Path) -> None:
    hands.drop(shared_data / "profiles" / "qwen3-0.6b-train-4rank")
    row = next(row for row, text in enumerate(hands.findings()) if "outside of the allocator" in text)
    assert "HCCL 1.21 GiB" in hands.findings()[row]
    assert hands.actions == 1
    table = hands.window.docks.view(OverviewView).findings
    hands.click(table.table.viewport(), table.table.visualRect(table.sorted.index(row, 0)).center())
    assert hands.window.pages.current == "memory"
    assert "RUNTIME" in hands.details()
    assert hands.actions == 2


def test_which_rank_is_slow(hands: Hands, shared_data: Path) -> None:
    """Went wrong once: a folder of sixteen ranks opened as a blank window."""
    hands.drop(shared_data / "profiles" / "cluster-16rank")
    hands.click(hands.window.rail.buttons["cluster"])
    view = hands.window.docks.view(ClusterView)
    assert view.isVisible()
    assert "the slowest is rank 8, by +0.3%" in view.verdict.text(), "its peers are those of its stage"
    assert hands.actions == 2
    assert len(view.ranks_map.grid.rows) == 16
    QTest.mouseDClick(view.ranks_map, Qt.MouseButton.LeftButton, pos=view.ranks_map.box(8, 0).center().toPoint())
    settle()
    rank = hands.window.session.document.rank
    assert rank is not None
    assert rank.rank == 8
    assert hands.window.session.diagnosis is not None, "what is known of all ranks stays known"


def test_two_ranks_are_set_side_by_side(hands: Hands, shared_data: Path) -> None:
    hands.drop(shared_data / "profiles" / "qwen3-0.6b-train-4rank")
    hands.click(hands.window.rail.buttons["cluster"])
    view = hands.window.docks.view(ClusterView)
    for row in (0, 2):
        hands.click(view.ranks_map, view.ranks_map.box(row, 0).center().toPoint(), ctrl=row > 0)
    hands.click(view.beside)
    assert hands.window.side_by_side.view is not None
    shown = [timeline.session.document.rank.rank for timeline in hands.window.side_by_side.timelines()]
    assert shown == [0, 3]
    assert hands.actions == 5


def test_what_deviates_most(hands: Hands) -> None:
    """Went wrong once: the costliest difference, many short waits together, led nowhere and was marked nowhere."""
    hands.drop(PLAN, PROFILE)
    before = hands.window.timeline.grab().toImage()
    hands.key("costliest")
    window, session = hands.window, hands.window.session
    assert window.pages.current == "plan"
    assert window.docks.view(DeviationsView).isVisible()
    selected = session.selected
    assert isinstance(selected, SpansRef)
    assert len(selected.spans) == 337
    found = session.document.comparison
    assert found is not None
    waited = sum(end - start for start, end in selected.spans)
    assert waited == pytest.approx(found.deviations[0].measured, rel=0.01)
    assert "337" in hands.details()
    assert window.timeline.grab().toImage() != before
    assert hands.actions == 2


def test_the_next_costliest_difference_is_framed_in_every_view(hands: Hands) -> None:
    """Went wrong once: an op that was picked was framed in no lane, and its tensors were marked nowhere."""
    hands.drop(PLAN, PROFILE)
    hands.key("costliest")
    hands.key("next-difference")
    session = hands.window.session
    assert isinstance(session.selected, OpRef)
    for track in session.tracks.all:
        session.tracks.load(track)
    framed = framed_slices(session, session.selected)
    kinds = [session.tracks.track(item.track).kind for item in framed]
    assert kinds == ["plan", "stream"]
    spans = []
    for item in framed:
        lanes = session.tracks.lanes(session.tracks.track(item.track))
        assert lanes is not None
        spans.append(int(lanes.slices.start_ns[item.index]))
    assert spans[0] == spans[1], "the planned op begins where its kernel began"
    assert op_rectangles(session, session.selected)
    assert hands.window.docks.view(MemoryMapView)._tinted == op_rectangles(session, session.selected)
    hands.key("previous-difference")
    assert isinstance(session.selected, SpansRef)
    assert hands.actions == 4


def test_how_many_tokens_fit(hands: Hands) -> None:
    hands.key("kv")
    view = hands.window.docks.view(KvBudgetView)
    assert view.isVisible()
    assert view.verdict.text()
    assert hands.actions == 1


def test_what_happens_in_a_history_of_an_allocator(hands: Hands, shared_data: Path) -> None:
    """Went wrong once: a snapshot that was dropped asked for a chip, and was no MindIR file then."""
    hands.drop(shared_data / "snapshots" / "snapshot_expandable.pkl")
    assert not hands.window.session.document.empty
    assert not hands.window.problems.errors
    assert "Memory peak" in hands.figures()
    assert hands.actions == 1


def test_what_is_wrong_with_a_file(hands: Hands, tmp_path: Path) -> None:
    broken = tmp_path / "broken.plan.json"
    broken.write_text('{"format": "memplan-plan"')
    hands.drop(broken)
    assert len(hands.window.problems.errors) == 1
    assert "broken.plan.json" in hands.window.problems.errors[0]
    assert hands.window.docks["problems"].isVisible()


def test_keys_move_whatever_has_the_keyboard(hands: Hands) -> None:
    """Went wrong once: W, A, S and D did nothing until a canvas had been clicked, nor with a table in front."""
    hands.drop(PLAN, PROFILE)
    hands.key("page-plan")
    hands.window.docks.view(DeviationsView).table.setFocus()
    viewport = hands.window.session.viewport
    whole = viewport.span
    hands.key("zoom-in")
    assert viewport.span == pytest.approx(whole / 1.25)
    start = viewport.start
    hands.key("pan-right")
    assert viewport.start > start
    hands.key("pan-left")
    hands.key("zoom-out")
    assert viewport.span == pytest.approx(whole)


def test_why_is_a_kernel_slow(hands: Hands) -> None:
    hands.drop(PLAN, PROFILE)
    plan = hands.window.session.document.plan
    assert plan is not None
    hands.window.session.select(OpRef(max(plan.ops, key=lambda op: op.flops).index))
    hands.key("page-kernels")
    view = hands.window.docks.view(KernelView)
    assert view.isVisible()
    assert view.facts.name
    assert hands.actions == 2


def test_planned_lanes_say_what_was_planned(hands: Hands) -> None:
    """Went wrong once: the plan's lane was stretched to the run's, in the picture, the statistics and the table."""
    hands.drop(PLAN, PROFILE)
    session = hands.window.session
    plan, found = session.document.plan, session.document.comparison
    assert plan is not None
    assert found is not None
    track = next(track for track in session.tracks.all if track.planned is not None)
    session.tracks.load(track)
    lanes = session.tracks.lanes(track)
    assert lanes is not None
    assert track.planned is not None
    planned = np.array([op.duration_ns for op in track.planned.ops])
    assert np.array_equal(lanes.slices.duration_ns, planned)
    assert len(lanes.lanes) == 1, "what took less than planned does not make a second lane"
    starts = dict(zip(found.matches.op.tolist(), found.matches.start_ns.tolist(), strict=True))
    own = [starts.get(op.index) for op in track.planned.ops]
    assert [start for start in own if start is not None] == [
        int(start) for start, known in zip(lanes.slices.start_ns, own, strict=True) if known is not None
    ]
    session.viewport.selected_range = session.viewport.bounds
    settle()
    section = next(item for item in hands.window.docks.view(DetailsView).sections if item.title == track.title)
    time = next(str(fact.value) for fact in section.facts if fact.label == Sentence("time"))
    assert time.startswith("738.567 µs")


def test_a_finding_of_another_rank_opens_that_rank(hands: Hands, shared_data: Path) -> None:
    hands.drop(shared_data / "profiles" / "qwen3-0.6b-train-4rank")
    session = hands.window.session
    assert session.diagnosis is not None
    number = next(place for place, one in enumerate(session.diagnosis.findings) if one.rank == 1)
    table = hands.window.docks.view(OverviewView).findings
    row = next(
        row for row in range(table.sorted.rowCount())
        if table.row_at(table.sorted.index(row, 0)).item == FindingRef(number)
    )  # fmt: skip
    hands.click(table.table.viewport(), table.table.visualRect(table.sorted.index(row, 0)).center())
    rank = hands.window.session.document.rank
    assert rank is not None
    assert rank.rank == 1
    assert hands.window.pages.current == "timeline"
    assert hands.window.session.selected == FindingRef(number)
    assert hands.window.session.marked_spans()
    assert hands.actions == 2
