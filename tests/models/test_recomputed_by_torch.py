"""What PyTorch keeps of gated parts with and without a checkpoint around them, byte for byte what the formula says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.saved import saved_tensors
from memplan.models.training.saved_item import made_anew
from memplan.models.training.step_recipe import Recipe

if TYPE_CHECKING:
    import torch
    import torch.utils.checkpoint
else:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.utils.checkpoint")

TOKENS, HIDDEN = 256, 128
RECIPE = Recipe(sequence=TOKENS)


class Gated(torch.autograd.Function):
    """One kernel for both halves: it keeps what it reads."""

    @staticmethod
    def forward(ctx: Any, joined: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(joined)
        gate, up = joined.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate) * up


def dense(read: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Two products and what is between them."""
    made: torch.Tensor = Gated.apply(read @ up)
    return made @ down


def checkpointed(*operands: torch.Tensor) -> torch.Tensor:
    """The same of which its input is kept."""
    made: torch.Tensor = torch.utils.checkpoint.checkpoint(dense, *operands, use_reentrant=True)
    return made


def measured(run: Callable[..., torch.Tensor], *operands: torch.Tensor) -> int:
    """Bytes of the storages kept until the way back, each once, without those of all operands but the first."""
    found: dict[int, int] = {}
    known = {weight.untyped_storage().data_ptr() for weight in operands[1:]}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in known:
            found[place] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert run(*operands).requires_grad
    return sum(found.values())


@pytest.mark.parametrize("width", [448, 160, 96])
def test_a_checkpoint_keeps_the_input_alone(width: int) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 1024, "hidden_size": HIDDEN}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": TOKENS}
    model = load_config({**config, **heads, "intermediate_size": width})

    def kept(recipe: Recipe) -> float:
        items = saved_tensors(model, model.layers[0], Layout(), recipe)
        return sum(item.nbytes for item in items if not made_anew(item, recipe))

    def rows(count: int, columns: int) -> torch.Tensor:
        return torch.randn(count, columns, dtype=torch.bfloat16, requires_grad=True)

    operands = rows(TOKENS, HIDDEN), rows(HIDDEN, 2 * width), rows(width, HIDDEN)
    plain, anew = measured(dense, *operands), measured(checkpointed, *operands)
    assert anew == TOKENS * 2 * HIDDEN  # What a norm made, which the formula counts with it.
    assert plain - anew == TOKENS * (kept(RECIPE) - kept(replace(RECIPE, recompute_dense=True)))
