"""Functions, classes and methods of the package that nothing but tests uses, told by their names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOR_PYTHON = frozenset({"Callback", "parameter_counts", "plan_cache"})
"""Offered to who works with memplan in Python: watching a run, parameters of a model, blocks of a cache."""
_OVERRIDES = frozenset({"find_class", "frombuf", "persistent_load", "_repr_html_"})
"""Methods that a base class of a library calls, beside Qt's, told by their capitals, and MindSpore's `on_train_…`."""
_REGISTERS = frozenset({"callback", "command"})
"""Decorators of Typer's apps: they keep what they decorate."""


@dataclass(frozen=True)
class Definition:
    """A function, class or method of a file, with its lines."""

    name: str
    path: Path
    first: int
    last: int


def unused(package: Iterable[Path], others: Iterable[Path]) -> list[Definition]:
    """
    What files of the `package` define and neither they nor `others` (benchmarks, tools) name, itself aside.

    That a package's `__init__` hands a name on is no use of it. Things of one name are told apart by no one: all
    count as used when one is.
    """
    package = list(package)
    places: dict[str, list[tuple[Path, int]]] = defaultdict(list)
    defined: list[Definition] = []
    for path in package:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined += _definitions(tree, path)
        for name, line in _uses(tree, handing_on=path.name == "__init__.py"):
            places[name].append((path, line))
    for path in others:
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for name in re.findall(r"\w+", text):
                places[name].append((path, number))
    return [item for item in defined if not any(_outside(item, *place) for place in places[item.name])]


def _outside(item: Definition, path: Path, line: int) -> bool:
    return path != item.path or not item.first <= line <= item.last


def _definitions(tree: ast.Module, path: Path) -> Iterator[Definition]:
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else []
        for one in (node, *inside):
            if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            decorators = {
                part.attr for text in one.decorator_list for part in ast.walk(text) if isinstance(part, ast.Attribute)
            }
            called_from_outside = one.name.startswith(("__", "on_train_")) or one.name in _OVERRIDES | FOR_PYTHON
            of_qt = one is not node and one.name != one.name.lower() and "_" not in one.name.strip("_")
            if not called_from_outside and not of_qt and not decorators & _REGISTERS:
                first = min((text.lineno for text in one.decorator_list), default=one.lineno)
                yield Definition(one.name, path, first, one.end_lineno or one.lineno)


def _uses(tree: ast.Module, *, handing_on: bool) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom) and not handing_on:
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Constant) and not handing_on and re.fullmatch(r"[\w.:]+", str(node.value)):
            yield str(node.value).rpartition(":")[2], node.lineno  # `module:class`, or what getattr() asks for
