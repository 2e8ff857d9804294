"""What MindSpore's graphs don't say about their own ops: argument names, views, in-place writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from memplan.core.resources import table


class Target(str, Enum):
    """Whose kernels a graph is going to run with; they differ in what they update in place."""

    ASCEND = "ascend"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class InPlace:
    """
    Arguments an op writes, and the written argument that each of its outputs occupies (none: own bytes).

    `where` names the attribute without which, or with which false, it writes none of them.
    """

    writes: tuple[str, ...]
    outputs: tuple[str, ...]
    where: str | None = None


@dataclass(frozen=True, slots=True)
class OpTable:
    """
    `arguments`: input names by op type, in order. `views`: op types whose first output occupies their first input.
    `in_place`: what ops write. `optimizers` matches the scope part that an
    optimiser's cell gets, `optimizer_scalars` are the names of parameters it keeps for itself.

    `cpu_own_outputs` are ops of `in_place` whose outputs get bytes of their own in MindSpore's CPU build, and
    `cpu_workspace_operands` ops that it splits, with the intermediate values of the largest operand's size that
    this costs; `cpu_op_by_op_workspace_operands` are those where it costs more while Python runs them one by one. Of
    the two operands of `cpu_broadcast_operands` it copies one that has no batch, for each matrix of the other. Of an op
    in `cpu_early_parts` it makes a kernel of its own (its type, and the one argument that it reads and whose shape it
    keeps), which needs nothing of what else the op waits for. `cpu_wide_kernels` are known to be there for float32 and
    not for float16 in what it compiles.
    """

    source: str
    arguments: Mapping[str, tuple[str, ...]]
    views: frozenset[str]
    in_place: Mapping[str, InPlace]
    optimizers: re.Pattern[str]
    optimizer_scalars: frozenset[str]
    cpu_own_outputs: frozenset[str]
    cpu_workspace_operands: Mapping[str, int]
    cpu_op_by_op_workspace_operands: Mapping[str, int]
    cpu_broadcast_operands: frozenset[str]
    cpu_early_parts: Mapping[str, tuple[str, str]]
    cpu_wide_kernels: frozenset[str]

    def argument(self, op: str, position: int) -> str:
        """The name of input `position` of `op`, or `inputN` when the table doesn't know it."""
        names = self.arguments.get(op, ())
        return names[position] if position < len(names) else f"input{position}"


@cache
def op_table() -> OpTable:
    """The table shipped with memplan; its `source` says which MindSpore it was read from."""
    document = table("memplan.readers.mindir", "op_table.json")
    return OpTable(
        source=document["source"],
        arguments={op: tuple(names) for op, names in document["arguments"].items()},
        views=frozenset(document["views"]),
        in_place={
            op: InPlace(tuple(entry["writes"]), tuple(entry["outputs"]), entry.get("where"))
            for op, entry in document["in_place"].items()
        },
        optimizers=re.compile(document["optimizer_scopes"]),
        optimizer_scalars=frozenset(document["optimizer_scalars"]),
        cpu_own_outputs=frozenset(document["cpu"]["own_outputs"]),
        cpu_workspace_operands=document["cpu"]["workspace_operands"],
        cpu_op_by_op_workspace_operands=document["cpu"]["op_by_op_workspace_operands"],
        cpu_broadcast_operands=frozenset(document["cpu"]["broadcast_operands"]),
        cpu_early_parts={op: (part["type"], part["of"]) for op, part in document["cpu"]["early_parts"].items()},
        cpu_wide_kernels=frozenset(document["cpu"]["wide_kernels"]),
    )
