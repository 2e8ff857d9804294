"""MindSpore's own exports lose nothing that they change in place: optimisers, statistics, caches, control flow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import memplan
from memplan.graph import Graph, TensorKind
from memplan.graph.access import accesses, loop_spans
from memplan.readers import read_graph
from memplan.schema import Tier
from tests.planner.byte_memory import ByteMemory
from tests.planner.mindspore_states import FAST, NAMES, OPTIMIZERS

pytestmark = pytest.mark.mindspore

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
STATES = {"Adam": 2, "AdamWeightDecay": 2, "Momentum": 1, "SGD": 2, "RMSProp": 2, "Lamb": 2}
"""Tensors of state beside each weight; RMSProp is not centred here, SGD counts a flag of its own."""


def exported(factory: pytest.TempPathFactory, names: tuple[str, ...]) -> Path:
    pytest.importorskip("mindspore")
    folder = factory.mktemp("states")
    script = Path(__file__).with_name("mindspore_states.py")
    subprocess.run([sys.executable, str(script), str(folder), *names], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, FAST)


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory, NAMES)


def holds_in_every_budget(path: Path) -> None:
    graph = read_graph(path)
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    for share in SHARES:
        plan = memplan.plan(graph, chip="910B3", hbm=int(use.peak * share))
        assert ByteMemory(graph, plan).run() == []


def written(graph: Graph) -> set[str]:
    """Names of what exists before the step and is changed by it."""
    return {
        graph.tensors[index].name
        for access in accesses(graph)
        for index in access.writes
        if graph.tensors[index].kind.persistent
    }


@pytest.mark.parametrize("name", [name for name in FAST if name != "paged_layers"])
def test_a_plan_loses_nothing(name: str, few: Path) -> None:
    holds_in_every_budget(few / f"{name}.mindir")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_plan_loses_anything(name: str, all_of_them: Path) -> None:
    holds_in_every_budget(all_of_them / f"{name}.mindir")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimiser_changes_every_weight_and_its_state(optimizer: str, all_of_them: Path) -> None:
    graph = read_graph(all_of_them / f"mlp_{optimizer}.mindir")
    changed = written(graph)
    weights = {"first.weight", "first.bias", "second.weight", "second.bias", "last.weight", "last.bias"}
    assert weights <= changed
    for weight in weights:
        assert len([name for name in changed if name.endswith(f".{weight}")]) == STATES[optimizer]


def test_training_changes_the_running_statistics(few: Path) -> None:
    changed = written(read_graph(few / "mlp_batch_norm_Momentum.mindir"))
    assert {"norm.moving_mean", "norm.moving_variance", "moments.norm.gamma"} <= changed


def test_decoding_changes_its_caches_and_no_weight(few: Path) -> None:
    graph = read_graph(few / "paged_layers.mindir")
    assert written(graph) == {f"{what}{layer}" for what in "kv" for layer in range(8)}
    assert not any(tensor.kind is TensorKind.OPTIMIZER_STATE for tensor in graph.tensors)


@pytest.mark.slow
def test_what_a_loop_uses_stays_where_it_is(all_of_them: Path) -> None:
    graph = read_graph(all_of_them / "while_update.mindir")
    ((begin, end),) = loop_spans(graph)
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    plan = memplan.plan(graph, chip="910B3", hbm=int(use.peak * 0.6))
    assert plan.transfers
    inside = {tensor for op in plan.ops[begin : end + 1] for tensor in op.reads or ()}
    for tensor in plan.tensors:
        if tensor.index in inside and tensor.start <= begin and tensor.nbytes:
            places = [p for p in plan.placements if p.tensor == tensor.index and p.tier is Tier.HBM]
            assert any(place.start <= begin and end < place.end for place in places)
