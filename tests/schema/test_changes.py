"""What `memplan diff` says of two plans: each change is listed as what it is, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import memplan
from memplan.cli import main
from memplan.schema import Certainty, Plan, PlanSetting, Tier, plan_change
from tests.small_plans import MIB, layered_plan, plans

SAMPLES = Path(memplan.__file__).parent / "samples"
BASE = layered_plan(4)
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def _tensor(plan: Plan, name: str, **changes: Any) -> Plan:
    return replace(plan, tensors=tuple(replace(t, **changes) if t.name == name else t for t in plan.tensors))


def _placed(plan: Plan, name: str, **changes: Any) -> Plan:
    index = next(tensor.index for tensor in plan.tensors if tensor.name == name)
    return replace(plan, placements=tuple(replace(p, **changes) if p.tensor == index else p for p in plan.placements))


@pytest.mark.parametrize(
    ("after", "change", "sizes"),
    [
        (_tensor(BASE, "a2", nbytes=5 * MIB), "grew", (4 * MIB, 5 * MIB)),
        (_tensor(BASE, "a2", nbytes=3 * MIB), "shrank", (4 * MIB, 3 * MIB)),
        (_tensor(BASE, "a2", dtype="int32"), "form", (4 * MIB, 4 * MIB)),
        (_placed(BASE, "a2", tier=Tier.HOST, offset=None), "tiers", (4 * MIB, 4 * MIB)),
        (_placed(BASE, "a2", offset=64 * MIB), "address", (4 * MIB, 4 * MIB)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tensor_that_changed_is_the_only_one_listed(after: Plan, change: str, sizes: tuple[int, int]) -> None:
    (found,) = plan_change(BASE, after).tensors
    assert (found.name, found.change, (found.before_bytes, found.after_bytes)) == ("a2", change, sizes)


def test_what_one_plan_alone_has_came_or_went() -> None:
    larger = plan_change(layered_plan(3), layered_plan(4))
    names = {(tensor.name, tensor.change) for tensor in larger.tensors if tensor.change in ("came", "went")}
    assert names == {("w3", "came"), ("a3", "came")}
    smaller = plan_change(layered_plan(4), layered_plan(3))
    assert {(one.name, one.change) for one in smaller.tensors if one.change in ("came", "went")} == {
        ("w3", "went"), ("a3", "went")}  # fmt: skip


def test_peaks_change_by_what_the_kinds_at_them_change_by() -> None:
    change = plan_change(layered_plan(3), layered_plan(5))
    assert change.before_peak is not None
    assert change.after_peak is not None
    grown = sum(kind.after_bytes - kind.before_bytes for kind in change.peak_kinds)
    assert grown == change.after_peak - change.before_peak == 4 * 4 * MIB


def test_slower_ops_are_listed_with_their_times_and_what_stays_is_not() -> None:
    ops = tuple(replace(op, duration_ns=70_000) if op.index == 5 else op for op in BASE.ops)
    (slow,) = plan_change(BASE, replace(BASE, ops=ops)).ops
    assert (slow.name, slow.before_ns, slow.after_ns) == (BASE.ops[5].name, 50_000, 70_000)
    assert plan_change(BASE, replace(BASE, ops=ops, timed=False)).ops == []


def test_moves_that_came_are_listed_by_way() -> None:
    change = plan_change(BASE, layered_plan(4, transfers=True))
    ways = {(move.tensor, move.source, move.target, move.before_bytes, move.after_bytes) for move in change.moves}
    assert ways == {("a0", "HBM", "HOST", 0, 4 * MIB), ("a0", "HOST", "HBM", 0, 4 * MIB)}
    assert [move.before_start_ns for move in change.moves] == [None, None]
    assert [(one.name, one.change) for one in change.tensors] == [("a0", "tiers")]


def test_settings_and_origin_that_differ_are_terms() -> None:
    def made_for(value: str) -> Plan:
        return replace(BASE, settings=(PlanSetting("tp", value, "", Certainty.GIVEN),))

    change = plan_change(made_for("4"), replace(made_for("8"), chip="Ascend910_9382"))
    assert {(term.name, term.before, term.after) for term in change.terms} == {
        ("setting tp", "4", "8"), ("chip", "Ascend910B3", "Ascend910_9382")}  # fmt: skip


def test_ops_in_another_order_are_said_to_be() -> None:
    one, other, *rest = BASE.ops
    swapped = (replace(other, index=0), replace(one, index=1), *rest)
    change = plan_change(BASE, replace(BASE, ops=swapped))
    assert change.reordered
    assert change.ops == []


def test_plans_that_differ_in_details_only_are_not_called_the_same() -> None:
    change = plan_change(BASE, _tensor(BASE, "a2", uses=(2,)))
    assert not change.differs
    assert not change.equal


@settings(max_examples=25, suppress_health_check=_SLOW)
@given(plans(), plans())
def test_both_ways_tell_the_same_and_a_plan_does_not_differ_from_itself(one: Plan, other: Plan) -> None:
    assert plan_change(one, one).equal
    assert not plan_change(one, one).differs
    there, back = plan_change(one, other), plan_change(other, one)
    assert there.equal == back.equal == (one == other)
    assert {(t.name, t.before, t.after) for t in there.terms} == {(t.name, t.after, t.before) for t in back.terms}
    assert sum((t.after_bytes or 0) - (t.before_bytes or 0) for t in there.tensors) == sum(
        tensor.nbytes for tensor in other.tensors
    ) - sum(tensor.nbytes for tensor in one.tensors)
    assert len(there.ops) == len(back.ops)
    assert len(there.moves) == len(back.moves)
    assert there.reordered == back.reordered


def test_the_command_says_it_in_words_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    layered_plan(3).save(before)
    layered_plan(5).save(after)
    assert main(["diff", str(before), str(after)]) == 0
    said = capsys.readouterr().out
    assert "HBM peak 24.00 MiB and 40.00 MiB" in said
    assert "makespan 300.000 µs and 500.000 µs (+66.7%)" in said
    assert main(["diff", str(before), str(after), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["before_peak"], told["after_peak"], told["differs"]) == (24 * MIB, 40 * MIB, True)
    assert main(["diff", str(before), str(before)]) == 0
    assert "The plans are the same" in capsys.readouterr().out


PLAN, PROFILE = str(SAMPLES / "llama_train.plan.json"), str(SAMPLES / "llama_train_profile")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([PLAN, PROFILE], "memplan compare"),
        ([PROFILE, PLAN], "memplan compare"),
        ([PLAN], "give a second plan"),
        ([PLAN, "missing.json"], "missing.json: can't be read"),
        ([PLAN, str(SAMPLES / "cnn.mindir")], "a MindIR graph"),
        ([PLAN, PLAN, "--before-rank", "0"], "chosen of profiles"),
    ],
    ids=["profile after", "profile before", "alone", "missing", "graph", "rank"],
)
def test_what_can_not_be_held_against_a_plan_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1


def numbered(kinds: list[str]) -> Plan:
    """A plan whose ops are numbered through, as a compiler names them."""
    base = layered_plan(len(kinds))
    ops = tuple(
        replace(op, name=f"Default/{kind}-op{index}", type=kind, flops=1000 + ord(kind[0]))
        for index, (op, kind) in enumerate(zip(base.ops, kinds, strict=False))
    )
    return replace(base, ops=ops, tensors=(), placements=(), transfers=())


def test_an_op_more_shifts_numbers_and_changes_nothing_else() -> None:
    kinds = ["MatMul", "Add", "MatMul", "ReLU", "MatMul", "Add", "MatMul"]
    more = [*kinds[:3], "Cast", *kinds[3:]]
    found = plan_change(numbered(kinds), numbered(more))
    assert [(op.name, op.before_ns) for op in found.ops] == [("Default/Cast-op3", None)]
    assert found.shared_ops == len(kinds)
    assert not found.reordered
    back = plan_change(numbered(more), numbered(kinds))
    assert [(op.name, op.after_ns) for op in back.ops] == [("Default/Cast-op3", None)]


def test_one_of_many_equal_ops_is_found_by_what_stands_beside_it() -> None:
    kinds = ["Mul", "Sub", "Mul", "Add", "Mul", "Neg"]
    found = plan_change(numbered(kinds), numbered([*kinds[:3], "Mul", *kinds[3:]]))
    assert len(found.ops) == 1
    assert found.ops[0].name in ("Default/Mul-op2", "Default/Mul-op3")
