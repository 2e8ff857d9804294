"""Kinds of training beside one model of adapted or whole weights on even stages: what they hold."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.held_passes import held_passes
from memplan.models.training.memory import TrainingMemory, in_flight, training_memory, training_spans
from memplan.models.training.recipe_choices import Gpu, Loss, Schedule, Sharding
from memplan.models.training.recipes import tightest_stage
from memplan.models.training.saved import saved_tensors
from memplan.models.training.step_recipe import Recipe

RECIPE = Recipe(sequence=4096, micro_batches=8)
INTERLEAVED = replace(RECIPE, schedule=Schedule.INTERLEAVED, chunks=2)


@pytest.fixture
def qwen(shared_data: Path) -> ModelConfig:
    return load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")


@pytest.fixture
def mixtral(shared_data: Path) -> ModelConfig:
    whole = load_config(shared_data / "configs" / "mistralai--Mixtral-8x7B-v0.1.json")
    return replace(whole, layers=whole.layers[:4])


def part(memory: TrainingMemory, name: str) -> int:
    return sum(found.nbytes for found in memory.parts if found.name == name)


def test_runs_of_layers_are_those_that_are_told(qwen: ModelConfig) -> None:
    """`Et*3|(tt|)*2t`, as Megatron-LM writes it: a token meets the first run of both stages before the second ones."""
    model = replace(qwen, layers=qwen.layers[:8])
    told = replace(INTERLEAVED, run_layers=(3, 2, 2, 1))
    assert training_spans(model, Layout(pipeline=2), told, 0) == (range(3), range(5, 7))
    assert training_spans(model, Layout(pipeline=2), told, 1) == (range(3, 5), range(7, 8))
    with pytest.raises(InputError, match="layers are given for 3 runs of a pipeline, but there are 4"):
        training_spans(model, Layout(pipeline=2), replace(told, run_layers=(3, 2, 3)), 0)
    with pytest.raises(InputError, match="runs of a pipeline have 9 layers in all, but the model has 8"):
        training_spans(model, Layout(pipeline=2), replace(told, run_layers=(3, 2, 2, 2)), 0)
    with pytest.raises(InputError, match="say the same"):
        training_spans(model, Layout(pipeline=2, stage_layers=(5, 3)), told, 0)


def test_the_tightest_stage_is_found_by_the_runs_that_are_told(qwen: ModelConfig) -> None:
    layout = Layout(pipeline=4)
    told = replace(INTERLEAVED, run_layers=(2, 4, 2, 2, 2, 12, 2, 2))
    tightest = tightest_stage(qwen, layout, replace(told, loss=Loss.FUSED))
    assert tightest.stage == 1
    assert not any("were taken" in note for note in tightest.notes)


@pytest.mark.parametrize("stage", range(4))
def test_runs_near_the_embedding_hold_more_passes(stage: int) -> None:
    """Together they are as many as the schedule has on their way: on the last stage four of the first run, then one."""
    layout = Layout(pipeline=4)
    recipe = replace(INTERLEAVED, micro_batches=16)
    first, second = held_passes(layout, recipe, stage, (1.0, 1.0), in_flight(layout, recipe, stage))
    assert first + second == in_flight(layout, recipe, stage)
    assert first >= second
    if stage == 3:
        assert (first, second) == (4, 1)


def test_passes_of_uneven_runs(qwen: ModelConfig) -> None:
    """
    Went wrong once: passes in flight were spread evenly over the runs of a stage, so that a last stage of a layer and a
    loss (Megatron-LM, `--account-for-loss-in-pipeline-split`) held two and a half passes of its layer where four wait.
    """
    model = replace(qwen, layers=qwen.layers[:6])
    once = replace(INTERLEAVED, micro_batches=4)
    recipe = replace(once, noop_layers=(0, 7))
    even = training_memory(replace(qwen, layers=qwen.layers[:8]), Layout(pipeline=4), once, 3)
    uneven = training_memory(model, Layout(pipeline=4), recipe, 3)
    assert part(uneven, "activations") * 5 == part(even, "activations") * 4


def test_a_reference_model_is_a_second_one_of_16_bits(mixtral: ModelConfig) -> None:
    layout = Layout(data=2, expert=2)
    plain, beside = (training_memory(mixtral, layout, replace(RECIPE, reference_model=told)) for told in (False, True))
    assert part(beside, "reference model") == 2 * plain.parameters
    assert beside.between_steps - plain.between_steps == 2 * plain.parameters


def test_experts_have_adapters_one_by_one(mixtral: ModelConfig) -> None:
    adapters = replace(RECIPE, lora_rank=8)
    plain, more = (
        training_memory(mixtral, Layout(data=2, expert=2), recipe)
        for recipe in (adapters, replace(adapters, lora_experts=True))
    )
    # Of each of four experts a layer: 4096 -> 2 x 14336 together and 14336 -> 4096.
    assert more.parameters - plain.parameters == 8 * 4 * 4 * (4096 + 2 * 14336 + 14336 + 4096)


def test_weights_beside_adapters_in_four_bits(mixtral: ModelConfig) -> None:
    adapters = replace(RECIPE, lora_rank=8)
    plain, fewer = (
        training_memory(mixtral, Layout(), recipe) for recipe in (adapters, replace(adapters, four_bit_base=True))
    )
    linear = 4 * (2 * 4096 * 4096 + 2 * 4096 * 1024) + 4 * 8 * 3 * 4096 * 14336
    saved = part(plain, "weights that stand still") - part(fewer, "weights that stand still")
    assert saved == pytest.approx(linear * (2 - 0.5 - 1 / 64 - 1 / 4096), abs=1)
    with pytest.raises(InputError, match="go with --lora-rank"):
        replace(RECIPE, four_bit_base=True)


def test_fully_sharded_gradients_are_let_go(qwen: ModelConfig) -> None:
    """Weights, gradients and two moments in float32, divided by the ranks; between steps no gradients."""
    memory = training_memory(qwen, Layout(data=4), replace(RECIPE, sharding=Sharding.FSDP2))
    states = sum(part(memory, name) for name in ("weights", "gradients", "optimizer"))
    assert states == round(16 / 4 * 596_049_920)
    assert memory.between_steps == round(12 / 4 * 596_049_920)
    assert memory.moment_bytes == round(8 / 4 * 596_049_920)


def test_runs_without_the_loss_have_more_passes_than_wait_at_the_loss(qwen: ModelConfig) -> None:
    """
    Went wrong once: of eight micro-batches the last stage holds a fifth pass of its first run when the loss of the
    fourth is long made, and both were counted together.
    """
    model = replace(qwen, layers=qwen.layers[:6])
    told = replace(INTERLEAVED, noop_layers=(0, 7))
    eight, four = (
        training_memory(model, Layout(pipeline=4), replace(told, micro_batches=count), 3) for count in (8, 4)
    )
    assert part(eight, "activations") * 4 == part(four, "activations") * 5
    assert dict(eight.phases)["loss"] == dict(four.phases)["loss"]


def test_products_in_8_bits_keep_their_inputs_and_weights_so(qwen: ModelConfig) -> None:
    layout = Layout(data=4)
    plain, copied, native = (
        training_memory(qwen, layout, recipe)
        for recipe in (
            RECIPE,
            replace(RECIPE, fp8=True),
            replace(RECIPE, fp8=True, fp8_weights=True),
        )
    )
    linear = 28 * (2 * 1024 * 2048 + 2 * 1024 * 1024 + 3 * 1024 * 3072)
    assert part(copied, "weights in 8 bits") == 2 * linear
    assert native.between_steps == plain.between_steps
    # Both norms and the output of SwiGLU are halved; attention keeps what it makes in 16 bits for itself.
    fewer = part(plain, "activations") - part(native, "activations")
    assert fewer == 28 * 4096 * (2 * 1024 + 3072 - 2048)
    with pytest.raises(InputError, match="go with products in 8 bits"):
        replace(RECIPE, fp8_weights=True)


def test_routers_and_latents_read_norms_of_their_own(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    layer = model.layers[10]
    half, eight = (
        {item.name: item.nbytes for item in saved_tensors(model, layer, Layout(), recipe)}
        for recipe in (RECIPE, replace(RECIPE, fp8=True))
    )
    assert eight["attention norm output"] == half["attention norm output"]
    assert eight["feed-forward norm output"] == 1.5 * half["feed-forward norm output"]
    assert eight["dispatched tokens"] == half["dispatched tokens"] / 2
    assert eight["attention output"] == 1.5 * half["attention output"]


def test_a_kernel_for_the_activation_function_and_the_router_keeps_less(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json")
    apart = replace(RECIPE, transformer_engine=True)
    kept, fewer = (
        sum(item.nbytes for item in saved_tensors(model, model.layers[1], Layout(expert_tensor=1), recipe))
        for recipe in (apart, replace(apart, weighted_activation=True))
    )
    assert kept - fewer == 6 * 2 * 1856


@pytest.mark.parametrize(
    ("sharding", "second"), [(Sharding.NONE, 4.0), (Sharding.DISTRIBUTED, 1.0), (Sharding.FSDP2, 1.0)]
)
def test_muon_keeps_one_moment_of_matrices(qwen: ModelConfig, sharding: Sharding, second: float) -> None:
    adam, muon = (
        training_memory(qwen, Layout(data=4), replace(RECIPE, sharding=sharding, muon=told)) for told in (False, True)
    )
    matrices = 28 * (2 * 1024 * 2048 + 2 * 1024 * 1024 + 3 * 1024 * 3072)
    assert part(adam, "optimizer") - part(muon, "optimizer") == second * matrices
    assert adam.moment_bytes - muon.moment_bytes == second * matrices
    with pytest.raises(InputError, match="that Muon trains"):
        replace(RECIPE, muon=True, lora_rank=8)


LLAMA = replace(
    RECIPE, micro_batches=1, sharding=Sharding.FSDP2, loss=Loss.EAGER, recompute_layers=64, sequence_parallel=True
)


def test_a_step_of_one_micro_batch_has_no_gradients_yet_at_its_loss(qwen: ModelConfig) -> None:
    """What `fully_shard` spreads comes from a stream of its own: taken from the device in one way or the other."""
    one, two = (training_memory(qwen, Layout(data=8), replace(LLAMA, micro_batches=count)) for count in (1, 2))
    shares = part(one, "gradients")
    assert one.phase == "loss"
    assert two.peak_bytes - one.peak_bytes == shares
    assert one.reserved_bytes == two.reserved_bytes
    assert part(one, "gradients to come") == -shares


def test_a_loss_of_a_spread_vocabulary_is_written_out(qwen: ModelConfig) -> None:
    """`loss_parallel` makes the softmax and adds it to the gradient: 16 B of each entry that a rank has, not 12."""
    whole, spread = (part(training_memory(qwen, Layout(tensor=ranks, data=4), LLAMA), "loss") for ranks in (1, 2))
    entries = LLAMA.sequence * qwen.vocab_size
    assert (whole, spread) == (12 * entries, 16 * entries // 2)


@pytest.mark.parametrize(("in_steps", "each"), [(False, 2), (True, 8)])
def test_the_head_keeps_what_the_last_norm_makes(qwen: ModelConfig, *, in_steps: bool, each: int) -> None:
    memory = training_memory(qwen, Layout(tensor=2, data=4), replace(LLAMA, norms_in_steps=in_steps))
    assert part(memory, "last norm") == each * LLAMA.sequence * qwen.hidden_size // 2


def test_places_of_experts_are_not_negative() -> None:
    with pytest.raises(InputError, match="expert_capacity must not be negative"):
        replace(RECIPE, expert_capacity=-0.5)


@pytest.mark.parametrize(("sharding", "each"), [(Sharding.ZERO3, 2), (Sharding.FSDP, 2), (Sharding.FSDP2, 4)])
def test_gathered_weights_beside_adapters_are_divided(mixtral: ModelConfig, sharding: Sharding, each: int) -> None:
    """Went wrong once: a rank had all of them, and those that it gathered as well."""
    layout, recipe = Layout(data=4, expert=2), replace(RECIPE, sharding=sharding)
    whole = training_memory(mixtral, layout, recipe)
    adapted = training_memory(mixtral, layout, replace(recipe, lora_rank=8))
    experts = 4 * 8 * 3 * 4096 * 14336 // 2
    divided = each / 4 * (whole.parameters - experts) + each / 2 * experts
    assert part(adapted, "weights that stand still") == divided == part(whole, "weights")
    assert not part(adapted, "gradients being spread")


def test_weights_in_four_bits_are_divided_and_their_scales_are_not(mixtral: ModelConfig) -> None:
    """Layers are gathered in 4 bits, too."""
    recipe = replace(RECIPE, sharding=Sharding.FSDP2, half_weights=True, lora_rank=8, four_bit_base=True)
    single, shared = (training_memory(mixtral, Layout(data=ranks), recipe) for ranks in (1, 4))
    wide = training_memory(mixtral, Layout(data=4), replace(recipe, four_bit_base=False))
    whole, divided = (part(memory, "weights that stand still") for memory in (single, shared))
    outer = 2 * 32000 * 4096
    scales = (whole - 2 * outer) / (0.5 + 1 / 64) / 64
    assert divided == pytest.approx((whole - scales) / 4 + scales, rel=0.002)
    assert part(wide, "gathered weights") > 2 * part(shared, "gathered weights")
    for sharding in (Sharding.ZERO3, Sharding.FSDP):
        with pytest.raises(InputError, match="zero3 or fsdp"):
            replace(RECIPE, sharding=sharding, lora_rank=8, four_bit_base=True)


def test_weights_in_16_bits_alone_take_eight_bytes(mixtral: ModelConfig) -> None:
    """Gradients are let go when a step is over; beside adapters shared weights have 16 bits too."""
    alone = training_memory(mixtral, Layout(), replace(RECIPE, sharding=Sharding.NONE, half_weights=True))
    assert [part(alone, name) / alone.parameters for name in ("weights", "gradients", "optimizer")] == [2, 2, 4]
    assert alone.moment_bytes == 4 * alone.parameters
    assert 6 * alone.parameters <= alone.between_steps < 6.1 * alone.parameters
    assert alone.peak_bytes == alone.reserved_bytes
    shared = replace(RECIPE, sharding=Sharding.FSDP2, lora_rank=8)
    single, half = (
        training_memory(mixtral, Layout(data=4), replace(shared, half_weights=halved)) for halved in (False, True)
    )
    assert part(single, "weights that stand still") == 2 * part(half, "weights that stand still")
    with pytest.raises(InputError, match="--sharding none or fsdp2"):
        replace(RECIPE, half_weights=True, sharding=Sharding.DISTRIBUTED)
    with pytest.raises(InputError, match="half-moments"):
        replace(RECIPE, half_weights=True, sharding=Sharding.NONE, half_moments=True)


def test_an_optimiser_over_lists_has_a_list_of_temporaries(mixtral: ModelConfig) -> None:
    """PyTorch's AdamW unless it is fused: 10 B a parameter in 16 bits where all else is less."""
    recipe = replace(RECIPE, sharding=Sharding.NONE, half_weights=True, recompute_layers=32, loss=Loss.FUSED)
    fused, lists = (
        dict(training_memory(mixtral, Layout(), replace(recipe, foreach_optimizer=told)).phases)
        for told in (False, True)
    )
    count = training_memory(mixtral, Layout(), recipe).parameters
    assert lists["optimizer"] - fused["optimizer"] == pytest.approx(2 * count, rel=1e-6)
    assert lists["optimizer"] == pytest.approx(10 * count, rel=1e-2)
    shared = replace(RECIPE, sharding=Sharding.FSDP2, foreach_optimizer=True)
    found = dict(training_memory(mixtral, Layout(data=4), shared).phases)
    apart = dict(training_memory(mixtral, Layout(data=4), replace(shared, foreach_optimizer=False)).phases)
    assert found["optimizer"] - apart["optimizer"] == pytest.approx(4 * count / 4, rel=1e-6)
    adapters = training_memory(mixtral, Layout(), replace(recipe, lora_rank=64, foreach_optimizer=True))
    step = dict(adapters.phases)["optimizer"]
    # Gradients, which are let go when the step is over, and the list.
    assert step - adapters.between_steps == (2 + 2) * adapters.parameters
    with pytest.raises(InputError, match="--half-weights or fsdp2"):
        replace(RECIPE, foreach_optimizer=True)
    with pytest.raises(InputError, match="--byte-moments"):
        replace(recipe, byte_moments=True, foreach_optimizer=True)


def test_pytorchs_own_training_has_no_router_of_megatrons(mixtral: ModelConfig) -> None:
    """Its states are undivided as Megatron's may be; a router's product works in no buffer of TransformerEngine."""
    recipe = replace(RECIPE, sharding=Sharding.NONE, gpu=Gpu.HOPPER)
    megatron, pytorch, shared = (
        part(training_memory(mixtral, Layout(), each), "workspaces")
        for each in (recipe, replace(recipe, half_weights=True), replace(recipe, sharding=Sharding.FSDP2))
    )
    assert megatron > pytorch == shared > 0


def test_gradients_to_come_are_not_there_at_the_loss(mixtral: ModelConfig) -> None:
    """A step of several micro-batches has them from the first one on."""
    recipe = replace(RECIPE, sharding=Sharding.NONE, half_weights=True)
    one, two = (dict(training_memory(mixtral, Layout(), replace(recipe, micro_batches=n)).phases) for n in (1, 2))
    gradients = 2 * training_memory(mixtral, Layout(), recipe).parameters
    assert two["loss"] - one["loss"] == gradients
    assert two["optimizer"] == one["optimizer"]


def test_adapters_keep_gathered_inputs_where_they_are_told_to(mixtral: ModelConfig) -> None:
    """Of attention alone: experts' tokens are dispatched, not gathered."""
    layout = Layout(tensor=2, expert=2)
    recipe = replace(RECIPE, lora_rank=8, sequence_parallel=True, micro_batches=1)
    plain, gathered = (training_memory(mixtral, layout, replace(recipe, lora_gathered=kept)) for kept in (False, True))
    layers = len(mixtral.layers)
    assert part(gathered, "activations") - part(plain, "activations") == layers * 2 * 4096 * RECIPE.sequence
    with pytest.raises(InputError, match="--sequence-parallel"):
        replace(recipe, lora_gathered=True, sequence_parallel=False)


def test_states_on_the_host_are_divided_by_the_ranks_that_share_them(mixtral: ModelConfig) -> None:
    """Went wrong once: those of experts, which fewer ranks repeat, were counted like all others."""
    layout = Layout(data=4, expert=2)
    here, away = (training_memory(mixtral, layout, replace(RECIPE, swap_optimizer=swap)) for swap in (False, True))
    assert any(note.startswith(f"{part(here, 'optimizer'):,} B of optimiser states") for note in away.notes)


def test_a_first_step_ends_with_all_states(qwen: ModelConfig) -> None:
    """Went wrong once: a step whose way back holds less than two moments lacked them at its end as well."""
    memory = training_memory(qwen, Layout(), replace(RECIPE, sequence=16, sharding=Sharding.ZERO1))
    assert memory.first_step_bytes == dict(memory.phases)["optimizer"] > memory.between_steps


def test_formulas_of_passes_come_to_what_they_explain(qwen: ModelConfig) -> None:
    """Went wrong once: runs of one stage have passes of their own, and the line multiplied the most of all."""
    memory = training_memory(replace(qwen, layers=qwen.layers[:6]), Layout(pipeline=2), INTERLEAVED)
    lines = {found.name: found for found in memory.parts}
    for name, runs in (("activations", 2), ("embedded tokens", 1)):
        terms = re.findall(r"([0-9]+) passes x ([0-9,]+) B", lines[name].formula)
        assert len(terms) == runs
        told = sum(int(count) * int(nbytes.replace(",", "")) for count, nbytes in terms) * INTERLEAVED.sequence
        assert told == pytest.approx(lines[name].nbytes, rel=1e-4)
