"""
Which storages may never share an address, when ops of several streams run at the same time.

Two storages conflict unless every use of one is finished before the first use of the other begins. On one stream
that is the overlap of their lifetimes; on several it is a partial order: ops are ordered by their stream, by the data
that passes between them and by the control edges in `attrs["after"]`, and not at all otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.graph.model import Graph

MAX_STORAGES = 20_000
"""Pairs grow with the square; more storages than this need intervals on one stream."""


@dataclass(frozen=True, slots=True)
class Precedence:
    """`before[i, j]`: all uses of `storages[i]` are over when `storages[j]` is first used. `nbytes` are their sizes."""

    storages: tuple[int, ...]
    nbytes: tuple[int, ...]
    before: NDArray[np.bool_]

    def pairs(self) -> frozenset[tuple[int, int]]:
        """Pairs of storages that conflict, the lower index first."""
        clash = np.triu(~(self.before | self.before.T), 1)
        rows, columns = np.nonzero(clash)
        found = self.storages
        return frozenset(
            (min(found[i], found[j]), max(found[i], found[j]))
            for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        )


def clocks(graph: Graph) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """
    `(done, stream, position)` of every op.

    `done[op, s]` counts the ops of stream `s` that have certainly finished when `op` starts; `stream[op]` is the
    stream's column and `position[op]` counts from 1 along it.
    """
    columns = {stream: column for column, stream in enumerate(sorted({op.stream for op in graph.ops}))}
    steps = len(graph.ops)
    done = np.zeros((steps, max(1, len(columns))), dtype=np.int32)
    stream = np.fromiter((columns[op.stream] for op in graph.ops), dtype=np.int32, count=steps)
    position = np.zeros(steps, dtype=np.int32)
    previous: dict[int, int] = {}
    count: dict[int, int] = {}
    written: dict[int, int] = {}
    for op in graph.ops:
        here = op.index
        column = int(stream[here])
        count[column] = count.get(column, 0) + 1
        position[here] = count[column]
        earlier = {previous[column]} if column in previous else set()
        previous[column] = here
        after = op.attrs.get("after")
        if isinstance(after, tuple):
            earlier.update(step for step in after if isinstance(step, int) and step < here)
        for tensor in op.inputs:
            # An alias is ready when the op that makes it is, the bytes when whoever wrote them last is.
            if tensor in written:
                earlier.add(written[tensor])
        for step in earlier:
            np.maximum(done[here], done[step], out=done[here])
            done[here, stream[step]] = max(done[here, stream[step]], position[step])
        for tensor in op.outputs:
            written.setdefault(tensor, here)
    return done, stream, position


def precedence(graph: Graph) -> Precedence:
    """
    The partial order of the graph's storages; persistent ones, inputs and host copies are left out.

    Raises `InputError` for more than `MAX_STORAGES`.
    """
    done, stream, position = clocks(graph)
    storage = [tensor.storage for tensor in graph.tensors]
    size: dict[int, int] = {}
    for tensor in graph.tensors:
        size[tensor.storage] = max(size.get(tensor.storage, 0), tensor.nbytes)
    whole = {storage[tensor] for tensor in graph.inputs}
    uses: dict[int, list[int]] = {}
    for op in graph.ops:
        for root in dict.fromkeys(storage[tensor] for tensor in (*op.inputs, *op.outputs)):
            owner = graph.tensors[root]
            if not (owner.kind.persistent or owner.on_host or root in whole):
                uses.setdefault(root, []).append(op.index)
    roots = sorted(uses)
    if len(roots) > MAX_STORAGES:
        raise InputError(
            "{:,} tensors are more than the {:,} whose pairs can be compared",
            len(roots),
            MAX_STORAGES,
            remedy="plan it as one stream",
        )
    streams = done.shape[1]
    last = np.zeros((len(roots), streams), dtype=np.int32)
    first = np.zeros((len(roots), streams), dtype=np.int32)
    for row, root in enumerate(roots):
        steps = np.asarray(uses[root])
        np.maximum.at(last[row], stream[steps], position[steps])
        first[row] = done[steps].min(axis=0)
    kept = {storage[tensor] for tensor in graph.outputs}
    before = np.zeros((len(roots), len(roots)), dtype=np.bool_)
    for row, root in enumerate(roots):
        if root not in kept:
            before[row] = (last[row] <= first).all(axis=1)
    return Precedence(tuple(roots), tuple(size[root] for root in roots), before)


def conflicts(graph: Graph) -> frozenset[tuple[int, int]]:
    """Pairs of transient storages (tensor indices, lower first) that may be alive together on the graph's streams."""
    return precedence(graph).pairs()
