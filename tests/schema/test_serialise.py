"""Plans survive being written and read; what is no plan is refused in one line that names the place."""

from __future__ import annotations

import copy
import dataclasses
import json
import stat
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from memplan.core.errors import InputError
from memplan.schema import load_plan, plan_from_json, plan_to_json
from tests.small_plans import layered_plan, plans

GOOD = plan_to_json(layered_plan(3, transfers=True))


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plans())
def test_a_plan_read_back_is_the_plan(plan: Any) -> None:
    text = json.dumps(plan_to_json(plan))
    assert plan_from_json(json.loads(text)) == plan


def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    layered_plan(2).save(target)
    layered_plan(3).save(target)
    assert load_plan(target) == layered_plan(3)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_saved_plan_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    layered_plan(2).save(tmp_path / "plan.json")
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "plan.json").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_plan_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    layered_plan(2).save(target)
    broken = dataclasses.replace(layered_plan(3), chip=cast(str, object()))
    with pytest.raises(TypeError):
        broken.save(target)
    assert load_plan(target) == layered_plan(2)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        layered_plan(2).save(tmp_path / "nowhere" / "plan.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{}", b'"text"', b"\x80\x81", b"{" * 100_000, b'{"format": "memplan-plan"}', b"[1" * 50_000],
    ids=["empty", "list", "null", "object", "text", "bytes", "braces", "no version", "deep"],
)
def test_what_is_no_plan_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        load_plan(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        load_plan(tmp_path / "absent.json")


def test_a_plan_of_another_schema_is_refused() -> None:
    with pytest.raises(InputError, match="schema 99"):
        plan_from_json({**GOOD, "schema_version": 99})


def _changed(**changes: Any) -> dict[str, Any]:
    """The good plan with `table__column=(row, value)` or `field=value` changed."""
    document = copy.deepcopy(GOOD)
    for name, change in changes.items():
        table, _, column = name.partition("__")
        if column:
            row, value = change
            document[table][column][row] = value
        else:
            document[table] = change
    return document


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"ops__index": (1, 5)}, "ops.index"),
        ({"ops__start_ns": (0, -1)}, r"ops\[0\]"),
        ({"ops__duration_ns": (0, 1.5)}, r"ops.duration_ns\[0\]"),
        ({"ops__name": (0, 7)}, r"ops.name\[0\]"),
        ({"ops__flops": (0, 10**30)}, r"ops.flops\[0\]"),
        ({"tensors__index": (1, 0)}, "tensors.index"),
        ({"tensors__end": (0, 99)}, r"tensors\[0\]"),
        ({"tensors__uses": (0, [99])}, r"tensors\[0\]"),
        ({"tensors__producer": (1, 99)}, r"tensors\[1\]"),
        ({"tensors__shape": (0, "3")}, r"tensors.shape\[0\]"),
        ({"tensors__persistent": (0, 1)}, r"tensors.persistent\[0\]"),
        ({"placements__tensor": (0, 99)}, r"placements.tensor\[0\]"),
        ({"placements__tier": (0, "HBM3")}, r"placements.tier\[0\]"),
        ({"placements__tier": (0, ["HBM"])}, r"placements.tier\[0\]"),
        ({"placements__end": (0, 99)}, r"placements\[0\]"),
        ({"placements__size": (0, -1)}, r"placements\[0\]"),
        ({"transfers__tensor": (0, 99)}, r"transfers.tensor\[0\]"),
        ({"transfers__end_ns": (0, 0)}, r"transfers\[0\]"),
        ({"transfers__before_step": (1, 99)}, r"transfers\[1\]"),
        ({"tiers__peak_step": (0, 99)}, r"tiers.peak_step\[0\]"),
        ({"links__bytes_per_second": (0, float("nan"))}, r"links.bytes_per_second\[0\]"),
        ({"links__source": (0, {"value": "x"})}, "note"),
        ({"fits": 1}, "fits"),
        ({"origin": []}, "origin"),
        ({"ops": {}}, "ops"),
        ({"makespan_ns": True}, "makespan_ns"),
        ({"ops__kernel": (0, 99)}, r"ops.kernel\[0\]"),
        ({"ops__kernel": (0, -1)}, r"ops.kernel\[0\]"),
        ({"ops__hot_share": (0, 1.5)}, r"ops.hot_share\[0\]"),
        ({"kernels__attributes": (0, [{"name": "x", "value": [1]}])}, r"kernels.attributes\[0\]"),
        ({"kernels__outputs": (0, [{"shape": [-1], "dtype": "x", "layout": "ND", "nbytes": 1}])}, r"kernels\[0\]"),
        ({"kernels__outputs": (0, [None])}, r"kernels.outputs\[0\]"),
    ],
    ids=str,
)
def test_what_does_not_hold_together_is_refused_with_its_place(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError, match=place):
        plan_from_json(_changed(**changes))


def test_a_plan_written_before_kernels_were_kept_still_loads() -> None:
    document = copy.deepcopy(GOOD)
    del document["kernels"], document["ops"]["kernel"], document["ops"]["hot_share"]
    old = plan_from_json(document)
    assert old.kernels == ()
    assert {(op.kernel, op.hot_share) for op in old.ops} == {(None, None)}
    assert dataclasses.replace(
        layered_plan(3, transfers=True), kernels=(), ops=old.ops
    ) == old  # fmt: skip


def test_columns_of_different_length_are_refused() -> None:
    document = copy.deepcopy(GOOD)
    document["ops"]["name"].pop()
    with pytest.raises(InputError, match="ops: columns differ in length"):
        plan_from_json(document)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found += _paths(child, (*path, key))
    return found


_PLACES = _paths(GOOD)


@settings(max_examples=300)
@given(st.sampled_from(_PLACES), _JSON)
def test_any_change_gives_a_plan_or_a_refusal(path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(GOOD)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    assume(holder[path[-1]] != value)
    holder[path[-1]] = value
    refusal = ""
    try:
        plan_from_json(document)
    except InputError as error:
        refusal = str(error)
    assert len(refusal) < 500
    assert "\n" not in refusal
