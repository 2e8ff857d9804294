"""What leaves HBM in a plan, by the layers that a program keeps it for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from memplan.graph import TensorKind
from memplan.schema import Plan, Tier


@dataclass(frozen=True, slots=True)
class LayerMoves:
    """
    `layers`: for the name of each layer, how many tensors of so many bytes it keeps on the host for the way back.

    `left` is what no layer keeps: tensors and bytes by kind.
    """

    layers: Mapping[str, Mapping[int, int]]
    left: Mapping[str, tuple[int, int]]


def host_moves(plan: Plan, layers: Collection[str], prefix: str) -> LayerMoves:
    """
    The tensors that `plan` moves out of HBM; `layers` are the program's, whose names in the plan follow `prefix`.

    A layer keeps the activations that are first read between the first reads of its own weights and those of what
    comes behind it. Where one weight serves several layers the first has it all.
    """
    owners = {
        tensor.index: _owner(tensor.name.removeprefix(prefix), layers)
        for tensor in plan.tensors
        if tensor.kind == TensorKind.WEIGHT.value
    }
    weights = set(owners)
    running: str | None = None
    reader: dict[int, str | None] = {}
    for op in plan.ops:
        new = [index for index in op.reads or () if index in weights]
        weights.difference_update(new)
        if new:
            running = owners[new[0]]
        for index in op.reads or ():
            reader.setdefault(index, running)
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    kept: dict[str, Counter[int]] = {}
    left: dict[str, tuple[int, int]] = {}
    for index in sorted({transfer.tensor for transfer in plan.transfers if transfer.source is Tier.HBM}):
        tensor, layer = tensors[index], reader.get(index)
        if tensor.kind == TensorKind.ACTIVATION.value and layer is not None:
            kept.setdefault(layer, Counter())[tensor.nbytes] += 1
        else:
            count, nbytes = left.get(tensor.kind, (0, 0))
            left[tensor.kind] = count + 1, nbytes + tensor.nbytes
    return LayerMoves({layer: dict(kept[layer]) for layer in layers if layer in kept}, dict(sorted(left.items())))


def _owner(name: str, layers: Collection[str]) -> str | None:
    """The layer that the weight `name` is in."""
    parts = name.split(".")
    return next((found for at in range(len(parts), 0, -1) if (found := ".".join(parts[:at])) in layers), None)
