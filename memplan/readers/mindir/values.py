"""What the names of a MindIR program stand for while it is flattened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from memplan.readers.mindir.decode import Literal

GraphValue = Any
"""A tensor index (`int`), `Literal`, `Monad`, `Closure`, `ClosureChoice`, `NO_VALUE`, or a tuple of values."""


class Monad(NamedTuple):
    """The state of side effects after op `after` (`None`: before any)."""

    after: int | None


class Closure(NamedTuple):
    """A function with its first arguments bound; `steps` are the nodes those arguments came from."""

    graph: str
    bound: tuple[Any, ...] = ()
    steps: tuple[int, ...] = ()


class ClosureChoice(NamedTuple):
    """One of several closures, picked at run time."""

    closures: tuple[Closure, ...]


class Nothing(NamedTuple):
    """The result of a call that goes back to a loop's head: it never returns there."""


NO_VALUE = Nothing()


def leaves(value: GraphValue) -> Iterator[GraphValue]:
    """Everything in `value` that is no tuple and no closure, in order."""
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is tuple:
            stack.extend(reversed(item))
        elif kind is Closure:
            stack.extend(reversed(item.bound))
        elif kind is ClosureChoice:
            stack.extend(reversed(item.closures))
        else:
            yield item


def tensors_of(value: GraphValue) -> Iterator[int]:
    """Indices of all tensors in `value`, in order."""
    return (item for item in leaves(value) if type(item) is int)


def as_plain(value: GraphValue) -> object:
    """`value` as plain Python if it holds constants only, else `None`."""
    if isinstance(value, Literal):
        return value.value
    if type(value) is tuple:
        items = [as_plain(item) for item in value]
        return None if any(item is None for item in items) else tuple(items)
    return None
