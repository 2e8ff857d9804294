"""What the overview and the kernels of a plan say of its collectives."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

import memplan
from memplan.compare import compare
from memplan.core.units import format_duration
from memplan.gui.i18n import catalogue
from memplan.gui.model.kernel.kernel_analysis import kernel_facts
from memplan.gui.model.overview.head_figures import head_figures
from memplan.gui.model.overview.planned_parts import planned_parts
from memplan.gui.model.overview.step_bars import step_bars
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.window.main_window import MainWindow
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Bound, Plan, PlannedStep, planned_step
from memplan.schema.communication import communication_outlook
from memplan.simulator import Behaviour, simulate
from tests.gui.conftest import PLAN, PROFILE, SAMPLES
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def split_plan() -> Plan:
    """A training step on four chips, that exchange what each of them computes."""
    config = load_config(SAMPLES / "example_config.json")
    return memplan.plan(
        config, chip="910B3", phase="train", layout=Layout(tensor=2, pipeline=2), recipe=Recipe(512, 1, 1)
    )


@pytest.fixture
def split(split_plan: Plan, tmp_path: Any) -> Session:
    path = tmp_path / "split.plan.json"
    split_plan.save(path)
    return open_session(Request(path))


def test_collectives_are_told_from_computing_in_the_planned_bar(split: Session, split_plan: Plan) -> None:
    """Went wrong: all of a planned step was drawn as computing."""
    outlook = communication_outlook(split_plan)
    assert outlook is not None
    assert outlook.duration_ns > 0
    (bar,) = step_bars(split)
    assert bar.parts["communication: transfer"] == outlook.duration_ns, "one after the other, nothing hides them"
    computing = sum(op.duration_ns for op in split_plan.ops if op.launches and op.bound is not Bound.LINK)
    assert bar.parts["computing"] == computing
    assert bar.parts["pipeline bubble"] > 0
    assert bar.length_ns == split.document.planned_step_ns == split_plan.step_ns


def test_no_part_of_a_planned_step_is_less_than_nothing(split_plan: Plan) -> None:
    """Went wrong: of a step that saves what its collectives run beside, idle was below zero."""
    computes = next(op for op in split_plan.ops if op.launches and op.bound is not Bound.LINK)
    links = next(op for op in split_plan.ops if op.launches and op.bound is Bound.LINK)
    ops = (replace(computes, start_ns=0, duration_ns=100), replace(links, start_ns=0, duration_ns=80))
    step = PlannedStep(ops_ns=100, running_ns=-50)
    told = planned_parts(replace(split_plan, ops=ops), step)
    assert (told.computing_ns, told.overlapped_ns, told.exposed_ns, told.idle_ns) == (50, 50, 0, 0)


def test_the_head_of_a_plan_names_its_exposed_communication_and_the_whole_step(
    split: Session, split_plan: Plan
) -> None:
    told = {str(figure.title): f"{figure.value}; {figure.note}" for figure in head_figures(split)}
    step = planned_step(split_plan)
    assert step is not None
    told_apart = planned_parts(split_plan, step)
    exposed = told_apart.exposed_ns + told_apart.waiting_ns
    assert told["Exposed communication"].startswith(f"{exposed / step.span_ns:.1%}; planned ")
    assert split_plan.step_ns > split_plan.makespan_ns
    whole, alone = format_duration(split_plan.step_ns), format_duration(split_plan.makespan_ns)
    assert told["Step time"] == f"{whole}; as planned; its ops alone {alone}"


def test_a_measured_step_stands_beside_the_whole_planned_step_and_kernels_beside_kernels(
    split_plan: Plan, tmp_path: Path
) -> None:
    """Went wrong once: a run's whole step stood beside the planned time of a stage's ops alone."""
    path, run = tmp_path / "split.plan.json", tmp_path / "run"
    split_plan.save(path)
    simulate(split_plan, run, behaviour=Behaviour.exact())
    session = open_session(Request(path, run))
    document = session.document
    assert document.comparison is not None
    assert document.planned_step_ns == document.comparison.summary.planned_makespan_ns, "simulated: ops alone"
    assert document.rank is not None
    found = compare(split_plan, document.rank)
    measured = Session(replace(document, comparison=found))
    notes = {str(figure.title): str(figure.note) for figure in head_figures(measured)}
    assert notes["Step time"].startswith(f"planned {format_duration(split_plan.step_ns)} (")
    assert found.causes is not None
    assert notes["Computing"] == f"planned {format_duration(found.causes.planned_computing)} (0.0%)"
    assert "Computing" not in {str(figure.title) for figure in head_figures(session)}


def test_a_plan_without_collectives_has_no_figure_of_them() -> None:
    assert "Exposed communication" not in {str(one.title) for one in head_figures(open_session(Request(PLAN)))}


def test_what_a_collective_assumes_is_said_in_chinese(split: Session, split_plan: Plan) -> None:
    """Went wrong: "ring over hccs" stood among Chinese words."""
    words = catalogue("zh")
    op = next(op for op in split_plan.ops if op.bound is Bound.LINK)
    notes = kernel_facts(split, item=OpRef(op.index)).notes
    said = [note if isinstance(note, str) else note.said(lambda text: words.get(text, text)) for note in notes]
    assert said
    assert not [text for text in said if " over " in text]


def test_exchanges_of_experts_have_the_colour_of_communication() -> None:
    palette = load_palette()
    names = ("AllReduce", "MoeDistributeDispatch", "MoeDistributeCombineV2", "Send", "Receive", "hcom_send__001")
    assert all(palette.category(one) == palette.category(other) for one, other in pairwise(names))


def test_the_verdict_takes_no_more_lines_than_it_has(qtbot: QtBot) -> None:
    """Went wrong: it was given the lines of a narrow label, in whatever width."""
    window = MainWindow(open_session(Request(PLAN, PROFILE)), background=False)
    qtbot.addWidget(window)
    window.resize(1280, 720)
    window.show()
    window.show_page("plan")
    settle()
    headline = window.docks.view(DeviationsView).headline
    assert headline.height() == headline.heightForWidth(headline.width())
    window.close()
