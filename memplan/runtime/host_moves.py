"""What leaves HBM in a plan, by the layers that a program keeps it for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from memplan.core.units import format_bytes
from memplan.graph import TensorKind
from memplan.graph.saved import first_readers
from memplan.schema import Plan, Tier


@dataclass(frozen=True, slots=True)
class LayerMoves:
    """
    `layers`: for the name of each layer, how many tensors of so many bytes it keeps on the host for the way back.

    `left` is what no layer keeps: tensors and bytes by kind.
    """

    layers: Mapping[str, Mapping[int, int]]
    left: Mapping[str, tuple[int, int]]


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
    for index in sorted({transfer.tensor for transfer in plan.transfers if transfer.source is Tier.HBM}):
        tensor, layer = tensors[index], reader.get(index)
        if tensor.kind == TensorKind.ACTIVATION.value and layer is not None:
            kept.setdefault(layer, Counter())[tensor.nbytes] += 1
        else:
            count, nbytes = left.get(tensor.kind, (0, 0))
            left[tensor.kind] = count + 1, nbytes + tensor.nbytes
    return LayerMoves({layer: dict(kept[layer]) for layer in layers if layer in kept}, dict(sorted(left.items())))


def layer_of(name: str, layers: Collection[str]) -> str | None:
    """The layer that what is called `name` is in."""
    parts = name.split(".")
    return next((found for at in range(len(parts), 0, -1) if (found := ".".join(parts[:at])) in layers), None)


def told_tensors(count: int, nbytes: int) -> str:
    """So many tensors of so many bytes, in words."""
    return f"{count} tensor{'' if count == 1 else 's'} of {format_bytes(nbytes)}"
