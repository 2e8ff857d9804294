"""A plan that another planner made, against the profile of its own run and of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.cli.app import main
from memplan.compare import DeviationKind, compare
from memplan.imports import read_plan
from memplan.schema import Bound, Plan, Tier, load_plan
from memplan.traces.profile import MemoryCurve
from tests.compare.doubles import Row, kernels, made_rank

SAMPLES = Path(str(resources.files("memplan.samples")))
PROFILE = SAMPLES / "llama_train_profile"
DATA = Path(__file__).parents[1] / "readers" / "data"


def blocks(plan: Plan) -> list[tuple[str, int, int, int, int]]:
    """Name, first and last step, bytes and address of what the plan's ops make."""
    made = {tensor.index: tensor for tensor in plan.tensors if tensor.producer is not None and not tensor.persistent}
    found = []
    for placement in plan.placements:
        tensor = made.get(placement.tensor)
        if tensor is not None and placement.tier is Tier.HBM and tensor.producer is not None:
            name, offset = plan.ops[tensor.producer].name, placement.offset or 0
            found.append((name, tensor.producer, placement.end - 1, placement.size, offset))
    return found


def static_op_mem(plan: Plan) -> str:
    rows = [f"{name},{start},{end},{size / 1024:.9f}" for name, start, end, size, _ in blocks(plan)]
    return "\n".join(["Op Name,Node Index Start,Node Index End,Size(KB)", *rows]) + "\n"


def ge_log(plan: Plan) -> str:
    types = {op.name: op.type for op in plan.ops}
    return "".join(
        f"[INFO] GE(1,atc): [IMAS]Set g name[{name}] optype[{types[name]}] output[{number}] offset to [{offset}] "
        f"streamid[0] memtype[2] size[{size}] realsize[{size}] noalignsize[{size}] life time begin[{start}] "
        f"life time end[{end}] child[0:0:0:0:0] isref[0] batch[]\n"
        for number, (name, start, end, size, offset) in enumerate(blocks(plan))
    )


@pytest.mark.parametrize(("name", "write"), [("static_op_mem.csv", static_op_mem), ("plog.txt", ge_log)])
def test_what_ge_planned_is_found_in_the_profile_of_its_run(
    name: str, write: Callable[[Plan], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: ops of unknown time counted as ops that launch nothing, so none was found."""
    ours = load_plan(SAMPLES / "llama_train.plan.json")
    file = tmp_path / name
    file.write_text(write(ours))
    plan = read_plan(file)
    assert {op.bound for op in plan.ops} == {Bound.UNKNOWN}
    makers = {block[0] for block in blocks(ours)}
    launched = {op.name for op in ours.ops if op.launches}
    result = compare(plan, memplan.open_profile(PROFILE))
    assert result.summary.planned_ops == sum(op.name in makers for op in plan.ops)
    assert result.summary.matched_ops >= len(makers & launched)
    assert not any("no op of the plan" in str(reason) for reason in result.reasons)
    assert result.summary.makespan_change is None
    assert result.summary.planned_makespan_ns is None
    assert all(item.planned is None for item in result.deviations if item.kind is DeviationKind.TIME)
    assert main(["compare", str(file), str(PROFILE), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["summary"]["matched_ops"] == result.summary.matched_ops


@pytest.mark.parametrize("name", ["somas_cnn.ir", "actor_set_cnn.ir"])
def test_what_somas_planned_keeps_to_itself(name: str) -> None:
    plan = read_plan(DATA / name)
    rows: list[Row] = [(op.name, op.type, 1000 * op.index, 700) for op in plan.ops if op.launches]
    weights = 64 << 20  # allocated elsewhere: the plan can't know them
    held = np.array([weights, weights])
    curve = MemoryCurve("PTA", "NPU:0", np.array([0, 1000]), held, held, None)
    result = compare(plan, made_rank(kernels(rows), curves={"PTA": curve}))
    assert result.summary.matched_ops == result.summary.planned_ops == len(rows)
    assert result.unmatched_ops == ()
    assert result.summary.peak_change is None
    assert not result.deviates
    assert any("no times" in note for note in result.notes)


def test_a_plan_without_times_is_shown_without_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(DATA / "somas_cnn.ir")]) == 0
    said = capsys.readouterr().out
    assert "it has no times" in said
    assert "Longest" not in said


def test_the_profile_of_another_model_still_deviates_from_a_foreign_plan() -> None:
    plan = read_plan(DATA / "somas_cnn.ir")
    result = compare(plan, made_rank(kernels([("other/Op-op0", "Other", 0, 10), ("other/Op-op1", "Other", 20, 10)])))
    assert result.deviates
    assert result.summary.matched_ops == 0


def test_half_of_its_ops_missing_deviates() -> None:
    plan = read_plan(DATA / "somas_cnn.ir")
    rows: list[Row] = [(op.name, op.type, 1000 * op.index, 700) for op in plan.ops][::2]
    result = compare(plan, made_rank(kernels(rows)))
    assert result.deviates
    assert len(result.unmatched_ops) == len(plan.ops) - len(rows)


def test_a_cache_that_names_no_op_says_so_of_every_step(tmp_path: Path) -> None:
    cache = {
        "graph_id": 0,
        "reused_memory_size": 1024,
        "tensors": [
            {"tensor_id": 0, "size": 1024, "ori_size": 9, "lifelong_value": 0, "life_start": 0, "life_end": 1,
             "offset": 0},
        ],
    }  # fmt: skip
    file = tmp_path / "somas_graph_0.json"
    file.write_text(json.dumps(cache))
    plan = read_plan(file)
    assert {op.launches for op in plan.ops} == {None}
    saved = tmp_path / "plan.json"
    plan.save(saved)
    assert load_plan(saved) == plan
    assert not load_plan(saved).timed


def test_the_number_of_differences_is_told_beyond_the_limit() -> None:
    """Went wrong once: beyond the limit nothing said how many differences there were."""
    plan = load_plan(SAMPLES / "llama_train.plan.json")
    few, all_of_them = (compare(plan, memplan.open_profile(PROFILE), limit=limit) for limit in (3, 10**6))
    assert len(few.deviations) == 3
    assert few.deviations_total == all_of_them.deviations_total == len(all_of_them.deviations) > 3
