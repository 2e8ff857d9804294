"""A plan that is handed out says what makes it impossible."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.cli.app import main
from memplan.imports import read_plan
from memplan.schema import Bound, Placement, Plan, Tier, load_plan, plan_from_json, plan_to_json
from tests.small_plans import layered_plan

DATA = Path(__file__).parents[1] / "readers" / "data"


def moved(plan: Plan, offset: int | None) -> Plan:
    """`plan` with everything at one address."""
    everywhere = [dataclasses.replace(place, offset=offset) for place in plan.placements]
    return dataclasses.replace(plan, placements=tuple(everywhere))


def test_a_sound_plan_has_none(tmp_path: Path) -> None:
    layered_plan(4).save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json").violations == ()


def test_a_saved_plan_says_what_is_wrong_with_it_and_is_still_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: plans that were read were never checked."""
    path = tmp_path / "plan.json"
    bad = moved(layered_plan(4), 0)
    bad.save(path)
    plan = load_plan(path)
    assert plan == bad
    assert any("share HBM bytes" in wrong for wrong in plan.violations)
    assert main(["show", str(path)]) == 1
    assert "not valid: tensors" in capsys.readouterr().out


def test_what_a_file_claims_of_itself_is_not_believed(tmp_path: Path) -> None:
    document = plan_to_json(moved(layered_plan(3), 0))
    assert plan_from_json({**document, "violations": []}).violations
    good = plan_to_json(layered_plan(3))
    assert plan_from_json({**good, "violations": ["made up"]}).violations == ()


def test_a_plan_that_gives_no_addresses_is_not_wrong_about_them() -> None:
    plan = moved(layered_plan(3), None)
    document = plan_to_json(plan)
    assert plan_from_json(document).violations == ()
    one = dataclasses.replace(plan, placements=(*plan.placements[:-1], layered_plan(3).placements[-1]))
    assert any("has no address" in wrong for wrong in plan_from_json(plan_to_json(one)).violations)


CACHE: dict[str, Any] = {
    "graph_id": 3,
    "reused_memory_size": 1536,
    "tensors": [
        {"tensor_id": 0, "size": 1024, "ori_size": 1000, "lifelong_value": 0, "life_start": 0, "life_end": 2,
         "offset": 0},
        {"tensor_id": 1, "size": 512, "ori_size": 4, "lifelong_value": 0, "life_start": 1, "life_end": 3,
         "offset": 1024},
        {"tensor_id": 2, "size": 512, "ori_size": 4, "lifelong_value": 0, "life_start": 3, "life_end": 4,
         "offset": 1024},
    ],
}  # fmt: skip


def cache(tmp_path: Path, change: Callable[[list[dict[str, int]]], None] = lambda tensors: None) -> Plan:
    document = copy.deepcopy(CACHE)
    change(document["tensors"])
    path = tmp_path / "somas_graph.json"
    path.write_text(json.dumps(document))
    return read_plan(path)


def test_an_output_written_over_its_input_is_one_block_not_a_fault(tmp_path: Path) -> None:
    plan = cache(tmp_path)
    assert plan.violations == ()
    assert [(p.offset, p.size, p.start, p.end) for p in plan.placements] == [(0, 1024, 0, 3), (1024, 512, 1, 5)]
    assert any(note.startswith("1 blocks begin where one of their address and size ends") for note in plan.notes)


def put_all_at_zero(tensors: list[dict[str, int]]) -> None:
    for tensor in tensors:
        tensor["offset"] = 0


def begin_a_step_early(tensors: list[dict[str, int]]) -> None:
    tensors[2]["life_start"] = 2


def of_another_size(tensors: list[dict[str, int]]) -> None:
    tensors[2]["size"] = 256


def half_over_another(tensors: list[dict[str, int]]) -> None:
    tensors[1]["offset"] = 512


@pytest.mark.parametrize("change", [put_all_at_zero, begin_a_step_early, of_another_size, half_over_another])
def test_blocks_that_share_bytes_in_any_other_way_are_a_fault(
    change: Callable[[list[dict[str, int]]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Went wrong once: plans of other planners were never checked, and said to fit."""
    plan = cache(tmp_path, change)
    assert any("share HBM bytes" in wrong for wrong in plan.violations)
    assert len(plan.tensors) >= 2
    assert main(["import", str(tmp_path / "somas_graph.json")]) == 0
    assert "not valid: " in capsys.readouterr().out
    assert main(["import", str(tmp_path / "somas_graph.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["violations"] == list(plan.violations)


def test_a_union_that_somas_names_is_no_fault_and_a_dump_with_moved_addresses_is(tmp_path: Path) -> None:
    text = (DATA / "somas_cnn.ir").read_text()
    assert "union tensors: [%18T %19T ]" in text
    assert read_plan(DATA / "somas_cnn.ir").violations == ()
    path = tmp_path / "somas.ir"
    path.write_text(text.replace("&1048576\t", "&1024\t"))
    assert any("share HBM bytes" in wrong for wrong in read_plan(path).violations)


def test_an_address_beyond_the_files_own_total_is_said(tmp_path: Path) -> None:
    def further(tensors: list[dict[str, int]]) -> None:
        tensors[0]["offset"] = 1 << 20

    assert any("its addresses end at" in note for note in cache(tmp_path, further).notes)


def version_1(plan: Plan) -> dict[str, Any]:
    """`plan` as the version before wrote it."""
    document = plan_to_json(plan)
    document["schema_version"] = 1
    for name in ("timed", "violations"):
        del document[name]
    ops: dict[str, list[Any]] = document["ops"]
    ops["bound"] = ["none" if bound == "unknown" else bound for bound in ops["bound"]]
    for name in ("launches", "phase", "micro_batch", "layer", "part"):
        ops.pop(name, None)
    return document


def test_the_earlier_version_is_read_with_what_its_bounds_meant() -> None:
    plan = layered_plan(3)
    free = dataclasses.replace(plan.ops[2], bound=Bound.NONE, launches=False, duration_ns=0)
    plan = dataclasses.replace(plan, ops=(*plan.ops[:2], free, *plan.ops[3:]))
    assert plan_from_json(version_1(plan)) == plan
    foreign = read_plan(DATA / "somas_cnn.ir")
    assert plan_from_json(version_1(foreign)) == foreign


def test_the_bundled_plan_of_the_earlier_version_knows_what_launches() -> None:
    from importlib import resources

    plan = load_plan(Path(str(resources.files("memplan.samples"))) / "llama_train.plan.json")
    assert plan.timed
    assert {op.launches for op in plan.ops if op.bound is Bound.NONE} == {False}
    assert {op.launches for op in plan.ops if op.bound is not Bound.NONE} == {True}
    assert any(isinstance(place, Placement) and place.tier is Tier.HBM for place in plan.placements)
