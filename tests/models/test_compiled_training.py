"""Layers that PyTorch compiles or checkpoints by their products, its losses that work in pieces, inputs on the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.models import ModelConfig, load_config
from memplan.models.feed_forward import DenseFfn, MoeFfn
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout
from memplan.models.training.memory import training_memory
from memplan.models.training.phases import loss_parts
from memplan.models.training.products import kept_products
from memplan.models.training.saved import saved_tensors
from memplan.models.training.step_recipe import Loss, Recipe
from tests.models.memory_parts import part

RECIPE = Recipe(sequence=4096, micro_batches=8)


def test_every_second_product_is_kept(llama: ModelConfig) -> None:
    """Of seven: queries, values, the gate and the way back; beside them the input and what attention makes."""
    recipe = replace(RECIPE, recompute_products=True)
    hidden, values, inner, heads = 4096, 1024, 14336, 32
    kept = 2 * (hidden + hidden + hidden + values + inner + hidden) + 4 * heads
    assert kept_products(llama, llama.layers[0], Layout(), recipe) == kept
    assert part(training_memory(llama, Layout(), recipe), "activations") == 4096 * 4 * kept


def test_every_second_product_of_experts_and_latents_is_kept(deepseek: ModelConfig) -> None:
    """
    Latents of queries, those of keys, and what attention is projected to; of the shared experts the second product.

    Routed experts' products are grouped and made anew, the router's too; what their ranks exchange is kept.
    """
    recipe, layer = replace(RECIPE, recompute_products=True), deepseek.layers[-1]
    mixer, ffn = layer.mixer, layer.ffn
    assert isinstance(mixer, LatentAttention)
    assert isinstance(ffn, MoeFfn)
    hidden, heads = deepseek.hidden_size, mixer.heads
    products = [mixer.q_lora_rank or 0, mixer.kv_lora_rank + mixer.rope_dim, hidden, ffn.shared_intermediate]
    kept = 2 * (hidden + heads * mixer.v_dim + sum(products)) + (4 * heads + 12 * ffn.per_token)
    assert kept_products(deepseek, layer, Layout(), recipe) == kept
    exchanged = kept_products(deepseek, layer, Layout(data=8, expert=8), recipe) - kept
    assert exchanged == 2 * 2 * ffn.per_token * hidden


def test_only_products_that_are_known_are_told_apart(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json")
    with pytest.raises(InputError, match="grouped and latent attention"):
        training_memory(model, Layout(), replace(RECIPE, recompute_products=True))


def test_compiled_layers_keep_what_the_partitioner_of_pytorch_keeps(llama: ModelConfig) -> None:
    """
    Counted by running such a layer through PyTorch 2.13's `aot_eager_decomp_partition`: 512 wide, 8 heads of 64 on 2,
    1,536 between: 15,912 bytes a token, 17,448 with keys and values repeated, of which 32 are softmax's (GPUs' kernels
    keep one value a row), and 6,432 with selective checkpoints, whose last product nobody needs.
    """
    layer = llama.layers[0]
    assert isinstance(layer.mixer, GroupedAttention)
    assert isinstance(layer.ffn, DenseFfn)
    mixer = replace(layer.mixer, heads=8, kv_heads=2, head_dim=64, head_dim_v=64)
    layer = replace(layer, mixer=mixer, ffn=replace(layer.ffn, intermediate=1536))
    small = replace(llama, hidden_size=512, layers=(layer,))
    compiled = replace(RECIPE, compiled_layers=True)

    def kept(recipe: Recipe) -> float:
        items = saved_tensors(small, layer, Layout(), recipe)
        return sum(item.nbytes for item in items if item.name != "softmax statistics")

    assert kept(compiled) == 15_912 - 32
    assert kept(replace(compiled, repeat_kv=True)) == 17_448 - 32
    assert kept_products(small, layer, Layout(), replace(compiled, recompute_products=True)) == 6_432
    with pytest.raises(InputError, match="ops that layers which are compiled fuse"):
        replace(compiled, norms_in_steps=True)


@pytest.mark.parametrize(
    ("loss", "compiled", "values"),
    [
        (Loss.INDUCTOR, False, 4.0),
        (Loss.CHUNKED, True, 2 + 2 / 8),
        (Loss.CHUNKED, False, 4 + 8 / 8),
        (Loss.PIECES, True, 4 / 8),
        (Loss.PIECES, False, 14 / 8),
    ],
)
def test_losses_of_pytorch_that_work_in_pieces(
    llama: ModelConfig, loss: Loss, values: float, *, compiled: bool
) -> None:
    """Bytes of a logit: kept in 16 bits or as logarithms, whole or of a piece, and what is made of a piece."""
    recipe = replace(RECIPE, loss=loss, compiled_layers=compiled)
    parts = loss_parts(llama, Layout(), recipe, tokens=4096)[1:]
    assert sum(item.nbytes for item in parts) == values * 4096 * llama.vocab_size


def test_inputs_of_layers_made_anew_wait_on_the_host(llama: ModelConfig) -> None:
    anew = replace(RECIPE, recompute_layers=len(llama.layers))
    here, away = (training_memory(llama, Layout(), replace(anew, swap_inputs=swap)) for swap in (False, True))
    assert part(here, "activations") == len(llama.layers) * 2 * 4096 * llama.hidden_size
    assert part(away, "activations") == 0
    with pytest.raises(InputError, match="with --recompute-layers"):
        replace(RECIPE, swap_inputs=True)
