"""The first thing that a document says: where the run leaves its plan, what costs most of that, what to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memplan.align.classes.lowering import kernel_meanings
from memplan.align.classes.op_families import family_table
from memplan.compare import CauseKind, DeviationWhat, StepCause
from memplan.compare.step_causes import part_of
from memplan.core.resources import table
from memplan.gui.i18n import catalogue
from memplan.gui.model.overview.head_figures import head_figures
from memplan.gui.model.overview.where_it_leaves import _FOUND_AS, _NOT_FOUND_AS, first_change, leaving
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, SpansRef
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.reports.comparison.compare_words import comparison_words, leading_causes
from memplan.schema import load_plan
from memplan.simulator import chosen_fault, simulate_job
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.hands import Hands
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


def test_a_run_says_where_it_leaves_its_plan_and_what_to_change(hands: Hands) -> None:
    """Went wrong once: the command line said it, the window no more than that the makespan was off."""
    hands.drop(PLAN, PROFILE)
    leads = hands.window.docks.view(OverviewView).leads
    assert leads.isVisible()
    assert "The run takes 113.598 µs longer than planned (+15.4%)" in leads.text()
    assert "idle, nothing on the device +101.671 µs" in leads.text()
    assert "Change first:" in leads.text()
    assert hands.actions == 1, "opening is enough"


def test_each_cause_leads_to_the_difference_that_shows_it(hands: Hands) -> None:
    hands.drop(PLAN, PROFILE)
    window = hands.window
    left = leaving(window.session)
    assert left is not None
    view = window.docks.view(OverviewView)
    shown = []
    for _, number in left.causes:
        assert number is not None
        window.show_page("overview")
        view.leads.linkActivated.emit(f"difference:{number}")
        settle()
        assert window.pages.current == "plan"
        shown.append(type(window.session.selected))
    assert shown == [SpansRef, OpRef, OpRef], "all waits, then the op of each part that differs most"


def test_the_words_are_those_of_the_command_line() -> None:
    session = open_session(Request(PLAN, PROFILE))
    found, left = session.document.comparison, leaving(session)
    assert found is not None
    assert left is not None
    paragraph = comparison_words(found, {})
    assert all(str(words) in paragraph for words, _ in left.causes)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (CauseKind.COMMUNICATION, DeviationWhat.DURATION), (CauseKind.MISSING, DeviationWhat.NOT_IN_PROFILE),
        (CauseKind.UNTOLD, DeviationWhat.NOT_TOLD_APART),
    ],
)  # fmt: skip
def test_a_cause_is_shown_by_a_difference_of_its_own_kind(kind: CauseKind, what: DeviationWhat) -> None:
    """Went wrong once: kernels that did not run led to one of the same part that took longer."""
    session = open_session(Request(PLAN, PROFILE))
    found, plan = session.document.comparison, session.document.plan
    assert found is not None
    assert found.causes is not None
    assert plan is not None
    whats = [other for other in DeviationWhat if other is not what] + [what]
    different = [replace(found.deviations[0], what=one, op=0, where=plan.ops[0].name) for one in whats]
    cause = StepCause(kind, "", 0, 10 * found.causes.measured, ((part_of(plan.ops[0], kind), 1),))
    alone = replace(found, causes=replace(found.causes, causes=(cause,)), deviations=tuple(different))
    session.document = replace(session.document, comparison=alone)
    left = leaving(session)
    assert left is not None
    assert [number for _, number in left.causes] == [len(whats) - 1]


def test_findings_are_held_against_the_open_plan() -> None:
    """Went wrong once: the window diagnosed as if no plan were open, other than the command line does."""
    session = open_session(Request(PLAN, PROFILE))
    diagnosis = session.diagnose()
    assert diagnosis is not None
    assert diagnosis.job.planned, "kernels are matched with the plan's ops"


def test_the_change_is_of_the_largest_cause_though_no_finding_tells_of_it() -> None:
    session = open_session(Request(PLAN, PROFILE))
    session.diagnosis = session.diagnose()
    found, change = session.document.comparison, first_change(session)
    assert found is not None
    assert found.causes is not None
    assert change is not None
    assert leading_causes(found.causes)[0].kind is CauseKind.IDLE
    assert change.finding is None
    assert "idle, nothing on the device" in str(change.said)
    assert found.deviations[change.difference or 0].what == "waits"


def test_a_run_without_a_plan_says_what_to_change(shared_data: Path) -> None:
    session = open_session(Request(None, shared_data / "profiles" / "qwen3-0.6b-train-4rank"))
    session.diagnosis = session.diagnose()
    change = first_change(session)
    assert leaving(session) is None
    assert change is not None
    one = session.finding(change.finding)
    assert one is not None
    assert one.rank == 0, "of the rank that is shown"
    assert one.remedies[0].knob in str(change.said)


def test_every_family_and_cause_can_be_said_in_chinese() -> None:
    words = catalogue("zh")
    families = [f"{name.replace('_', ' ')} kernels" for name in family_table().names]
    causes = [kind.value for kind in CauseKind if kind is not CauseKind.KERNELS]
    assert [text for text in (*families, *causes, *kernel_meanings()) if text not in words] == []


def test_what_causes_are_found_as_are_findings() -> None:
    kinds = table("memplan.findings", "remedies.json").keys()
    assert set(_NOT_FOUND_AS.values()) <= kinds
    for beginning in (text for texts in _FOUND_AS.values() for text in texts):
        assert any(kind.startswith(beginning) for kind in kinds), beginning


def test_the_change_is_of_what_costs_a_job_most(tmp_path: Path) -> None:
    """Went wrong once: what little the shown rank had itself went before the rank that all of them wait for."""
    job = simulate_job(load_plan(PLAN), tmp_path / "job", fault=chosen_fault("slow-rank:strong"), ranks=4, steps=4)
    session = open_session(Request(None, job, rank=0))
    session.diagnosis = session.diagnose()
    change = first_change(session)
    assert change is not None
    one = session.finding(change.finding)
    assert one is not None
    assert (one.kind, one.rank) == ("rank.slow", 1)
    verdict = head_figures(session)[-1]
    assert verdict.note == one.title, "the verdict and the change are of one finding"


def test_of_a_run_that_is_no_longer_than_planned_no_cause_is_changed(tmp_path: Path) -> None:
    """Went wrong once: "norm kernels −13 µs" was to be mended, where one step in four was half as long again."""
    plan = load_plan(PLAN)
    fast = replace(plan, ops=tuple(replace(op, duration_ns=op.duration_ns * 9 // 10) for op in plan.ops))
    job = simulate_job(fast, tmp_path / "job", fault=chosen_fault("slow-step:strong"), ranks=1, steps=5)
    session = open_session(Request(PLAN, job))
    session.diagnosis = session.diagnose()
    change = first_change(session)
    assert change is not None
    one = session.finding(change.finding)
    assert one is not None
    assert one.kind == "step.slow"
    assert "something" in str(head_figures(session)[-1].note)
