"""What a framework's layers leave on a rank beside the step's own tensors, and what parts of layers make anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.models import ModelConfig, load_config
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.mixers.recurrent_mixers import Mamba2
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.gathering import gathered_weights
from memplan.models.training.left_buffers import timed_phases
from memplan.models.training.memory import training_memory
from memplan.models.training.phases import MemoryPart, linear_shapes
from memplan.models.training.recipe_choices import Gpu, Loss, Schedule, Sharding
from memplan.models.training.saved import saved_tensors
from memplan.models.training.scans import scan_in_steps
from memplan.models.training.step_recipe import Recipe
from memplan.models.training.trained_model import trained_model
from memplan.models.weights import parameter_counts
from tests.models.memory_parts import part

RECIPE = Recipe(sequence=4096, micro_batches=8)
SPLIT = Layout(tensor=2, pipeline=2)
WORKSPACE = 32 << 20


def test_split_projections_gather_their_input_into_a_buffer_that_stays(llama: ModelConfig) -> None:
    spread = replace(RECIPE, sequence_parallel=True)
    whole = 2 * 4096 * llama.hidden_size
    for stage in (0, 1):
        assert part(training_memory(llama, SPLIT, spread, stage), "gathered input") == whole
        assert not part(training_memory(llama, SPLIT, RECIPE, stage), "gathered input")
    assert not part(training_memory(llama, Layout(pipeline=2), spread, 1), "gathered input")
    own = replace(spread, transformer_engine=True)
    assert [part(training_memory(llama, SPLIT, own, stage), "gathered input") for stage in (0, 1)] == [0, whole]


def test_products_that_add_gradients_up_leave_one_of_each_shape(llama: ModelConfig) -> None:
    """Four shapes: queries, keys and values; what attention makes; both inner projections; back; and the head."""
    hidden, inner, vocabulary = llama.hidden_size, 14336, llama.vocab_size
    shapes = linear_shapes(llama, replace(SPLIT, expert_tensor=2), (range(2, 4),))
    assert shapes == {
        ((hidden + 2 * 1024) // 2, hidden),
        (hidden, hidden // 2),
        (2 * inner // 2, hidden),
        (hidden, inner // 2),
        (vocabulary // 2, hidden),
    }
    told = replace(RECIPE, transformer_engine=True)
    memory = training_memory(llama, SPLIT, told, 1)
    assert part(memory, "gradients nobody reads") == 2 * sum(rows * columns for rows, columns in shapes)
    assert not part(training_memory(llama, SPLIT, replace(told, fused_gradients=False), 1), "gradients nobody reads")
    first = training_memory(llama, SPLIT, told, 0)
    assert part(memory, "gradients nobody reads") - part(first, "gradients nobody reads") == vocabulary * hidden


def test_experts_of_one_shape_leave_one_gradient(deepseek: ModelConfig) -> None:
    layout = Layout(tensor=2, data=4, expert=8, expert_tensor=1)
    shapes = linear_shapes(deepseek, layout, (range(4),))
    assert {(4096, 7168), (7168, 2048)} <= shapes


def test_workspaces_of_grouped_products_and_overlapped_exchanges(llama: ModelConfig, deepseek: ModelConfig) -> None:
    told = replace(RECIPE, transformer_engine=True)
    assert part(training_memory(llama, Layout(), told), "workspaces") == 3 * WORKSPACE
    assert part(training_memory(llama, Layout(), replace(told, overlap_tensor=True)), "workspaces") == 6 * WORKSPACE
    experts = training_memory(deepseek, Layout(data=8, expert=8, expert_tensor=1), told)
    assert part(experts, "workspaces") == 7 * WORKSPACE


def test_pytorch_keeps_a_workspace_of_each_thread_that_multiplies(llama: ModelConfig) -> None:
    """8 MiB and 128 KiB of it, from Hopper on 32 MiB; none where there is no cuBLAS."""
    small = 2 * 4096 * 1024 + 8 * 16 * 1024
    for gpu, each in ((Gpu.NONE, 0), (Gpu.AMPERE, small), (Gpu.HOPPER, WORKSPACE), (Gpu.BLACKWELL, WORKSPACE)):
        assert part(training_memory(llama, Layout(), replace(RECIPE, gpu=gpu)), "workspaces") == 2 * each
    told = replace(RECIPE, gpu=Gpu.AMPERE, transformer_engine=True)
    assert part(training_memory(llama, Layout(), told), "workspaces") == 2 * small + (4 << 20)
    configured = replace(told, gpu=Gpu.BLACKWELL, cublas_workspace=32 << 10)
    assert part(training_memory(llama, Layout(), configured), "workspaces") == 3 * WORKSPACE


def test_routers_multiply_by_transformer_engine_whatever_the_layers_are(deepseek: ModelConfig) -> None:
    layout = Layout(data=8, expert=8, expert_tensor=1)
    for sharding, spaces in ((Sharding.DISTRIBUTED, 3), (Sharding.ZERO3, 2)):
        recipe = replace(RECIPE, gpu=Gpu.HOPPER, sharding=sharding)
        assert part(training_memory(deepseek, layout, recipe), "workspaces") == spaces * WORKSPACE


def test_scores_and_gathered_inputs_are_written_to_one_buffer(llama: ModelConfig) -> None:
    """Of attention without a kernel, by layers that are not TransformerEngine's: as large as the larger of both."""
    told = replace(RECIPE, attention_in_steps=True, sequence_parallel=True)
    memory = training_memory(llama, SPLIT, told)
    assert part(memory, "scores of attention") == 2 * 16 * 4096 * 4096
    assert not part(memory, "gathered input")
    assert not part(training_memory(llama, SPLIT, replace(told, transformer_engine=True)), "scores of attention")


def test_instances_of_the_optimiser_share_its_states_for_themselves(llama: ModelConfig, deepseek: ModelConfig) -> None:
    for model, layout in ((llama, Layout(data=8)), (deepseek, Layout(data=8, expert=2, expert_tensor=1))):
        one, two = (
            training_memory(model, layout, replace(RECIPE, optimizer_instances=instances)) for instances in (1, 2)
        )
        assert part(two, "optimizer") == pytest.approx(2 * part(one, "optimizer"), rel=1e-6)
        assert part(two, "gradients") == part(one, "gradients")


def test_a_deferred_head_keeps_its_inputs_and_the_gradients_of_its_outputs(llama: ModelConfig) -> None:
    told = replace(RECIPE, deferred_head=3)
    each = 2 * 4096 * (llama.vocab_size // 2 + llama.hidden_size)
    assert part(training_memory(llama, SPLIT, told, 1), "head's gradient that waits") == 3 * each
    assert not part(training_memory(llama, SPLIT, told, 0), "head's gradient that waits")
    assert not part(training_memory(llama, Layout(), told), "head's gradient that waits")


def test_a_tied_head_has_a_gradient_that_nobody_reads(llama: ModelConfig) -> None:
    tied = replace(llama, tied_embeddings=True)
    shapes = [linear_shapes(tied, SPLIT, spans) for spans in ((range(2),), (range(2, 4),))]
    assert shapes[1] - shapes[0] == {(llama.vocab_size // 2, llama.hidden_size)}


def test_fully_sharded_weights_are_gathered_ahead(llama: ModelConfig) -> None:
    """500 million elements of them, or all."""
    told = replace(RECIPE, sharding=Sharding.FSDP)
    for model in (llama, replace(llama, layers=llama.layers[:1], vocab_size=1024)):
        alone, ahead = (
            training_memory(model, Layout(data=8), replace(told, overlap_gather=way)) for way in (False, True)
        )
        assert ahead.between_steps - alone.between_steps == 2 * min(500_000_000, alone.parameters)
        assert ahead.peak_bytes == alone.peak_bytes


def test_a_tower_that_stands_still_has_weights_alone(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-VL-8B-Instruct.json")
    assert model.vision is not None
    trained, frozen = (
        training_memory(model, Layout(), replace(RECIPE, frozen_vision=still)) for still in (False, True)
    )
    tower = trained.parameters - frozen.parameters
    assert tower == model.vision.parameters
    assert part(frozen, "weights that stand still") == 2 * tower
    assert trained.between_steps - frozen.between_steps == 16 * tower


def test_what_experts_hand_back_is_kept_where_the_routers_weights_meet_it(deepseek: ModelConfig) -> None:
    kept, own = (
        {item.name for item in saved_tensors(deepseek, deepseek.layers[3], Layout(expert_tensor=1), recipe)}
        for recipe in (RECIPE, replace(RECIPE, transformer_engine=True))
    )
    assert kept - own == {"experts' output"}


def test_runs_of_layers_with_one_before_them_keep_what_they_were_sent(llama: ModelConfig) -> None:
    """Its input and the gradient that went back, of the last micro-batch."""
    sent = 2 * 2 * 4096 * llama.hidden_size
    for chunks, runs in ((1, (0, 1)), (2, (1, 2))):
        schedule = Schedule.INTERLEAVED if chunks > 1 else Schedule.ONE_F_ONE_B
        recipe = replace(RECIPE, schedule=schedule, chunks=chunks)
        for stage, count in enumerate(runs):
            memory = training_memory(llama, Layout(pipeline=2), recipe, stage)
            states = sum(part(memory, name) for name in ("weights", "gradients", "optimizer"))
            assert memory.between_steps - states == count * sent


def test_heads_that_are_padded_keep_what_they_are_padded_to(deepseek: ModelConfig) -> None:
    def bytes_of(name: str, recipe: Recipe) -> float:
        kept = saved_tensors(deepseek, deepseek.layers[0], Layout(), recipe)
        return sum(item.nbytes for item in kept if item.name == name)

    wide = replace(RECIPE, padded_heads=256)
    for name in ("queries", "keys", "values", "attention output, padded"):
        assert bytes_of(name, wide) == 2 * 128 * 256
    like_queries = replace(RECIPE, padded_heads=192)
    assert bytes_of("queries", like_queries) == bytes_of("queries", RECIPE) == 2 * 128 * 192
    assert bytes_of("values", like_queries) == 2 * 128 * 192
    assert not bytes_of("attention output, padded", RECIPE)


def test_heads_made_anew_and_outputs_on_the_host_wait_nowhere(deepseek: ModelConfig) -> None:
    plain = training_memory(deepseek, Layout(), RECIPE)
    anew = training_memory(deepseek, Layout(), replace(RECIPE, recompute_heads=True))
    away = training_memory(deepseek, Layout(), replace(RECIPE, swap_attended=True))
    tokens, layers = 4096, 4
    heads = tokens * layers * 2 * 128 * (192 + 192 + 128)
    assert part(plain, "activations") - part(anew, "activations") == heads
    attended = tokens * layers * 2 * 128 * 128
    assert part(plain, "activations") - part(away, "activations") == attended
    # Brought back for the way back, it stays with its layer until that one's next way forward.
    assert away.between_steps - plain.between_steps == attended


def test_norms_in_steps_keep_a_float32_copy_and_what_the_weight_meets(llama: ModelConfig) -> None:
    told = replace(RECIPE, norms_in_steps=True)
    kept, plain = (
        sum(item.nbytes for item in saved_tensors(llama, llama.layers[0], Layout(), recipe))
        for recipe in (told, RECIPE)
    )
    # The residual that they read is let go: two norms, 6 B of each value more and 2 less.
    assert kept - plain == 2 * (6 - 2) * llama.hidden_size


@pytest.mark.parametrize(
    "told",
    [
        replace(RECIPE, recompute_products=True),
        replace(RECIPE, recompute_heads=True),
        replace(RECIPE, swap_attended=True),
        replace(RECIPE, optimizer_instances=2),
        replace(RECIPE, deferred_head=1),
    ],
)
def test_graphs_say_what_they_lack(llama: ModelConfig, told: Recipe) -> None:
    """Went wrong once: a graph of a pipeline left out what waits for the gradient of a deferred head."""
    with pytest.raises(InputError, match="in no graph"):
        training_graph(llama, Layout(data=2, pipeline=2), told)


def test_attention_in_steps_keeps_a_softmax_of_every_pair(llama: ModelConfig) -> None:
    def kept(recipe: Recipe) -> float:
        return sum(item.nbytes for item in saved_tensors(llama, llama.layers[0], Layout(), recipe) if item.softmax)

    steps = replace(RECIPE, attention_in_steps=True)
    assert kept(RECIPE) == 2 * 8 * 4 * 32
    assert kept(steps) == 2 * 32 * 4096
    assert kept(replace(steps, dropout=True)) == 5 * 32 * 4096
    with pytest.raises(InputError, match="not modelled"):
        replace(steps, alibi_masks=True)


def test_samples_of_their_own_lengths_leave_nothing_that_is_counted(llama: ModelConfig) -> None:
    told = replace(RECIPE, sequence_parallel=True, legacy_layers=True, variable_lengths=True)
    memory = training_memory(llama, SPLIT, told, 1)
    states = sum(part(memory, name) for name in ("weights", "gradients", "optimizer"))
    assert memory.between_steps == states


def test_experts_without_a_gate_meet_the_routers_weights_behind_their_activation(shared_data: Path) -> None:
    from memplan.models.feed_forward import MoeFfn

    model = load_config(shared_data / "configs" / "mistralai--Mixtral-8x7B-v0.1.json")
    layer = model.layers[0]
    assert isinstance(layer.ffn, MoeFfn)
    plain = replace(layer, ffn=replace(layer.ffn, gated=False))
    told = replace(RECIPE, transformer_engine=True)
    kept, gated = (
        sum(item.nbytes for item in saved_tensors(model, one, Layout(), told) if "router's weights" in item.name)
        for one in (plain, layer)
    )
    assert (kept, gated) == (2 * 2 * 14336, 0)


def test_scans_keep_their_input_and_what_is_on_both_sides_of_the_gate(shared_data: Path) -> None:
    """Gate, inputs of the convolution and step sizes of each head; output, behind its gate, and behind its norm."""
    model = load_config(shared_data / "configs" / "nvidia--Nemotron-H-56B-Base-8K.json")
    layer = next(layer for layer in model.layers if isinstance(layer.mixer, Mamba2))
    mixer = layer.mixer
    assert isinstance(mixer, Mamba2)
    kept = saved_tensors(model, layer, SPLIT, RECIPE)
    scan = sum(item.nbytes for item in kept if item.part == "attention")
    inner, states = mixer.heads * mixer.head_dim, 2 * mixer.groups * mixer.state
    assert scan == 2 * (4 * inner + states + mixer.heads) / 2
    assert sum(item.nbytes for item in kept if item.name == "norm of the gated output") == 2 * inner / 2


def test_weights_outside_the_layers_stay_gathered(llama: ModelConfig) -> None:
    outer = 2 * llama.vocab_size * llama.hidden_size + llama.hidden_size
    assert gathered_weights(llama, Layout(), RECIPE, (range(4),), layers=0).nbytes == 2 * outer
    memory = training_memory(llama, Layout(data=8), replace(RECIPE, sharding=Sharding.ZERO3))
    assert memory.gathering_bytes == 2 * outer
    assert memory.reserved_bytes == memory.peak_bytes + 2 * outer


MEASURED_SCANS = (
    (8, 16, 2, 48, 32, 128, 2, 1, 11162.9 - 128),
    (8, 16, 2, 48, 32, 128, 2, 2, 12287.7 - 128),
    (16, 64, 1, 128, 128, 512, 2, 1, 68187.9 - 512),
    (32, 64, 2, 128, 128, 512, 2, 2, 153041.6 - 512),
    (80, 64, 1, 128, 256, 1024, 1, 2, 424417.4 - 512),
    (80, 64, 1, 128, 256, 1024, 1, 1, 424547.9 - 512),
)
"""
Heads, their width, groups, states, tokens of a chunk and of a rank, samples, context-parallel ranks, and bytes a token
that autograd keeps of MindSpeed-LLM's mixer behind the input of its projection: measured on a CPU by hooks on what is
saved, of each storage once.
"""


MEASURED_PADDED_SCANS = (
    (16, 64, 1, 128, 128, 4096, 2, 71308.2, 78675.8),
    (80, 64, 1, 128, 256, 4096, 1, 443451.0, 494459.2),
    (16, 64, 2, 128, 128, 1024, 2, 76378.7, 84340.5),
    (16, 64, 1, 128, 128, 512, 2, 71779.9, 89493.9),
)
"""The same of the mixers of May 2025, whose gated norm runs op by op: without and with padding."""


def test_scans_that_pad_keep_a_chunk_more(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "nvidia--Nemotron-H-56B-Base-8K.json")
    layer = next(layer for layer in model.layers if isinstance(layer.mixer, Mamba2))
    assert isinstance(layer.mixer, Mamba2)
    for heads, width, groups, state, chunk, tokens, batch, *measured in MEASURED_PADDED_SCANS:
        mixer = replace(layer.mixer, heads=heads, head_dim=width, groups=groups, state=state, chunk=chunk)
        for padded, kept in zip((False, True), measured, strict=True):
            told = Recipe(
                sequence=tokens,
                micro_batch=batch,
                scan_in_steps=True,
                gated_norm_in_steps=True,
                padded_scan=padded,
            )
            found = sum(item.nbytes for item in scan_in_steps(mixer, Layout(), told))
            assert found == pytest.approx(kept, rel=0.002)
    with pytest.raises(InputError, match="pads its samples"):
        list(scan_in_steps(mixer, Layout(context=2), told))


@pytest.mark.parametrize("measured", MEASURED_SCANS)
def test_scans_op_by_op_keep_what_autograd_says(shared_data: Path, measured: tuple[float, ...]) -> None:
    heads, width, groups, state, chunk, tokens, batch, ranks = map(int, measured[:-1])
    model = load_config(shared_data / "configs" / "nvidia--Nemotron-H-56B-Base-8K.json")
    layer = next(layer for layer in model.layers if isinstance(layer.mixer, Mamba2))
    assert isinstance(layer.mixer, Mamba2)
    mixer = replace(layer.mixer, heads=heads, head_dim=width, groups=groups, state=state, chunk=chunk)
    told = Recipe(sequence=tokens * ranks, micro_batch=batch, scan_in_steps=True)
    kept = scan_in_steps(mixer, Layout(context=ranks), told)
    assert sum(item.nbytes for item in kept) == pytest.approx(measured[-1], rel=0.01)


def test_first_steps_hold_what_timing_a_kernel_overwrites(shared_data: Path, llama: ModelConfig) -> None:
    """As much as the L2 cache beside a compiled loss, 256 MiB beside a scan's way back; nothing without a GPU."""
    hybrid = load_config(shared_data / "configs" / "nvidia--Nemotron-H-56B-Base-8K.json")
    phases = {name: [MemoryPart(name, 1000, "")] for name in ("loss", "backward of a layer")}

    def timed(model: ModelConfig, gpu: Gpu, loss: Loss, *, steps: bool = False) -> dict[str, int]:
        found = timed_phases(phases, model.layers, replace(RECIPE, gpu=gpu, loss=loss, scan_in_steps=steps))
        return {name: sum(item.nbytes for item in parts) - 1000 for name, parts in found.items()}

    assert timed(llama, Gpu.HOPPER, Loss.COMPILED) == {"loss, timed": (50 << 20) - WORKSPACE}
    assert timed(llama, Gpu.BLACKWELL, Loss.COMPILED) == {"loss, timed": (126 << 20) - 33554432}
    assert timed(hybrid, Gpu.AMPERE, Loss.IN_PLACE) == {"backward of a layer, timed": 256 << 20}
    for without in (
        timed(llama, Gpu.NONE, Loss.COMPILED),
        timed(llama, Gpu.ADA, Loss.COMPILED),
        timed(llama, Gpu.HOPPER, Loss.COPIED),
        timed(hybrid, Gpu.HOPPER, Loss.COPIED, steps=True),
    ):
        assert not without


def test_a_first_step_has_no_moments_until_its_end(llama: ModelConfig) -> None:
    told = replace(RECIPE, gpu=Gpu.HOPPER)
    plain, compiled = (
        training_memory(llama, Layout(tensor=8, data=64), replace(told, loss=loss))
        for loss in (Loss.COPIED, Loss.COMPILED)
    )
    assert plain.phase == compiled.phase == "loss"
    assert plain.first_step_bytes == plain.peak_bytes - plain.moment_bytes
    assert compiled.first_step_bytes - plain.first_step_bytes == (50 << 20) - WORKSPACE
    assert compiled.peak_bytes == plain.peak_bytes


def test_experts_that_gather_tokens_share_the_buffer_of_sequence_parallelism(deepseek: ModelConfig) -> None:
    """All ranks that share experts gather their tokens whole; who shares none, or sends tokens, needs no more."""

    def buffer(layout: Layout, recipe: Recipe) -> int:
        return part(training_memory(deepseek, layout, recipe), "gathered input")

    told, hidden = replace(RECIPE, gathered_experts=True), deepseek.hidden_size
    tokens = RECIPE.sequence * RECIPE.micro_batch
    assert buffer(Layout(data=8, expert=8), told) == 2 * 8 * tokens * hidden
    assert not buffer(Layout(data=8, expert=8), RECIPE)
    assert not buffer(Layout(data=8), told)
    # Of two ranks that share tokens each has half; those that split experts gather as well.
    split = Layout(tensor=2, data=4, expert=4)
    assert buffer(split, replace(told, sequence_parallel=True)) == 2 * 4 * tokens * hidden
    assert buffer(replace(split, expert_tensor=1), replace(told, sequence_parallel=True)) == 2 * 2 * tokens * hidden
    # Of fewer tokens than a projection gathers the buffer is the projection's.
    assert buffer(Layout(tensor=4), replace(told, sequence_parallel=True)) == 2 * tokens * hidden


def test_norms_of_queries_and_keys_keep_what_they_read(llama: ModelConfig) -> None:
    """Where no config says them: the joint projection, a copy of what the norms read of it, and statistics."""
    told = replace(RECIPE, qk_norm=True)
    more = part(training_memory(llama, Layout(), told), "activations")
    more -= part(training_memory(llama, Layout(), RECIPE), "activations")
    mixer = llama.layers[0].mixer
    assert isinstance(mixer, GroupedAttention)
    queries, keys = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
    layer = 2 * (queries + 2 * keys) + 2 * queries + 4 * (mixer.heads + mixer.kv_heads)
    assert more == RECIPE.sequence * RECIPE.micro_batch * len(llama.layers) * layer
    again = trained_model(llama, told)
    assert trained_model(again, told) is again
    further = trained_model(llama, replace(RECIPE, mtp_layers=1))
    normed = trained_model(further, replace(told, mtp_layers=1))
    for built in (*normed.layers, *normed.mtp_layers):
        assert isinstance(built.mixer, GroupedAttention)
        assert built.mixer.qk_norm is QkNorm.PER_HEAD, "layers that a checkpoint carries to predict further as well"
    assert parameter_counts(again).total - parameter_counts(llama).total == 2 * mixer.head_dim * len(llama.layers)
