"""What kernels keep on chip is in the plan: each distinct one once, checked, and shown without being derived anew."""

from __future__ import annotations

import csv
import dataclasses
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memplan
from memplan.cost import machine
from memplan.cost.deviations import L2State
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.kernels.op_kernels import kernel_of_plan
from memplan.export import export
from memplan.graph import TensorKind
from memplan.gui.model.kernel import kernel_analysis
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef
from memplan.hardware import chip
from memplan.schema import OnChipBuffer, OnChipPlan, Plan, load_plan, plan_from_json, plan_to_json
from memplan.schema.check import violations
from tests.planner.graphs import Builder

SAMPLES = Path(__file__).resolve().parents[2] / "memplan" / "samples"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return memplan.plan(SAMPLES / "llama_train.mindir", chip="910B3")


def test_every_launch_refers_to_its_tiling_and_equal_ones_to_the_same(plan: Plan) -> None:
    of: dict[Any, int] = {}
    for op in plan.ops:
        assert (op.tiling is None) == (op.kernel is None)
        if op.tiling is not None:
            tiling = plan.tilings[op.tiling]
            assert (tiling.kernel, tiling.hot_share) == (op.kernel, op.hot_share)
            assert tiling.duration_ns == op.duration_ns
            assert of.setdefault((op.kernel, op.hot_share), op.tiling) == op.tiling
    assert len(of) == len(plan.tilings) < sum(op.tiling is not None for op in plan.ops)
    assert len(set(plan.onchip)) == len(plan.onchip)
    assert {tiling.onchip for tiling in plan.tilings} - {None} == set(range(len(plan.onchip)))


def test_bytes_and_tiles_are_those_of_the_cost_model(plan: Plan) -> None:
    core = machine(chip("910B3"))
    seen = set()
    for op in plan.ops:
        kernel = kernel_of_plan(plan, op.index)
        if kernel is None or op.tiling is None or op.tiling in seen:
            continue
        seen.add(op.tiling)
        tiling, cost = plan.tilings[op.tiling], kernel_cost(kernel, core, L2State(op.hot_share))
        assert (tiling.gm_bytes, tiling.hbm_bytes, tiling.flops) == (cost.gm_bytes, cost.hbm_bytes, cost.flops)
        assert tiling.l2_bytes == max(cost.gm_bytes - cost.hbm_bytes, 0)
        if cost.tiling is not None and tiling.tile:
            told = {size.name: size.value for size in tiling.tile}
            assert (told["m"], told["n"], told["k"]) == (cost.tiling.m, cost.tiling.n, cost.tiling.k)
    assert len(seen) == len(plan.tilings)


def test_layers_that_repeat_add_no_tilings() -> None:
    def planned(layers: int) -> Plan:
        made = Builder()
        before = made.tensor(1 << 20, TensorKind.INPUT)
        for _ in range(layers):
            weight, after = made.tensor(1 << 22, TensorKind.WEIGHT), made.tensor(1 << 20)
            made.op([before, weight], [after])
            before = after
        return memplan.plan(made.graph([before]))

    few, many = planned(4), planned(40)
    assert len(many.ops) == 10 * len(few.ops)
    assert (few.tilings, few.onchip) == (many.tilings, many.onchip)


def test_a_plan_that_is_read_has_it_and_is_written_in_the_same_bytes(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "one.json")
    again = load_plan(tmp_path / "one.json")
    assert (again.tilings, again.onchip, again.violations) == (plan.tilings, plan.onchip, ())
    again.save(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_plan_of_version_2_is_read_without(plan: Plan) -> None:
    document = json.loads(json.dumps(plan_to_json(plan)))
    del document["tilings"], document["onchip"], document["ops"]["tiling"]
    old = plan_from_json({**document, "schema_version": 2})
    assert old.ops == tuple(dataclasses.replace(op, tiling=None) for op in plan.ops)
    assert (old.tilings, old.onchip, old.violations) == ((), (), ())


Change = Callable[[OnChipPlan], OnChipPlan]


def of_first(change: Callable[[OnChipBuffer], OnChipBuffer]) -> Change:
    return lambda layout: dataclasses.replace(layout, buffers=(change(layout.buffers[0]), *layout.buffers[1:]))


def of_uses(**values: Any) -> Change:
    return lambda layout: dataclasses.replace(
        layout, uses=tuple(dataclasses.replace(use, **values) for use in layout.uses)
    )


DAMAGE: dict[str, tuple[Change, str]] = {
    "two copies in one place": (
        lambda layout: dataclasses.replace(
            layout, buffers=tuple(dataclasses.replace(buffer, offset=0) for buffer in layout.buffers)
        ),
        "share bytes",
    ),
    "an odd address": (of_first(lambda b: dataclasses.replace(b, offset=b.offset + 1)), "no multiple of"),
    "less room than is used": (of_uses(capacity=64), "yet it is said to fit"),
    "a peak that is none": (of_uses(peak=1 << 20), "is used up to"),
    "a bound above the peak": (of_uses(lower_bound=1 << 30), "below its own lower bound"),
    "nothing of its memories": (lambda layout: dataclasses.replace(layout, uses=()), "of which nothing is said"),
}


@pytest.mark.parametrize(("change", "wrong"), DAMAGE.values(), ids=DAMAGE)
def test_the_check_finds_what_is_impossible_on_chip(plan: Plan, change: Change, wrong: str) -> None:
    row = next(t.onchip for t in plan.tilings if t.onchip is not None and len(plan.onchip[t.onchip].buffers) > 4)
    bad = (*plan.onchip[:row], change(plan.onchip[row]), *plan.onchip[row + 1 :])
    found = violations(dataclasses.replace(plan, onchip=bad))
    assert any(wrong in sentence for sentence in found), found


def test_the_check_finds_an_op_with_the_tiling_of_another_kernel(plan: Plan) -> None:
    first = next(op for op in plan.ops if op.tiling is not None)
    other = next(row for row, tiling in enumerate(plan.tilings) if tiling.kernel != first.kernel)
    ops = tuple(dataclasses.replace(op, tiling=other) if op is first else op for op in plan.ops)
    assert any("its tiling is of kernel" in wrong for wrong in violations(dataclasses.replace(plan, ops=ops)))


READ: dict[str, tuple[str, Any, str]] = {
    "a kernel that is not there": ("tilings.kernel", 9999, r"tilings\[0\]"),
    "a layout that is not there": ("tilings.onchip", 9999, r"tilings\[0\]"),
    "a share above one": ("tilings.hot_share", 1.5, r"tilings\[0\]"),
    "a format that nobody meant": ("tilings.words", [{"text": "{:>9999999999}", "values": ["x"]}], r"tilings\[0\]"),
    "more buffers than any kernel has": ("onchip.buffers", None, r"onchip\[0\]: more than 256 buffers"),
    "no alignment": ("onchip.uses", [{"tier": "UB", "capacity": 1, "peak": 0, "lower_bound": 0,
                                      "lower_bound_method": "", "alignment": 0}], r"onchip\[0\]"),
}  # fmt: skip


@pytest.mark.parametrize(("column", "value", "place"), READ.values(), ids=READ)
def test_what_no_plan_can_say_is_refused_with_its_place(plan: Plan, column: str, value: Any, place: str) -> None:
    document = json.loads(json.dumps(plan_to_json(plan)))
    table, _, name = column.partition(".")
    document[table][name][0] = document[table][name][0] * 300 if value is None else value
    with pytest.raises(memplan.InputError, match=place):
        plan_from_json(document)


@pytest.mark.gui
def test_the_window_shows_what_the_plan_says_and_works_nothing_out(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every op of a plan has the same facts whether they stand in it or have to be worked out."""
    plan.save(tmp_path / "new.json")
    document = json.loads((tmp_path / "new.json").read_bytes())
    for name in ("tilings", "onchip"):
        del document[name]
    del document["ops"]["tiling"]
    (tmp_path / "old.json").write_text(json.dumps({**document, "schema_version": 2}))
    old = open_session(Request(tmp_path / "old.json", None))
    steps = [op.index for op in plan.ops if op.tiling is not None][::9]
    derived = []
    for step in steps:
        old.select(OpRef(step))
        derived.append(kernel_analysis.kernel_facts(old))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("worked out anew")

    monkeypatch.setattr(kernel_analysis, "kernel_report", refuse)
    monkeypatch.setattr(kernel_analysis, "onchip_plan", refuse)
    new = open_session(Request(tmp_path / "new.json", None))
    for step, facts in zip(steps, derived, strict=True):
        new.select(OpRef(step))
        assert kernel_analysis.kernel_facts(new) == facts


def test_exports_have_the_addresses(plan: Plan, tmp_path: Path) -> None:
    module = runpy.run_path(str(export(plan, "tilelang", tmp_path / "addresses.py")))
    assert [sorted(layout.values()) for layout in module["LAYOUTS"]] == [
        sorted(buffer.offset for buffer in layout.buffers) for layout in plan.onchip
    ]
    assert len(module["KERNELS"]) == sum(tiling.onchip is not None for tiling in plan.tilings)
    folder = export(plan, "csv", tmp_path / "tables")
    with (folder / "buffers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["onchip"]), row["name"], int(row["offset"])) for row in rows] == [
        (place, buffer.name, buffer.offset) for place, layout in enumerate(plan.onchip) for buffer in layout.buffers
    ]


def test_a_plan_without_it_has_no_addresses_to_export(plan: Plan, tmp_path: Path) -> None:
    bare = dataclasses.replace(plan, onchip=(), tilings=(), ops=())
    with pytest.raises(memplan.InputError, match="plan the graph again"):
        export(bare, "tilelang", tmp_path / "x.py")
