"""What a function of the running process names: through its closure and globals, and through what these name."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any

_MOST_OBJECTS = 10_000
_MOST_MEMBERS = 100
_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_INSTALLED = tuple(str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def named_objects(source: Any) -> dict[str, Any]:
    """
    Objects that `source`, a function, a method or what wraps one, reaches when it is called, by their names there.

    A step calls helpers, a framework's wrapper of gradients calls a user's function, a method works on what its object
    holds: all are followed, nearest first; frameworks' own objects, such as modules, are not looked into. What has a
    name that is taken is told by its holder as well. Nothing is called.
    """
    found: dict[str, Any] = {}
    waiting = deque(("", name, value) for name, value in _named_by(source))
    seen = {id(source)}
    while waiting and len(seen) < _MOST_OBJECTS:
        holder, name, value = waiting.popleft()
        if id(value) in seen or inspect.ismodule(value) or inspect.isclass(value):
            continue
        seen.add(id(value))
        full = f"{holder}.{name}" if holder and name in found else name
        while full in found:
            full += "_"
        found[full] = value
        waiting.extend((full, inner, part) for inner, part in _named_by(value))
    return found


def _named_by(value: Any) -> Iterator[tuple[str, Any]]:
    """What `value` itself names."""
    if isinstance(value, MethodType):
        yield from _named_by(value.__func__)
        yield "self", value.__self__
        yield from _named_by(value.__self__)
    elif isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, list | tuple):
        yield from ((str(at), part) for at, part in enumerate(value[:_MOST_MEMBERS]))
    elif isinstance(value, dict):
        yield from [(str(name), part) for name, part in value.items()][:_MOST_MEMBERS]
    elif isinstance(value, SimpleNamespace) or all(map(_is_the_users, type(value).__mro__[:-1])):
        yield from [(name, part) for name, part in getattr(value, "__dict__", {}).items()]


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What `function` wraps, its closure and defaults, and, of a user's, the globals that its code names."""
    if hasattr(function, "__wrapped__"):
        yield "wrapped", function.__wrapped__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # Without content it is bound only once the function around it goes on.
        with suppress(ValueError):
            yield name, cell.cell_contents
    yield "defaults", function.__defaults__ or ()
    yield "keywords", function.__kwdefaults__ or {}
    if _is_the_users(function):
        names = dict.fromkeys(_names(function.__code__))
        yield from [(name, function.__globals__[name]) for name in names if name in function.__globals__]


def _names(code: CodeType) -> Iterator[str]:
    """Globals that `code` reads, and those of the functions and comprehensions inside it."""
    yield from (str(step.argval) for step in dis.get_instructions(code) if step.opname in _GLOBALS)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_the_users(value: Any) -> bool:
    """Whether a function or class is of no installed package; what was typed at a prompt has no file."""
    name = value.__module__
    if name == "builtins":
        return False
    file = getattr(sys.modules.get(name or ""), "__file__", None)
    return file is None or not str(file).startswith(_INSTALLED)
