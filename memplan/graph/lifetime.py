"""When the bytes of each tensor are needed, in schedule steps."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.graph.model import Graph


@dataclass(frozen=True, slots=True)
class Lifetime:
    """
    Half-open span `[start, end)` of schedule steps over which the bytes of one storage must exist.

    `tensor` is the storage's index in `Graph.tensors`, `nbytes` the largest size any of its aliases has. `uses` are
    the steps, ascending, at which an op reads or writes it.
    """

    tensor: int
    start: int
    end: int
    nbytes: int
    uses: tuple[int, ...]


def lifetimes(graph: Graph) -> tuple[Lifetime, ...]:
    """
    Lifetimes of all storages of `graph` run in order on one stream, ordered by tensor index.

    An op's inputs and outputs are alive together during its step. Persistent kinds and graph inputs live over the
    whole schedule `[0, len(ops))`; graph outputs live to its end. A storage that no op touches and that is not
    persistent is left out, and so is what the graph keeps on the host.
    """
    steps = len(graph.ops)
    storage = [tensor.storage for tensor in graph.tensors]
    uses: dict[int, list[int]] = {}
    for op in graph.ops:
        for root in dict.fromkeys(storage[t] for t in (*op.inputs, *op.outputs)):
            uses.setdefault(root, []).append(op.index)
    size: dict[int, int] = {}
    for tensor in graph.tensors:
        size[tensor.storage] = max(size.get(tensor.storage, 0), tensor.nbytes)
    to_the_end = {storage[t] for t in graph.outputs}
    whole = {storage[t] for t in graph.inputs}
    whole.update(t.index for t in graph.tensors if t.kind.persistent and t.storage == t.index)
    spans = []
    for root in sorted(size):
        if graph.tensors[root].on_host:
            continue
        touched = tuple(uses.get(root, ()))
        if root in whole:
            start, end = 0, steps
        elif touched:
            start, end = touched[0], steps if root in to_the_end else touched[-1] + 1
        else:
            continue
        spans.append(Lifetime(tensor=root, start=start, end=end, nbytes=size[root], uses=touched))
    return tuple(spans)
