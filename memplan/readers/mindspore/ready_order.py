"""The order in which MindSpore's CPU runtime starts the kernels of a compiled graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

import numpy as np

from memplan.graph.model import Graph, TensorKind
from memplan.readers.mindspore.op_by_op import needs_of, reordered

_NOTE = (
    "GRAPH mode on a CPU: kernels are in the order in which the runtime starts them, each once what it waits for is "
    "there; what waits for nothing but weights runs as the step begins"
)


def in_ready_order(graph: Graph) -> Graph:
    """`graph` as the CPU runtime runs it, see `ready_order`."""
    return replace(reordered(graph, ready_order(graph, [range(len(graph.ops))])), notes=(*graph.notes, _NOTE))


def ready_order(graph: Graph, parts: Sequence[Iterable[int]]) -> list[int]:
    """
    The ops of `graph`, of which `parts` are launched one after the other, in the order in which the runtime runs them.

    Every kernel is an actor, and so is a view of the batch, which runs as a kernel. One that has sent to the only other
    that it sends to is fused with it, where that was reached by none before (`MultiActorFusion` of MindSpore's
    `runtime/graph_scheduler/optimizer`, from what the step begins with on, the nearest first). Actors enter one queue
    as something is sent to them; one whose turn it is runs what has all that it waits for, and what it is fused with
    right behind, and waits for more otherwise. The batch is an actor of its own, before those that wait for nothing.
    """
    needs = needs_of(graph)
    order: list[int] = []
    for part in parts:
        order += _Actors(graph, needs, sorted(part)).order()
    return order


_BATCH = -1
"""In place of an op: the actor that hands out the batch."""


class _Actors:
    """The actors of one launched graph, each by its op; what they send goes through ops without a kernel."""

    def __init__(self, graph: Graph, needs: Sequence[set[int]], part: Sequence[int]) -> None:
        inside = frozenset(part)
        batch = {item.index for item in graph.tensors if item.kind is TensorKind.INPUT and item.producer is None}
        given = [index for index in part if batch.intersection(graph.ops[index].inputs)]
        self._graph, actors = graph, {index for index in part if graph.ops[index].launches}.union(given)
        self._users: dict[int, list[int]] = {index: [] for index in part}
        for index in part:
            for other in needs[index] & inside:
                self._users[other].append(index)
        self._needs = {index: len(needs[index] & inside) for index in part}
        self._targets = {_BATCH: given, **self._arrows(part, actors)}
        self._missing = dict.fromkeys(actors, 0)
        for targets in self._targets.values():
            for index in targets:
                self._missing[index] += 1
        self._first = sorted(index for index, missing in self._missing.items() if not missing)

    def _arrows(self, part: Sequence[int], actors: Set[int]) -> dict[int, list[int]]:
        """Of each actor those that it sends to, in compiled order."""
        found: dict[int, list[int]] = {}
        reached: dict[int, int] = {}  # of ops without a kernel, as bits from each on: a chain of states reaches far
        for index in reversed(part):
            bits = 0
            for user in self._users[index]:
                bits |= (1 if user in actors else reached[user]) << (user - index)
            if index in actors:
                row = np.frombuffer(bits.to_bytes(bits.bit_length() // 8 + 1, "little"), dtype=np.uint8)
                found[index] = (np.flatnonzero(np.unpackbits(row, bitorder="little")) + index).tolist()
            else:
                reached[index] = bits
        return found

    def order(self) -> list[int]:
        """The ops of the part as they run."""
        begins = self._chains()
        order = self._done([index for index in self._users if not self._needs[index] and index not in self._missing])
        queue = {_BATCH: [_BATCH], **{index: [index] for index in self._first}}
        while queue:
            actor = next(iter(queue))
            arrived = deque(queue.pop(actor))
            while arrived:
                current = arrived.popleft()
                if not self._received(current):
                    continue
                order += self._done([current])
                for index in self._targets[current]:
                    if begins[index] == actor:
                        arrived.appendleft(index)
                    else:
                        queue.setdefault(begins[index], []).append(index)
        return order

    def _received(self, index: int) -> bool:
        """Whether `index` runs, once something more was sent to it."""
        if index == _BATCH:
            return True
        self._missing[index] -= 1
        return self._missing[index] <= 0

    def _done(self, indices: Sequence[int]) -> list[int]:
        """`indices`, which run, and the ops without a kernel behind them that wait for nothing else."""
        through, found = [index for index in reversed(indices) if index != _BATCH], []
        while through:
            found.append(through.pop())
            for user in self._users[found[-1]]:
                self._needs[user] -= 1
                if not self._needs[user] and user not in self._missing:
                    through.append(user)
        return found

    def _chains(self) -> dict[int, int]:
        """For each actor the first of those that it is fused with."""
        reached = set(self._first)
        begins: dict[int, int] = {}
        seeds = deque([_BATCH, *self._first])
        while seeds:
            seed = seeds.popleft()
            current: int | None = seed
            while current is not None:
                begins[current] = seed
                targets = self._targets[current]
                found = [index for index in targets if index not in reached]
                reached.update(found)
                chained = current != _BATCH and len(targets) == len(found) == 1 and self._reads_once(found[0], current)
                current = found[0] if chained else None
                seeds.extend(() if chained else found)
        return begins

    def _reads_once(self, index: int, other: int) -> bool:
        """Whether `index` reads what `other` makes once: what it reads twice is sent twice, and those aren't fused."""
        read = [item for item in self._graph.ops[index].inputs if self._graph.tensors[item].producer == other]
        return len(read) <= 1
