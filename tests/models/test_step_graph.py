"""Step graphs hold the weights that a rank holds and compute the products that the model needs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.graph import DTYPE_BITS, Graph, Op, TensorKind, lifetimes
from memplan.hardware import chip
from memplan.kv import CacheOptions, engine, logical_cache
from memplan.models import ModelConfig, load_config
from memplan.models.feed_forward import MoeFfn
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout, rank_weight_bytes, stage_spans
from memplan.models.precision import precision
from memplan.models.steps import Phase, ServedStep, step_graph
from memplan.models.weight_shapes import WeightGroup
from memplan.models.weights import weights

LAYOUTS = (
    Layout(),
    Layout(tensor=4),
    Layout(tensor=8, expert=8),
    Layout(data=4, expert=4),
    Layout(tensor=2, data=4, expert=8),
    Layout(pipeline=2, tensor=2),
    Layout(context=2),
)
_LAYERS = 8
_FIXED = (".chunk.", ".hadamard")
"""Products that no weight takes part in."""
GROUPED = ("GroupedMatmul", "QuantGroupedMatmul")
PRODUCTS = ("MatMul", "QuantBatchMatmul", "WeightQuantBatchMatmul", "BatchMatMul", *GROUPED)


def shares_over_stages(model: ModelConfig, layout: Layout) -> bool:
    """Whether a layer reads the cache of one on another pipeline stage."""
    stage_of = {layer: stage for stage, span in enumerate(stage_spans(len(model.layers), layout)) for layer in span}
    reads = [(layer.index, layer.mixer.reads) for layer in model.layers if layer.mixer is not None]
    return any(read is not None and stage_of[read] != stage_of[index] for index, read in reads)


def weight_bytes(graph: Graph) -> int:
    return sum(t.nbytes for t in graph.tensors if t.kind is TensorKind.WEIGHT and t.storage == t.index)


def held_bytes(model: ModelConfig, layout: Layout, stage: int, *, mtp: bool = False) -> int:
    span = stage_spans(len(model.layers), layout)[stage]
    return sum(rank_weight_bytes(model, layout, precision("published", model), span, mtp=mtp, vision=False).values())


def flops(graph: Graph, op: Op) -> int:
    """Multiplies and adds of a matrix product by its shapes."""
    if op.type not in PRODUCTS:
        return 0
    first, result = graph.tensors[op.inputs[0]].shape, graph.tensors[op.outputs[0]].shape
    return 2 * prod(result) * first[-2 if op.attrs["transpose_a"] else -1]


def product_flops(graph: Graph) -> int:
    return sum(flops(graph, op) for op in graph.ops if not any(word in op.name for word in _FIXED))


def needed_flops(model: ModelConfig, step: ServedStep) -> int:
    """Two a matrix element and token, of the experts those that a token meets; the head where tokens are sampled."""
    queries = 1 if step.phase is Phase.DECODE else step.context
    tokens = step.batch * queries
    per_token = {layer.index: layer.ffn.per_token for layer in model.layers if isinstance(layer.ffn, MoeFfn)}
    total = 0
    for item in weights(model):
        head = item.group is WeightGroup.LM_HEAD or (item.name == "embed_tokens" and model.tied_embeddings)
        narrowing = item.name.startswith(("hc_head.fn", "hc_head.down", "hc_head.up"))
        if head or narrowing:
            total += 2 * (step.batch if step.phase is Phase.PREFILL else tokens) * item.elements
        elif item.group is WeightGroup.EXPERTS and item.layer is not None and len(item.shape) > 1:
            total += 2 * tokens * per_token[item.layer] * prod(item.shape)
        elif item.name.endswith("indexer.wk") and model.family == "deepseek_v41":
            # Index keys are made of the entries, one for `ratio` tokens.
            entries = -(-tokens // getattr(model.layers[item.layer or 0].mixer, "ratio", 1))
            total += 2 * entries * item.elements
        elif item.linear or item.name.endswith(("_hc.fn", "_hc.down", "_hc.up", "_hc.inject")):
            total += 2 * tokens * item.elements
    return total


def models(family_models: Mapping[str, ModelConfig], published: list[ModelConfig]) -> Iterator[ModelConfig]:
    """Every model, cut to its first layers for speed; whole ones are in a test of their own."""
    for model in (*family_models.values(), *published):
        yield replace(model, layers=model.layers[:_LAYERS])


@pytest.mark.parametrize("phase", list(Phase))
def test_flops_are_two_a_parameter_and_token(
    family_models: Mapping[str, ModelConfig], published_models: list[ModelConfig], phase: Phase
) -> None:
    for model in models(family_models, published_models):
        step = ServedStep(phase, batch=3, context=256)
        assert product_flops(step_graph(model, Layout(), step)) == needed_flops(model, step), model.name


def test_whole_models_on_one_rank(published_models: list[ModelConfig]) -> None:
    for model in published_models:
        graph = step_graph(model, Layout(), ServedStep(Phase.DECODE, 1, 256))
        assert weight_bytes(graph) == held_bytes(model, Layout(), 0), model.name


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_weights_are_those_the_rank_holds(
    family_models: Mapping[str, ModelConfig], published_models: list[ModelConfig], layout: Layout
) -> None:
    for model in models(family_models, published_models):
        for stage in range(layout.pipeline):
            try:
                held = held_bytes(model, layout, stage)
            except InputError:
                with pytest.raises(InputError):
                    step_graph(model, layout, ServedStep(Phase.DECODE, 4, 1024), stage=stage)
                continue
            if layout.pipeline > 1 and (model.per_layer_inputs is not None or shares_over_stages(model, layout)):
                with pytest.raises(InputError):
                    step_graph(model, layout, ServedStep(Phase.DECODE, 4, 1024), stage=stage)
                continue
            for phase in Phase:
                graph = step_graph(model, layout, ServedStep(phase, 4, 1024), stage=stage)
                assert weight_bytes(graph) == held, (model.name, phase)


@pytest.mark.parametrize("name", ["deepseek_v3-nolora", "qwen3_5_text", "kimi_k3", "gemma4_text-moe", "mimo_v2_flash"])
def test_sequence_parallelism_changes_no_weight_and_spreads_the_residual(
    family_models: Mapping[str, ModelConfig], name: str
) -> None:
    model, layout = family_models[name], Layout(tensor=2)
    plain, spread = (
        step_graph(model, layout, ServedStep(Phase.PREFILL, 1, 512, sequence_parallel=flag)) for flag in (False, True)
    )
    assert weight_bytes(plain) == weight_bytes(spread)
    widths = {
        rows
        for graph, rows in ((plain, 512), (spread, 256))
        if all(graph.tensors[op.outputs[0]].shape[0] == rows for op in graph.ops if op.name.endswith(".norm.0"))
    }
    assert widths == {512, 256}
    assert {op.type for op in spread.ops} >= {"AllGather", "ReduceScatter"}


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_shared_experts_are_split_or_whole_on_each_rank(shared_data: Path, spread: bool, whole: bool) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    model = replace(model, layers=model.layers[3:4])
    step = ServedStep(Phase.DECODE, 64, 1024, sequence_parallel=spread, whole_shared=whole)
    graph = step_graph(model, Layout(tensor=4, data=2, expert=8), step)
    op = next(op for op in graph.ops if "shared_experts.gate_proj" in op.name)
    x, weight = (graph.tensors[index].shape for index in op.inputs[:2])
    assert (x[0], weight[0]) == ((8, 4096) if whole else (32, 1024))
    collectives = [op.name.rpartition(".")[2] for op in graph.ops if op.type in ("AllGather", "AllReduce")]
    assert "shared_all_reduce" in collectives or whole or spread
    assert ("shared_all_gather" in collectives) is (whole and not spread)
    added = next(op for op in graph.ops if op.name.endswith("ffn.add"))
    assert {graph.tensors[index].shape[0] for index in (*added.inputs, *added.outputs)} == {8 if spread else 32}


def test_whole_shared_experts_follow_experts(shared_data: Path) -> None:
    """Where experts are split like everything else, so is the shared one."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    model = replace(model, layers=model.layers[3:4])
    plain, told = (
        step_graph(model, Layout(tensor=4), ServedStep(Phase.DECODE, 64, 1024, whole_shared=flag))
        for flag in (False, True)
    )
    assert [op.name for op in plain.ops] == [op.name for op in told.ops]
    assert weight_bytes(plain) == weight_bytes(told)


def test_graphs_hold_together(family_models: Mapping[str, ModelConfig]) -> None:
    for name, model in family_models.items():
        graph = step_graph(model, Layout(), ServedStep(Phase.DECODE, 2, 512))
        made: set[int] = set()
        for op in graph.ops:
            for index in op.inputs:
                tensor = graph.tensors[index]
                root = graph.tensors[tensor.storage]
                assert root.kind.persistent or tensor.storage in made, (name, op.name, tensor.name)
            made.update(graph.tensors[index].storage for index in op.outputs)
        for tensor in graph.tensors:
            assert tensor.nbytes <= graph.tensors[tensor.storage].nbytes, (name, tensor.name)
            if tensor.kind is TensorKind.ACTIVATION and tensor.storage == tensor.index:
                assert tensor.nbytes == -(-prod(tensor.shape) * DTYPE_BITS[tensor.dtype] // 8), (name, tensor.name)
        assert lifetimes(graph)


def test_a_decode_step_absorbs_and_a_dense_prefill_expands(family_models: Mapping[str, ModelConfig]) -> None:
    model = family_models["deepseek_v2"]
    mixer = model.layers[0].mixer
    assert isinstance(mixer, LatentAttention)
    for phase, heads, width in ((Phase.DECODE, 1, mixer.kv_lora_rank), (Phase.PREFILL, mixer.heads, mixer.nope_dim)):
        graph = step_graph(model, Layout(), ServedStep(phase, 1, 256))
        attention = next(op for op in graph.ops if op.name == "layers.0.attention")
        assert attention.attrs["kv_heads"] == heads
        assert attention.attrs["d_qk"] == width + mixer.rope_dim


def test_experts_that_get_no_token_are_not_read(family_models: Mapping[str, ModelConfig]) -> None:
    model = family_models["glm4_moe"]
    ffn = next(layer.ffn for layer in model.layers if isinstance(layer.ffn, MoeFfn))
    few, alone = (
        step_graph(model, Layout(), ServedStep(Phase.DECODE, 1, 64, even_routing=even)) for even in (True, False)
    )
    many = step_graph(model, Layout(), ServedStep(Phase.DECODE, 512, 64, even_routing=True))
    uneven = step_graph(model, Layout(), ServedStep(Phase.DECODE, 16, 64))
    even = step_graph(model, Layout(), ServedStep(Phase.DECODE, 16, 64, even_routing=True))

    def hit(graph: Graph) -> object:
        return next(op.attrs["groups"] for op in graph.ops if op.type in GROUPED)

    assert hit(few) == hit(alone) == ffn.per_token
    assert hit(many) == ffn.experts
    assert int(str(hit(uneven))) < int(str(hit(even)))


def test_ranks_with_the_same_tokens_send_each_once(shared_data: Path) -> None:
    """Sixteen ranks that share one sequence's token have sixteen places for tokens, but one token for their experts."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-R1.json")
    hit = []
    for batch in (1, 4, 16, 64):
        step = ServedStep(Phase.DECODE, batch, 64, precision="w8a8", even_routing=True)
        graph = step_graph(model, Layout(tensor=16, expert=16), step)
        hit.append(next(op.attrs["groups"] for op in graph.ops if op.type in GROUPED))
    assert hit == [1, 2, 8, 16]


def test_dispatch_sends_every_token_to_its_experts_once(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-R1.json")
    step = ServedStep(Phase.DECODE, 320, 4096, precision="w8a8", even_routing=True)
    graph = step_graph(model, Layout(data=32, expert=32), step)
    dispatch = next(op for op in graph.ops if op.type == "MoeDistributeDispatch")
    combine = next(op for op in graph.ops if op.type == "MoeDistributeCombine")
    # Ten sequences a rank, eight experts a token, one byte an element out and two back.
    assert graph.tensors[dispatch.outputs[0]].nbytes == 10 * 8 * 7168
    assert graph.tensors[combine.inputs[0]].nbytes == 10 * 8 * 7168 * 2
    assert dispatch.attrs["rank_size"] == 32


def test_drafts_run_the_prediction_layer_over_the_same_weights(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-R1.json")
    one, three = (step_graph(model, Layout(), ServedStep(Phase.DECODE, 2, 1024, speculative=n)) for n in (1, 3))
    assert weight_bytes(one) == weight_bytes(three) == held_bytes(model, Layout(), 0, mtp=True)
    heads = [graph.tensors[op.outputs[0]].shape[0] for graph in (one, three) for op in graph.ops if op.type == "ArgMax"]
    # All verified tokens pass the model and the first draft, one token a sequence each further draft.
    assert heads == [4, 4, 8, 8, 2, 2]


def test_stages_of_a_pipeline_make_up_the_model(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-8B.json")
    step = ServedStep(Phase.DECODE, 4, 512)
    whole = product_flops(step_graph(model, Layout(), step))
    stages = [step_graph(model, Layout(pipeline=3), step, stage=stage) for stage in range(3)]
    assert sum(product_flops(graph) for graph in stages) == whole
    assert [op.type for op in stages[1].ops if op.attrs.get("group") == "pp"] == ["Receive", "Send"]


def test_compressed_attention_follows_the_ratios(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Flash.json")
    graph = step_graph(model, Layout(), ServedStep(Phase.DECODE, 1, 65536, kv="fp8"))
    attention = {op.name.split(".")[1]: op for op in graph.ops if op.name.endswith(".attention")}
    ratios = [int(str(attention[str(index)].attrs["ratio"])) for index in range(len(model.layers))]
    assert ratios == [max(getattr(layer.mixer, "ratio", 0), 1) for layer in model.layers]
    indexed = [op for op in graph.ops if op.type == "LightningIndexer"]
    assert len(indexed) == ratios.count(4)
    assert all((op.attrs["kv_len"], op.attrs["ratio"]) == (65536, 4) for op in indexed)


def test_caches_are_those_of_the_kv_budget(
    family_models: Mapping[str, ModelConfig], published_models: list[ModelConfig]
) -> None:
    """Two ways to the same bytes: what the step reads and writes, and what the budget keeps for a sequence."""
    for model in (*family_models.values(), *published_models):
        compressed = model.family == "deepseek_v4"
        names = ("vllm-ascend-0.23.0.post1-a3", "910C") if compressed else ("logical", "910C")
        kept = logical_cache(model, engine(names[0], chip(names[1])), CacheOptions(index_c8=compressed), 65536)
        graph = step_graph(model, Layout(), ServedStep(Phase.DECODE, 1, 65536, index_c8=compressed))
        ids = 4
        caches = sum(t.nbytes for t in graph.tensors if t.kind is TensorKind.INPUT and t.storage == t.index) - ids
        assert caches == kept.total_bytes, model.name


@pytest.mark.parametrize(
    ("layout", "step", "words"),
    [
        (Layout(expert=8), ServedStep(Phase.DECODE, 8, 64), "expert parallelism"),
        (Layout(data=8), ServedStep(Phase.DECODE, 4, 64), "without one"),
        (Layout(tensor=3), ServedStep(Phase.DECODE, 4, 64), "3 ranks"),
        (Layout(pipeline=64), ServedStep(Phase.DECODE, 4, 64), "pipeline stages"),
        (Layout(), ServedStep(Phase.DECODE, 4, 64, speculative=1), "multi-token prediction"),
    ],
)
def test_what_cannot_be_run_is_refused(
    family_models: Mapping[str, ModelConfig], layout: Layout, step: ServedStep, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        step_graph(family_models["qwen2_moe"], layout, step)


def test_wrong_steps_are_refused() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"batch": 0}, {"context": 0}, {"cached": 64}, {"speculative": -1}, {"kv": "int3"}
    )  # fmt: skip
    for change in changes:
        with pytest.raises(InputError):
            ServedStep(**{"phase": Phase.DECODE, "batch": 1, "context": 64, **change})
    with pytest.raises(InputError):
        replace(ServedStep(Phase.PREFILL, 1, 64), speculative=1)
