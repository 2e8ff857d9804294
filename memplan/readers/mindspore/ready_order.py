"""The order in which MindSpore's CPU runtime starts the kernels of a compiled graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

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

    Kernels enter a queue once all that they wait for has run: first those that wait for nothing, then those that a
    kernel makes ready, in compiled order each. Where nothing but one kernel waits for another, and that kernel for
    nothing else, it runs right behind it (the runtime fuses such a pair into one actor). So the profiler of MindSpore
    2.10 has it, whose order is the same from step to step but for where the batch comes in.
    """
    needs = needs_of(graph)
    order: list[int] = []
    for part in parts:
        order += _Queue(graph, needs, sorted(part)).order()
    return order


_MANY = -1
"""In place of an op: there are several."""


class _Queue:
    """The queue of one launched graph."""

    def __init__(self, graph: Graph, needs: Sequence[set[int]], part: Sequence[int]) -> None:
        inside = frozenset(part)
        self._graph, self._part = graph, part
        self._needs = {index: sorted(needs[index] & inside) for index in part}
        self._users: dict[int, list[int]] = {index: [] for index in part}
        for index, found in self._needs.items():
            for other in found:
                self._users[other].append(index)
        self._missing = {index: len(found) for index, found in self._needs.items()}
        # In an order that data allow the ends of what is passed through are known before they are asked for.
        given = {
            index
            for index in part
            if any(graph.tensors[one].kind is TensorKind.INPUT for one in graph.ops[index].inputs)
        }
        self._before = self._ends(part, self._needs, given)
        self._behind = self._ends([*reversed(part)], self._users, frozenset())

    def _ends(
        self, indices: Sequence[int], neighbours: Mapping[int, Sequence[int]], given: Collection[int]
    ) -> dict[int, int | None]:
        """
        For each op the one kernel that is next to it, through ops without one; `_MANY` of several, else `None`.

        The batch, which is `given` to some, comes from an actor of its own.
        """
        ends: dict[int, int | None] = {}
        for index in indices:
            found = {other if self._graph.ops[other].launches else ends[other] for other in neighbours[index]}
            found = (found | ({_MANY} if index in given else set())) - {None}
            ends[index] = found.pop() if len(found) == 1 else _MANY if found else None
        return ends

    def order(self) -> list[int]:
        """The ops of the part as they run."""
        order: list[int] = []
        waiting: deque[int] = deque()
        begin = [index for index in self._part if not self._missing[index]]
        for first in begin:
            waiting.extend([first] if self._graph.ops[first].launches else self._done(first, order))
        waiting = deque(sorted(waiting))
        while waiting:
            running: int | None = waiting.popleft()
            while running is not None:
                ready = self._done(running, order)
                running = self._handed_on(running, ready)
                waiting.extend(ready if running is None else ())
        return order

    def _done(self, index: int, order: list[int]) -> list[int]:
        """Kernels that are ready once `index` has run, which enters `order` with the ops without one behind it."""
        ready: list[int] = []
        done = [index]
        while done:
            order.append(done.pop())
            for user in self._users[order[-1]]:
                self._missing[user] -= 1
                if not self._missing[user]:
                    (ready if self._graph.ops[user].launches else done).append(user)
        return sorted(ready)

    def _handed_on(self, index: int, ready: Sequence[int]) -> int | None:
        """The kernel that runs right behind `index` because nothing else is between the two."""
        if len(ready) != 1 or self._behind[index] != ready[0] or self._before[ready[0]] != index:
            return None
        read = [tensor for tensor in self._graph.ops[ready[0]].inputs if self._graph.tensors[tensor].producer == index]
        return ready[0] if len(read) <= 1 else None
