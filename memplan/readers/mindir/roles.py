"""What the tensors of a training graph are for: weights, optimiser state, gradients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from memplan.graph.builder import GraphBuilder
from memplan.graph.model import TensorKind
from memplan.readers.mindir.op_table import OpTable

_GRADIENT_SCOPE = "Gradients/"
_GRADIENT_OF = re.compile(r"/Grad_([^/]+)/")
_UNSCOPED = "Expand/"
"""Kernels that the backend made of an op; their scope doesn't say of which."""
_GRADIENT_ARGUMENTS = frozenset({"grad", "gradient", "grads", "gradients"})


def is_of_gradients(scope: str) -> bool:
    """Whether MindSpore made the op of this full name for the way back."""
    return scope.startswith(_GRADIENT_SCOPE)


def type_of_gradient(name: str) -> str | None:
    """The type of the op whose gradient the op of this full name is a part of; `None` where it is of none."""
    found = _GRADIENT_OF.search(name) if is_of_gradients(name) else None
    return None if found is None else found[1]


def cell_scope(cell: str) -> re.Pattern[str]:
    """What finds the scope of a cell in names: `network.layers.0` is `network-Network/layers-CellList/0-Layer`."""
    return re.compile("(?:^|/)" + "/".join(rf"{re.escape(part)}-\w+" for part in cell.split(".")) + "/")


class Roles:
    """
    Collects how parameters are used while a graph is read, then settles their kind.

    A parameter is optimiser state when an optimiser op updates it beside the weight, when only optimiser code uses
    it, or when it is called after a weight. What code outside of the backward pass takes from inside it is a gradient.
    """

    def __init__(self, table: OpTable) -> None:
        self.table = table
        self.parameters: dict[int, str] = {}
        self._by_label: dict[str, int] = {}
        self._state: set[int] = set()
        self._gradient: set[int] = set()
        self._trains = False
        self._uses: list[tuple[bool, bool, Sequence[int]]] = []

    def parameter(self, tensor: int, label: str) -> None:
        """Note that `tensor` is the parameter called `label`."""
        self.parameters[tensor] = label
        self._by_label[label] = tensor

    def op(self, type_: str, scope: str, launches: bool, inputs: Sequence[int], named: Mapping[str, int]) -> None:
        """Note one op that was appended to the builder, with its tensor arguments by name."""
        in_optimizer = self.table.optimizers.search(scope) is not None
        backward = scope.startswith((_GRADIENT_SCOPE, _UNSCOPED))
        self._trains = self._trains or is_of_gradients(scope)
        entry = self.table.in_place.get(type_)
        if entry is not None:
            gradients = [tensor for name, tensor in named.items() if name in _GRADIENT_ARGUMENTS]
            if gradients:
                in_optimizer = True
                self._gradient.update(gradients)
                self._state.update(named[name] for name in entry.writes[1:] if name in named)
        if launches:
            self._uses.append((in_optimizer, backward, inputs))
        elif not backward:
            self._uses.append((True, False, inputs))

    def classify(self, builder: GraphBuilder) -> None:
        """Set the kinds in `builder`."""
        state = {builder.storage(tensor) for tensor in self._state}
        used: set[int] = set()
        elsewhere: set[int] = set()
        gradients = {builder.storage(tensor) for tensor in self._gradient}
        for in_optimizer, backward, inputs in self._uses:
            for tensor in inputs:
                root = builder.storage(tensor)
                used.add(root)
                if not in_optimizer:
                    elsewhere.add(root)
                if not backward and self._made_in_backward(builder, root):
                    gradients.add(root)
        for tensor in self.parameters:
            root = builder.storage(tensor)
            alone = tensor in used and tensor not in elsewhere
            if root == tensor and (tensor in state or alone or self._named_as_state(builder, tensor)):
                builder.kinds[tensor] = TensorKind.OPTIMIZER_STATE
        for root in gradients:
            if builder.kinds[root] is TensorKind.ACTIVATION:
                builder.kinds[root] = TensorKind.GRADIENT

    def _named_as_state(self, builder: GraphBuilder, tensor: int) -> bool:
        """Whether the name is that of a weight behind a prefix, such as `moment1.fc.weight`, in a training graph."""
        if not self._trains:
            return False
        label = self.parameters[tensor]
        if label in self.table.optimizer_scalars:
            return True
        weight = self._by_label.get(label.partition(".")[2])
        return weight is not None and builder.shapes[weight] == builder.shapes[tensor]

    @staticmethod
    def _made_in_backward(builder: GraphBuilder, root: int) -> bool:
        producer = builder.producers[root]
        return producer is not None and builder.ops[producer].name.startswith(_GRADIENT_SCOPE)
