"""Deviations from a plan as findings with costs, in the model's words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.align import OpMatches
from memplan.cli.app import main
from memplan.compare import compare
from memplan.findings import diagnose
from memplan.findings.finding import Confidence
from memplan.findings.planned_kernels import planned_shares
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.schema import Plan
from memplan.simulator import simulate_job
from memplan.simulator.job_program import Doing, RankProgram, computing_ns, scaled_kernels
from tests.align.alexnet_run import alexnet_plan
from tests.findings.planted_runs import PLAN, Change, after_each, diagnosed, kernels, named, simulated, unchanged


def _slow_third(program: RankProgram) -> RankProgram:
    """Every third MatMul takes half again as long."""
    found, seen = [], 0
    for item in program:
        if item.doing is Doing.KERNEL and item.type == "MatMul":
            seen += 1
            if seen % 3 == 0:
                item = replace(item, duration_ns=item.duration_ns * 3 // 2)
        found.append(item)
    return tuple(found)


def test_a_part_that_is_slower_than_planned_is_named_with_its_excess(tmp_path: Path) -> None:
    truth: list[int] = []

    def change(program: RankProgram) -> RankProgram:
        slow = _slow_third(program)
        truth.append(3 * (computing_ns(slow) - computing_ns(program)))
        return slow

    found = diagnosed(tmp_path / "run", change)
    (slower,) = named(found, "plan.slower")
    assert str(slower.title).startswith("MatMul takes")
    assert slower.cost_ns == pytest.approx(truth[0], rel=0.08)
    assert slower.path_ns == slower.cost_ns


@pytest.mark.parametrize("slow", [1.0, 1.5])
def test_where_all_that_the_same_thing_bounds_is_slower_no_part_is(tmp_path: Path, slow: float) -> None:
    found = diagnosed(tmp_path / "run", lambda program: scaled_kernels(program, slow, types="MatMul"))
    assert not named(found, "plan.slower")
    assert bool(named(found, "kernel.cube")) is (slow > 1)


def _long_kernel(times: float, step: int | None) -> Change:
    """The 30th kernel, 8 % of a step, takes `times` as long: in all steps, or in one."""

    def change(program: RankProgram) -> RankProgram:
        usual = replace(program[30], duration_ns=5 * program[30].duration_ns)
        slow = replace(usual, duration_ns=round(times * usual.duration_ns))
        one, every = frozenset({step or 0}), frozenset(range(100))
        items = (slow,) if step is None else (replace(slow, only=one), replace(usual, only=every - one))
        return (*program[:30], *items, *program[31:])

    return change


@pytest.mark.parametrize("steps", [1, 4])
def test_a_kernel_that_is_slow_once_is_no_part_that_is_slower(tmp_path: Path, steps: int) -> None:
    once = diagnosed(tmp_path / "once", _long_kernel(1.2, 0), steps=steps)
    usual = diagnosed(tmp_path / "usual", _long_kernel(1.0, 0), steps=steps)
    costs = [sum(one.cost_ns or 0 for one in named(found, "plan.slower")) for found in (once, usual)]
    assert costs[0] == pytest.approx(costs[1], rel=0.03 if steps > 1 else 0.3)


def test_what_a_plan_has_is_no_fault_beside_it(tmp_path: Path) -> None:
    job = simulated(tmp_path / "run", lambda program: after_each(program, kernels(("TransData",), 200_000), 6))
    profile = memplan.open_profile(job)
    (told,) = [one for one in diagnose(profile).findings if one.kind == "kernel.format"]
    assert told.cost_ns == pytest.approx(3 * 20 * 200_000, rel=0.05)
    ops = [replace(op, type="TransData") if op.type == "Add" else op for op in PLAN.ops]
    layouts = [op for op in ops if op.type == "TransData"]
    assert layouts
    planned = simulate_job(replace(PLAN, ops=tuple(ops)), tmp_path / "planned", ranks=1, steps=3, seed=3)
    found = diagnose(memplan.open_profile(planned), plan=replace(PLAN, ops=tuple(ops))).findings
    assert "kernel.format" not in {one.kind for one in found}


def test_kernels_of_which_nobody_knows_what_they_are_cost_what_they_take_at_most(tmp_path: Path) -> None:
    """Went wrong once: half of one was told as slow memory, for it cost nothing as a kernel that no plan has."""
    found = diagnosed(tmp_path / "run", lambda program: after_each(program, kernels(("Sin",), 20_000), 6))
    (unplanned,) = named(found, "plan.unplanned")
    assert unplanned.cost_ns == pytest.approx(3 * 20 * 20_000, rel=0.05)
    assert unplanned.confidence is Confidence.ASSUMED
    assert unplanned.evidence[0].label == "Sin, unknown"
    assert not named(diagnosed(tmp_path / "clean", unchanged), "plan.unplanned")


def test_a_plan_made_of_a_model_tells_what_of_it_took_time(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = str(shared_data / "profiles/qwen3-0.6b-train-4rank")
    model = str(shared_data / "configs/Qwen--Qwen3-0.6B.json")
    assert main(["diagnose", profile, "--rank", "0", "--model", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (unplanned,) = [one for one in found["findings"] if one["kind"] == "plan.unplanned"]
    told = {item["label"]: item["value"] for item in unplanned["evidence"]}
    assert {"loss scaling", "gradient clipping", "check for NaN"} <= set(told)
    assert unplanned["places"][0]["ops"] == ["loss scaling, grad_sync"]
    (balance,) = found["balance"]
    assert balance["explained_ns"] <= balance["length_ns"]


def test_a_rank_that_was_compared_is_not_aligned_again(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Went wrong once: the window aligned a run with its plan for the comparison, and again for the findings."""
    profile = memplan.open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2")
    plan, rank = alexnet_plan(tmp_path), profile.ranks[0]
    compared = compare(plan, profile, rank=rank)
    assert compared.aligned is not None
    anew = diagnose(profile, ranks=[rank], plan=plan)
    monkeypatch.setattr("memplan.findings.planned_kernels.aligned", None)
    found = diagnose(profile, ranks=[rank], plan=plan, compared=compared)
    assert found.job.planned[rank].alignment is compared.aligned.alignment
    assert found.findings == anew.findings


@pytest.mark.parametrize("names", ["of ops", "of types"])
@pytest.mark.parametrize("tokens", [1024, 8192])
def test_a_plan_of_other_tokens_invents_no_cost(names: str, tokens: int, shared_data: Path, tmp_path: Path) -> None:
    """Went wrong once: kernels of 4,096 tokens were held against the times of a plan of 1,024."""
    model = load_config(shared_data / "configs/Qwen--Qwen3-0.6B.json")
    model = replace(model, layers=model.layers[:8])

    def planned(tokens: int) -> Plan:
        step = ServedStep(Phase.PREFILL, 1, tokens)
        return memplan.plan(model_graph(model, None, Layout(), step), chip="910B2", quick=True)

    ran = planned(4096)
    if names == "of types":
        ran = replace(ran, ops=tuple(replace(op, name=f"aclnn{op.type}_{op.index}") for op in ran.ops))
    profile = memplan.open_profile(simulate_job(ran, tmp_path / "run", ranks=1, steps=3, seed=3))
    found = diagnose(profile, plan=planned(tokens))
    assert not [one for one in found.findings if one.cost_ns]
    of_rank = found.job.planned[0]
    assert (of_rank.alignment is None) == (names == "of ops")
    assert (of_rank.op >= 0).mean() > 0.9
    assert np.isnan(of_rank.planned_ns).all()
    assert not np.isnan(diagnose(profile, plan=planned(4000)).job.planned[0].planned_ns).all()


def test_a_plan_and_a_model_at_once_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(tmp_path), "--plan", "a.json", "--model", "b.json"]) == 2
    assert "--plan or --model" in capsys.readouterr().err


def test_a_rank_that_runs_a_part_of_the_plan_is_held_against_that_part(tmp_path: Path) -> None:
    """The second stage of a pipeline: its kernels are called as ops of the plan, of which most are on other ranks."""
    found = diagnosed(tmp_path / "run", lambda program: program[-len(program) // 3 :] * 3, steps=4)
    assert not [one for one in found.findings if one.cost_ns]
    planned = found.job.planned[0]
    assert planned.alignment is None
    assert (planned.op >= 0).all()


def _matches(op: list[int]) -> OpMatches:
    pairs = np.array(op, dtype=np.int64)
    return OpMatches(pairs, np.arange(len(op)), np.ones(len(op)), np.zeros(len(op), dtype=np.int8))


def test_pieces_of_an_op_share_its_time_and_runs_of_it_have_it_each() -> None:
    times = np.array([1000.0, 500.0])
    step = np.zeros(6, dtype=np.int64)
    took = np.array([300, 100, 200, 600, 550, 10], dtype=np.int64)
    planned = planned_shares(times, _matches([0, 0, 0, 1, 1]), step, took)
    assert planned[:3].tolist() == [500.0, pytest.approx(1000 / 6), pytest.approx(1000 / 3)]  # three pieces of 1,000 ns
    assert planned[3:5].tolist() == [500.0, 500.0]  # twice the whole of it: a micro-batch that the plan lacks
    assert np.isnan(planned[5])


def test_ops_that_share_a_name_are_told_by_their_order(tmp_path: Path) -> None:
    """Went wrong once: copies that MindSpore puts in for several ops of one name were told as in no plan."""
    shared = {5: "copy", 9: "copy", 14: "copy"}
    ops = [replace(op, name=shared.get(op.index, op.name)) for op in PLAN.ops]
    plan = replace(PLAN, ops=tuple(ops))
    job = simulate_job(plan, tmp_path / "job", ranks=1, steps=3, seed=4)
    found = diagnose(memplan.open_profile(job, cache=tmp_path / "cache"), plan=plan)
    planned = found.job.planned[0]
    names = [found.job.ranks[0].case.kernels.name[row] for row in planned.rows.tolist()]
    told = [int(op) for op, name in zip(planned.op, names, strict=True) if name == "copy"]
    assert told == list(shared) * 3
