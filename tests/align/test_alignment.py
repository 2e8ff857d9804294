"""Planned ops and measured kernels are matched without names, and every match says how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import memplan
from benchmarks.alignment import long_plan
from benchmarks.profile_labels import labelled, labelled_plan
from memplan.align import HOW, MatchedBy, align
from memplan.align.classes.op_families import direction_of, families_of, family_table
from memplan.align.classes.tokens import TokenClass, token_classes
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.simulated_runs import (
    Disturbance,
    SimulatedRun,
    checked_claims,
    disturbance,
    model_plans,
    right_share,
    simulate_run,
)

ENOUGH = 0.97
_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01)
_TELLING = 200


def family(type_: str, name: str = "") -> list[str]:
    return [family_table().names[number] for number in families_of(type_, name)]


@pytest.mark.parametrize(
    ("type_", "families"),
    [
        ("MatMulV3", ["product"]),
        ("aten::addmm", ["product"]),
        ("aclnnMatmul_MatMulV3Common_MatMulV3", ["product"]),
        ("QuantBatchMatmulV3", ["product"]),
        ("aten::_softmax_backward_data", ["softmax_grad"]),
        ("aten::index_put_", ["scatter"]),
        ("hcom_allReduce_", ["all_reduce"]),
        ("Default/net-Net/SparseSoftmaxCrossEntropyWithLogits-op3", ["cross_entropy"]),
        ("BiasAddGrad", ["reduce"]),
        ("AddRmsNormQuant", ["add", "norm", "quantise"]),
        ("FusionOp_Conv2D_ReLU", ["convolution", "activation"]),
        ("FusionOp_Add_ReLUV2", ["activation", "add"]),  # no pad between its words
        ("aclnnEqTensor_TransposeAiCore_Transpose", ["transpose"]),  # nor any sort
        ("reduce_scatterAicpuKernel", ["reduce_scatter"]),
        ("split_qkv_rmsnorm_rope_kernel", ["norm", "rotary", "split"]),
        ("RINGMLAPrefillBF16Kernel", ["attention"]),  # nor a fill in it
        ("LinearParallel", ["product", "all_reduce"]),  # nor `all`
        ("GetMaskedInputAndMask", ["step_inputs"]),  # nor `tan`
        ("_rms_norm_kernel", ["norm"]),
        ("batch_matmul_transpose", ["product", "transpose"]),
        ("chunk_gated_delta_rule_fwd_kernel_h_blockdim64", ["recurrent"]),
        ("MlaPrologV3", ["product", "norm", "rotary", "quantise", "cache_write"]),
        ("MLAPO", ["product", "norm", "rotary", "quantise", "cache_write"]),
        ("MoeDistributeCombineAddRmsNorm", ["expert_combine", "add", "norm"]),
        ("rejection_greedy_sample_kernel", ["sampling"]),
        ("_compute_slot_mapping_kernel", ["step_inputs"]),
        ("a kernel of my own", ["unknown"]),
    ],
)
def test_one_family_has_many_spellings(type_: str, families: Sequence[str]) -> None:
    assert family(type_) == families


def test_a_kernel_without_a_type_is_told_by_its_name() -> None:
    assert family("N/A", "aclnnInplaceCopy_TensorMoveAiCore_TensorMove") == ["copy"]
    assert family("", "hcom_reduceScatter__097_4_1") == ["reduce_scatter"]


@pytest.mark.parametrize(
    ("type_", "name", "direction"),
    [
        ("hcom_send_", "", 1),
        ("HcclRecv", "", -1),
        ("nccl:recv 1<-0", "", -1),
        ("COMMUNICATION", "hcom_receive__445_0_1", -1),
        ("hcom_receive_", "send", -1),
        ("hcom_batchSendRecv_", "", 0),
        ("BatchISendIRecv", "", 0),
        ("hcom_allReduce_", "", 0),
    ],
)
def test_a_transfer_is_sent_or_received_or_both(type_: str, name: str, direction: int) -> None:
    assert direction_of(type_, name) == direction


def test_what_is_received_runs_no_op_that_sends(shared_data: Path) -> None:
    """The two stand side by side in any order, and are of one size and time."""
    plan = model_plans(shared_data / "configs")["qwen3 PP2 DP2"]
    matched = 0
    for seed in range(4):
        run = simulate_run(plan, seed, replace(disturbance(seed), swap=0.2))
        found = align(plan, run.kernels)
        for op, kernel in zip(found.matches.op.tolist(), found.matches.kernel.tolist(), strict=True):
            direction = direction_of(run.kernels.type[kernel])
            assert not direction or direction_of(plan.ops[op].type) != -direction
            matched += direction != 0
    assert matched > 10


@pytest.mark.parametrize("seed", range(20))
def test_a_simulated_run_is_matched(seed: int, shared_data: Path) -> None:
    plans = model_plans(shared_data / "configs")
    plan = list(plans.values())[seed % len(plans)]
    run = simulate_run(plan, seed, disturbance(seed))
    assert right_share(run, align(plan, run.kernels).op_of_kernel().tolist()) > 0.9


def test_an_undisturbed_run_is_matched_whole(shared_data: Path) -> None:
    nothing = Disturbance(split=0.0, fuse=0.0, alone=0.0, add=0.0, drop=0.0, swap=0.0, noise=0.0, steps=3)
    for plan in model_plans(shared_data / "configs").values():
        run = simulate_run(plan, 1, nothing)
        found = align(plan, run.kernels)
        assert right_share(run, found.op_of_kernel().tolist()) > 0.995
        assert np.unique(found.step).tolist() == [0, 1, 2]
        assert len(found.missed) < 0.01 * len(found.matches)


@pytest.mark.parametrize("dropped", ["embedding.exchange", "weights.exchange"])
def test_of_two_neighbouring_collectives_that_ran_is_told_by_its_time(dropped: str, shared_data: Path) -> None:
    """Went wrong once: where only one of its kind ran, the last planned one was taken for it, surely."""
    plan = model_plans(shared_data / "configs")["qwen3 last stage"]
    nothing = Disturbance(split=0.0, fuse=0.0, alone=0.0, add=0.0, drop=0.0, swap=0.0, noise=0.1)
    run = simulate_run(plan, 1, nothing)
    gone = next(op.index for op in plan.ops if op.name == dropped)
    kept = np.array([gone not in ops for ops in run.truth])
    found = align(plan, chosen_kernels(run.kernels, kept)).op_of_kernel().tolist()
    truth = [ops for ops, stays in zip(run.truth, kept.tolist(), strict=True) if stays]
    ran = [place for place, ops in enumerate(truth) if any(plan.ops[op].type == "ReduceScatter" for op in ops)]
    assert len(ran) == 1
    assert found[ran[0]] in truth[ran[0]]


def chosen_kernels(kernels: Kernels, which: NDArray[np.bool_]) -> Kernels:
    """Those rows of the table alone."""
    changed: dict[str, Any] = {}
    for field in fields(kernels):
        column = getattr(kernels, field.name)
        if isinstance(column, np.ndarray):
            changed[field.name] = column[which]
        elif isinstance(column, list):
            changed[field.name] = [item for item, stays in zip(column, which.tolist(), strict=True) if stays]
    return replace(kernels, **changed)


def assert_counted(plan: Plan, run: SimulatedRun, least: float) -> None:
    """Kernels are of the micro-batch that they are of, and of the op."""
    found = align(plan, run.kernels).op_of_kernel()
    micro_batch = np.array([-1 if op.micro_batch is None else op.micro_batch for op in plan.ops])
    truth = np.array([min(ops, default=-1) for ops in run.truth])
    both = (found >= 0) & (truth >= 0)
    assert (micro_batch[found[both]] == micro_batch[truth[both]]).mean() > 0.98
    assert right_share(run, found.tolist()) > least


def test_a_step_of_many_micro_batches_is_matched_without_slipping_by_one(shared_data: Path) -> None:
    plan = long_plan(shared_data, 20_000)
    assert_counted(plan, simulate_run(plan, 1), 0.95)


@pytest.mark.parametrize(
    ("layers", "layout", "stage"),
    [
        pytest.param(1, Layout(), 0, id="all-ops-as-rare-as-the-head"),
        pytest.param(3, Layout(), 0, id="a-head-once-a-micro-batch"),
        pytest.param(8, Layout(pipeline=4), 1, id="a-stage-without-a-head"),
    ],
)
def test_micro_batches_of_few_layers_are_counted(layers: int, layout: Layout, stage: int, shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")
    graph = training_graph(
        replace(model, layers=model.layers[:layers]), layout, Recipe(4096, 1, micro_batches=64), stage=stage
    )
    plan = memplan.plan(graph, chip="910B2")
    assert_counted(plan, simulate_run(plan, 2), 0.95)
    # A run that begins in the middle of a step tells by its end where that is.
    assert_counted(plan, simulate_run(plan, 19, disturbance(19)), 0.95)


@pytest.mark.slow
def test_300_simulated_runs_are_matched_and_probabilities_mean_what_they_say(shared_data: Path) -> None:
    plans = list(model_plans(shared_data / "configs").values())
    shares: list[float] = []
    claims: list[tuple[list[tuple[float, bool]], list[tuple[float, bool]]]] = []
    for seed in range(1000, 1300):
        run = simulate_run(plans[seed % len(plans)], seed, disturbance(seed))
        found = align(run.plan, run.kernels)
        shares.append(right_share(run, found.op_of_kernel().tolist()))
        claims.append(checked_claims(run, found))
    assert np.mean(shares) >= ENOUGH
    for side in (0, 1):
        assert_calibrated([pair for claim in claims for pair in claim[side]])


_Claims = list[tuple[list[tuple[float, bool]], list[tuple[float, bool]]]]


@pytest.fixture(scope="module")
def claims(shared_data: Path) -> _Claims:
    """Of ops and of scopes, what simulated runs were given with which probability, and whether it is right, by run."""
    plans = list(model_plans(shared_data / "configs").values())
    found = []
    for seed in range(7000, 7080):  # of forty, one run alone can tip the scales: its kernels are alike
        run = simulate_run(plans[seed % len(plans)], seed, disturbance(seed))
        found.append(checked_claims(run, align(run.plan, run.kernels)))
    return found


@pytest.mark.parametrize("side", [0, 1], ids=["ops", "scopes"])
def test_probabilities_mean_what_they_say(side: int, claims: _Claims) -> None:
    assert_calibrated([pair for claim in claims for pair in claim[side]], edges=(0.5, 0.9, 1.01))


@pytest.mark.parametrize("side", [0, 1], ids=["ops", "scopes"])
def test_probabilities_hold_in_every_run(side: int, claims: _Claims) -> None:
    for claim in claims:
        assert_calibrated(claim[side], edges=(0.0, 0.5, 0.8, 0.9, 1.01), telling=30)


def test_most_kernels_are_told_apart(claims: _Claims) -> None:
    stated = [[chance >= 0.0 for chance, _ in scopes] for _, scopes in claims]
    assert np.mean([of for run in stated for of in run]) > 0.95
    assert min(np.mean(run) for run in stated) > 0.8


def assert_calibrated(
    pairs: Sequence[tuple[float, bool]], edges: Sequence[float] = _EDGES, telling: int = _TELLING
) -> None:
    """Of what is given with probability p, a share of p within 5 points is right."""
    chances, right = np.array(pairs).T
    for low, high in pairwise(edges):
        inside = (chances >= low) & (chances < high)
        if inside.sum() >= telling:
            assert right[inside].mean() == pytest.approx(chances[inside].mean(), abs=0.05), (low, high)


def test_a_labelled_profile_is_matched(shared_data: Path) -> None:
    """Phase, micro-batch, layer and part of the kernels of a real run, whose labels are no input."""
    kernels = memplan.open_profile(shared_data / "profiles" / "qwen3-0.6b-train-4rank").rank(0).kernels()
    assert kernels is not None
    plan = labelled_plan(shared_data)
    found = align(plan, kernels)
    assert (found.scopes.probability[found.matches.kernel] >= found.matches.probability).all()
    verdicts = labelled(plan, found, shared_data / "labels" / "qwen3_rank0.csv")
    compute = [item for item in verdicts if not item.collective]
    total = sum(item.duration_us for item in compute)
    assert sum(item.duration_us for item in compute if item.right) / total > 0.999
    assert all(item.right for item in verdicts if item.collective)
    named = [item.part for item in verdicts if not item.planned]
    assert sum(named) > 0.98 * len(named)
    # Where the label means one planned part; of some it takes several for right.
    told = [(item.probability, item.right) for item in verdicts if not item.coarse]
    for edges in ((0.0, 0.5, 0.8, 0.95, 1.01), [tenth / 10 for tenth in range(10)] + [1.01]):
        assert_calibrated(told, edges, telling=30)


def test_names_count_where_both_sides_have_them(shared_data: Path) -> None:
    plan = model_plans(shared_data / "configs")["llama prefill"]
    run = simulate_run(plan, 5, Disturbance())
    names = [plan.ops[min(truth)].name if truth else "" for truth in run.truth]
    found = align(plan, replace(run.kernels, name=names))
    assert right_share(run, found.op_of_kernel().tolist()) > 0.98
    assert (found.matches.how == HOW.index(MatchedBy.NAME)).mean() > 0.8


def test_nothing_measured_matches_nothing(shared_data: Path) -> None:
    plan = model_plans(shared_data / "configs")["llama prefill"]
    run = simulate_run(plan, 5, Disturbance())
    columns = {name: getattr(run.kernels, name)[:0] for name in Kernels.__dataclass_fields__ if name != "pmu"}
    found = align(plan, replace(run.kernels, **columns))
    assert len(found.matches) == 0
    assert len(found.scopes) == 0


def test_a_size_beyond_any_memory_is_a_size_like_others() -> None:
    """Went wrong once: a shape of more than 2**63 elements ended the comparison with an overflow."""
    huge, small = TokenClass((0,), (2**63,), (2**70,), 0, rows=2**64), TokenClass((0,), (1024,), (), 0)
    classes = token_classes([huge, small])
    assert classes.inputs[0, 0] > classes.inputs[1, 0] == 1024
    assert classes.outputs[0, 0] > 0
    assert classes.rows[0] > 0
