"""The way back as PyNative mode runs it: the gradients of each op as one node, which holds what it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindir.roles import is_of_gradients, type_of_gradient

_SUM = "AddN"


def gradient_nodes(graph: Graph) -> list[list[int]]:
    """
    The ops of the way back by the op of the forward pass whose gradients they are.

    Names tell that op's type alone. Two ops belong together where they read one gradient, or one reads what the other
    made; a kernel that reads what one of its own type made is of the next op in a chain. What is brought into another
    form without a gradient, which the compiler does once for all who need it, belongs to its one reader.
    """
    kinds = {op.index: kind for op in graph.ops if (kind := type_of_gradient(op.name)) is not None}
    early = _without_gradients(graph, kinds)
    head = {index: index for index in kinds}
    first_reader: dict[tuple[str, int], int] = {}
    readers: dict[int, set[int]] = {}

    def found(index: int) -> int:
        while head[index] != index:
            head[index] = head[head[index]]
            index = head[index]
        return index

    for op in graph.ops:
        for tensor in op.inputs:
            producer = graph.tensors[tensor].producer
            if producer is None or not is_of_gradients(graph.ops[producer].name):
                continue
            readers.setdefault(producer, set()).add(op.index)
            kind = kinds.get(op.index)
            if kind is None or op.index in early or (producer in early and kinds.get(producer) == kind):
                continue
            if kinds.get(producer) == kind and graph.ops[producer].type != op.type:
                other = producer
            else:
                other = first_reader.setdefault((kind, graph.tensors[tensor].storage), op.index)
            head[found(op.index)] = found(other)
    for index in sorted(early, reverse=True):
        behind = readers.get(index, set())
        if all(kinds.get(reader) == kinds[index] for reader in behind) and len({*map(found, behind)}) == 1:
            head[index] = found(min(behind))
    nodes: dict[int, list[int]] = {}
    for index in sorted(head):
        nodes.setdefault(found(index), []).append(index)
    return list(nodes.values())


def _without_gradients(graph: Graph, kinds: Mapping[int, str]) -> set[int]:
    """Ops that read nothing of the way back, or one tensor that such an op made."""
    found: set[int] = set()
    for op in graph.ops:
        if op.index in kinds:
            tensors = [graph.tensors[tensor] for tensor in dict.fromkeys(op.inputs)]
            of_gradients = {part.producer for part in tensors if _is_gradient(graph, part.index)}
            one = sum(tensor.kind is not TensorKind.CONSTANT for tensor in tensors) <= 1
            if not of_gradients or (one and of_gradients <= found):
                found.add(op.index)
    return found


def with_whole_nodes(graph: Graph, needs: Sequence[set[int]]) -> list[set[int]]:
    """`needs`, and of what reads a part of what a node of gradients makes all of that node."""
    readers: list[list[int]] = [[] for _ in needs]
    for index, need in enumerate(needs):
        for other in need:
            readers[other].append(index)
    found = [set(need) for need in needs]
    for node in gradient_nodes(graph):
        before = set(node)
        for index in range(node[-1], node[0], -1):
            if index in before:
                before |= needs[index]
        for reader in {reader for index in node for reader in readers[index]} - before:
            found[reader].update(node)
    return found


def _is_gradient(graph: Graph, tensor: int) -> bool:
    producer = graph.tensors[tensor].producer
    return producer is not None and is_of_gradients(graph.ops[producer].name)


@dataclass
class _Steps:
    """Ops in the order of the run, by their place in `ops`, which has those that come in at its end."""

    ops: list[Op]
    tensors: list[Tensor]
    order: list[int] = field(default_factory=list)

    def hold(self, node: Sequence[int], tensors: Iterable[int]) -> None:
        """Have `tensors` live until here."""
        kept = tuple(tensor for tensor in dict.fromkeys(tensors) if not self.tensors[tensor].kind.persistent)
        if node and kept:
            op = self.ops[node[-1]]
            self.order.append(len(self.ops))
            holds = Op(len(self.ops), f"{op.name}/saved", "KeepAlive", kept, (), stream=op.stream, launches=False)
            self.ops.append(holds)


def with_held_gradients(graph: Graph) -> tuple[Graph, list[int]]:
    """
    `graph`, which is in the order of its run, with what each node of gradients holds until it is through, and an order.

    What the node was given and what its kernels make is there until the last of them has run; what it had saved, until
    its gradients are added to those that came before: two at a time, as soon as the second is there, into a new tensor
    (MindSpore 2.10's allocator on the CPU).
    """
    nodes = gradient_nodes(graph)
    steps = _Steps(list(graph.ops), list(graph.tensors))
    sums = _sums(graph, {index: node[-1] for node in nodes for index in node}, steps)
    moved = {index for placed in sums.values() for index in placed}
    ends = {node[-1]: node for node in nodes}
    for op in graph.ops:
        if op.index in moved:
            continue
        steps.order.append(op.index)
        node, added = ends.get(op.index, ()), sums.get(op.index, ())
        parts = [graph.ops[index] for index in node]
        passed = {tensor for part in parts[:-1] for tensor in (*part.inputs, *part.outputs)}
        steps.hold(node, sorted(passed.difference(op.inputs, op.outputs)))
        if added:
            steps.order += added
            steps.hold(node, (tensor for part in parts for tensor in part.inputs if not _is_gradient(graph, tensor)))
    return replace(graph, ops=tuple(steps.ops), tensors=tuple(steps.tensors)), steps.order


def _sums(graph: Graph, last: dict[int, int], steps: _Steps) -> dict[int, list[int]]:
    """The sums of gradients, two at a time, by the op behind which they run."""
    behind: dict[int, list[int]] = {}
    place = dict(last)
    for op in graph.ops:
        if op.type != _SUM or not is_of_gradients(op.name) or "after" in op.attrs:
            continue
        arrives = []
        for tensor in op.inputs:
            producer = graph.tensors[tensor].producer
            arrives.append((-1 if producer is None else place.get(producer, producer), tensor))
        arrives.sort()
        if arrives[0][0] < 0 or arrives[-1][0] >= op.index:
            continue
        so_far = arrives[0][1]
        for where, tensor in arrives[1:-1]:
            made, index = len(steps.tensors), len(steps.ops)
            out = steps.tensors[op.outputs[0]]
            steps.tensors.append(replace(out, index=made, name=f"{out.name}:{made}", storage=made, producer=index))
            steps.ops.append(
                replace(op, index=index, name=f"{op.name}:{made}", inputs=(so_far, tensor), outputs=(made,))
            )
            behind.setdefault(where, []).append(index)
            so_far = made
        steps.ops[op.index] = replace(op, inputs=(so_far, arrives[-1][1]))
        place[op.index] = arrives[-1][0]
        behind.setdefault(arrives[-1][0], []).append(op.index)
    return behind
