"""Training of adapters as ops: weights that stand still, and beside some of them two products that learn (LoRA)."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.core.errors import InputError
from memplan.graph import TensorKind, dense_bytes
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps.backward import Backward
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.options import ServedStep
from memplan.models.training.adapters import has_adapter
from memplan.models.training.step_recipe import Recipe, option_of
from memplan.models.weight_shapes import Weight


def refuse_adapters(recipe: Recipe) -> None:
    """Raise `InputError` for adapters whose ops are not known."""
    if not recipe.lora_rank:
        return
    for name in ("four_bit_base", "lora_experts", "lora_dropout", "lora_gathered"):
        if getattr(recipe, name):
            raise InputError(
                "{} is in no graph of training", option_of(name), remedy="memplan train-memory counts its memory"
            )
    if recipe.sharding.gathers or recipe.sharding.of_deepspeed:
        raise InputError(
            "adapters whose weights or states DeepSpeed or fully_shard divide are in no graph of training",
            remedy="memplan train-memory counts them",
        )


class AdapterEmitter(StepEmitter):
    """An emitter whose projections have adapters beside them, which see what the projections see."""

    def __init__(self, model: ModelConfig, layout: Layout, step: ServedStep, recipe: Recipe) -> None:
        super().__init__(model, layout, step, training=True, dropout=recipe.dropout)
        self.recipe = recipe
        self.learning: set[int] = set()
        """The weights that learn."""

    def beside(self, label: str, weights: Sequence[Weight], x: int, out: int) -> int:
        """The sum of the product and of what its adapter makes of `x`, where one of its weights has one."""
        if not any(has_adapter(item, self.recipe) for item in weights):
            return out
        rank, (tokens, n), read = self.recipe.lora_rank, self.shape(out), x
        for name, wide, to in (("lora_a", self.shape(x)[-1], rank), ("lora_b", rank, n)):
            made = self.act(f"{label}.{name}.out", (tokens, to))
            weight = self._learning(f"{label}.{name}", (to, wide))
            self.op(f"{label}.{name}", "MatMul", (read, weight), (made,), transpose_a=False, transpose_b=True)
            read = made
        total = self.act(f"{label}.sum", (tokens, n))
        self.op(f"{label}.add", "Add", (out, read), (total,))
        return total

    def _learning(self, name: str, shape: tuple[int, ...]) -> int:
        whole = self.scope + name
        if whole not in self._shared:
            nbytes = dense_bytes(shape, self.dtype)
            self._shared[whole] = self.graph.tensor(whole, shape, self.dtype, nbytes, TensorKind.WEIGHT)
            self.learning.add(self._shared[whole])
        return self._shared[whole]


class AdapterBackward(Backward):
    """A way back on which only adapters' weights have gradients."""

    def __init__(self, e: AdapterEmitter, recipe: Recipe) -> None:
        super().__init__(e, recipe)
        self.adapters = e

    def learns(self, weight: int) -> bool:
        """Whether `weight` is an adapter's."""
        return self.adapters.graph.storage(weight) in self.adapters.learning
