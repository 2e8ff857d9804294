"""
Recomputation as a rewrite of a graph: what is given up between two uses is made anew by running ops once more.

Every storage has versions, one a writing op. A repeated op reads the versions that it read the first time and makes
those that it made, so that the ops behind it find the same bytes; whether that can be done the graph alone tells.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from memplan.core.resources import table
from memplan.graph.access import Access, accesses, carried
from memplan.graph.model import Graph, Op
from memplan.graph.op_names import op_family

Value = TypeVar("Value")
Version = tuple[int, int]
"""A storage and how many ops had written it."""

_CONTROL = frozenset({"LoopBegin", "Switch", "switch", "SwitchLayer", "switch_layer"})


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Storage `storage` is not kept between its uses at steps `after` and `before`."""

    storage: int
    after: int
    before: int


class RepeatRules:
    """
    What of `graph` can be made anew, and by which ops.

    `allowed` says of every op whether its caller knows it well enough to run it again.
    """

    def __init__(self, graph: Graph, allowed: Sequence[bool]) -> None:
        self.graph = graph
        self.accesses: tuple[Access, ...] = accesses(graph)
        self.reads: list[tuple[Version, ...]] = []
        self.writes: list[tuple[Version, ...]] = []
        self.writer: dict[Version, int] = {}
        self.written: dict[int, list[int]] = {}
        self.uses: dict[int, list[int]] = {}
        version: dict[int, int] = {}
        for step, access in enumerate(self.accesses):
            self.reads.append(tuple((storage, version.get(storage, 0)) for storage in access.reads))
            for storage in access.writes:
                version[storage] = version.get(storage, 0) + 1
                self.writer[storage, version[storage]] = step
                self.written.setdefault(storage, []).append(step)
            self.writes.append(tuple((storage, version[storage]) for storage in access.writes))
            for storage in dict.fromkeys((*access.reads, *access.writes)):
                self.uses.setdefault(storage, []).append(step)
        root = [tensor.storage for tensor in graph.tensors]
        self.fixed = carried(graph) | {root[tensor] for tensor in (*graph.outputs, *graph.inputs)}
        self.fixed.update(tensor.storage for tensor in graph.tensors if tensor.on_host)
        self.repeatable = self._repeatable(allowed)
        self.reach = max(2, min(64, len(graph.ops) // 16))

    def _repeatable(self, allowed: Sequence[bool]) -> list[bool]:
        graph = self.graph
        if any(op.type in _CONTROL or op.repeats is not None for op in graph.ops):
            return [False] * len(graph.ops)
        root = [tensor.storage for tensor in graph.tensors]
        size: dict[int, int] = {}
        for tensor in graph.tensors:
            size[tensor.storage] = max(size.get(tensor.storage, 0), tensor.nbytes)
        found = []
        for op, access, ready in zip(graph.ops, self.accesses, allowed, strict=True):
            covered = {root[tensor]: graph.tensors[tensor].nbytes for tensor in op.outputs}
            found.append(
                ready
                and op.launches
                and not op.writes
                and bool(access.writes)
                and may_repeat(op.type)
                and not any(storage in self.fixed for storage in access.writes)
                and all(covered[storage] == size[storage] or storage in access.reads for storage in access.writes)
            )
        return found

    def version_read(self, storage: int, step: int) -> int | None:
        """The version of `storage` that the op at `step` reads, `None` if it reads none."""
        return next((version for read, version in self.reads[step] if read == storage), None)

    def last_use(self, storage: int) -> int:
        """The last step that uses `storage`."""
        return self.uses[storage][-1]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Op `op` runs once more right before step `before`."""

    op: int
    before: int


@dataclass(frozen=True, slots=True)
class RepeatedOps:
    """The ops that run once more for what is given up, and what of that could not be done."""

    repeats: tuple[Repeat, ...]
    refused: tuple[GivenUp, ...]


def may_repeat(op_type: str) -> bool:
    """Whether ops of a type give the same when they run again: no random state, no peer, nothing outside the graph."""
    return op_family(op_type) not in _never()


def _never() -> frozenset[str]:
    rules = table("memplan.graph", "repeatable.json")
    return frozenset(family for kind in ("random", "peers", "outside") for family in rules[kind]["families"])


class _State:
    """Which version of every storage is in HBM at one step of the walk through the graph."""

    def __init__(self, rules: RepeatRules, given_up: Iterable[GivenUp]) -> None:
        self.rules = rules
        self.held: dict[int, int] = {}
        self.touched: dict[int, int] = {}
        self.absent: dict[int, list[GivenUp]] = {}
        for item in sorted(given_up, key=lambda item: (item.storage, item.after)):
            self.absent.setdefault(item.storage, []).append(item)

    def version(self, storage: int, step: int) -> int | None:
        """The version of a storage that is there before `step`, `None` if it was let go."""
        return None if self._gone(storage, step) else self.held.get(storage, 0)

    def needed_later(self, storage: int, step: int) -> bool:
        """Whether what is held of a storage now is used by a later op of the graph."""
        return self.rules.last_use(storage) >= step and not self._gone(storage, step)

    def _gone(self, storage: int, step: int) -> bool:
        """Whether a storage was given up, or its last use was long ago."""
        touched = self.touched.get(storage)
        if touched is None or storage in self.rules.fixed:
            return False  # there from the start, or to the end
        if step > self.rules.last_use(storage) and step - touched > self.rules.reach:
            return True
        items = self.absent.get(storage, ())
        at = bisect_left(items, step, key=lambda item: item.after) - 1
        return at >= 0 and touched <= items[at].after and step <= items[at].before


def repeated_ops(rules: RepeatRules, given_up: Iterable[GivenUp]) -> RepeatedOps:
    """
    The ops to run once more so that every op finds what it reads although the storages of `given_up` are let go.

    Each is made anew right before it is needed, from what is there then; inputs that are gone are made anew as well.
    """
    given_up = list(given_up)
    refused: list[GivenUp] = []
    while True:
        left = [item for item in given_up if item not in set(refused)]
        repeats, failed = _walk(rules, left)
        if not failed:
            return RepeatedOps(tuple(repeats), tuple(refused))
        refused += failed


def _walk(rules: RepeatRules, given_up: Sequence[GivenUp]) -> tuple[list[Repeat], list[GivenUp]]:
    state = _State(rules, given_up)
    by_end = {(item.storage, item.before): item for item in given_up}
    repeats: list[Repeat] = []
    failed: list[GivenUp] = []
    for step in range(len(rules.graph.ops)):
        for version in rules.reads[step]:
            if state.version(version[0], step) == version[1]:
                continue
            ops = closure(rules, version, step, state)
            if ops is None:
                item = by_end.get((version[0], step))
                failed += [item] if item is not None else [gone for gone in given_up if gone.storage == version[0]]
                continue
            for op in ops:
                repeats.append(Repeat(op, step))
                for storage, number in rules.writes[op]:
                    state.held[storage] = number
                for storage, _ in (*rules.reads[op], *rules.writes[op]):
                    state.touched[storage] = step
        for storage, number in (*rules.reads[step], *rules.writes[step]):
            state.held[storage] = number
            state.touched[storage] = step
    return repeats, list(dict.fromkeys(failed))


def closure(rules: RepeatRules, wanted: Version, step: int, state: _State | None = None) -> list[int] | None:
    """
    The ops that make a version anew before `step` from what is there, in order; `None` where that can't be done.

    Without `state`, what a later op of the graph uses is there, and nothing else.
    """
    state = state or _Untouched(rules, ())
    found: set[int] = set()
    open_ = [wanted]
    while open_:
        version = open_.pop()
        writer = rules.writer.get(version)
        if writer is None or writer >= step or not rules.repeatable[writer]:
            return None
        if writer in found:
            continue
        found.add(writer)
        open_ += [read for read in rules.reads[writer] if state.version(read[0], step) != read[1]]
    return sorted(found) if _runs(rules, sorted(found), wanted, step, state) else None


def _runs(rules: RepeatRules, ops: Sequence[int], wanted: Version, step: int, state: _State) -> bool:
    """Whether each of `ops` finds what it reads, the wanted version is there in the end and nothing needed is lost."""
    held: dict[int, int] = {}
    for op in ops:
        if any(held.get(storage, state.version(storage, step)) != number for storage, number in rules.reads[op]):
            return False
        held.update(rules.writes[op])
    return held.get(wanted[0]) == wanted[1] and not any(
        state.version(storage, step) not in (None, number) and state.needed_later(storage, step)
        for storage, number in held.items()
        if storage != wanted[0]
    )


class _Untouched(_State):
    """The state before each step of the graph as it is."""

    def version(self, storage: int, step: int) -> int | None:
        """The version of a storage that is there before `step`; `None` after its last use."""
        if storage not in self.rules.fixed and self.rules.last_use(storage) < step:
            return None
        return bisect_left(self.rules.written.get(storage, ()), step)

    def needed_later(self, storage: int, step: int) -> bool:
        """Whether a later op uses it."""
        return self.rules.last_use(storage) >= step


def with_repeats(graph: Graph, repeats: Sequence[Repeat]) -> Graph:
    """`graph` with the ops of `repeats` run once more, in the order given before each step."""
    before: dict[int, list[int]] = {}
    for item in repeats:
        before.setdefault(item.before, []).append(item.op)
    order: list[tuple[int, bool]] = []
    for op in graph.ops:
        order += [(again, True) for again in before.get(op.index, ())]
        order.append((op.index, False))
    place = {index: at for at, (index, again) in enumerate(order) if not again}
    return replace(
        graph,
        ops=tuple(
            _again(graph.ops[index], at, place[index]) if again else _moved(graph.ops[index], at, place)
            for at, (index, again) in enumerate(order)
        ),
        tensors=tuple(
            tensor if tensor.producer is None else replace(tensor, producer=place[tensor.producer])
            for tensor in graph.tensors
        ),
    )


def _again(op: Op, index: int, of: int) -> Op:
    scope = None if op.scope is None else replace(op.scope, phase="recompute")
    attrs = {name: value for name, value in op.attrs.items() if name not in ("after", "listed")}
    return replace(op, index=index, name=f"{op.name}.again", scope=scope, attrs=attrs, repeats=of)


def _moved(op: Op, index: int, place: Mapping[int, int]) -> Op:
    after = op.attrs.get("after")
    if not isinstance(after, tuple):
        return replace(op, index=index)
    return replace(op, index=index, attrs={**op.attrs, "after": tuple(place[step] for step in after)})


def along_repeats(graph: Graph, values: Sequence[Value]) -> list[Value]:
    """`values` of the ops of a graph for those of `graph`, which repeats some of them."""
    found: list[Value] = []
    first = iter(values)
    for op in graph.ops:
        found.append(next(first) if op.repeats is None else found[op.repeats])
    return found
