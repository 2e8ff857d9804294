"""Whose bytes each op needs as they are, and whose it changes."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.graph.model import Graph


@dataclass(frozen=True, slots=True)
class Access:
    """Storages (indices into `Graph.tensors`) that one op `reads` and those that it `writes`, each once, in order."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]


def accesses(graph: Graph) -> tuple[Access, ...]:
    """
    What every op of `graph` reads and writes, one entry an op.

    An op writes what it lists in `Op.writes`, and its outputs where it launches a kernel or nothing has filled them
    yet: a view changes nothing. It reads its inputs and whatever already held something of what it writes, for it may
    write a part of it (a slot of a cache), or not run at all (a branch not taken). An op that repeats another does what
    that one does. What the graph keeps on the host is left out.
    """
    root = [tensor.storage for tensor in graph.tensors]
    on_host = {tensor.storage for tensor in graph.tensors if tensor.on_host}
    filled = carried(graph)
    found: list[Access] = []
    for op in graph.ops:
        if op.repeats is not None:
            found.append(found[op.repeats])
            continue
        reads = dict.fromkeys(root[tensor] for tensor in op.inputs)
        written = dict.fromkeys(root[tensor] for tensor in op.writes)
        for tensor in op.outputs:
            if op.launches or (root[tensor] not in filled and root[tensor] not in reads):
                written[root[tensor]] = None
        reads.update(dict.fromkeys(storage for storage in written if storage in filled))
        filled.update(written)
        found.append(
            Access(
                tuple(storage for storage in reads if storage not in on_host),
                tuple(storage for storage in written if storage not in on_host),
            )
        )
    return tuple(found)


def carried(graph: Graph) -> set[int]:
    """Storages that hold something before the first op: persistent kinds, inputs, what is read before it is made."""
    root = [tensor.storage for tensor in graph.tensors]
    held = {tensor.index for tensor in graph.tensors if tensor.kind.persistent and tensor.storage == tensor.index}
    held.update(root[tensor] for tensor in graph.inputs)
    made: set[int] = set()
    for op in graph.ops:
        held.update(root[tensor] for tensor in op.inputs if root[tensor] not in made)
        made.update(root[tensor] for tensor in op.outputs)
    return held


def loop_spans(graph: Graph) -> list[tuple[int, int]]:
    """First and last op of every loop that runs an unknown number of times, inner loops before outer ones."""
    open_at: list[int] = []
    found = []
    for op in graph.ops:
        if op.type == "LoopBegin":
            open_at.append(op.index)
        elif op.type == "LoopEnd" and open_at:
            found.append((open_at.pop(), op.index))
    return found
