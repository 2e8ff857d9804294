"""Copies that PyNative mode makes of views on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindir.op_table import op_table
from memplan.readers.mindir.roles import is_of_gradients, type_of_gradient

_SAME = frozenset({"Depend", "HookBackward", "Identity", "InsertGradientOf", "Load", "StopGradient"})
"""Views of the op table whose result is the tensor itself, not a view of it."""


def with_view_copies(graph: Graph) -> Graph:
    """
    `graph` with a copy of each view for each kernel that reads it, which is what the way back keeps for that kernel.

    MindSpore's CPU kernels take no views when Python runs them one by one: every one that is given the result of a
    `Reshape` first gets its own copy, contiguous or not (2.10, by the addresses of tensors saved for the way back). The
    compiler may put what the way back makes of a saved view before the kernel that it was saved for, as the sigmoid of
    a `SiLUGrad`: it reads that kernel's copy all the same.

    A kernel that runs again is given the view itself: one copy, whether it reads that or what hands it on (a `Depend`
    which waits for a gradient), made when all that the kernel reads is there.
    """
    views = op_table().views - _SAME
    tensors: list[Tensor] = list(graph.tensors)
    ops: list[Op] = []
    seen: set[int] = set()
    kept: dict[tuple[int, str | None], list[int]] = {}
    early: dict[tuple[int, int], int] = {}
    readers = _forward_readers(graph)
    number: dict[int, int] = {}
    same: dict[int, int] = {}
    for op in graph.ops:
        given = {}
        for tensor in dict.fromkeys(op.inputs):
            if not op.launches or tensor not in seen:
                continue
            waiting = kept.get((tensor, type_of_gradient(op.name)), ())
            if waiting:
                # Several kernels of a type that read one view: names don't tell whose gradient this is.
                given[tensor] = waiting.pop() if len(waiting) > 1 else waiting[0]
                continue
            reader = next(iter(readers.get((tensor, type_of_gradient(op.name)), ())), op)
            view = graph.tensors[same.get(tensor, tensor)]
            made = early.get((view.index, reader.index))
            if made is None:
                made = len(tensors)
                waits = _waits(graph, reader, view, number)
                ops.append(_copy(reader, view, len(ops), made, waits))
                tensors.append(_copied(view, made, len(ops) - 1))
                early[view.index, reader.index] = made
            given[tensor] = made
            if not is_of_gradients(op.name):
                kept.setdefault((tensor, op.type), []).append(made)
        if op.type in _SAME and op.inputs:
            same.update(dict.fromkeys(op.outputs, same.get(op.inputs[0], op.inputs[0])))
        viewed = op.type in views or (not op.launches and not seen.isdisjoint(op.inputs))
        if viewed:
            seen.update(tensor for tensor in op.outputs if graph.tensors[tensor].storage != tensor)
        number[op.index] = len(ops)
        ops.append(renumbered(op, given, number))
    placed = tuple(
        tensor if tensor.producer is None or tensor.index >= len(graph.tensors)
        else replace(tensor, producer=number[tensor.producer])
        for tensor in tensors
    )  # fmt: skip
    return replace(graph, ops=tuple(ops), tensors=placed)


def _forward_readers(graph: Graph) -> dict[tuple[int, str | None], list[Op]]:
    """The forward kernels of each type that read a tensor, in order."""
    found: dict[tuple[int, str | None], list[Op]] = {}
    for op in graph.ops:
        if op.launches and not is_of_gradients(op.name):
            for tensor in dict.fromkeys(op.inputs):
                found.setdefault((tensor, op.type), []).append(op)
    return found


def _waits(graph: Graph, reader: Op, view: Tensor, number: Mapping[int, int]) -> tuple[int, ...]:
    """The ops, of those with a `number` already, that `reader` waits for besides what made the `view` it copies."""
    after = reader.attrs.get("after")
    steps = {graph.tensors[tensor].producer for tensor in reader.inputs if tensor != view.index}
    steps.update(after if isinstance(after, tuple) else ())
    return tuple(sorted(number[step] for step in steps if step is not None and step in number))


def _copy(reader: Op, view: Tensor, index: int, copy: int, waits: tuple[int, ...]) -> Op:
    attrs = {"after": waits} if waits else {}
    return Op(index, f"{reader.name}/Contiguous", "Contiguous", (view.index,), (copy,), reader.stream, attrs=attrs)


def _copied(view: Tensor, index: int, producer: int) -> Tensor:
    return replace(
        view, index=index, name=f"{view.name}:copy", storage=index, producer=producer, kind=TensorKind.ACTIVATION
    )


def renumbered(op: Op, given: Mapping[int, int], number: Mapping[int, int]) -> Op:
    after = op.attrs.get("after")
    attrs = {**op.attrs, "after": tuple(number[step] for step in after)} if isinstance(after, tuple) else op.attrs
    inputs = tuple(given.get(tensor, tensor) for tensor in op.inputs)
    return replace(op, index=number[op.index], inputs=inputs, attrs=attrs)
