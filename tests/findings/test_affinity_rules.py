"""Layers in pieces, calls with a fused form, sequences that repeat: found where they are planted, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memplan
from memplan.findings import diagnose
from memplan.findings.op_patterns import first_matches, pattern_matches
from memplan.simulator.job_program import Doing, Item, RankProgram
from tests.findings.planted_runs import after_each, diagnosed, kernels, named

_NORM = ("Pows", "ReduceMean", "Adds", "Rsqrt", "Mul", "Mul")
_ATTENTION = ("BatchMatMul", "Muls", "SoftmaxV2", "BatchMatMul")


def test_a_pattern_matches_what_it_says() -> None:
    names = ["add", "mul", "neg"]
    ops = np.array([1, 2, 0, 2, 1, 1, 0, 2, 0], dtype=np.int64)
    assert pattern_matches(ops, names, ["neg", "mul{0,2}", "add"]) == [(1, 3), (3, 7), (7, 9)]
    assert pattern_matches(ops, names, ["neg", "tanh"]) == []
    assert pattern_matches(ops, names, ["tanh?", "neg", "add|mul"]) == [(1, 3), (3, 5), (7, 9)]


def test_an_op_belongs_to_one_form() -> None:
    ops = np.array([0, 1, 2], dtype=np.int64)
    forms = {"long": [["a", "b", "c"]], "short": [["b", "c"]]}
    assert first_matches(ops, ["a", "b", "c"], forms) == {"long": [(0, 3)]}


@pytest.mark.parametrize(("types", "form"), [(_NORM, "RMSNorm"), (_ATTENTION, "attention")])
def test_a_layer_in_pieces_is_named_with_what_one_kernel_would_save(
    tmp_path: Path, types: tuple[str, ...], form: str
) -> None:
    found = diagnosed(tmp_path / "run", lambda program: after_each(program, kernels(types, 40_000), 6))
    (pieces,) = named(found, "kernel.pieces")
    (layers,) = [item.value for item in pieces.evidence if str(item.label).startswith(form)]
    assert layers == 3 * 20
    saved = len([name for name in types if name != "BatchMatMul"]) - (1 if form == "RMSNorm" else 0)
    assert pieces.cost_ns == pytest.approx(layers * saved * 40_000, rel=0.05)
    assert pieces.remedies
    assert found.findings[0] is pieces


def test_pieces_no_longer_than_a_launch_are_told_without_a_cost(tmp_path: Path) -> None:
    found = diagnosed(tmp_path / "run", lambda program: after_each(program, kernels(_NORM, 3_000), 3))
    (pieces,) = named(found, "kernel.pieces")
    assert pieces.cost_ns is None
    assert "no longer than a launch" in str(pieces.title)


def test_the_same_kernels_in_another_order_are_no_layer(tmp_path: Path) -> None:
    shuffled = ("Rsqrt", "Mul", "Pows", "Mul", "ReduceMean", "Adds")
    found = diagnosed(tmp_path / "run", lambda program: after_each(program, kernels(shuffled, 40_000), 6))
    assert not named(found, "kernel.pieces")


def test_repeated_sequences_are_counted_once(tmp_path: Path) -> None:
    sequence = kernels(("Cos", "Mul", "Cast"), 50_000, told=True)
    found = diagnosed(tmp_path / "run", lambda program: after_each(program, sequence, 6))
    (told,) = named(found, "kernel.sequences")
    assert told.cost_ns is None
    # What stands beside the sequence repeats as well, so that it is told within longer ones.
    found_in = [(int(str(item.label).partition(" x ")[0]), item) for item in told.evidence]
    assert sum(count for count, item in found_in if "Cos Mul Cast" in str(item.label)) == 60
    one_after_another = sum(count * len(str(item.label).split()[2:]) for count, item in found_in)
    measured = memplan.open_profile(tmp_path / "run").rank(0).kernels()
    assert measured is not None
    assert one_after_another <= len(measured.start_ns)
    few = diagnosed(tmp_path / "few", lambda program: (*program, *sequence))
    assert not [item for one in named(few, "kernel.sequences") for item in one.evidence if "Cos" in str(item.label)]


def _host(names: tuple[str, ...]) -> tuple[Item, ...]:
    return tuple(Item(Doing.HOST, name, "", 2000) for name in names)


def test_calls_with_a_fused_form_are_named(tmp_path: Path) -> None:
    calls = ("aten::chunk", "aten::silu", "aten::mul", "Optimizer.step#AdamW.step")
    found = diagnosed(tmp_path / "run", lambda program: (*program, *_host(calls)))
    (affinity,) = named(found, "host.affinity")
    counts = {str(item.label): item.value for item in affinity.evidence if item.unit == "count"}
    assert counts == {"torch_npu.npu_swiglu in place of": 3, "torch_npu.optim.NpuFusedAdamW in place of": 3}


def test_fused_optimizers_and_other_calls_are_left_in_peace(tmp_path: Path) -> None:
    calls = ("aten::silu", "aten::chunk", "aten::mul", "Optimizer.step#NpuFusedAdamW.step")
    found = diagnosed(tmp_path / "run", lambda program: (*program, *_host(calls)))
    assert not named(found, "host.affinity")


@pytest.mark.parametrize(("count", "told"), [(12, True), (4, False)])
def test_many_synchronised_batch_norms_are_named(tmp_path: Path, count: int, told: bool) -> None:
    def change(program: RankProgram) -> RankProgram:
        return (*program, *_host(("SyncBatchNorm.forward",) * count))

    assert bool(named(diagnosed(tmp_path / "run", change, steps=2), "host.sync_batch_norm")) is told


def test_kernels_for_any_shape_are_told_of(shared_data: Path) -> None:
    profile = memplan.open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2")
    (told,) = [one for one in diagnose(profile, ranks=[0]).findings if one.kind == "kernel.dynamic"]
    values: dict[Any, Any] = {str(item.label): item.value for item in told.evidence}
    assert values["share of the kernels"] == 1  # OP State of kernel_details.csv
    assert values["ops are compiled for"] > 10_000_000  # aclopCompileAndExecute and opCompile of the trace


def test_what_the_vendor_reports_of_a_run_is_reported(shared_data: Path) -> None:
    """`msprof-analyze 26.2.0 advisor all` on this directory: what it says that is right, by the kind that says it."""
    profile = memplan.open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2")
    found = {one.kind: one for one in diagnose(profile, ranks=[0]).findings}
    affinity, unaligned = found["host.affinity"], found["communication.unaligned"]
    assert affinity.places[0].ops == ("torch_npu.optim.NpuFusedSGD",)
    assert [item.value for item in unaligned.evidence] == ["hcom_allReduce__271_0_1", "hcom_allReduce__271_3_1"]
    assert {"communication.waiting", "kernel.dynamic", "kernel.limits", "settings.environment"} <= set(found)
