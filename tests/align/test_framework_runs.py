"""Steps as vllm-ascend and Megatron-LM on torch_npu launch them, with kernels by the names their profiles have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.framework_runs import framework_plan
from memplan.align import align
from memplan.align.classes.op_families import families_of, family_table
from tests.align.engine_runs import engine_run
from tests.align.simulated_runs import SimulatedRun, right_share
from tests.align.trainer_runs import trainer_run

ENOUGH = 0.97
_LAYERS = 10


def collectives(run: SimulatedRun, found: list[int]) -> Iterator[bool]:
    """Whether each planned communication op of a run is right."""
    for core, op, truth in zip(run.kernels.core, found, run.truth, strict=True):
        if core == "COMMUNICATION" and truth:
            yield op in truth


@pytest.mark.parametrize("seed", [30, 31])
@pytest.mark.parametrize(
    "name",
    ["Qwen3-8B decode, TP4", "Qwen3-30B-A3B decode, EP4", "DeepSeek-V3 decode, EP16", "Qwen3-30B-A3B prefill, TP4"],
)
def test_steps_of_a_serving_engine_are_matched(name: str, seed: int, shared_data: Path) -> None:
    plan = framework_plan(shared_data / "configs", name, _LAYERS)
    run = engine_run(plan, seed, steps=2)
    found = align(plan, run.kernels).op_of_kernel().tolist()
    assert right_share(run, found) > ENOUGH
    right = list(collectives(run, found))
    assert not right or np.mean(right) > 0.95


def test_a_rotary_embedding_written_out_moves_no_layer(shared_data: Path) -> None:
    """Went wrong once: nothing ran the rotary of keys, and from the fourth layer on all stood in the next one."""
    plan = framework_plan(shared_data / "configs", "Qwen3-8B decode")
    run = next(run for run in (engine_run(plan, seed, steps=1) for seed in range(20)) if "Neg" in run.kernels.type)
    found = align(plan, run.kernels).op_of_kernel().tolist()
    assert right_share(run, found) > ENOUGH


def test_exchanges_that_run_in_place_of_planned_ones_find_their_ops(shared_data: Path) -> None:
    plan = framework_plan(shared_data / "configs", "Qwen3-30B-A3B decode, TP2 EP2", _LAYERS)
    for seed in range(4):
        run = engine_run(plan, seed, steps=2)
        found = align(plan, run.kernels).op_of_kernel().tolist()
        assert np.mean(list(collectives(run, found))) > 0.95


def test_a_training_step_with_experts_is_matched(shared_data: Path) -> None:
    plan = framework_plan(shared_data / "configs", "Qwen3-30B-A3B training, EP8 PP2, last stage", 4)
    run = trainer_run(plan, 30)
    found = align(plan, run.kernels).op_of_kernel().tolist()
    assert right_share(run, found) > ENOUGH
    assert all(collectives(run, found))


@pytest.mark.parametrize(
    ("type_", "family"),
    [
        ("MlaPrologV3", "product"),
        ("DispatchFFNCombineBF16", "grouped_product"),
        ("CamMoeDispatchNormal", "expert_dispatch"),
        ("MoeFinalizeRoutingV2Grad", "expert_merging_grad"),
        ("SparseAttnSharedkv", "attention"),
        ("fused_sigmoid_gating_delta_rule_update_kernel", "recurrent"),
    ],
)
def test_what_takes_most_time_is_the_family(type_: str, family: str) -> None:
    assert family_table().names[families_of(type_)[0]] == family
