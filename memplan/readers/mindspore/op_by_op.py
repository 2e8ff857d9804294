"""The order of a graph's ops where MindSpore runs them one by one, from Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from memplan.graph.access import accesses
from memplan.graph.model import Graph, TensorKind
from memplan.readers.mindir.op_table import op_table
from memplan.readers.mindir.roles import cell_scope, is_of_gradients
from memplan.readers.mindspore.gradient_nodes import gradient_nodes, with_held_gradients, with_whole_nodes

_NOTE = (
    "PyNative mode: the order is that of the compiled graph with the way back behind the forward pass and the "
    "optimiser behind all gradients; what Python variables hold longer is not seen"
)
_FIXED = frozenset({TensorKind.WEIGHT, TensorKind.CONSTANT})


def op_by_op(graph: Graph, recomputed: Collection[str] = ()) -> Graph:
    """
    `graph` as PyNative mode runs it: the forward pass, the way back, the optimiser.

    The compiler updates each weight as soon as its gradient is there, and prepares early what the way back needs of
    weights and activations; Python does each when it comes to it. Cells that are `recomputed` (dotted names) run as a
    whole once the way back asks for the first of what they made.
    """
    held = with_held_gradients(reordered(graph, _order(graph, recomputed)))
    return replace(reordered(*held), notes=(*graph.notes, _NOTE))


def reordered(graph: Graph, order: Sequence[int]) -> Graph:
    """`graph` with its ops in another `order` that data allow."""
    place = {old: new for new, old in enumerate(order)}
    ops = []
    for new, old in enumerate(order):
        op = graph.ops[old]
        after = op.attrs.get("after")
        attrs = {**op.attrs, "after": tuple(place[step] for step in after)} if isinstance(after, tuple) else op.attrs
        ops.append(replace(op, index=new, attrs=attrs))
    tensors = tuple(
        tensor if tensor.producer is None else replace(tensor, producer=place[tensor.producer])
        for tensor in graph.tensors
    )
    return replace(graph, ops=tuple(ops), tensors=tensors)


def optimizer_last(graph: Graph) -> tuple[list[int], int]:
    """An order of `graph` with the optimiser behind all else, and how many ops come before it."""
    last = _optimizer(graph, needs_of(graph))
    first = [op.index for op in graph.ops if op.index not in last]
    return [*first, *sorted(last)], len(first)


def _optimizer(graph: Graph, needs: Sequence[set[int]]) -> set[int]:
    """The optimiser's ops, and all that need them."""
    scopes = op_table().optimizers
    return _behind(graph, needs, lambda name: scopes.search(name) is not None)


def _order(graph: Graph, recomputed: Collection[str]) -> list[int]:
    needs = needs_of(graph)
    last = _optimizer(graph, needs)
    back = _behind(graph, needs, is_of_gradients) - last
    forward = [op.index for op in graph.ops if op.index not in back and op.index not in last]
    again = _run_again(graph, back)
    prepared = _prepared(graph, needs, back - again, _early_parts(graph, needs, back - again))
    forms = _forms(graph, forward)
    passes = _passes(graph, set(forward) - forms, back)
    steps = [index for one in passes for part in one for index in part if index not in prepared]
    steps += [*(index for index in forward if index not in forms), *sorted(forms)]
    steps += [*sorted(back - prepared), *sorted(prepared), *sorted(last)]
    cells = _whole_cells(graph, needs, again, recomputed)
    # Cells, or nodes, of which one waits for the other can't each run as a whole.
    orders = (_placed(steps, whole) for whole in (with_whole_nodes(graph, cells), cells, needs))
    return next((order for order in orders if order), None) or [op.index for op in graph.ops]


def _behind(graph: Graph, needs: Sequence[set[int]], begins: Callable[[str], bool]) -> set[int]:
    """The ops whose name `begins` something, and all that need them."""
    found: set[int] = set()
    for op in graph.ops:
        if begins(op.name) or not found.isdisjoint(needs[op.index]):
            found.add(op.index)
    return found


def _run_again(graph: Graph, back: set[int]) -> set[int]:
    """The ops on the way `back` that run a second time: of the forward pass, and no gradient is in what they read."""
    found: set[int] = set()
    for op in graph.ops:
        if op.index in back and not is_of_gradients(op.name):
            producers = {graph.tensors[tensor].producer for tensor in op.inputs}
            if found.issuperset(producer for producer in producers if producer in back):
                found.add(op.index)
    return found


def _forms(graph: Graph, forward: Sequence[int]) -> set[int]:
    """Those of the `forward` ops that bring weights and constants into another form."""
    found: set[int] = set()
    for index in forward:
        tensors = (graph.tensors[tensor] for tensor in graph.ops[index].inputs)
        if all(tensor.kind in _FIXED or tensor.producer in found for tensor in tensors):
            found.add(index)
    return found


def _passes(graph: Graph, forward: set[int], back: set[int]) -> list[tuple[list[int], list[int]]]:
    """
    Ops `forward` and on the way `back` of each pass where one step has several that share nothing but weights.

    So has a step that adds up the gradients of parts of its batch: Python is back from one before it begins the next.
    """
    head: dict[int, int] = {}

    def found(index: int) -> int:
        while head[index] != index:
            head[index] = head[head[index]]
            index = head[index]
        return index

    for op in reversed(graph.ops):
        if op.index in back and is_of_gradients(op.name):
            head.setdefault(op.index, op.index)
        if op.index not in head:
            continue
        for tensor in op.inputs:
            producer = graph.tensors[tensor].producer
            if producer is not None and (producer in forward or producer in back):
                head[found(head.setdefault(producer, producer))] = found(op.index)
    passes: dict[int, tuple[list[int], list[int]]] = {}
    for index in sorted(head):
        passes.setdefault(found(index), ([], []))[index in back].append(index)
    return [one for one in passes.values() if all(one)]


def _early_parts(graph: Graph, needs: Sequence[set[int]], gradients: set[int]) -> set[int]:
    """Ops of nodes of `gradients` that need none, whether or not what they read was made anew, in one that waits."""
    return {
        index
        for node in gradient_nodes(graph)
        if any(needs[other] & gradients - set(node) for other in node)
        for index in node
        if not needs[index] & gradients
    }


def _prepared(graph: Graph, needs: Sequence[set[int]], gradients: set[int], early: set[int]) -> set[int]:
    """`early`, and ops of `gradients` that bring one tensor into another form, as a transposed weight is."""
    found = set(early)
    for op in graph.ops:
        if op.index in gradients and found >= needs[op.index] & gradients:
            kinds = {tensor: graph.tensors[tensor].kind for tensor in op.inputs}
            if sum(kind is not TensorKind.CONSTANT for kind in kinds.values()) <= 1:
                found.add(op.index)
    return found


def _whole_cells(
    graph: Graph, needs: Sequence[set[int]], run_again: set[int], recomputed: Collection[str]
) -> Sequence[set[int]]:
    """`needs`, and of what needs a part of what a recomputed cell makes anew all of it."""
    found = [set(need) for need in needs]
    for cell in recomputed:
        scope = cell_scope(cell)
        again = {index for index in run_again if scope.search(graph.ops[index].name) is not None}
        before = set(again)
        stack = list(again)
        while stack:
            more = needs[stack.pop()] - before
            before |= more
            stack += more
        for op in graph.ops:
            if op.index not in before and not again.isdisjoint(needs[op.index]):
                found[op.index] |= again
    return found


def _placed(steps: Sequence[int], needs: Sequence[set[int]]) -> list[int] | None:
    """`steps` with what each needs right before it; `None` where some need each other."""
    order: dict[int, None] = {}
    for index in steps:
        stack, waiting = [index], {index}
        while stack:
            missing = needs[stack[-1]] - order.keys()
            if not missing.isdisjoint(waiting):
                return None
            if missing:
                stack.append(min(missing))
                waiting.add(stack[-1])
            else:
                waiting.discard(stack[-1])
                order[stack.pop()] = None
    return list(order)


def needs_of(graph: Graph) -> list[set[int]]:
    """For each op those that have to run before it: who makes what it reads, who used before what it changes."""
    needs: list[set[int]] = []
    writer: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for op, access in zip(graph.ops, accesses(graph), strict=True):
        producers = (graph.tensors[tensor].producer for tensor in op.inputs)
        found = {producer for producer in producers if producer is not None and producer != op.index}
        after = op.attrs.get("after")
        found.update(after if isinstance(after, tuple) else ())
        found.update(writer[storage] for storage in access.reads if storage in writer)
        for storage in access.writes:
            found.update(readers.pop(storage, ()))
            if storage in writer:
                found.add(writer[storage])
            writer[storage] = op.index
        for storage in access.reads:
            readers.setdefault(storage, []).append(op.index)
        found.discard(op.index)
        needs.append(found)
    return needs
