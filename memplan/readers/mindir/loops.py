"""Loops, which MindIR writes as functions that call themselves: found, opened and closed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from memplan.core.errors import InputError
from memplan.graph.builder import Companions, GraphBuilder
from memplan.readers.mindir.values import NO_VALUE, Closure, ClosureChoice, GraphValue, leaves, tensors_of


class LoopFinder:
    """Which functions form a loop, given which functions each one names."""

    def __init__(self, calls: Mapping[str, frozenset[str]]) -> None:
        self._calls = calls
        self._cyclic: dict[frozenset[str], dict[str, frozenset[str]]] = {}

    @property
    def recursive(self) -> bool:
        """Whether there is any loop at all."""
        return bool(self._loops(frozenset()))

    def loop_of(self, function: str, heads: frozenset[str]) -> frozenset[str]:
        """
        The functions of the loop that a call of `function` enters; empty when it enters none.

        `heads` are the heads of the loops around the call: going back to one of them is no new loop.
        """
        return self._loops(heads).get(function, frozenset())

    def _loops(self, heads: frozenset[str]) -> dict[str, frozenset[str]]:
        if heads not in self._cyclic:
            calls = {name: callees - heads for name, callees in self._calls.items() if name not in heads}
            self._cyclic[heads] = _circles(calls) if any(calls.values()) else {}
        return self._cyclic[heads]


def _circles(calls: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Functions that reach themselves, each with all that are in the same circle."""
    import networkx as nx  # slow to import, and most graphs call nothing

    found: dict[str, frozenset[str]] = {}
    for part in nx.strongly_connected_components(nx.DiGraph(calls)):
        if len(part) > 1 or any(name in calls.get(name, ()) for name in part):
            members = frozenset(part)
            found.update(dict.fromkeys(members, members))
    return found


class Loop:
    """
    One loop under way: `functions` are its own, `branches_left` how many branches of the head's condition stay inside.

    `enclosing` is the op at which the loop around it begins (-1: none). In a pass after the first, an argument is
    what the pass before made. It is written over the first pass's argument where that is dead by then and used for
    nothing else; otherwise its bytes are held over the whole loop, with a second buffer when the old value is still
    used once the new one exists or goes on to another argument.
    """

    def __init__(self, functions: frozenset[str], arguments: tuple[GraphValue, ...], enclosing: int) -> None:
        self.functions = functions
        self._enclosing = enclosing
        self.arguments = arguments
        self.branches_left = 0
        self._carried: list[tuple[GraphValue, ...]] = []
        self._groups: dict[int, Companions] = {}
        self._names: list[str] = []
        self.begin = -1
        self._closed = False

    def open(self, builder: GraphBuilder, names: list[str]) -> tuple[GraphValue, ...]:
        """Append `LoopBegin` and return the head's arguments under names of their own."""
        self._names = names
        entering: list[int] = []
        leaving: list[int] = []

        def rename(value: GraphValue, name: str) -> GraphValue:
            if type(value) is tuple:
                return tuple(rename(item, name) for item in value)
            if type(value) is not int:
                return value
            inner = builder.alias(name.rsplit(":", 1)[-1], value)
            self._groups[inner] = Companions()
            builder.accompany(inner, self._groups[inner])
            entering.append(value)
            leaving.append(inner)
            return inner

        renamed = tuple(rename(value, name) for value, name in zip(self.arguments, names, strict=True))
        self.begin = builder.op("LoopBegin", "LoopBegin", entering, leaving, launches=False)
        self.arguments = renamed
        return renamed

    def back(self, arguments: tuple[GraphValue, ...]) -> None:
        """Note that the loop goes round with `arguments`."""
        if self._closed:
            raise InputError("a loop is entered again from behind its end", place=self._names[0] if self._names else "")
        self._carried.append(arguments)

    def close(self, builder: GraphBuilder) -> None:
        """Append `LoopEnd`, which holds what the next pass needs."""
        if self._closed:
            return
        self._closed = True
        carried: dict[int, list[int]] = {}
        for arguments in self._carried:
            for inside, new in _pairs(self.arguments, arguments):
                carried.setdefault(inside, []).append(new)
        held = dict.fromkeys(new for news in carried.values() for new in news)
        for op in builder.ops[self.begin + 1 :]:
            for tensor in op.inputs:
                producer = builder.producers[builder.storage(tensor)]
                if tensor not in self._groups and (producer is None or producer < self.begin):
                    held[tensor] = None
        kept = [tensor for tensor in held if not builder.kinds[builder.storage(tensor)].persistent]
        end = builder.op("LoopEnd", "LoopEnd", kept, (), launches=False)
        for inside, news in carried.items():
            if inside in self._groups:
                self._groups[inside].members.extend(new for new in news if not self._comes_from(builder, inside, new))
        builder.defer(partial(self._settle, builder, carried, end))

    def _settle(self, builder: GraphBuilder, carried: dict[int, list[int]], end: int) -> None:
        """Decide for every argument where a pass finds what the pass before left for it."""
        last = self._last_uses(builder, end)
        changed = {
            inside: [new for new in news if not self._comes_from(builder, inside, new)]
            for inside, news in carried.items()
            if inside in self._groups
        }
        goes_to: dict[int, set[int]] = {}
        moves_on: set[int] = set()
        for inside, news in changed.items():
            for new in news:
                goes_to.setdefault(builder.storage(new), set()).add(inside)
                moves_on.update(other for other in self._groups if self._comes_from(builder, other, new))
        for inside, news in changed.items():
            made = {builder.storage(new): new for new in news if self._made_inside(builder, new) is not None}
            from_other = any(self._comes_from(builder, other, new) for new in news for other in self._groups)
            old = builder.storage(inside)
            still_used = any(last.get(old, -1) >= (self._made_inside(builder, new) or 0) for new in made.values())
            alone = self._only_here(builder, old, self._groups[inside])
            if from_other or (made and (inside in moves_on or still_used)):
                self._hold_old(builder, inside, alone, end)
            elif made and alone and len(news) == 1 and len(goes_to[next(iter(made))]) == 1:
                # The old value is dead when the next one is made, so every pass can use the same bytes.
                builder.share(inside, news[0])
                continue
            builder.amend(self.begin, outputs=made.values())

    def _hold_old(self, builder: GraphBuilder, inside: int, alone: bool, end: int) -> None:
        """Keep bytes for the old value beside the new one: its own where nothing else needs them, else others."""
        if alone:
            builder.amend(end, inputs=(inside,))
            return
        root = builder.storage(inside)
        spare = builder.tensor(
            f"{builder.names[inside]} (next pass)", builder.shapes[root], builder.dtypes[root], builder.nbytes[root]
        )
        builder.amend(self.begin, outputs=(spare,))
        builder.amend(end, inputs=(spare,))
        self._groups[inside].members.append(spare)

    def _last_uses(self, builder: GraphBuilder, end: int) -> dict[int, int]:
        """The last op inside the loop that uses each storage."""
        last: dict[int, int] = {}
        for op in builder.ops[self.begin + 1 : end]:
            for tensor in op.inputs:
                last[builder.storage(tensor)] = op.index
        return last

    def _made_inside(self, builder: GraphBuilder, tensor: int) -> int | None:
        """The op of the loop that makes the bytes of `tensor`; `None` when they were there before."""
        step = builder.producers[builder.storage(tensor)]
        return step if step is not None and step > self.begin else None

    def _comes_from(self, builder: GraphBuilder, inside: int, tensor: int) -> bool:
        """Whether `tensor` is the argument `inside` under another name."""
        return self._groups[inside] in builder.companions(tensor)

    def _only_here(self, builder: GraphBuilder, root: int, group: Companions) -> bool:
        """Whether from the loop's beginning on the bytes of `root` are used as this one argument only."""
        made = builder.producers[root]
        if made is None or made <= self._enclosing or builder.kinds[root].persistent:
            return False
        for op in builder.ops[self.begin + 1 :]:
            for tensor in op.inputs:
                if builder.storage(tensor) == root and group not in builder.companions(tensor):
                    return False
        entering = [tensor for tensor in builder.ops[self.begin].inputs if builder.storage(tensor) == root]
        return len(entering) == 1


def _pairs(inside: tuple[GraphValue, ...], new: tuple[GraphValue, ...]) -> list[tuple[int, int]]:
    """Tensors of the head's arguments with those that take their place in the next pass."""
    pairs: list[tuple[int, int]] = []
    for old, value in zip(inside, new, strict=True):
        if value is NO_VALUE:
            continue
        olds, news = list(tensors_of(old)), list(tensors_of(value))
        if len(olds) != len(news):
            raise InputError("a loop carries something whose structure changes from pass to pass")
        if any(isinstance(item, (Closure, ClosureChoice)) for item in leaves(old)):
            raise InputError("a loop carries functions")
        pairs.extend(zip(olds, news, strict=True))
    return pairs
