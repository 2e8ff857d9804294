"""What recomputed cells hand on, which PyNative mode keeps for those who read it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from memplan.graph.model import Graph, Op
from memplan.readers.mindir.roles import cell_scope, is_of_gradients, type_of_gradient

_OF_ONE_RUN = frozenset({"after", "listed", "recompute", "recompute_id", "recomputed", "unique_id"})
"""Attributes that differ between two runs of an op."""


def with_kept_outputs(graph: Graph, recomputed: Collection[str]) -> Graph:
    """
    `graph` with gradients of what is behind the `recomputed` cells taken of what the cell returned in the forward pass.

    The compiler lets them read what the cell makes anew for its own gradients, so that nothing of it waits; Python
    has saved what each op was given. Which ops run again is told by their structure: the same op on the same inputs,
    behind a gradient.
    """
    first = first_runs(graph)
    inside = [cell_scope(cell) for cell in recomputed]
    consumers: dict[int, set[str]] = {}
    for op in graph.ops:
        if not is_of_gradients(op.name) and not any(scope.search(op.name) for scope in inside):
            for tensor in op.inputs:
                consumers.setdefault(tensor, set()).add(op.type)
    made_by = {tensor: op.type for op in graph.ops for tensor in op.outputs}

    def kept(op: Op, tensor: int) -> int:
        forward, of = first.get(tensor), type_of_gradient(op.name)
        if forward is None or of is None or of == made_by[tensor]:
            return tensor
        return forward if of in consumers.get(forward, ()) else tensor

    ops = tuple(replace(op, inputs=tuple(kept(op, tensor) for tensor in op.inputs)) for op in graph.ops)
    return replace(graph, ops=ops)


def first_runs(graph: Graph) -> dict[int, int]:
    """For what an op makes that runs again, what it made at its first run."""
    back: set[int] = set()
    behind: set[int] = set()
    same: dict[int, int] = {}
    runs: dict[tuple[object, ...], Op] = {}
    first: dict[int, int] = {}
    for op in graph.ops:
        after = op.attrs.get("after")
        waits = isinstance(after, tuple) and not behind.isdisjoint(after)
        if waits or is_of_gradients(op.name) or not back.isdisjoint(op.inputs):
            behind.add(op.index)
            back.update(op.outputs)
        if is_of_gradients(op.name):
            continue
        if op.type in ("Depend", "Load") and op.inputs and op.outputs:
            same[op.outputs[0]] = same.get(op.inputs[0], op.inputs[0])
            continue
        inputs = tuple(same.get(tensor, tensor) for tensor in op.inputs)
        key = (op.type, inputs, _attributes(op.attrs))
        earlier = runs.setdefault(key, op)
        if op.index in behind and earlier is not op and len(earlier.outputs) == len(op.outputs):
            same.update(zip(op.outputs, earlier.outputs, strict=True))
            first.update(zip(op.outputs, earlier.outputs, strict=True))
    return first


def _attributes(attrs: Mapping[str, object]) -> str:
    return repr(sorted((name, value) for name, value in attrs.items() if name not in _OF_ONE_RUN))
