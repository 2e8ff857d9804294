"""
Gradients of weights that are divided among ranks: each layer's are spread as its way back ends, Adam runs on shards.

PyTorch's `fully_shard` copies a layer's gradients into one buffer of the type they are added up in, scatters it, and
keeps the rank's share (`foreach_reduce`); ranks that hold the same share add it up (hybrid sharding). DeepSpeed and
Megatron-FSDP add shares up in buffers that stay.
"""

from __future__ import annotations

from memplan.graph import TensorKind, dense_bytes
from memplan.models.architecture import Layer
from memplan.models.steps.backward import Backward
from memplan.models.steps.gathered_weights import GatheringEmitter, ShardUnit
from memplan.models.steps.optimizer_step import own_gradient, update
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.step_recipe import Recipe


class SpreadBackward(Backward):
    """A way back whose gradients of weights are spread over the ranks, unit by unit."""

    def __init__(self, e: GatheringEmitter, recipe: Recipe) -> None:
        super().__init__(e, recipe)
        self.gathering = e
        self._copies = recipe.optimizer_instances
        self._stay = recipe.sharding is not Sharding.FSDP2
        self._spread_in = e.dtype if recipe.sums_in_halves else "float32"
        self._kept_in = "float32" if recipe.sharding is Sharding.FSDP2 else self._spread_in
        self._fresh: dict[ShardUnit, dict[int, int]] = {}
        self.shares: dict[ShardUnit, int] = {}
        """The rank's share of the gradients of each unit, of all micro-batches so far."""

    def is_weight(self, tensor: int) -> bool:
        """Whether `tensor` is a weight, whose gradient is spread."""
        return self.gathering.is_gathered(tensor) or super().is_weight(tensor)

    def current(self, tensor: int) -> int:
        """Where the way back reads what the way forward read as `tensor`."""
        return self.gathering.current(tensor)

    def add_to_buffer(self, name: str, weight: int, fresh: int) -> None:
        """Keep `fresh`, the gradient of `weight` or of a part of it, until the unit's are spread."""
        e = self.gathering
        known = self._fresh.setdefault(e.parameter(weight).unit, {})
        if weight in known:
            total = e.view(f"{name}.sum", known[weight], e.shape(known[weight]))
            e.op(name, "Add", (known[weight], fresh), (total,))
            fresh = total
        known[weight] = fresh

    def spread(self, layer: Layer | None) -> None:
        """Spread the gradients of `layer`, or of what is outside all layers, over the ranks that share its weights."""
        scope, self.e.scope = self.e.scope, ""
        for unit in self.gathering.units(layer):
            fresh = self._fresh.pop(unit, {})
            if fresh:
                self._spread(unit, list(fresh.values()))
        self.e.scope = scope

    def _spread(self, unit: ShardUnit, fresh: list[int]) -> None:
        e, ranks = self.gathering, self.gathering.ranks(unit)
        own = e.shape(e.shard(unit))[0]
        name = f"{unit.scope}gradients"
        whole = e.act(f"{name}.copied", (own * ranks,), self._spread_in)
        if unit.layer is None and self._stay:
            # The root's stay gathered, or are gathered again, for the way back through the embedding.
            e.graph.op(f"{e.run}{name}.let_go", "KeepAlive", (e.buffer(unit),), (), launches=False)
        e.op(f"{name}.copy_in", "ConcatD", fresh, (whole,))
        share = e.collective(f"{name}.reduce_scatter", "ReduceScatter", whole, (own,), ranks, unit.group)
        if not self._stay:
            # What was gathered is let go when the exchange is under way, whose stream has it until then.
            e.graph.op(f"{e.run}{name}.let_go", "KeepAlive", (e.buffer(unit), whole), (), launches=False)
        share = e.collective(f"{name}.all_reduce", "AllReduce", share, (own,), self._copies, f"{unit.group}_copies")
        if self._kept_in != self._spread_in:
            wide = e.act(f"{name}.share", (own,), self._kept_in)
            e.op(f"{name}.cast", "Cast", (share,), (wide,))
            share = wide
        earlier = self.shares.get(unit)
        if earlier is None and self._stay:
            nbytes = dense_bytes((own,), self._kept_in)
            earlier = e.graph.tensor(f"{name}.main", (own,), self._kept_in, nbytes, TensorKind.GRADIENT)
            e.inputs.append(earlier)
        if earlier is None:
            self.shares[unit] = share
            return
        self.shares[unit] = e.view(f"{name}.sum", earlier, (own,))
        e.op(f"{name}.add", "Add", (earlier, share), (self.shares[unit],))

    def optimise(self, recipe: Recipe) -> None:
        """Adam on the rank's share of every weight."""
        e, owned = self.gathering, []
        e.phase = "optimizer"
        for name, item in e.parameters.items():
            if item.unit not in self.shares:
                continue
            own = e.share(item.unit, item.elements)
            shard, share = e.shard(item.unit), self.shares[item.unit]
            weight = e.view(name, shard, (own,), dense_bytes((own,), e.graph.dtypes[shard]))
            part = e.view(f"{name}.main_grad", share, (own,), dense_bytes((own,), e.graph.dtypes[share]))
            owned.append((weight, part, own))
        gradients = [own_gradient(e, weight, part, own, recipe) for weight, part, own in owned]
        for (weight, _, own), gradient in zip(owned, gradients, strict=True):
            update(e, weight, gradient, own, recipe)
