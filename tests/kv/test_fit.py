"""Searching layouts: what fits first, every rejection with its reason, and questions answered directly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.deployment.cases import Case, effects, longest_context, memory_tier
from memplan.deployment.layout_search import layouts
from memplan.deployment.serving_fit import fit_serving
from memplan.deployment.training_fit import fit_training
from memplan.deployment.ways_to_serve import nearest_layout, ways_to_serve
from memplan.hardware import chip
from memplan.kv import Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe


def case(folder: Path, model: str = "meta-llama--Meta-Llama-3.1-70B", length: int = 32768) -> Case:
    die = chip("910B3")
    return Case(
        load_config(folder / "configs" / f"{model}.json"),
        die,
        engine("vllm-ascend", die),
        ServingOptions(length),
        Layout(tensor=8),
        Memory(),
    )


def test_every_division_of_the_dies_is_tried_once(shared_data: Path) -> None:
    dense = load_config(shared_data / "configs" / "meta-llama--Meta-Llama-3.1-8B.json")
    sparse = load_config(shared_data / "configs" / "Qwen--Qwen3-30B-A3B.json")
    tried = list(layouts(dense, 16))
    assert len(tried) == len(set(tried)) == 15
    assert all(layout.ranks == 16 for layout in tried)
    shared = {layout.expert for layout in layouts(sparse, 16) if layout.pipeline == 1}
    assert shared == {1, 16}


def test_v4_pro_on_64_dies(shared_data: Path) -> None:
    die = chip("910C")
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Pro.json")
    result = fit_serving(model, die, engine("vllm-ascend", die), ServingOptions(131_072), 64, Memory(precision="w4a8"))
    assert result.best is not None
    assert result.best.layout.expert > 1
    assert [item.capacity for item in result.fitting] == sorted((i.capacity for i in result.fitting), reverse=True)
    reasons = {str(item.layout): item.rejected for item in result.rejected}
    assert "missing for one sequence of 131,072 tokens" in reasons["DP64"]
    assert "can't be divided among 64 pipeline stages" in reasons["PP64"]
    assert "16 heads can't be divided among 32 ranks" in reasons["TP32 PP2"]
    assert all(item.rejected for item in result.rejected)


def test_nothing_fits_on_too_few_dies(shared_data: Path) -> None:
    asked = case(shared_data, "deepseek-ai--DeepSeek-V3")
    result = fit_serving(asked.model, asked.chip, asked.engine, asked.options, 4)
    assert result.best is None
    assert result.rejected


def test_training_layouts(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-32B.json")
    result = fit_training(model, 60 * GIB, Recipe(sequence=4096, sequence_parallel=True), 64, 64)
    assert result.best is not None
    for item in result.fitting:
        assert item.training is not None
        assert item.training.peak_bytes <= 60 * GIB
        assert item.capacity >= 1
    reasons = {str(item.layout): item.rejected for item in result.rejected}
    assert "over on stage 0 (optimizer" in reasons["DP64"] or "over on stage 0 (gradients" in reasons["DP64"]


def test_at_the_longest_context_the_batch_fits_and_beyond_it_does_not(shared_data: Path) -> None:
    asked = case(shared_data)
    batch = asked.budget().sequences
    assert batch > 1
    longest = longest_context(asked, batch)
    assert longest >= 32768
    assert asked.with_context(longest).budget().sequences >= batch
    beyond = asked.with_context(longest + 1).budget()
    assert longest == asked.model.max_positions or not beyond.fits or beyond.sequences < batch


def test_the_smaller_the_batch_the_longer_the_context(shared_data: Path) -> None:
    asked = case(shared_data)
    found = [longest_context(asked, batch, most=4_000_000) for batch in (1, 2, 4)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[2] > 0


def test_effects_of_options(shared_data: Path) -> None:
    asked = case(shared_data, "deepseek-ai--DeepSeek-V4-Flash", 131_072)
    asked = Case(
        asked.model, asked.chip, asked.engine, asked.options, Layout(tensor=8, expert=8), Memory(precision="w4a8")
    )
    found = effects(asked, block_sizes=(32, 128), batched_tokens=(2048, 8192))
    small, large, few, many = (item.result for item in found)
    assert small is not None
    assert large is not None
    assert few is not None
    assert many is not None
    assert small.prefix_granularity < large.prefix_granularity
    assert few.fixed_bytes_per_request < many.fixed_bytes_per_request
    plain = case(shared_data)
    halved = effects(plain, kv=("bf16", "int8"))
    bf16, int8 = (item.result for item in halved)
    assert bf16 is not None
    assert int8 is not None
    assert bf16.bytes_per_token == 2 * int8.bytes_per_token


def test_memory_outside_the_die_as_a_tier(shared_data: Path) -> None:
    asked = case(shared_data)
    tier = memory_tier(asked, 100 * GIB)
    per_token = 327_680 // 8
    assert tier.tokens == 100 * GIB // per_token
    assert tier.sequence_bytes == 32768 * per_token
    assert tier.restore_ns == round(32768 * per_token / 55e9 * 1e9)
    assert "MindSpore" in tier.rests_on
    with pytest.raises(InputError, match="has no link 'ub'"):
        memory_tier(asked, 100 * GIB, "ub")
    pooled = Case(asked.model, chip("910C"), asked.engine, asked.options, asked.layout, asked.memory)
    faster = memory_tier(pooled, 100 * GIB, "ub_host").restore_ns
    assert faster is not None
    assert faster < tier.restore_ns


def test_context_parallel_ranks_share_the_tokens(shared_data: Path) -> None:
    asked = case(shared_data, "deepseek-ai--DeepSeek-V3")
    memory = Memory(precision="w8a8", hbm=128 * GIB)
    one = Case(asked.model, asked.chip, asked.engine, asked.options, Layout(tensor=8), memory).budget()
    two = Case(asked.model, asked.chip, asked.engine, asked.options, Layout(tensor=8, context=2), memory).budget()
    assert two.bytes_per_token == one.bytes_per_token / 2


@pytest.mark.parametrize(
    "model", ["Qwen--Qwen3-235B-A22B", "meta-llama--Meta-Llama-3.1-405B", "deepseek-ai--DeepSeek-R1"]
)
def test_what_fits_instead_fits_when_it_is_asked_for_and_only_that_is_changed(shared_data: Path, model: str) -> None:
    asked = replace(case(shared_data, model), layout=Layout(tensor=8))
    assert not asked.budget().fits
    ways = ways_to_serve(asked)
    assert "layout" in {way.option for way in ways}
    for way in ways:
        assert way.result is not None
        assert way.result.fits
        assert way.result.sequences >= 1
        if way.option == "--weights":
            again = replace(asked, memory=Memory(precision=way.value)).budget()
            assert again == way.result
        if way.option == "--context":
            assert asked.with_context(int(way.value)).budget() == way.result
            assert not asked.with_context(int(way.value) + 128).budget().fits
        if way.option == "layout":
            layout = way.result.layout
            assert replace(asked, layout=layout).budget() == way.result
            assert layout.ranks % 8 == 0
            assert (
                layout.ranks == 8
                or not fit_serving(asked.model, asked.chip, asked.engine, asked.options, layout.ranks // 2).fitting
            ), "half as many dies would do"


def test_formats_are_offered_that_the_chip_multiplies(shared_data: Path) -> None:
    asked = case(shared_data, "Qwen--Qwen3-235B-A22B")
    offered = {way.value for way in ways_to_serve(asked) if way.option == "--weights"}
    assert offered == {"w8a8", "w4a8"}
    newer = chip("950PR_9579")
    there = replace(asked, chip=newer, engine=engine("vllm-ascend", newer), layout=Layout(tensor=2))
    assert not there.budget().fits
    assert {"mxfp8", "mxfp8-mxfp4"} <= {way.value for way in ways_to_serve(there) if way.option == "--weights"}


def test_a_context_that_the_engine_shortens_starts_and_says_what_fits_whole(shared_data: Path) -> None:
    asked = case(shared_data, "Qwen--Qwen3-32B", 40_960)
    asked = replace(asked, layout=Layout(tensor=2), memory=Memory(hbm=40 * GIB))
    whole = longest_context(asked, 1)
    shortened = replace(asked, options=replace(asked.options, fits_length=True)).budget()
    assert not asked.budget().fits
    assert shortened.fits
    assert whole < shortened.context < 40_960
    assert not shortened.sequences
    assert any(f"longer than {whole:,}" in str(note) for note in shortened.notes)


@pytest.mark.parametrize("layout", [Layout(tensor=4), Layout(tensor=2, pipeline=2)])
def test_a_context_that_shrinks_to_nothing_is_missing_as_a_whole(shared_data: Path, layout: Layout) -> None:
    """Went wrong once: no budget was told, and nothing that fits instead."""
    asked = replace(case(shared_data, "Qwen--Qwen3-235B-A22B", 40_960), layout=layout)
    fitted = replace(asked, options=replace(asked.options, fits_length=True))
    whole, shortened = asked.budget(), fitted.budget()
    assert not shortened.fits
    assert shortened.refusal is not None
    assert "auto-fit" in shortened.refusal.message
    assert (shortened.context, shortened.missing_bytes) == (40_960, whole.missing_bytes)
    ways = ways_to_serve(fitted)
    assert {way.option for way in ways} == {"--weights", "layout"}
    assert all(way.result.sequences for way in ways)


def test_layouts_of_a_shortened_context_are_sorted_by_it(shared_data: Path) -> None:
    asked = case(shared_data, "Qwen--Qwen3-235B-A22B")
    options = replace(asked.options, fits_length=True)
    found = fit_serving(asked.model, asked.chip, asked.engine, options, 8).fitting
    contexts = [item.budget.context for item in found if item.budget is not None]
    assert contexts == sorted(contexts, reverse=True)
    assert len(set(contexts)) > 1


def test_other_layouts_are_as_near_with_few_stages_and_divide_towers_as_asked(shared_data: Path) -> None:
    """Went wrong once: whole vision towers were divided by TP in the layouts that were said to fit."""
    asked = case(shared_data, "Qwen--Qwen3-32B", 40_960)
    asked = replace(asked, layout=Layout(whole_towers=True))
    # Eight heads of keys: tensor parallelism doesn't divide them further.
    for sequences, stages in ((1, 1), (8, 1), (64, 2)):
        found = nearest_layout(asked, sequences)
        assert found is not None
        assert found.result.layout.whole_towers
        assert found.result.layout.pipeline == stages
        assert found.result.sequences >= sequences
        assert replace(asked, layout=found.result.layout).budget() == found.result
    assert nearest_layout(asked, 10**6) is None
