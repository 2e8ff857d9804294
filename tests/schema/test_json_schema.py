"""The JSON Schema that `memplan show --schema` prints: saved plans keep to it, damaged ones do not."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memplan.cli import main
from memplan.schema import Plan, PlannedOp, load_plan, plan_from_json, plan_json_schema, plan_to_json
from memplan.schema.encode import record_tuples
from tests.small_plans import layered_plan, plans

SAMPLES = sorted((Path(__file__).resolve().parents[2] / "memplan" / "samples").glob("*.plan.json"))
GOOD = json.loads(json.dumps(plan_to_json(layered_plan(3, transfers=True))))
SCHEMA = plan_json_schema()
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def validator() -> Any:
    checker = pytest.importorskip("jsonschema").Draft202012Validator
    checker.check_schema(SCHEMA)
    return checker(SCHEMA)


def test_the_command_prints_the_schema_without_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_everything_that_is_saved_is_described() -> None:
    assert set(SCHEMA["properties"]) == set(GOOD)
    for name in record_tuples(Plan):
        assert set(SCHEMA["properties"][name]["properties"]) == set(GOOD[name])


def test_what_later_versions_added_need_not_be_there() -> None:
    columns = SCHEMA["properties"]["ops"]
    optional = {field.name for field in dataclasses.fields(PlannedOp) if field.default is not dataclasses.MISSING}
    assert set(columns["required"]) == set(columns["properties"]) - optional
    assert "kernels" not in SCHEMA["required"]


def test_descriptions_tell_units_and_what_null_means() -> None:
    ops, tiers = (SCHEMA["properties"][name]["properties"] for name in ("ops", "tiers"))
    assert ops["duration_ns"]["description"] == "In nanoseconds."
    assert "waits for a transfer" in ops["stalled_ns"]["description"]
    assert "`None` if unknown" in tiers["capacity"]["description"]
    assert "nanoseconds from the plan's start" in SCHEMA["description"]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_plans_of_the_samples_keep_to_it(path: Path, validator: Any) -> None:
    validator.validate(json.loads(path.read_bytes()))


@settings(max_examples=30, suppress_health_check=_SLOW)
@given(plan=plans())
def test_any_plan_keeps_to_it(validator: Any, plan: Plan) -> None:
    validator.validate(json.loads(json.dumps(plan_to_json(plan))))


_DAMAGE = {
    "another format": ("format", "other"),
    "another version": ("schema_version", 99),
    "a table that is a list": ("ops", []),
    "a column that is missing": ("tensors.nbytes", None),
    "a field that is missing": ("makespan_ns", None),
    "text for a number": ("ops.duration_ns", ["1"]),
    "half a nanosecond": ("ops.duration_ns", [1.5]),
    "more than 64 bits": ("ops.flops", [10**30]),
    "a tier that there is not": ("placements.tier", ["HBM3"]),
    "a number for yes": ("fits", 1),
    "yes for a number": ("makespan_ns", True),
    "a source without its note": ("links.source", [{"value": "x"}]),
    "an operand that is none": ("kernels.outputs", [[None]]),
    "an attribute that is a list": ("kernels.attributes", [[{"name": "x", "value": [1]}]]),
}


@pytest.mark.parametrize(("place", "value"), _DAMAGE.values(), ids=_DAMAGE)
def test_a_damaged_plan_does_not(place: str, value: Any, validator: Any) -> None:
    document = copy.deepcopy(GOOD)
    *tables, last = place.split(".")
    holder = document[tables[0]] if tables else document
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    assert not validator.is_valid(document)


@settings(max_examples=30, suppress_health_check=_SLOW)
@given(plan=plans(), order=st.randoms(use_true_random=False))
def test_a_plan_that_was_read_is_saved_in_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, order: Any
) -> None:
    target = tmp_path_factory.getbasetemp() / "saved.json"
    plan.save(target)
    first = target.read_bytes()
    names = list(json.loads(first))
    order.shuffle(names)
    document = json.loads(first)
    plan_from_json({name: document[name] for name in names}).save(target)
    assert target.read_bytes() == first


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_plan_of_the_samples_is_saved_in_the_same_bytes(path: Path, tmp_path: Path) -> None:
    once, again = tmp_path / "once.json", tmp_path / "again.json"
    load_plan(path).save(once)
    load_plan(once).save(again)
    assert once.read_bytes() == again.read_bytes()
