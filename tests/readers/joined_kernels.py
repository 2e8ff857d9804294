"""Which op of a graph a kernel name of MindSpore's CPU profiler or its dumps speaks of: an oracle for the readers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from memplan.graph.model import Graph

_EXPANSION = re.compile(r"Expand/_(?P<parent>\w+)/(?P<type>\w+)-op(?P<number>\d+)$")


@dataclass(frozen=True, slots=True)
class Join:
    """`op` is the index of the graph's op; `expanded` when the kernel is only a part of it."""

    op: int
    expanded: bool


def join_kernels(graph: Graph, names: Iterable[str]) -> dict[str, Join]:
    """
    The op of `graph` for each kernel name that has one; names without are left out.

    A name joins the op of the same full scope name. Where a backend split an op into several kernels, it calls them
    `Expand/_<op type>/<kernel type>-op<number>` and numbers each kernel type in the order in which the graph lists
    the ops it came from: so the n-th of them belongs to the n-th op of that type that has no kernel of its own name
    (or the 2n-th and the one after it, where each op became two of them, and so on).
    """
    wanted = list(dict.fromkeys(names))
    by_name: dict[str, int] = {}
    for op in graph.ops:
        if op.launches or op.name not in by_name:
            by_name[op.name] = op.index
    found = {name: Join(by_name[name], expanded=False) for name in wanted if name in by_name}
    parts: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in wanted:
        match = _EXPANSION.match(name)
        if match and name not in found:
            parts.setdefault((match["parent"], match["type"]), []).append((int(match["number"]), name))
    if not parts:
        return found
    own = {join.op for join in found.values()}
    parents: dict[str, list[int]] = {}
    for op in sorted(graph.ops, key=lambda op: _listed(op.attrs.get("listed"), op.index)):
        if op.launches and op.index not in own:
            parents.setdefault(op.type, []).append(op.index)
    for (parent, _), kernels in parts.items():
        candidates = parents.get(parent, [])
        if not candidates:
            continue
        each = -(-(max(number for number, _ in kernels) + 1) // len(candidates))
        for number, name in kernels:
            found[name] = Join(candidates[number // each], expanded=True)
    return found


def _listed(value: object, index: int) -> int:
    """Where the file lists an op; its step where the file's order is the schedule's."""
    return value if isinstance(value, int) else index
