"""Where names tell nothing, a comparison speaks the model's language, and leads with a paragraph."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import memplan
from memplan.align import Alignment, OpMatches
from memplan.align.probabilities.told_apart import scopes_as_stated
from memplan.cli.app import command_app
from memplan.compare import CauseKind, Comparison, DeviationWhat, compare
from memplan.compare.aligned_ops import aligned
from memplan.reports.comparison.compare_report import compare_report
from memplan.schema import Plan
from memplan.simulator import Behaviour, simulate
from tests.align.simulated_runs import model_plans

NAME = "qwen3 PP2 DP2"


@pytest.fixture(scope="module")
def plan(shared_data: Path) -> Plan:
    return model_plans(shared_data / "configs")[NAME]


@pytest.fixture(scope="module")
def run(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return simulate(plan, folder, behaviour=Behaviour(hidden_names=True, foreign_share=0.02), seed=4, steps=3)


@pytest.fixture(scope="module")
def compared(plan: Plan, run: Path) -> Comparison:
    return compare(plan, memplan.open_profile(run))


def test_ops_are_found_though_no_name_is_shared(plan: Plan, compared: Comparison) -> None:
    assert compared.summary.matched_by_name == 0
    assert compared.summary.coverage > 0.97
    assert compared.summary.measured_coverage > 0.97
    assert compared.summary.compute_coverage > 0.97
    assert compared.step in (1, 2, 3)  # as the profile numbers them


def test_causes_add_up_to_the_difference(compared: Comparison) -> None:
    causes = compared.causes
    assert causes is not None
    assert sum(cause.delta for cause in causes.causes) == causes.measured - causes.planned
    assert sum(cause.measured for cause in causes.causes if cause.kind is not CauseKind.REST) == pytest.approx(
        causes.measured, rel=0.02
    )


def test_the_report_leads_with_a_paragraph(plan: Plan, compared: Comparison) -> None:
    report = compare_report(compared, {op.index: op.name for op in plan.ops})
    words = str(report.sections[0].parts[0])
    assert re.match(r"[\d,]+ of [\d,]+ planned ops were found in [\d,]+ kernels and are [\d.]+% of their ", words)
    for said in ("matched by order", "The step took", "The peak of PTA was", "Planned tensors explain", "The process"):
        assert said in words
    assert report.document is not None
    document = json.loads(json.dumps(report.document()))
    assert document["words"] == words
    assert document["holders"]["explained_bytes"] > 0.95 * document["holders"]["measured_bytes"]
    kernels = document["alignment"]["kernels"]
    assert sum(kernel["op"] is not None for kernel in kernels) > 0.97 * len(kernels)
    parts = document["times"]["parts"]
    assert sum(part["planned_ns"] for part in parts) == sum(op.duration_ns for op in plan.ops if op.launches)


def test_times_by_part_and_layer_are_planned_beside_measured(plan: Plan, compared: Comparison) -> None:
    times = compared.times
    assert times is not None
    assert {layer for _, layer in times.layers} == {op.layer for op in plan.ops if op.layer is not None}
    attention = times.parts["forward", "attention"]
    assert attention.ops == attention.kernels
    assert attention.measured > 0


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_kernels_are_written_with_their_places(plan: Plan, run: Path, tmp_path: Path, suffix: str) -> None:
    plan.save(tmp_path / "plan.json")
    output = tmp_path / f"kernels.{suffix}"
    answer = CliRunner().invoke(
        command_app(), ["compare", str(tmp_path / "plan.json"), str(run), "--kernels", str(output)]
    )
    assert answer.exit_code in (0, 1), answer.output
    if suffix == "csv":
        with output.open(encoding="utf-8", newline="") as file:
            places = [row["place"] for row in csv.DictReader(file)]
    else:
        places = [event["name"] for event in json.loads(output.read_text(encoding="utf-8")) if event["ph"] == "X"]
    assert "layers.2.o_proj, forward, micro-batch 1" in places
    assert "layers.2.o_proj.dx, backward, micro-batch 0" in places
    assert len(places) == 3 * sum(op.launches is True for op in plan.ops)


def test_a_profile_alone_is_told_in_the_words_of_its_model(shared_data: Path) -> None:
    profile = shared_data / "profiles" / "qwen3-0.6b-train-4rank"
    config = shared_data / "configs" / "Qwen--Qwen3-0.6B.json"
    answer = CliRunner().invoke(
        command_app(), ["profile", str(profile), "--rank", "0", "--model", str(config), "--json"]
    )
    assert answer.exit_code == 0, answer.output
    model = json.loads(answer.stdout)["model"]
    assert model["holders"]["explained_bytes"] >= 0.95 * model["holders"]["measured_bytes"]
    assert model["process"]["rest_bytes"] < 100 * 2**20
    assert any(row["part"] == "q_norm" and row["kernels"] == 28 for row in model["times"]["parts"])


@pytest.fixture(scope="module")
def doubted(plan: Plan, run: Path) -> Iterator[Comparison]:
    """The same where the norms after attention can't be told from the rest."""

    def unsure(*of: Any) -> Alignment | None:
        found = aligned(*of)
        return None if found is None else _withheld(found, [op.index for op in plan.ops if op.part == "norm.1"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memplan.compare.compared_step.aligned", unsure)
        yield compare(plan, memplan.open_profile(run), limit=10_000)


def _withheld(found: Alignment, ops: Sequence[int]) -> Alignment:
    """The alignment without the matches of those ops, whose kernels stand in their layers all the same."""
    pairs = found.matches
    out = np.isin(pairs.op, ops)
    untold = found.scopes.untold()
    untold[pairs.kernel[out]] = True
    kept, more = (
        OpMatches(pairs.op[some], pairs.kernel[some], pairs.probability[some], pairs.how[some]) for some in (~out, out)
    )
    scopes = scopes_as_stated(found.scopes, untold, np.where(untold, 0.9, found.scopes.probability))
    return replace(found, matches=kept, unsure=more, scopes=scopes)


def test_kernels_that_are_not_told_apart_are_neither_unplanned_nor_their_ops_missing(
    plan: Plan, compared: Comparison, doubted: Comparison
) -> None:
    norms = {op.index for op in plan.ops if op.part == "norm.1"}
    assert norms <= set(doubted.untold_ops)
    assert not norms & {*doubted.unmatched_ops, *doubted.matches.op.tolist()}
    assert {item.type for item in doubted.unmatched_kernels} <= {item.type for item in compared.unmatched_kernels}
    assert sum(item.count for item in doubted.untold_kernels if "norm.1" in item.name) == len(norms)
    assert doubted.deviates == compared.deviates
    assert doubted.summary.coverage == pytest.approx(compared.summary.coverage, abs=0.01)
    (together,) = [item for item in doubted.deviations if item.what == DeviationWhat.NOT_TOLD_APART]
    assert together.planned == sum(plan.ops[op].duration_ns for op in doubted.untold_ops)
    causes = doubted.causes
    assert causes is not None
    assert sum(cause.delta for cause in causes.causes) == causes.measured - causes.planned
    assert any(cause.kind is CauseKind.UNTOLD and cause.planned for cause in causes.causes)


def test_a_kernel_that_is_not_told_apart_has_a_place_and_a_likeliest_op(plan: Plan, doubted: Comparison) -> None:
    report = compare_report(doubted, {op.index: op.name for op in plan.ops})
    assert "Not told apart are" in str(report.sections[0].parts[0])
    assert report.document is not None
    kernels = json.loads(json.dumps(report.document()))["alignment"]["kernels"]
    likeliest = [kernel for kernel in kernels if kernel["likeliest_op"] is not None]
    assert {plan.ops[kernel["likeliest_op"]].part for kernel in likeliest} >= {"norm.1"}
    norms = [kernel for kernel in likeliest if plan.ops[kernel["likeliest_op"]].part == "norm.1"]
    assert all(kernel["op"] is None and kernel["what"] == "not told apart" for kernel in norms)
    assert {kernel["probability"] for kernel in norms} == {0.9}
    assert "layers.2, not told apart, forward, micro-batch 1" in {kernel["scope"] for kernel in norms}
