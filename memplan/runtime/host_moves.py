"""What leaves HBM in a plan, by the layers that a program keeps it for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from memplan.core.units import format_bytes
from memplan.graph import TensorKind
from memplan.graph.saved import SavedTensors, first_readers
from memplan.readers.mindir.roles import is_of_gradients
from memplan.schema import Plan, Tier


@dataclass(frozen=True, slots=True)
class LayerMoves:
    """
    `layers`: for the name of each layer, how many tensors of so many bytes it keeps on the host for the way back.

    `left` is what no layer keeps: tensors and bytes by kind. `tensors` are those of each layer, and of `None` what is
    left.
    """

    layers: Mapping[str, Mapping[int, int]]
    left: Mapping[str, tuple[int, int]]
    tensors: Mapping[str | None, tuple[int, ...]]

    def kept_by(self, layers: Iterable[str]) -> frozenset[int]:
        """The tensors that `layers` keep."""
        return frozenset(tensor for layer in layers for tensor in self.tensors.get(layer, ()))


class DueMoves:
    """
    Moves of `layers` that a forward pass has begun, each due until a tensor of its size is saved.

    That may be behind the layer, in one without weights or where the program goes on between layers: a layer runs until
    the next reads weights (`memplan.graph.saved.first_readers`).
    """

    def __init__(self, layers: Mapping[str, Mapping[int, int]]) -> None:
        self.sizes = frozenset(size for moved in layers.values() for size in moved)
        self._layers = layers
        self._due: dict[str, Counter[int]] = {}
        self._within = False

    def begin(self, layer: str | None) -> None:
        """The forward pass of `layer` begins, that of the whole program where `None`; a layer's second in it is one."""
        if layer is None:
            self._due, self._within = {}, True
        elif not self._within or layer not in self._due:
            self._due[layer] = Counter(self._layers.get(layer, {}))

    def end(self, layer: str | None) -> None:
        """It ends; nothing is due behind the whole program."""
        if layer is None:
            self._due, self._within = {}, False

    def is_due(self, nbytes: int) -> bool:
        """Whether a tensor of `nbytes` is to leave that is saved now."""
        return any(due[nbytes] > 0 for due in self._due.values())

    def settle(self, nbytes: int) -> None:
        """One of `nbytes` has left: the longest due is done."""
        next(due for due in self._due.values() if due[nbytes] > 0)[nbytes] -= 1


def host_moves(plan: Plan, layers: Collection[str], owner: Callable[[str], str | None]) -> LayerMoves:
    """
    The tensors that `plan` moves out of HBM; `layers` are the program's, `owner` the one of a weight by its name there.

    A layer keeps the activations that it reads first (`memplan.graph.saved`).
    """
    owners = {tensor.index: owner(tensor.name) for tensor in plan.tensors if tensor.kind == TensorKind.WEIGHT.value}
    reader = first_readers(owners, (op.reads or () for op in plan.ops))
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    kept: dict[str, Counter[int]] = {}
    left: dict[str, tuple[int, int]] = {}
    indices: dict[str | None, list[int]] = {}
    # What has a copy on the host before the step, such as a batch, comes back without having been copied there.
    leaving = {transfer.tensor for transfer in plan.transfers if Tier.HBM in (transfer.source, transfer.target)}
    for index in sorted(leaving):
        tensor, layer = tensors[index], reader.get(index)
        layer = layer if layer in layers and tensor.kind == TensorKind.ACTIVATION.value else None
        indices.setdefault(layer, []).append(index)
        if layer is not None:
            kept.setdefault(layer, Counter())[tensor.nbytes] += 1
        else:
            count, nbytes = left.get(tensor.kind, (0, 0))
            left[tensor.kind] = count + 1, nbytes + tensor.nbytes
    found = {layer: tuple(of_layer) for layer, of_layer in indices.items()}
    return LayerMoves(
        {layer: dict(kept[layer]) for layer in layers if layer in kept}, dict(sorted(left.items())), found
    )


def layer_of(name: str, layers: Collection[str]) -> str | None:
    """The layer that what is called `name` is in."""
    parts = name.split(".")
    return next((found for at in range(len(parts), 0, -1) if (found := ".".join(parts[:at])) in layers), None)


def told_tensors(count: int, nbytes: int) -> str:
    """So many tensors of so many bytes, in words."""
    return f"{count} tensor{'' if count == 1 else 's'} of {format_bytes(nbytes)}"


def peaks(plan: Plan, kept: Collection[int]) -> tuple[int, int]:
    """
    Bytes of HBM at the peak of `plan`, and in use at the fullest step where hooks keep the tensors `kept` on the host.

    They are out once the forward pass has used them last, back when the way back needs them first. All others stay for
    as long as they live.
    """
    use = plan.tier(Tier.HBM)
    planned = 0 if use is None else use.peak
    if not plan.transfers:
        return planned, planned
    turn = next((op.index for op in plan.ops if op.launches and is_of_gradients(op.name)), len(plan.ops))
    saved = SavedTensors(turn, frozenset(kept))
    sizes = {place.tensor: place.size for place in plan.placements}
    change = [0] * (len(plan.ops) + 1)
    for item in plan.tensors:
        begin, end = saved.away(item.index, item.uses) or (item.end, item.end)
        for first, last in ((item.start, begin), (end, item.end)):
            change[first] += sizes[item.index]
            change[last] -= sizes[item.index]
    return planned, max(accumulate(change))
