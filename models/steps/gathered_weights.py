"""Weights that ranks divide and gather layer by layer: shards, their exchanges, and what layers read of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from memplan.graph import TensorKind
from memplan.graph.model import dense_bytes
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.parallel import Layout, sharing_ranks
from memplan.models.steps.emit import RankWeight, StepEmitter
from memplan.models.steps.options import ServedStep
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import WeightGroup


@dataclass(frozen=True, slots=True)
class ShardUnit:
    """
    Weights that are gathered at once: those of a layer, or outside all layers where `layer` is `None`; `experts` that
    ranks share are one of their own, as fewer ranks repeat them.
    """

    layer: int | None
    experts: bool = False

    @property
    def scope(self) -> str:
        """What names of its ops begin with."""
        return ("" if self.layer is None else f"layers.{self.layer}.") + ("experts." if self.experts else "")

    @property
    def group(self) -> str:
        """The group of ranks that repeat its weights."""
        return "edp" if self.experts else "dp"


@dataclass(frozen=True, slots=True)
class ShardedWeight:
    """A weight of a unit, and its elements on ranks that have all of them."""

    unit: ShardUnit
    elements: int


class GatheringEmitter(StepEmitter):
    """
    An emitter whose weights are shards: layers read them from buffers that the ranks' shares were gathered into.

    Shards of `fully_shard` are float32 and gathered in 16 bits, into pieces that are copied to where layers read them
    (PyTorch's `foreach_all_gather` and `foreach_all_gather_copy_out`); those of DeepSpeed and Megatron-FSDP are 16-bit.
    """

    def __init__(self, model: ModelConfig, layout: Layout, step: ServedStep, recipe: Recipe) -> None:
        super().__init__(model, layout, step, training=True, dropout=recipe.dropout)
        self.single = recipe.sharding is Sharding.FSDP2
        self.parameters: dict[str, ShardedWeight] = {}
        self._ranks = sharing_ranks(layout, recipe.optimizer_instances)
        self._shards: dict[ShardUnit, int] = {}
        self._buffers: dict[ShardUnit, int] = {}
        self._gathered: set[int] = set()
        self._views: dict[tuple[int, str], int] = {}
        self._names: dict[int, str] = {}

    def ranks(self, unit: ShardUnit) -> int:
        """How many ranks divide the weights of `unit`."""
        return self._ranks[unit.experts]

    def share(self, unit: ShardUnit, elements: int) -> int:
        """A rank's share of so many elements."""
        return -(-elements // self.ranks(unit))

    def shard(self, unit: ShardUnit) -> int:
        """The rank's shard of the weights of `unit`."""
        return self._shards[unit]

    def buffer(self, unit: ShardUnit) -> int:
        """Where the weights of `unit` were gathered last."""
        return self._buffers[unit]

    def gather_layer(self, layer: Layer) -> None:
        """Gather the weights of `layer` into new buffers, from which it reads from then on."""
        self._gather(layer.index, self.layer_held(layer))

    def gather_outer(self, held: Mapping[str, RankWeight]) -> None:
        """Gather weights outside the layers."""
        self._gather(None, held)

    def arrive(self, layer: Layer | None) -> None:
        """Have what was gathered for `layer` stand where it reads it, which copies what `fully_shard` gathered."""
        scope, self.scope = self.scope, ""
        for unit in self.units(layer) if self.single else ():
            if self.ranks(unit) > 1:
                name, whole = f"{unit.scope}weights", self._buffers[unit]
                copied = self.view(f"{name}.copied", whole, self.shape(whole))
                self.op(f"{name}.copy_out", "TensorMove", (whole,), (copied,))
        self.scope = scope

    def units(self, layer: Layer | None) -> Iterator[ShardUnit]:
        """The units of a layer, or of what is outside all layers, that were gathered."""
        index = None if layer is None else layer.index
        return (unit for unit in (ShardUnit(index, experts=True), ShardUnit(index)) if unit in self._buffers)

    def _gather(self, layer: int | None, held: Mapping[str, RankWeight]) -> None:
        elements: dict[ShardUnit, int] = {}
        for item in held.values():
            unit = self._unit(layer, item)
            elements[unit] = elements.get(unit, 0) + item.elements
        scope, self.scope = self.scope, ""
        for unit, count in elements.items():
            self._gather_unit(unit, count)
        self.scope = scope

    def _unit(self, layer: int | None, held: RankWeight) -> ShardUnit:
        return ShardUnit(layer, held.weight.group is WeightGroup.EXPERTS and self.layout.expert > 1)

    def _gather_unit(self, unit: ShardUnit, elements: int) -> None:
        name, own, kind = f"{unit.scope}weights", self.share(unit, elements), "float32" if self.single else self.dtype
        if unit not in self._shards:
            nbytes = dense_bytes((own,), kind)
            self._shards[unit] = self.graph.tensor(f"{name}.shard", (own,), kind, nbytes, TensorKind.WEIGHT)
        piece = self._shards[unit]
        if self.single:
            piece = self.act(f"{name}.piece", (own,))
            self.op(f"{name}.cast", "Cast", (self._shards[unit],), (piece,))
        whole = self.collective(f"{name}.all_gather", "AllGather", piece, (elements,), self.ranks(unit), unit.group)
        self._buffers[unit] = whole
        self._gathered.add(self.graph.storage(whole))

    def weight(self, names: Sequence[str], shape: tuple[int, ...], *, share: int = 1) -> int:
        """The weights `names` side by side as one tensor of `shape`, where they were gathered last."""
        name = self.scope + "+".join(names)
        held = [self._pool.pop(item) for item in names]
        unit = self._unit(self.layer_number if self.scope else None, held[0])
        buffer = self._buffers[unit]
        if (buffer, name) not in self._views:
            layout = "NZ" if held[0].weight.linear and len(shape) > 1 else "ND"
            nbytes = sum(-(-item.nbytes // share) for item in held)
            index = self.graph.tensor(
                self.run + name, shape, held[0].types.weight, nbytes, storage=buffer, layout=layout
            )
            self._views[buffer, name] = index
            self._names[index] = name
            self.parameters.setdefault(name, ShardedWeight(unit, sum(item.elements for item in held)))
        return self._views[buffer, name]

    def view(self, name: str, of: int, shape: tuple[int, ...], nbytes: int | None = None) -> int:
        """Another shape of tensor `of`, or a part of it, over the same bytes."""
        index = super().view(name, of, shape, nbytes)
        if of in self._names:
            self._names[index] = self._names[of]
        return index

    def is_gathered(self, tensor: int) -> bool:
        """Whether `tensor` is a weight, or a part of one, in a buffer."""
        return self.graph.storage(tensor) in self._gathered

    def parameter(self, tensor: int) -> ShardedWeight:
        """The weight that `tensor` is, or is a part of."""
        return self.parameters[self._names[tensor]]

    def current(self, tensor: int) -> int:
        """Weight `tensor` where it was gathered last; any other tensor as it is."""
        name = self._names.get(tensor)
        if name is None:
            return tensor
        buffer, graph = self._buffers[self.parameters[name].unit], self.graph
        if graph.storage(tensor) == graph.storage(buffer):
            return tensor
        found = graph.tensor(
            f"{graph.names[tensor]}.again",
            graph.shapes[tensor],
            graph.dtypes[tensor],
            graph.nbytes[tensor],
            storage=buffer,
            layout=graph.layouts[tensor],
        )
        self._names[found] = name
        return found
