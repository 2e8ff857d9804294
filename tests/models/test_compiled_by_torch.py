"""What PyTorch's own partitioner keeps of a compiled layer, byte for byte what the formula says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.training.products import kept_products
from memplan.models.training.saved import saved_tensors
from memplan.models.training.step_recipe import Recipe

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

SEQUENCE, SAMPLES = 256, 2


@dataclass(frozen=True)
class Sizes:
    hidden: int
    heads: int
    kv_heads: int
    head: int
    inner: int

    def config(self) -> ModelConfig:
        sizes = {"vocab_size": 1024, "hidden_size": self.hidden, "intermediate_size": self.inner}
        heads = {"num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head}
        sizes["max_position_embeddings"] = SEQUENCE
        return load_config({"model_type": "llama", "num_hidden_layers": 1, **sizes, **heads})


SHAPES = (Sizes(512, 8, 2, 64, 1536), Sizes(384, 6, 3, 64, 1024), Sizes(256, 4, 4, 32, 896))


def turned(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cosines - second * sines, first * sines + second * cosines), -1).type_as(x)


class Norm(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).type_as(x) * self.weight


class Layer(torch.nn.Module):
    """A decoder's layer as torchtune and torchtitan write it, with keys and values repeated or not."""

    cosines: torch.Tensor
    sines: torch.Tensor

    def __init__(self, sizes: Sizes, *, repeated: bool) -> None:
        super().__init__()
        self.sizes, self.repeated = sizes, repeated
        queries, keys = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
        self.norms = torch.nn.ModuleList(Norm(sizes.hidden) for _ in range(2))
        shapes = {
            "q": (sizes.hidden, queries), "k": (sizes.hidden, keys), "v": (sizes.hidden, keys),
            "o": (queries, sizes.hidden), "gate": (sizes.hidden, sizes.inner), "up": (sizes.hidden, sizes.inner),
            "down": (sizes.inner, sizes.hidden),
        }  # fmt: skip
        self.linear = torch.nn.ModuleDict(
            {name: torch.nn.Linear(into, out, bias=False) for name, (into, out) in shapes.items()}
        )
        self.bfloat16()
        angles = torch.outer(torch.arange(SEQUENCE).float(), torch.arange(sizes.head // 2).float())
        self.register_buffer("cosines", angles.cos()[:, None])
        self.register_buffer("sines", angles.sin()[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s, read = self.sizes, self.norms[0](x)
        q = self.linear["q"](read).view(SAMPLES, SEQUENCE, s.heads, s.head)
        k, v = (self.linear[name](read).view(SAMPLES, SEQUENCE, s.kv_heads, s.head) for name in "kv")
        q, k = (turned(t, self.cosines, self.sines) for t in (q, k))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if self.repeated:
            shape = SAMPLES, s.kv_heads, s.heads // s.kv_heads, SEQUENCE, s.head
            k, v = (t.unsqueeze(2).expand(shape).flatten(1, 2) for t in (k, v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=not self.repeated)
        x = x + self.linear["o"](out.transpose(1, 2).reshape(SAMPLES, SEQUENCE, s.heads * s.head))
        read = self.norms[1](x)
        gate = torch.nn.functional.silu(self.linear["gate"](read))
        return x + self.linear["down"](gate * self.linear["up"](read))


def kept_by_torch(layer: torch.nn.Module, sizes: Sizes) -> float:
    """Bytes a token that a compiled layer keeps, once each storage, without weights."""
    torch._dynamo.reset()
    own = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    found: dict[int, torch.Tensor] = {}

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if tensor.numel() > 1 and place not in own:
            found[place] = tensor
        return tensor

    compiled = torch.compile(layer, backend="aot_eager_decomp_partition", fullgraph=True)
    x = torch.randn(SAMPLES, SEQUENCE, sizes.hidden, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        compiled(x)
    nbytes: int = sum(t.untyped_storage().nbytes() for t in found.values())
    return nbytes / (SAMPLES * SEQUENCE)


def every_second_product(layer: torch.nn.Module) -> torch.nn.Module:
    """Selective checkpoints by operators, as torchtitan has them: every second product and attention are saved."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.utils.checkpoint import (
        CheckpointPolicy,
        SelectiveCheckpointContext,
        create_selective_checkpoint_contexts,
    )

    product = torch.ops.aten.mm.default
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

    def contexts() -> object:
        count = {True: 0, False: 0}

        def policy(
            context: SelectiveCheckpointContext, function: object, *_args: object, **_named: object
        ) -> CheckpointPolicy:
            again = context.is_recompute
            count[again] += function == product
            saved = function == attention or (function == product and count[again] % 2 == 1)
            return CheckpointPolicy.MUST_SAVE if saved else CheckpointPolicy.PREFER_RECOMPUTE

        return create_selective_checkpoint_contexts(policy)

    return checkpoint_wrapper(layer, context_fn=contexts, preserve_rng_state=False, early_stop=False)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SHAPES)
def test_a_compiled_layer_keeps_what_the_partitioner_keeps(sizes: Sizes) -> None:
    """The CPU's attention keeps a float32 of softmax a head, kernels for Ascend sixteen times as much."""
    model = sizes.config()
    recipe = Recipe(sequence=SEQUENCE, compiled_layers=True)
    for repeated in (False, True) if sizes.kv_heads < sizes.heads else (False,):
        told = replace(recipe, repeat_kv=repeated)
        items = saved_tensors(model, model.layers[0], Layout(), told)
        ours = sum(item.nbytes for item in items if item.name != "softmax statistics") + 4 * sizes.heads
        assert kept_by_torch(Layer(sizes, repeated=repeated), sizes) == ours
    checked = kept_by_torch(every_second_product(Layer(sizes, repeated=False)), sizes)
    assert checked == kept_products(model, model.layers[0], Layout(), replace(recipe, recompute_products=True))
