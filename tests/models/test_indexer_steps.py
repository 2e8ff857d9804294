"""The kernels of a decode step around an indexer, as published code runs them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.graph import Graph
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph
from memplan.models.weight_shapes import WeightGroup
from memplan.models.weights import weights

CASES = Path(__file__).parents[2] / "benchmarks" / "serving_cases.json"
STEP = ServedStep(Phase.DECODE, batch=4, context=4096, precision="w8a8", kv="int8", index_c8=True)


@pytest.fixture(scope="module")
def sparse(shared_data: Path) -> ModelConfig:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.2.json")
    return replace(model, layers=model.layers[:4], mtp_layers=())


def graph_of(model: ModelConfig, step: ServedStep) -> Graph:
    return step_graph(model, Layout(data=4, expert=4), step)


def kernels(graph: Graph, layer: int, word: str) -> list[str]:
    return [op.type for op in graph.ops if f"layers.{layer}." in op.name and word in op.name]


def test_queries_and_keys_are_rotated_turned_and_quantised_one_kernel_each(sparse: ModelConfig) -> None:
    graph = graph_of(sparse, STEP)
    turned = ["SplitVD", "RotaryMul", "ConcatD", "MatMul", "Cast", "DynamicQuant"]
    assert kernels(graph, 3, "index_q.") == turned
    assert kernels(graph, 3, "index_k.") == turned
    assert kernels(graph, 3, "indexer.write") == ["ScatterNdUpdate"] * 2


def test_keys_in_16_bits_are_neither_cast_nor_scaled(sparse: ModelConfig) -> None:
    graph = graph_of(sparse, replace(STEP, precision="bf16", kv="bf16", index_c8=False))
    assert kernels(graph, 3, "index_k.") == ["SplitVD", "RotaryMul", "ConcatD", "MatMul"]
    assert kernels(graph, 3, "indexer.write") == ["ScatterNdUpdate"]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_heads_are_packed_for_the_ranks_that_share_the_output_projection(sparse: ModelConfig, ranks: int) -> None:
    graph = graph_of(sparse, replace(STEP, output_parallel=ranks))
    assert kernels(graph, 3, "o_pack") == (["Transpose"] if ranks > 1 else [])
    assert kernels(graph, 3, "o_all_to_all") == (["AlltoAll"] if ranks > 1 else [])


@pytest.mark.parametrize(
    "name", ["deepseek-ai--DeepSeek-V3.2", "deepseek-ai--DeepSeek-V4-Flash", "deepseek-ai--DeepSeek-V4.1-Flash"]
)
@pytest.mark.parametrize("phase", [Phase.DECODE, Phase.PREFILL])
def test_attention_waits_for_what_an_indexer_picks(shared_data: Path, name: str, phase: Phase) -> None:
    model = load_config(shared_data / "configs" / f"{name}.json")
    graph = step_graph(model, Layout(data=4, expert=4), ServedStep(phase, batch=4, context=4096))
    picks = {op.outputs[0] for op in graph.ops if op.name.endswith("indexer.scores")}
    attend = [op for op in graph.ops if op.name.endswith(".attention")]
    assert picks
    assert picks <= {tensor for op in attend for tensor in op.inputs}
    readers = [op for op in attend if op.attrs["top_k"]]
    assert readers
    assert all(picks & set(op.inputs) for op in readers)


def test_longcat_drafts_with_one_attention_and_one_dense_part() -> None:
    config: dict[str, Any] = json.loads(CASES.read_text("utf-8"))["models"]["LongCat-Flash"]
    model = load_config(config)
    assert len(model.mtp_layers) == 1
    drafts = [item for item in weights(model, mtp=True) if item.layer == len(model.layers)]
    assert not any(item.group is WeightGroup.EXPERTS for item in drafts)
    without = load_config({key: value for key, value in config.items() if key != "num_nextn_predict_layers"})
    assert without.mtp_layers == ()
