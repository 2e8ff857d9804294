"""Exports say what the plan says, in the form of the tool they are for, or refuse."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from memplan.cli.app import main
from memplan.core.errors import CancelledError, InputError
from memplan.core.files import replacing_file, replacing_folder
from memplan.core.units import GIB
from memplan.export import EXPORTERS, export
from memplan.schema import OnChipPlan, Placement, Plan, Tier, memory_curve
from memplan.simulator import simulate
from tests.small_plans import MIB, layered_plan, plans


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_every_record(tmp_path: Path) -> None:
    plan = layered_plan(4, transfers=True)
    folder = export(plan, "csv", tmp_path / "tables")
    for name in ("ops", "tensors", "placements", "transfers", "tiers", "links"):
        records = getattr(plan, name)
        rows = table(folder, name)
        assert len(rows) == len(records)
        for record, row in zip(records, rows, strict=True):
            for field in dataclasses.fields(record):
                value = getattr(record, field.name)
                if isinstance(value, int) and not isinstance(value, bool):
                    assert int(row[field.name]) == value
    facts = {row["field"]: row["value"] for row in table(folder, "plan")}
    assert facts["chip"] == plan.chip
    assert facts["fits"] == "true"
    assert int(facts["makespan_ns"]) == plan.makespan_ns


def test_tables_name_tensors_and_give_spans_in_time(tmp_path: Path) -> None:
    plan = layered_plan(4)
    names = {tensor.index: tensor.name for tensor in plan.tensors}
    for placement, row in zip(plan.placements, table(export(plan, "csv", tmp_path / "t"), "placements"), strict=True):
        assert row["tensor_name"] == names[placement.tensor]
        assert int(row["start_ns"]) == plan.ops[placement.start].start_ns
        end = plan.ops[placement.end].start_ns if placement.end < len(plan.ops) else plan.makespan_ns
        assert int(row["end_ns"]) == end


def events(path: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(path.read_bytes())
    return loaded


def test_the_trace_has_a_slice_an_op_and_a_lane_a_link(tmp_path: Path) -> None:
    plan = layered_plan(4, transfers=True)
    trace = events(export(plan, "chrome-trace", tmp_path / "trace.json"))
    slices = [event for event in trace if event["ph"] == "X"]
    ops = [event for event in slices if event["cat"] != "transfer"]
    for op, event in zip(plan.ops, ops, strict=True):
        assert (event["name"], event["tid"]) == (op.name, op.stream)
        assert Decimal(event["ts"]) * 1000 == op.start_ns
        assert round(event["dur"] * 1000) == op.duration_ns
    moves = [event for event in slices if event["cat"] == "transfer"]
    assert [event["args"]["bytes"] for event in moves] == [move.size for move in plan.transfers]
    assert len({event["tid"] for event in moves}) == 2


def test_counters_of_the_trace_are_the_memory_curve(tmp_path: Path) -> None:
    plan = layered_plan(4, transfers=True)
    trace = events(export(plan, "chrome-trace", tmp_path / "trace.json"))
    for tier in (Tier.HBM, Tier.HOST):
        counters = [event for event in trace if event["ph"] == "C" and event["name"] == tier.value]
        assert counters
        for event in counters:
            assert sum(event["args"].values()) == memory_curve(plan, tier).at(int(Decimal(event["ts"]) * 1000))


def inference(layers: int = 4) -> Plan:
    return layered_plan(layers)


def flags(plan: Plan, path: Path) -> tuple[dict[str, str], list[str]]:
    """The flags for vllm serve, and what could not be said."""
    written = json.loads(export(plan, "vllm-ascend", path).read_bytes())
    words = written["files"]["serve.sh"]["arguments"]
    return dict(zip(words[::2], words[1::2], strict=True)), written["notes"]


def test_the_kv_cache_gets_what_the_plan_leaves(tmp_path: Path) -> None:
    plan = inference()
    hbm = plan.tier(Tier.HBM)
    assert hbm is not None
    assert hbm.capacity is not None
    found, _ = flags(plan, tmp_path / "serve.json")
    assert list(found) == ["--kv-cache-memory-bytes"]
    assert 0 <= hbm.capacity - hbm.peak - 150 * MIB - int(found["--kv-cache-memory-bytes"]) < MIB


def test_weights_on_the_host_become_an_offload_flag(tmp_path: Path) -> None:
    plan = inference()
    weights = [tensor.index for tensor in plan.tensors if tensor.kind == "weight"]
    away = tuple(Placement(index, Tier.HOST, None, 4 * MIB, 0, 8) for index in weights)
    moved = dataclasses.replace(plan, placements=plan.placements + away)
    assert flags(moved, tmp_path / "serve.json")[0]["--cpu-offload-gb"] == "1"
    assert "of weights spend time on the host" in export(moved, "vllm-ascend", tmp_path / "serve.sh").read_text()


def test_host_moves_the_engine_cannot_make_are_said(tmp_path: Path) -> None:
    found, notes = flags(layered_plan(4, transfers=True), tmp_path / "serve.json")
    assert "--cpu-offload-gb" not in found
    assert any("no setting for moved activation" in note for note in notes)


def _with_hbm(**changes: Any) -> Plan:
    plan = inference()
    return dataclasses.replace(
        plan,
        tiers=tuple(dataclasses.replace(t, **changes) if t.tier is Tier.HBM else t for t in plan.tiers),
    )


def _training() -> Plan:
    plan = inference()
    first = dataclasses.replace(plan.tensors[0], kind="optimizer_state")
    return dataclasses.replace(plan, tensors=(first, *plan.tensors[1:]))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (_training(), "training step"),
        (dataclasses.replace(inference(), fits=False, missing_bytes=GIB), "1.00 GiB are missing"),
        (_with_hbm(capacity=None), "how much HBM"),
        (_with_hbm(capacity=100 * MIB), "nothing is left"),
        (dataclasses.replace(inference(), tiers=()), "how much HBM"),
    ],
    ids=["training", "unfit", "unknown", "full", "no tiers"],
)
def test_what_vllm_cannot_serve_is_refused(tmp_path: Path, plan: Plan, said: str) -> None:
    with pytest.raises(InputError, match=said):
        export(plan, "vllm-ascend", tmp_path / "settings.json")
    assert list(tmp_path.iterdir()) == []


OF_ANY_PLAN = ["csv", "parquet", "chrome-trace", "html"]


@pytest.mark.parametrize("name", [*OF_ANY_PLAN, "svg", "tilelang", "vllm-ascend", "environment", "hyper-parallel"])
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(plan=plans())
def test_any_plan_exports_or_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str, plan: Plan) -> None:
    target = tmp_path_factory.mktemp("any") / "out"
    refused = False
    try:
        export(plan, name, target)
    except InputError:
        refused = True
    assert target.exists() is not refused
    assert not refused or name not in OF_ANY_PLAN


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"choose one of {', '.join(EXPORTERS)}"):
        export(inference(), "xlsx", tmp_path / "x")


@pytest.mark.parametrize("name", ["csv", "chrome-trace"])
def test_an_interrupted_export_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        export(inference(), name, tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        export(inference(), "csv", tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("name", ["chrome-trace", "vllm-ascend"])
def test_a_file_replaces_the_one_before_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "out.json").write_text("old")
    export(inference(), name, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_bytes())
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize("name", ["csv", "chrome-trace", "parquet", "html", "svg", "vllm-ascend"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.*(can't be written|this is a file)"):
        export(
            dataclasses.replace(inference(), onchip=(OnChipPlan((), (), True, 0, 0, 1),)),
            name,
            tmp_path / "file" / "out",
        )


def test_a_folder_that_is_replaced_is_whole_or_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")

    def fail_half_way() -> None:
        with replacing_folder(target, replace=True) as folder:
            (folder / "new").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert [path.name for path in target.iterdir()] == ["old"]
    with replacing_folder(target, replace=True) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_is_one_clear_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")

    def run_out_of_space() -> None:
        with replacing_file(tmp_path / "out") as file:
            file.write("new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="out: can't be written: No space left on device"):
        run_out_of_space()
    assert (tmp_path / "out").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_trace_shows_the_plan_beside_the_kernels_of_a_profile(tmp_path: Path) -> None:
    plan = layered_plan(6)
    plan.save(tmp_path / "plan.json")
    simulate(plan, tmp_path / "run_ascend_pt", steps=3, seed=2)
    written = tmp_path / "both.json"
    arguments = ["export", str(tmp_path / "plan.json"), "--to", "chrome-trace", "-o", str(written)]
    assert main([*arguments, "--beside", str(tmp_path / "run_ascend_pt")]) == 0
    events = json.loads(written.read_text(encoding="utf-8"))
    lanes = {event["args"]["name"] for event in events if event["ph"] == "M" and "name" in event["args"]}
    assert {"Measured: rank 0", "Steps", "Stream 0"} <= lanes
    assert any(name.startswith("Ops: plan of") for name in lanes)
    slices = [event for event in events if event["ph"] == "X"]
    steps = sorted(float(event["ts"]) for event in slices if event["cat"] == "step")
    assert len(steps) == 3
    first = plan.ops[0].name
    measured = [float(event["ts"]) for event in slices if event["name"] == first and "core" in event["args"]]
    planned = [float(event["ts"]) for event in slices if event["name"] == first and "bound" in event["args"]]
    assert len(measured) == len(planned) == 3
    assert steps[0] == 0
    assert sorted(planned) == pytest.approx(steps, abs=0.001)  # the plan begins anew with every step
    assert sorted(measured) == pytest.approx(steps, abs=0.001)
    assert main([*arguments[:2], "--to", "csv", "-o", str(tmp_path / "x"), "--beside", str(tmp_path)]) == 2
