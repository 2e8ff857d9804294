"""The moves of a plan as arcs: one a transfer, found under the mouse, with what the step waits for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

import memplan
from memplan.gui.i18n import say
from memplan.gui.model.memory.move_arcs import arcs_headline, move_arcs
from memplan.gui.model.palette import contrast, load_palette, theme_names
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.views.memory.move_arcs_view import MoveArcsView
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.schema.move_waits import move_waits
from tests.gui.conftest import PLAN, SAMPLES

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of the sample in too little HBM."""
    path = tmp_path_factory.mktemp("plans") / "moving.plan.json"
    never = RecomputePolicy.NEVER
    plan = memplan.plan(SAMPLES / "llama_train.mindir", chip="910B3", hbm=5_000_000, recompute=never, quick=True)
    plan.save(path)
    return path


@pytest.fixture
def view(moving: Path, qtbot: QtBot) -> MoveArcsView:
    """The view of that plan."""
    shown = MoveArcsView(open_session(Request(moving)), load_palette("light"))
    qtbot.addWidget(shown)
    shown.resize(1200, 300)
    return shown


def test_every_transfer_is_an_arc_between_its_tiers(view: MoveArcsView) -> None:
    plan, arcs = view.session.document.plan, view.arcs
    assert plan is not None
    assert arcs is not None
    assert sorted(arcs.transfer.tolist()) == list(range(len(plan.transfers)))
    for arc, number in enumerate(arcs.transfer.tolist()):
        move = plan.transfers[number]
        assert (arcs.tiers[arcs.source[arc]], arcs.tiers[arcs.target[arc]]) == (move.source, move.target)
        assert arcs.end_ns[arc] - arcs.start_ns[arc] == move.end_ns - move.start_ns
    waited = int((arcs.wait_end_ns - arcs.wait_start_ns).sum())
    assert waited == sum(op.stalled_ns for op in plan.ops)


@pytest.mark.parametrize("theme", theme_names())
def test_every_arc_is_seen_on_the_ground(view: MoveArcsView, theme: str) -> None:
    palette = load_palette(theme)
    view.set_palette(palette)
    image = view.grab().toImage()
    arcs, ground = view.arcs, palette.role("ground")
    assert arcs is not None
    for arc in range(len(arcs.transfer)):
        path = view.arc_path(arcs, arc)
        points = [path.pointAtPercent(share / 40).toPoint() for share in range(10, 31)]
        seen = [image.pixel(at.x() + aside, at.y()) for at in points for aside in (-1, 0, 1)]
        assert max(contrast(colour, ground) for colour in seen) >= 3


def test_the_headline_says_moves_bytes_and_what_the_step_waits_for(view: MoveArcsView) -> None:
    plan = view.session.document.plan
    assert plan is not None
    found = move_waits(plan)
    assert view.headline.startswith(f"{len(plan.transfers):,} moves, ")
    assert found.added_ns == plan.makespan_ns - sum(op.duration_ns for op in plan.ops)
    assert ("waits for" in view.headline) == bool(found.added_ns)


def test_a_click_on_an_arc_selects_the_op_that_waits_for_it(view: MoveArcsView) -> None:
    plan, arcs = view.session.document.plan, view.arcs
    assert plan is not None
    assert arcs is not None
    view.grab()
    for arc, number in enumerate(arcs.transfer.tolist()):
        move = plan.transfers[number]
        view.session.viewport.show(float(move.start_ns) - 1, float(move.end_ns) + 1)
        point = view.arc_path(arcs, arc).pointAtPercent(0.5)
        found = view.arc_at(point)
        assert found is not None
        chosen = plan.transfers[int(arcs.transfer[found])]
        view.clicked(point)
        expected = None if chosen.before_step is None else OpRef(chosen.before_step)
        assert view.session.selected == expected
        assert view.lines(found)


def test_more_arcs_than_lines_can_show_are_blocks(view: MoveArcsView, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = view.grab().toImage()
    monkeypatch.setattr("memplan.gui.views.memory.move_arcs_view._MOST_CURVES", 0)
    view.refresh()
    assert view.grab().toImage() != fine
    assert view.arc_at(view.rect().center().toPointF()) is None


def test_a_plan_without_moves_says_so(session: Session, qtbot: QtBot) -> None:
    still = open_session(Request(PLAN))
    assert still.document.plan is not None
    assert move_arcs(replace(still.document)) is None
    assert say(arcs_headline(still.document)) == "The plan moves nothing between tiers."
    shown = MoveArcsView(still, load_palette("dark"))
    qtbot.addWidget(shown)
    shown.grab()
    assert shown.sheet().rows == []
