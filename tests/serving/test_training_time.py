"""Time of a training step: parts that add up, the host that holds the device up, stages that wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.hardware.host import host_tier
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.memory import training_memory
from memplan.models.training.step_recipe import Recipe
from memplan.serving import TrainingTime, training_time
from memplan.serving.eager_kernels import trained_interval

_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
}  # fmt: skip
_EXPERTS = {
    "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 768, "decoder_sparse_step": 1,
    "norm_topk_prob": True,
}  # fmt: skip
_RECIPE = Recipe(sequence=2048, micro_batches=4)


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    return load_config(_CONFIG)


def timed(model: ModelConfig, layout: Layout, recipe: Recipe = _RECIPE, **more: str) -> TrainingTime:
    return training_time(model, layout, recipe, chip("910B3"), **more)


@pytest.mark.parametrize("layout", [Layout(), Layout(pipeline=2), Layout(pipeline=2, data=2), Layout(tensor=2)])
def test_the_parts_of_every_stage_add_up_to_the_step(model: ModelConfig, layout: Layout) -> None:
    found = timed(model, layout)
    assert len(found.stages) == layout.pipeline
    for stage in found.stages:
        parts = (stage.compute_ns, stage.communication_ns, stage.bubble_ns, stage.host_ns)
        assert sum(parts) == found.duration_ns
        assert min(parts) >= -1
    assert found.interval_ns[0] < found.duration_ns < found.interval_ns[1]


def test_only_what_is_shared_is_exchanged(model: ModelConfig) -> None:
    assert all(stage.communication_ns == 0 for stage in timed(model, Layout()).stages)
    assert all(stage.communication_ns > 0 for stage in timed(model, Layout(data=2)).stages)
    assert all(stage.communication_ns > 0 for stage in timed(model, Layout(pipeline=2)).stages)


def test_a_captured_step_has_no_host_and_fewer_kernels(model: ModelConfig) -> None:
    eager, captured = timed(model, Layout()), timed(model, Layout(), engine="captured")
    assert captured.stages[0].host_ns == 0
    assert captured.stages[0].launches < eager.stages[0].launches
    assert captured.duration_ns < eager.duration_ns


def test_the_host_matters_less_where_kernels_are_longer(model: ModelConfig) -> None:
    short, long = (timed(model, Layout(), replace(_RECIPE, sequence=length)) for length in (512, 8192))
    assert short.stages[0].host_ns / short.duration_ns > 2 * long.stages[0].host_ns / long.duration_ns


def test_more_micro_batches_fill_the_bubble(model: ModelConfig) -> None:
    few, many = (timed(model, Layout(pipeline=2), replace(_RECIPE, micro_batches=count)) for count in (2, 16))
    assert few.stages[1].bubble_ns / few.duration_ns > 2 * many.stages[1].bubble_ns / many.duration_ns
    assert many.tokens_per_second > few.tokens_per_second


def test_states_on_the_host_come_and_go_once_a_step(model: ModelConfig) -> None:
    """12 bytes a parameter over the slower way, beside the update; that has fewer states to read from HBM."""
    here, away = (timed(model, Layout(), replace(_RECIPE, swap_optimizer=swap)) for swap in (False, True))
    parameters = training_memory(model, Layout(), _RECIPE).parameters
    host = host_tier(chip("910B3"))
    slower = min(host.out_link.bytes_per_second or 0, host.in_link.bytes_per_second or 0)
    moved = away.stages[0].communication_ns - here.stages[0].communication_ns
    assert moved == pytest.approx(12 * parameters / slower * 1e9, rel=1e-6)
    assert any(source.value.startswith("d2h") for source in away.rests_on)


def test_unknown_engines_are_refused(model: ModelConfig) -> None:
    with pytest.raises(InputError, match="no engine of training"):
        timed(model, Layout(), engine="lightning")


def test_a_profiled_step_and_each_of_its_parts_are_met(shared_data: Path) -> None:
    """No constant came from that profile: 15 % of its step, 20 % of every part."""
    from benchmarks.training_step_rows import training_step_rows

    for row in training_step_rows(shared_data):
        assert row.error is not None
        assert abs(row.error) < (0.15 if row.name.endswith("the step") else 0.2), row


def test_logged_steps_of_other_runs_are_met_in_the_median(shared_data: Path) -> None:
    """No constant came from their publisher: dense models and experts, one stage and many, without a profiler."""
    from benchmarks.training_rows import logged_steps

    errors = [row.error for row in logged_steps(shared_data / "configs") if row.error is not None]
    assert len(errors) > 25
    assert median(abs(error) for error in errors) < 0.2
    assert abs(median(errors)) < 0.15


@pytest.mark.parametrize("engine", ["megatron", "pytorch", "captured"])
@pytest.mark.parametrize("layout", [Layout(), Layout(tensor=2), Layout(context=2)])
def test_a_step_of_experts_may_be_as_quick_as_a_dense_one(engine: str, layout: Layout) -> None:
    """Every interval begins below the prediction, and that of experts holds that of a dense step of its layout."""
    experts = load_config({**_CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **_EXPERTS})
    quick, slow = trained_interval(engine, load_config(_CONFIG), layout)
    low, high = trained_interval(engine, experts, layout)
    assert low <= quick < 1 < slow <= high


def test_the_host_waits_for_counts_of_tokens_an_expert() -> None:
    """What follows a count can't be launched ahead of it: experts leave the device idle where dense layers don't."""
    experts = load_config({**_CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **_EXPERTS})
    found = timed(experts, Layout(), replace(_RECIPE, sequence=16384))
    dense = timed(load_config(_CONFIG), Layout(), replace(_RECIPE, sequence=16384))
    assert found.stages[0].host_ns / found.duration_ns > dense.stages[0].host_ns / dense.duration_ns


def test_kinds_whose_public_steps_lie_outside_their_interval_say_so(model: ModelConfig) -> None:
    """Adapters, of which there is a single public step, and experts on captured graphs."""
    mixture = load_config({**_CONFIG, **_EXPERTS, "model_type": "qwen3_moe"})
    adapters = replace(_RECIPE, lora_rank=8)
    for told, engine, recipe, word in (
        (model, "megatron", _RECIPE, None),
        (model, "captured", _RECIPE, None),
        (mixture, "megatron", _RECIPE, None),
        (model, "captured", adapters, "adapters"),
        (mixture, "captured", _RECIPE, "experts on captured graphs"),
    ):
        notes = timed(told, Layout(), recipe, engine=engine).notes
        assert [note.partition(":")[0] for note in notes if "the interval" in note] == ([word] if word else [])
