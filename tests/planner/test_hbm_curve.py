"""Step time against HBM."""

from __future__ import annotations

from pathlib import Path

import pytest

import memplan
from memplan.core.errors import InputError
from memplan.core.units import parse_share
from memplan.deployment.hbm_curve import hbm_curve, smallest_hbm
from memplan.models import load_config
from memplan.models.steps import Phase, ServedStep
from memplan.readers import read_graph
from memplan.reports.plan_moves import move_actions
from memplan.schema import Plan

GRAPH = read_graph(Path(memplan.__file__).parent / "samples" / "llama_infer.mindir")


def plan_with(hbm: int) -> Plan:
    """The sample in `hbm` bytes."""
    return memplan.plan(GRAPH, chip="910B3", hbm=hbm)


def test_more_memory_never_makes_a_step_longer() -> None:
    curve = hbm_curve(plan_with, points=20)
    times = [point.step_ns for point in curve.points if point.step_ns is not None]
    assert len(times) > 10
    assert times == sorted(times, reverse=True)
    assert times[-1] == curve.unlimited_ns
    assert curve.knee in curve.points


def test_the_smallest_memory_for_a_slowdown_keeps_to_it() -> None:
    whole, less = plan_with(2**50), smallest_hbm(plan_with, 0.05)
    assert less.fits
    assert less.makespan_ns <= whole.makespan_ns * 1.05
    assert less.tiers[0].peak < whole.tiers[0].peak
    assert less.makespan_bound_ns is None or less.makespan_bound_ns <= less.makespan_ns


def test_a_slowdown_is_a_share_that_is_not_below_nothing() -> None:
    assert parse_share("5%") == pytest.approx(0.05)
    assert parse_share("0.1") == pytest.approx(0.1)
    with pytest.raises(InputError):
        parse_share("much")
    with pytest.raises(InputError):
        smallest_hbm(plan_with, -0.1)


def test_what_moves_is_said_by_kind_and_counts_every_byte() -> None:
    plan = plan_with(plan_with(2**50).tiers[0].peak * 6 // 10)
    actions = move_actions(plan)
    assert plan.transfers
    assert sum(action.nbytes for action in actions) == sum(transfer.size for transfer in plan.transfers)
    assert {action.action for action in actions} <= {
        "stream in from the host", "move out to the host", "move out to the host and back",
    }  # fmt: skip
    assert sum(action.tensors for action in actions) == len({transfer.tensor for transfer in plan.transfers})


def test_steps_of_a_model_are_whole_steps() -> None:
    """Went wrong once: the curve and `--max-slowdown` went by the plan's ops alone, the headline by the whole step."""
    config = load_config(
        {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 256, "intermediate_size": 512,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
            "vocab_size": 1024, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
        }
    )  # fmt: skip

    def model_with(hbm: int) -> Plan:
        return memplan.plan(config, chip="910B3", recipe=ServedStep(Phase.DECODE, 4, 1024), hbm=hbm, quick=True)

    curve, whole = hbm_curve(model_with, points=4), model_with(2**50)
    assert whole.step_ns > whole.makespan_ns  # the launch, the gaps between kernels
    assert curve.points[-1].step_ns == curve.unlimited_ns == whole.step_ns
    least = smallest_hbm(model_with, 0.5)
    assert least.fits
    assert whole.makespan_ns * 1.5 < least.step_ns <= whole.step_ns * 1.5
