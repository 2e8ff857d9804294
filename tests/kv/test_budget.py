"""From a card's size to what fits: every line with its source, and answers that change the way the options say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB, MIB
from memplan.hardware import chip
from memplan.kv import BudgetPart, CacheOptions, KvBudget, Memory, ServingOptions, budget, engine, engines, plan_cache
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.requests.kv_request import KvRequest


def llama(folder: Path, layout: Layout | None = None, memory: Memory | None = None, length: int = 32768) -> KvBudget:
    die = chip("910B3")
    model = load_config(folder / "configs" / "meta-llama--Meta-Llama-3.1-8B.json")
    return budget(model, die, engine("vllm-ascend", die), ServingOptions(length), layout or Layout(tensor=8), memory)


def test_items_go_from_the_card_to_the_cache_and_add_up(shared_data: Path) -> None:
    result = llama(shared_data)
    card, *taken, left = [item.nbytes for item in result.items]
    assert card == 64 * GIB
    assert left == result.available_bytes == card - sum(size or 0 for size in taken)
    assert all(item.source for item in result.items)
    assert {"driver", "activations", "HCCL buffers", "graphs", "workspace"} <= {item.name for item in result.items}


def test_what_is_not_known_is_none_and_named(shared_data: Path) -> None:
    result = llama(shared_data)
    unknown = [item.name for item in result.items if item.nbytes is None]
    assert unknown == ["graphs", "workspace"]
    assert any("graphs, workspace" in str(note) for note in result.notes)
    measured = llama(shared_data, memory=Memory(graph=GIB, workspace=16 * MIB))
    assert measured.available_bytes == result.available_bytes - GIB - 16 * MIB
    assert not measured.notes


@pytest.mark.parametrize(("hbm", "tensor", "mib"), [(79, 2, 2120), (79, 1, 256), (44, 2, None), (44, 1, 256)])
def test_what_nccl_takes_is_told_only_of_cards_it_was_measured_on(
    shared_data: Path, hbm: int, tensor: int, mib: int | None
) -> None:
    model = load_config(shared_data / "configs" / "meta-llama--Meta-Llama-3.1-8B.json")
    die, memory = chip("910B3"), Memory(hbm=hbm * GIB, reserved=0)
    for served in ("vllm-0.23.0", "vllm-0.33.0-h100"):
        found = budget(model, die, engine(served, die), ServingOptions(4096), Layout(tensor=tensor), memory)
        (item,) = (item for item in found.items if item.part is BudgetPart.COLLECTIVES)
        assert item.nbytes == (None if mib is None else mib * MIB)
        assert ("3.58 GiB" in str(item.source)) == (tensor > 1)
        assert any("runtime and NCCL" in str(note) for note in found.notes) == (mib is None)


def test_weights_of_a_rank_are_its_share(shared_data: Path) -> None:
    def held(layout: Layout, precision: str = "published") -> int:
        items = llama(shared_data, layout, Memory(precision=precision)).items
        return sum(item.nbytes or 0 for item in items if item.name.startswith("weights"))

    whole = held(Layout())
    # Every rank has all norms and the table of positions.
    repeated = 2 * (2 * 32 + 1) * 4096 + 2 * 131_072 * 128
    assert whole == 2 * 8_030_261_248 + 2 * 131_072 * 128
    assert held(Layout(tensor=8)) == (whole - repeated) // 8 + repeated
    assert held(Layout(), "w8a8") < 0.6 * whole


def test_a_sequence_that_fits_and_one_that_does_not(shared_data: Path) -> None:
    fits = llama(shared_data)
    assert fits.fits
    assert fits.missing_bytes == 0
    assert fits.bytes_per_token == fits.logical_bytes_per_token == 16_384
    assert fits.tokens == fits.sequences * 32768
    assert fits.sequences == fits.available_bytes // (16_384 * 128) // 256 or fits.sequences > 0
    tight = llama(shared_data, Layout(), Memory(hbm=24 * GIB))
    assert not tight.fits
    assert tight.missing_bytes > 0
    enough = llama(shared_data, Layout(), Memory(hbm=24 * GIB + 2 * tight.missing_bytes))
    assert enough.fits


def test_more_in_flight_costs_a_v4_request_more_and_its_tokens_nothing(shared_data: Path) -> None:
    die = chip("910C")
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Pro.json")
    layout, memory = Layout(tensor=16, expert=16), Memory(precision="w4a8", hbm=128 * GIB)

    def at(batched: int) -> KvBudget:
        asked = ServingOptions(1_048_576, CacheOptions(block_size=128), batched_tokens=batched, asynchronous=False)
        return budget(model, die, engine("vllm-ascend", die), asked, layout, memory)

    small, large = at(2048), at(8192)
    assert small.bytes_per_token == large.bytes_per_token
    assert round(small.fixed_bytes_per_request / GIB, 3) == 1.548
    assert round(large.fixed_bytes_per_request / GIB, 3) == 6.051
    assert round(small.bytes_per_token * 1_048_576 / GIB, 3) == 9.007
    assert small.prefix_granularity == 16_384


def test_a_pipeline_reports_its_tightest_stage(shared_data: Path) -> None:
    result = llama(shared_data, Layout(pipeline=4))
    assert result.stage in range(4)
    layers = {spec.layer for group in result.pool.groups for spec in group.members}
    assert layers == set(range(8 * result.stage, 8 * result.stage + 8))


def test_stages_with_layers_told_are_budgeted_too(shared_data: Path) -> None:
    even, told = (llama(shared_data, Layout(pipeline=4, stage_layers=layers)) for layers in ((), (8, 8, 8, 8)))
    assert told.items == even.items
    uneven = llama(shared_data, Layout(pipeline=4, stage_layers=(2, 14, 10, 6)))
    layers = {spec.layer for group in uneven.pool.groups for spec in group.members}
    assert (uneven.stage, layers) == (1, set(range(2, 16)))
    activations = {item.nbytes for found in (even, uneven) for item in found.items if item.name == "activations"}
    assert len(activations) == 1


def test_the_engine_follows_the_chip() -> None:
    assert engine("vllm-ascend", chip("910B3")).name == "vllm-ascend-0.23.0.post1-a2"
    assert engine("vllm-ascend", chip("910C")).name == "vllm-ascend-0.23.0.post1-a3"
    assert engine("vllm-ascend", chip("950PR_9589")).name == "vllm-ascend-0.23.0.post1-a5"
    assert engine("mindie", chip("910B3")).utilization == 0.8
    assert engine("vllm-ascend", chip("310P3")).name == "vllm-ascend-0.23.0.post1-310p"
    assert engine("vllm-ascend-0.30.0rc2", chip("910C")).name == "vllm-ascend-0.30.0rc2-a3"
    assert engine("vllm-0.33.0", chip("910C")).name == "vllm-0.33.0-h100"
    with pytest.raises(InputError, match="several engines"):
        engine("vllm-ascend")
    with pytest.raises(InputError, match="no engine is called 'tensorrt'"):
        engine("tensorrt")
    assert all(item.source for item in engines())


def test_what_an_engine_refuses_is_refused_in_its_words(shared_data: Path) -> None:
    die = chip("910B3")

    def plan(model: str, options: ServingOptions, layout: Layout, back_end: str = "vllm-ascend") -> KvBudget:
        config = load_config(shared_data / "configs" / f"{model}.json")
        return budget(config, die, engine(back_end, die), options, layout)

    asked = ServingOptions(8192)
    odd_blocks = replace(asked, caches=CacheOptions(block_size=100))
    with pytest.raises(InputError, match="does not take a block size of 16"):
        plan("deepseek-ai--DeepSeek-V4-Pro", asked, Layout(tensor=8, expert=8), "vllm-ascend-0.30.0rc2")
    with pytest.raises(InputError, match="does not take a block size of 100"):
        plan("meta-llama--Meta-Llama-3.1-8B", odd_blocks, Layout(), "mindie")
    with pytest.raises(InputError, match="can't be divided among 3 ranks"):
        plan("meta-llama--Meta-Llama-3.1-8B", asked, Layout(tensor=3))
    with pytest.raises(InputError, match="windows and states is not known"):
        plan("google--gemma-3-27b-it", asked, Layout(tensor=8), "mindie")
    with pytest.raises(InputError, match=r"keeps no cache of the attention of .* in 'fp4'"):
        plan("meta-llama--Meta-Llama-3.1-8B", replace(asked, caches=CacheOptions(kv="fp4")), Layout())
    drafting = replace(asked, caches=CacheOptions(speculative_tokens=1))
    with pytest.raises(InputError, match="does not draft by multi-token prediction with pipeline parallelism"):
        plan("deepseek-ai--DeepSeek-V3", drafting, Layout(tensor=8, pipeline=2))


def test_states_that_no_block_of_keys_equals_are_refused_in_the_engines_words(shared_data: Path) -> None:
    document = json.loads((shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json").read_text("utf-8"))
    model = load_config({**document, "linear_value_head_dim": 100})
    with pytest.raises(InputError, match="Cannot align ssm_page_size and attn_page_size"):
        plan_cache(model, engine("vllm-ascend-0.23.0.post1-a3"), ServingOptions(8192), 20 * GIB)
    assert plan_cache(model, engine("vllm-0.23.0"), ServingOptions(8192), 20 * GIB).num_blocks > 0


def test_published_formats_that_the_cube_does_not_take_are_told(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")

    def told(name: str, memory: Memory) -> bool:
        die = chip(name)
        found = budget(model, die, engine("vllm-ascend", die), ServingOptions(4096), Layout(tensor=16), memory)
        return any("does not take" in str(note) for note in found.notes)

    assert told("910C", Memory())
    assert not told("910C", Memory(precision="w8a8"))
    assert not told("950PR_9589", Memory())


def test_the_memory_of_a_chip_without_a_figure_must_be_given(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "meta-llama--Meta-Llama-3.1-8B.json")
    die = chip("910A")
    with pytest.raises(InputError, match="memory of Ascend910A is not known; give it with --hbm"):
        budget(model, die, engine("logical"), ServingOptions(4096))
    result = budget(model, die, engine("logical"), ServingOptions(4096), None, Memory(hbm=32 * GIB))
    assert result.fits
    assert any("driver" in str(note) for note in result.notes)


@pytest.mark.parametrize(("hbm", "tokens"), [("64GiB", 2048), ("80GiB", 8192), ("141GiB", 8192), ("180GiB", 16384)])
def test_servers_start_with_defaults_of_the_card(shared_data: Path, hbm: str, tokens: int) -> None:
    """Vllm 0.33.0 engine/arg_utils.py get_batch_defaults; a planner that is told of no card takes 2,048."""
    request = KvRequest(
        shared_data / "configs" / "meta-llama--Meta-Llama-3.1-8B.json", engine="vllm-0.33.0-h100", hbm=hbm
    )
    case = request.case()
    assert case.started().options.batched_tokens == tokens
    assert case.started().memory.sequences == (256 if tokens == 2048 else 1024)
    given = replace(request, batched_tokens=4096, step_sequences=32).case().started()
    assert (given.options.batched_tokens, given.memory.sequences) == (4096, 32)
    source = next(item.source for item in case.budget().items if item.name == "activations")
    assert f"{tokens:,}" in str(source)
