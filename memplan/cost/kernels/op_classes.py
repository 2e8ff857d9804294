"""What each op type does, by `kernels.json`: the formula of its kernels, its instructions, its way through rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, prod
from typing import Any

from memplan.core.resources import table
from memplan.cost.kernels.kernel import Kernel, Operand, logical_row
from memplan.graph.op_names import table_names

CONVOLUTIONS = (
    "convolution", "convolution_input_gradient", "convolution_filter_gradient", "transposed_convolution",
)  # fmt: skip
"""Kinds whose kernels unfold images into products."""


@dataclass(frozen=True, slots=True)
class OpClass:
    """
    What an op type does: `kind` picks the formula, `rule` is the class's name in the table.

    `passes` counts plain vector instructions per element of the largest operand, `transcendentals` slow ones; `widens`
    where halves are computed as float32. `assumed` says what the class takes for granted or leaves out: of such types
    no interval is known.
    """

    kind: str
    passes: float = 1.0
    transcendentals: float = 0.0
    rule: str = ""
    widens: bool = False
    assumed: str = ""


def _table() -> Mapping[str, Any]:
    return table("memplan.cost", "kernels.json")


@cache
def _classes(generation: str) -> Mapping[str, OpClass]:
    """Classes by type, with those that kernels of `generation` have of their own."""
    found = {}
    own = _table()["generations"].get(generation, {"classes": {}})["classes"]
    for name, entry in (*_table()["classes"].items(), *own.items()):
        rule = OpClass(
            kind=entry["kind"],
            passes=entry.get("passes", 0.0 if entry["kind"] != "vector" else 1.0),
            transcendentals=entry.get("transcendentals", 0.0),
            rule=name,
            widens=entry.get("widens", entry["kind"] == "rows"),
        )
        partly = entry.get("in_part", False)
        in_part = replace(rule, assumed="a part alone of what its type does is counted")
        for op_type in entry["types"]:
            counted = not partly if isinstance(partly, bool) else op_type not in partly
            found[op_type.casefold()] = rule if counted else in_part
    return found


@cache
def listed_name(op_type: str, generation: str = "") -> str:
    """
    The name by which all tables know `op_type`, in lower case: the nearest one that has a class, its own where none
    has. `generation` has classes of its own.

    So a version, a prefix or a spelling that no table lists is what its class takes it for, while a type with a class
    of its own (`MatMulV2`, `TransposeD`) is no other type's in any table.
    """
    classes = _classes(generation)
    return next((name for name in table_names(op_type) if name in classes), op_type.casefold())


@cache
def _names(*path: str | int) -> frozenset[str]:
    """The types that `kernels.json` lists at `path`, in lower case; none where it has no such entry."""
    found: Any = _table()
    for part in path:
        if isinstance(part, str) and part not in found:
            return frozenset()
        found = found[part]
    return frozenset(name.casefold() for name in found)


@cache
def by_name(*path: str) -> Mapping[str, Any]:
    """What `kernels.json` says at `path` of each type by its `listed_name`; nothing where it has no such entry."""
    found: Any = _table()
    for part in path:
        found = found.get(part, {})
    return {name.casefold(): entry for name, entry in found.items()}


def is_among(op_type: str, *path: str | int) -> bool:
    """Whether `kernels.json` lists `op_type` at `path` (`"copies_layout", "types"`), by the rule of its classes."""
    return listed_name(op_type) in _names(*path)


def takes_turns(op_type: str, generation: str = "") -> bool:
    """
    Whether kernels of `op_type` read a piece, work on it and write it before the next one: no buffer is doubled, on any
    generation or in the kernels of `generation`.
    """
    own = is_among(op_type, "takes_turns", "generations", generation)
    return own or is_among(op_type, "takes_turns", "types")


def takes_all_cores(op_type: str) -> bool:
    """Whether kernels of `op_type` start on every vector core however little there is to do."""
    return is_among(op_type, "all_cores", "types")


def index_rows(op_type: str, generation: str) -> int:
    """
    Rows that each core gets a multiple of where `op_type` finds where in a row something is, 0 for other types and on
    generations that divide rows.
    """
    rule = _table()["index_rows"]
    whole = is_among(op_type, "index_rows", "types") and generation not in rule["not_of"]
    return int(rule["rows_a_core"]) if whole else 0


@dataclass(frozen=True, slots=True)
class IndexSearch:
    """
    Steps that wait for each other of a search for where an element is: of each `part` elements of a row, and of each
    element of an inner axis.
    """

    steps: int
    inner_steps: int
    part: int


def index_search(op_type: str, generation: str) -> IndexSearch | None:
    """How `op_type` searches on `generation` (`npu_arch`), `None` where it searches nothing or that is not known."""
    steps = _table()["index_rows"]["steps"].get(generation)
    return IndexSearch(**steps) if steps is not None and is_among(op_type, "index_rows", "types") else None


@dataclass(frozen=True, slots=True)
class RankRuns:
    """
    Copies out of a run without scales, generations (`npu_arch`) that deal out a rank's experts too, and from how many
    ranks on they don't; generations whose cores each read all counts by scalars.
    """

    copies: int
    divides_experts: Sequence[str]
    many_ranks: int
    counted_by_scalars: Sequence[str]


def rank_runs(op_type: str) -> RankRuns | None:
    """How `op_type` deals out runs of tokens of a rank and an expert, `None` for other types."""
    rule = _table()["rank_runs"]
    if not is_among(op_type, "rank_runs", "types"):
        return None
    return RankRuns(rule["copies"], rule["divides_experts"], rule["many_ranks"], rule["counted_by_scalars"])


@dataclass(frozen=True, slots=True)
class SummedRows:
    """
    Steps that wait for each other of `together` rows that are added up for a token: `steps`, where the expert of each
    is read too `steps_with_expert`, and of a token's only row `steps_of_one`.
    """

    together: int
    steps: int
    steps_with_expert: int = 0
    steps_of_one: int = 0

    def of_token(self, rows: int, *, expert: bool) -> int:
        """Steps of `rows` rows of a token; `expert` where biases of their experts are added."""
        if rows == 1 and self.steps_of_one:
            return self.steps_of_one
        return ceil(rows / self.together) * ((expert and self.steps_with_expert) or self.steps)


def summed_rows(op_type: str, generation: str) -> SummedRows | None:
    """How `op_type` adds up rows of experts on `generation` (`npu_arch`), `None` where that is not known."""
    steps = _table()["summed_rows"]["steps"].get(generation)
    return SummedRows(**steps) if steps is not None and is_among(op_type, "summed_rows", "types") else None


def tiling_bytes(op_type: str, generation: str) -> int:
    """Bytes of the cut that each core copies before it starts, 0 where they are few or nothing says that it waits."""
    rule = _table()["tiling_bytes"]
    if generation in rule["not_of"]:
        return 0
    name = listed_name(op_type)
    return next((int(each["bytes"]) for each in rule["structures"] if name.startswith(each["prefix"].casefold())), 0)


_BEHIND_CHANNELS = 2


def reduced_row(kernel: Kernel, operand: Operand) -> int:
    """
    `logical_row` of `operand` for `kernel`: norms of images go along the pixels of a channel, those of groups of
    channels along all that a group has, of which the result tells how many means there are.
    """
    if sums_groups(kernel):
        return max(operand.count // kernel.outputs[1].count, 1)
    if (
        operand.layout == "ND"
        and len(operand.shape) > _BEHIND_CHANNELS
        and is_among(kernel.type, "image_rows", "types")
    ):
        return max(prod(operand.shape[_BEHIND_CHANNELS:]), 1)
    return logical_row(operand)


def sums_groups(kernel: Kernel) -> bool:
    """Whether `kernel` goes along groups of channels, and tells how many by their means."""
    return is_among(kernel.type, "group_rows", "types") and len(kernel.outputs) > 1 and kernel.outputs[1].count > 0


def reads_groups_again(kernel: Kernel, generation: str) -> bool:
    """Whether norms of groups read every group a second time on `generation`, even if UB could hold it."""
    return sums_groups(kernel) and generation in _table()["group_rows"]["always_again"]


def row_steps(op_type: str, generation: str, *, long: bool) -> int:
    """
    Steps of each row that wait for each other where `op_type` takes rows one by one to where indices say, else 0.

    `long` where a row doesn't fit into UB, `generation` (`npu_arch`) where its kernels are known to do otherwise.
    """
    rule = _table()["rows_in_turn"]
    if generation in rule["not_of"]:
        return 0
    part = "longer_than_buffer" if long and is_among(op_type, "rows_in_turn", "longer_than_buffer") else "types"
    return int(by_name("rows_in_turn", part).get(listed_name(op_type), 0))


def rows_a_task(op_type: str, table_rows: int | None) -> int:
    """
    Rows that `op_type` deals out to cores at a time.

    `table_rows` is how many its table has where one index says a row of whole blocks, `None` elsewhere.
    """
    task = by_name("rows_in_turn", "tasks").get(listed_name(op_type))
    if task is None:
        return 1
    short = table_rows is not None and table_rows <= task["longest_table"]
    return int(task["rows_of_blocks" if short else "rows"])


def rows_overlap(op_type: str, row: int, dtype: str) -> bool:
    """Whether kernels of `op_type` read the next rows while they work on those of `row` elements of `dtype`."""
    return any(
        is_among(op_type, "rows_overlap", "rules", place, "types")
        and row <= rule.get("up_to_elements", row)
        and dtype in rule.get("dtypes", (dtype,))
        for place, rule in enumerate(_table()["rows_overlap"]["rules"])
    )


def reads_rows_behind_sum(op_type: str) -> bool:
    """Whether kernels of `op_type` that work on one row at a time read the next one as soon as a row is summed up."""
    return is_among(op_type, "next_row_behind_sum", "types")


def one_row_at_a_time(op_type: str, row: int, family: str) -> bool:
    """Whether kernels of `op_type` work on rows of `row` elements one at a time on chips of `family`."""
    return any(
        is_among(op_type, "one_row_at_a_time", "rules", place, "types")
        and row > rule["above_elements"]
        and row % rule.get("but_multiples_of", row + 1) != 0
        and family in rule.get("families", (family,))
        for place, rule in enumerate(_table()["one_row_at_a_time"]["rules"])
    )


_UNKNOWN = OpClass(kind="vector", passes=1.0, rule="unknown", assumed="op type not in the table: taken as elementwise")


@cache
def op_class(op_type: str, generation: str = "") -> OpClass:
    """
    The class of `op_type`, by the instructions of kernels of `generation` (`npu_arch`) where those are known.

    Version suffixes (`V2`, `D`, `Ext`) are dropped where the full name is not listed.

    A kernel that graph engines fused (`FusionOp_Conv2D_ReLU`) has the class of its heaviest part, with the instructions
    of the others behind it. A type that the table lacks is taken as one vector instruction per element, with the rule
    `unknown`.
    """
    found = _classes(generation).get(listed_name(op_type, generation))
    if found is not None:
        return found
    if is_fused(op_type):
        parts = [op_class(part, generation) for part in op_type.removeprefix(_FUSED).split("_") if part]
        if parts:
            return _joined(parts)
    return _UNKNOWN


def is_fused(op_type: str) -> bool:
    """Whether a graph engine made one kernel of several."""
    return op_type.startswith(_FUSED)


_FUSED = "FusionOp_"
_WEIGHT = ("attention_gradient", "attention", "convolution_filter_gradient", "convolution_input_gradient",
           "transposed_convolution", "convolution", "grouped_matmul", "recurrent", "einsum", "chunk_products", "matmul",
           "rows", "reduction", "pooling", "optimizer", "gather", "transpose", "slice", "vector", "fill")  # fmt: skip
"""Kinds of formulas, the one that decides a fused kernel's time first."""


def _joined(parts: Sequence[OpClass]) -> OpClass:
    """
    One kernel of `parts`: operands pass through memory once, every part's instructions are carried out, and what is
    counted in part stays so; one instruction more or less of a part that is not known tells little.
    """
    order = {kind: place for place, kind in enumerate(_WEIGHT)}
    heaviest = min(parts, key=lambda part: order.get(part.kind, len(order)))
    return replace(
        heaviest,
        passes=sum(part.passes for part in parts),
        transcendentals=sum(part.transcendentals for part in parts),
        widens=any(part.widens for part in parts),
        assumed=heaviest.assumed or next((part.assumed for part in parts if part is not _UNKNOWN and part.assumed), ""),
    )


def writes_cache(op_type: str) -> bool:
    """Whether kernels of `op_type` write tokens into caches of pages."""
    return is_among(op_type, "cache_writes", "types")


def row_transfers(op_type: str, generation: str) -> int:
    """
    Transfers of each row into caches where `op_type` works on many rows at a time and puts each in its place, one
    behind the other; 0 for other types, and on generations whose kernels do otherwise.
    """
    if generation in _table()["cache_writes"]["not_of"]:
        return 0
    return int(by_name("cache_writes", "row_transfers").get(listed_name(op_type), 0))
