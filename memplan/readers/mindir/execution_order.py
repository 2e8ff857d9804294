"""
The order in which MindSpore runs the nodes of a graph, found from the graph alone.

MindIR lists nodes in an order that is valid but not the one that runs. MindSpore's runtime schedules a kernel graph
by a ready list: from each finished node, consumers that became ready go to the front of the list when the node has
only that consumer (so chains run through), else to the back. Nodes are discovered breadth-first from the result, and
nodes without inputs are held back until a node found later needs to precede them. The rule was learnt from
`exec_order_builder.cc` of mindspore-ai/mindspore and agrees with the order that kernel graphs of 2.10 are dumped in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VIRTUAL = frozenset(
    {
        "Depend", "Load", "UpdateState", "MakeTuple", "TupleGetItem", "make_tuple", "tuple_getitem", "MakeList",
        "ListGetItem", "Return", "Partial", "Switch", "SwitchLayer", "switch_layer", "StopGradient",
    }
)  # fmt: skip
"""Node types that launch nothing and only pass values on."""

_COMMUNICATION = frozenset(
    {
        "AllReduce", "AllGather", "ReduceScatter", "Broadcast", "AlltoAll", "AllToAll", "AlltoAllV", "Send", "Receive",
        "NeighborExchange", "NeighborExchangeV2", "CollectiveGather", "CollectiveScatter", "Reduce", "Barrier",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Links:
    """Edges between nodes that matter: `consumers` once per use, in order of discovery."""

    consumers: list[list[int]]
    waiting: list[int]
    uses: list[int]


def execution_order(types: Sequence[str], inputs: Sequence[Sequence[int]], result: Sequence[int]) -> list[int]:
    """
    The nodes needed for `result`, in the order in which MindSpore runs them.

    `types` are the op types of the nodes, `inputs` the nodes each takes (constants and parameters left out, a node
    used twice listed twice). Raises `ValueError` when the nodes form a cycle.
    """
    count = len(types)
    end = count
    all_inputs = [*inputs, result]
    virtual = [kind in VIRTUAL for kind in types] + [True]
    trivial = _trivial(all_inputs, virtual)
    links = _links(all_inputs, trivial, end)
    sources = _sources(all_inputs, virtual, trivial, links, end)
    order = _run(types, virtual, links, sources, end)
    expected = sum(1 for node in range(count) if links.uses[node])
    if len(order) != expected:
        raise ValueError("the nodes form a cycle")
    return _with_trivial([*order, end], all_inputs, trivial)[:-1]


def _trivial(inputs: Sequence[Sequence[int]], virtual: Sequence[bool]) -> list[bool]:
    """Nodes that only pass on constants and parameters; `inputs` must name earlier nodes only."""
    trivial = [False] * len(inputs)
    for node, sources in enumerate(inputs):
        trivial[node] = virtual[node] and all(trivial[source] for source in sources)
    return trivial


def _links(inputs: Sequence[Sequence[int]], trivial: Sequence[bool], end: int) -> _Links:
    links = _Links([[] for _ in inputs], [0] * len(inputs), [0] * len(inputs))
    seen = bytearray(len(inputs))
    queue = deque([end])
    while queue:
        node = queue.popleft()
        for source in inputs[node]:
            links.consumers[source].append(node)
            if trivial[source]:
                continue
            links.waiting[node] += 1
            links.uses[source] += 1
            if not seen[source]:
                seen[source] = 1
                queue.append(source)
    return links


def _sources(
    inputs: Sequence[Sequence[int]], virtual: Sequence[bool], trivial: Sequence[bool], links: _Links, end: int
) -> list[int]:
    """Nodes without inputs; the last is to run first. Each earlier one is tied behind a node that must precede it."""
    left = list(links.uses)
    sources: list[int] = []
    real: deque[int] = deque()
    passing = deque([end])
    while real or passing:
        node = passing.popleft() if passing else real.popleft()
        independent = True
        for source in reversed(inputs[node]):
            if trivial[source]:
                continue
            independent = False
            left[source] -= 1
            if left[source]:
                continue
            if virtual[source]:
                passing.append(source)
                continue
            real.append(source)
            if sources:
                held = sources.pop()
                links.consumers[source].append(held)
                links.waiting[held] += 1
        if independent:
            sources.append(node)
    return sources


def _run(types: Sequence[str], virtual: Sequence[bool], links: _Links, sources: list[int], end: int) -> list[int]:
    waiting = links.waiting
    order: list[int] = []
    common: deque[int] = deque()
    urgent: deque[int] = deque()
    delayed: deque[int] = deque()

    def release(node: int, queue: deque[int]) -> None:
        consumers = links.consumers[node]
        for consumer in consumers:
            if waiting[consumer] == 0:
                continue
            waiting[consumer] -= 1
            if waiting[consumer]:
                continue
            if virtual[consumer] or len(consumers) == 1:
                queue.appendleft(consumer)
            else:
                queue.append(consumer)

    while sources or delayed:
        if delayed:
            release(delayed.popleft(), urgent)
        else:
            common.append(sources.pop())
        while common or urgent:
            queue = urgent if urgent else common
            node = queue.popleft()
            if node != end:
                order.append(node)
            if node < end and types[node] in _COMMUNICATION:
                delayed.append(node)
            else:
                release(node, queue)
    return order


def _with_trivial(order: list[int], inputs: Sequence[Sequence[int]], trivial: Sequence[bool]) -> list[int]:
    """Put nodes that only pass on constants and parameters right before their first user."""
    placed: dict[int, None] = {}
    for node in order:
        stack = [node]
        while stack:
            top = stack[-1]
            missing = [source for source in inputs[top] if trivial[source] and source not in placed]
            if missing:
                stack.extend(missing[:1])
                continue
            placed[stack.pop()] = None
    return list(placed)


def execution_order_by_name(
    names: Sequence[str], types: Sequence[str], inputs: Sequence[Sequence[str]], result: Sequence[str]
) -> list[int]:
    """`execution_order` for nodes that name their inputs; names of no node (constants, parameters) are ignored."""
    index: Mapping[str, int] = {name: position for position, name in enumerate(names)}
    return execution_order(
        types,
        [[index[name] for name in row if name in index] for row in inputs],
        [index[name] for name in result if name in index],
    )
