"""One time a step: the prediction, the plan of a stage and what `show` prints add up to the same."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

import memplan
from memplan.cli import main
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.models.training.recipe_choices import Schedule
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from memplan.schema.whole_step import planned_step
from memplan.serving import step_time
from memplan.serving.step_parts import pipeline_span_ns, served_parts
from memplan.serving.steptime import routing_notes

CONFIG = str(resources.files("memplan.samples") / "example_config.json")
MODEL = load_config(CONFIG)
SHORT = replace(MODEL, layers=MODEL.layers[:4])


@pytest.mark.parametrize("phase", [Phase.DECODE, Phase.PREFILL])
@pytest.mark.parametrize("layout", [Layout(), Layout(tensor=2), Layout(pipeline=2, data=2)])
def test_the_plan_of_every_stage_says_the_time_of_the_step(phase: Phase, layout: Layout) -> None:
    step = ServedStep(phase, 4, 512)
    result = step_time(MODEL, layout, step, "910B3")
    assert sum(part.duration_ns for part in served_parts(result)) == result.duration_ns
    for stage in range(layout.pipeline):
        plan = memplan.plan(MODEL, layout=layout, recipe=step, stage=stage, chip="910B3")
        assert plan.step_ns == result.duration_ns
        assert plan.step_parts[0].duration_ns == plan.makespan_ns


def test_waits_for_the_host_come_on_top() -> None:
    step = ServedStep(Phase.DECODE, 4, 512)
    whole = memplan.plan(MODEL, recipe=step, chip="910B3")
    tight = memplan.plan(MODEL, recipe=step, chip="910B3", hbm=whole.tiers[0].peak * 3 // 4)
    assert tight.makespan_ns > whole.makespan_ns
    assert tight.step_ns - whole.step_ns == tight.makespan_ns - whole.makespan_ns


def test_ranks_wait_for_that_with_most_rows_though_a_plan_has_as_many_as_the_mean(shared_data: Path) -> None:
    """
    Went wrong once: rows of services were predicted for experts that nobody balanced, and commands told times of even
    ones.
    """
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-30B-A3B.json")
    layout, step = Layout(data=16, expert=16), ServedStep(Phase.DECODE, 16 * 64, 2048)
    uneven, even = (step_time(model, layout, replace(step, even_routing=even), "910C") for even in (False, True))
    plan = memplan.plan(model, layout=layout, recipe=step, chip="910C", quick=True)
    same = memplan.plan(model, layout=layout, recipe=even.step, chip="910C", quick=True)
    assert even.duration_ns < uneven.duration_ns
    assert [op.duration_ns for op in plan.ops] == [op.duration_ns for op in same.ops]
    assert (plan.step_ns, same.step_ns) == (uneven.duration_ns, even.duration_ns)
    more = {part.name: part.duration_ns for part in plan.step_parts}["experts chosen unevenly"]
    assert more == uneven.duration_ns - even.duration_ns
    assert any("--even-routing" in note for note in uneven.notes)
    assert not any("--even-routing" in note for note in even.notes)


def test_what_uneven_experts_save_is_waited_for_by_nobody(shared_data: Path) -> None:
    """One rank waits for no other, and few tokens choose the same experts: the step is shorter than its plan's even."""
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-30B-A3B.json")
    step = ServedStep(Phase.DECODE, 16, 2048)
    uneven, even = (
        memplan.plan(model, recipe=replace(step, even_routing=own), chip="910C", quick=True) for own in (False, True)
    )
    saved = {part.name: part.duration_ns for part in uneven.step_parts}["experts chosen unevenly"]
    assert saved < 0
    parts, others = planned_step(uneven), planned_step(even)
    assert parts is not None
    assert others is not None
    assert parts.waiting_ns == others.waiting_ns == 0
    assert parts.running_ns - others.running_ns == saved == parts.span_ns - others.span_ns


def test_ranks_beyond_the_experts_need_no_word_on_balance(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-30B-A3B.json")
    for ranks, said in ((128, True), (144, False)):
        notes = routing_notes(model, Layout(data=ranks, expert=ranks), even=False)
        assert any("nobody balanced" in note for note in notes) is said


def test_the_plan_that_a_step_writes_shows_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "step.json"
    assert main(["step", CONFIG, "--chip", "910B3", "--batch", "4", "-o", str(target), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    plan: Plan = memplan.load_plan(target)
    assert plan.step_ns == told["duration_ns"] == sum(part["duration_ns"] for part in told["step_parts"])
    assert main(["show", str(target)]) == 0
    out = capsys.readouterr().out
    assert "the whole step" in out
    assert "gaps between kernels" in out


@pytest.mark.parametrize("schedule", [Schedule.ONE_F_ONE_B, Schedule.GPIPE])
@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 4), (2, 1), (4, 3), (4, 8)])
def test_a_pipeline_of_equal_stages_takes_as_long_as_the_closed_form_says(
    schedule: Schedule, stages: int, micro_batches: int
) -> None:
    """`(m + p - 1)` times a micro-batch both ways (GPipe paper; Megatron-LM, arXiv 2104.04473)."""
    layout, recipe = Layout(pipeline=stages), Recipe(512, micro_batches=micro_batches, schedule=schedule)
    assert pipeline_span_ns([(30, 60)] * stages, layout, recipe) == (micro_batches + stages - 1) * 90


def test_a_stage_waits_for_slower_ones() -> None:
    layout, recipe = Layout(pipeline=2), Recipe(sequence=512, micro_batches=4)
    plans = [memplan.plan(SHORT, layout=layout, recipe=recipe, stage=stage, chip="910B3") for stage in range(2)]
    works = [
        sum(op.duration_ns for op in plan.ops if op.phase not in ("pipeline", "grad_sync", "optimizer"))
        for plan in plans
    ]
    waits = [{part.name: part.duration_ns for part in plan.step_parts}["waiting for other stages"] for plan in plans]
    assert works[0] + waits[0] == pytest.approx(works[1] + waits[1], rel=1e-3)
    assert waits[works.index(min(works))] > waits[works.index(max(works))] > 0


def test_one_stage_waits_for_nobody() -> None:
    plan = memplan.plan(SHORT, recipe=Recipe(sequence=512, micro_batches=2), chip="910B3")
    assert [part.name for part in plan.step_parts] == ["ops of the plan"]
    assert plan.step_ns == plan.makespan_ns
