"""A plan from its JSON form: every field is checked, and what the plan itself violates is said with it."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from memplan.core.errors import InputError, reason
from memplan.schema.check import checked
from memplan.schema.encode import fields_with_defaults, record_tuples
from memplan.schema.plan import PLAN_FORMAT, SCHEMA_VERSION, Bound, Plan
from memplan.schema.planned_tiling import PlannedSentence

Record = TypeVar("Record")

_MOST_BUFFERS, _MOST_SPANS = 256, 64
"""Of one kernel and of one buffer, several times what any has."""
_WITHOUT_TILINGS = 2
"""The version whose plans only lack what version 3 added: fields with defaults, which may be left out."""


def _build(hint: Any, value: Any, place: str) -> Any:
    """`value` from JSON as the type `hint`; raises `InputError` naming `place` if it isn't one."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return _build_union(arguments, value, place)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError("a list is expected", place=place)
        return tuple(_build(arguments[0], item, place) for item in value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError("an object is expected", place=place)
        return _build_record(typing.cast(type[Any], hint), value, place)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            known = [item.value for item in hint]
            raise InputError("{!r:.40} is not one of {}", value, known, place=place) from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InputError("{} expected, found {!r:.40}", hint.__name__, value, place=place)
    if hint is int and not -(2**63) <= value < 2**63:
        raise InputError("the number is beyond 64 bits", place=place)
    if hint is float and not math.isfinite(value):
        raise InputError("a finite number is expected, found {!r}", value, place=place)
    return value


def _build_union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """`value` as the one of `kinds` whose very type it has, else as the last of them."""
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    return _build(next((kind for kind in others if kind is type(value)), others[-1]), value, place)


def _build_record(kind: type[Record], values: Mapping[str, Any], place: str) -> Record:
    hints = typing.get_type_hints(kind)
    missing = [name for name in hints if name not in values]
    if missing:
        raise InputError("field {!r} is missing", missing[0], place=place)
    return kind(**{name: _build(hint, values[name], f"{place}.{name}") for name, hint in hints.items()})


def _build_rows(kind: type[Record], columns: Any, place: str) -> tuple[Record, ...]:
    if not isinstance(columns, Mapping):
        raise InputError("an object of columns is expected", place=place)
    hints = typing.get_type_hints(kind)
    later = fields_with_defaults(kind)
    built: dict[str, list[Any]] = {}
    for name, hint in hints.items():
        if name in later and name not in columns:
            continue  # written before there was such a column
        column = columns.get(name)
        if not isinstance(column, list):
            raise InputError("column {!r} is missing", name, place=place)
        built[name] = [_build(hint, value, f"{place}.{name}[{row}]") for row, value in enumerate(column)]
    if len({len(column) for column in built.values()}) > 1:
        raise InputError("columns differ in length", place=place)
    return tuple(kind(**dict(zip(built, row, strict=True))) for row in zip(*built.values(), strict=True))


def plan_from_json(document: Any) -> Plan:
    """
    A plan from what `plan_to_json` made, with what makes it impossible in `violations`.

    Raises `InputError` naming the field that is wrong.
    """
    if not isinstance(document, Mapping) or document.get("format") != PLAN_FORMAT:
        raise InputError("this is not a memplan plan", remedy="make one with `memplan plan GRAPH -o plan.json`")
    version = document.get("schema_version")
    if version == 1:
        document = _from_version_1(document)
    elif version not in (_WITHOUT_TILINGS, SCHEMA_VERSION):
        raise InputError(
            "plan schema {!r} can't be read by this memplan, which reads up to {}",
            version,
            SCHEMA_VERSION,
            remedy="plan the graph again",
        )
    tables = record_tuples(Plan)
    hints = typing.get_type_hints(Plan)
    later = fields_with_defaults(Plan)
    values: dict[str, Any] = {
        name: _build_rows(tables[name], document.get(name), name)
        if name in tables
        else _build(hint, document.get(name), name)
        for name, hint in hints.items()
        if name not in later or name in document
    }
    plan = Plan(**values)
    _check_references(plan)
    return checked(plan)


def _from_version_1(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    The columns that version 1 lacks: there, `none` was the bound of ops without a kernel and, in plans of other
    planners, of all ops.
    """
    ops = document.get("ops")
    bounds = ops.get("bound") if isinstance(ops, Mapping) else None
    if not isinstance(ops, Mapping) or not isinstance(bounds, list):
        return document  # the column is missing, which is said where all columns are read
    if document.get("chip") != "unknown" or any(bound != Bound.NONE.value for bound in bounds):
        return {**document, "ops": {**ops, "launches": [bound != Bound.NONE.value for bound in bounds]}}
    unknown = [Bound.UNKNOWN.value] * len(bounds)
    return {**document, "timed": False, "ops": {**ops, "bound": unknown, "launches": [True] * len(bounds)}}


def _check_references(plan: Plan) -> None:
    """Every index a record holds must exist and sizes and times not be negative, so that nothing downstream asks."""
    steps = len(plan.ops)
    known = {tensor.index for tensor in plan.tensors}

    def check(good: bool, message: str, place: str, *values: object) -> None:
        if not good:
            raise InputError(message, *values, place=place)

    def is_step(step: int | None) -> bool:
        return step is None or 0 <= step < steps

    check(len(known) == len(plan.tensors), "an index occurs twice", "tensors.index")
    check(plan.makespan_ns >= 0, "the time is negative", "makespan_ns")
    for row, op in enumerate(plan.ops):
        check(op.index == row, "index {} at row {}", "ops.index", op.index, row)
        positive = min(op.start_ns, op.duration_ns, op.stalled_ns, op.flops, op.gm_bytes) >= 0
        check(positive, "a time or size is negative", f"ops[{row}]")
        known_kernel = op.kernel is None or 0 <= op.kernel < len(plan.kernels)
        check(known_kernel, "kernel {} does not exist", f"ops.kernel[{row}]", op.kernel)
        check(known.issuperset((*(op.reads or ()), *(op.writes or ()))), "a tensor does not exist", f"ops[{row}]")
        known_tiling = op.tiling is None or 0 <= op.tiling < len(plan.tilings)
        check(known_tiling, "tiling {} does not exist", f"ops.tiling[{row}]", op.tiling)
        check(op.hot_share is None or 0 <= op.hot_share <= 1, "this is no share", f"ops.hot_share[{row}]")
    for row, kernel in enumerate(plan.kernels):
        operands = [item for item in (*kernel.inputs, *kernel.outputs) if item is not None]
        sound = all(min((*item.shape, item.nbytes)) >= 0 for item in operands)
        check(sound, "a size is negative", f"kernels[{row}]")
    _check_tilings(plan, check)
    for row, tensor in enumerate(plan.tensors):
        place = f"tensors[{row}]"
        check(tensor.nbytes >= 0, "the size is negative", place)
        check(0 <= tensor.start <= tensor.end <= steps, "the span leaves the schedule", place)
        check(is_step(tensor.producer) and all(map(is_step, tensor.uses)), "a step does not exist", place)
    for row, placement in enumerate(plan.placements):
        place = f"placements[{row}]"
        check(placement.tensor in known, "tensor {} does not exist", f"placements.tensor[{row}]", placement.tensor)
        check(0 <= placement.start <= placement.end <= steps, "the span leaves the schedule", place)
        check(placement.size >= 0 and (placement.offset or 0) >= 0, "the size or offset is negative", place)
    for row, move in enumerate(plan.transfers):
        place = f"transfers[{row}]"
        check(move.tensor in known, "tensor {} does not exist", f"transfers.tensor[{row}]", move.tensor)
        check(move.size >= 0 and 0 <= move.start_ns <= move.end_ns, "the size is negative or it ends early", place)
        check(is_step(move.after_step) and is_step(move.before_step), "a step does not exist", place)
    for row, use in enumerate(plan.tiers):
        sizes = (use.capacity or 0, use.reserved, use.persistent, use.peak, use.lower_bound)
        check(min(sizes) >= 0, "a size is negative", f"tiers[{row}]")
        check(is_step(use.peak_step), "the step does not exist", f"tiers.peak_step[{row}]")


def _check_tilings(plan: Plan, check: Callable[..., None]) -> None:
    """The same of what kernels keep on chip."""
    for row, tiling in enumerate(plan.tilings):
        place = f"tilings[{row}]"
        check(0 <= tiling.kernel < len(plan.kernels), "kernel {} does not exist", place, tiling.kernel)
        known = tiling.onchip is None or 0 <= tiling.onchip < len(plan.onchip)
        check(known, "layout {} does not exist", place, tiling.onchip)
        check(tiling.hot_share is None or 0 <= tiling.hot_share <= 1, "this is no share", place)
        sizes = (tiling.duration_ns, tiling.flops, tiling.gm_bytes, tiling.hbm_bytes, tiling.gm_bound or 0)
        check(min(sizes) >= 0, "a time or size is negative", place)
        for sentence in (*tiling.words, *tiling.notes, *((tiling.missing,) if tiling.missing else ())):
            check(_can_be_said(sentence), "a sentence and its values do not fit together", place)
    for row, layout in enumerate(plan.onchip):
        place = f"onchip[{row}]"
        check(min(layout.shortfall, layout.reuse_cost, layout.slots) >= 0, "a size is negative", place)
        # Every two of them are compared when the plan is checked, so that a file must not bring any number.
        check(len(layout.buffers) <= _MOST_BUFFERS, "more than {} buffers", place, _MOST_BUFFERS)
        for use in layout.uses:
            least = min(use.capacity or 0, use.peak, use.lower_bound, use.alignment - 1)
            check(least >= 0, "a size is negative", f"{place}.uses")
        for buffer in layout.buffers:
            check(min(buffer.offset, buffer.size) >= 0, "a size or address is negative", f"{place}.buffers")
            sound = all(len(span) == 2 and 0 <= span[0] <= span[1] <= layout.slots for span in buffer.intervals)
            check(sound, "a span leaves the pipeline", f"{place}.buffers")
            check(len(buffer.intervals) <= _MOST_SPANS, "more than {} spans", f"{place}.buffers", _MOST_SPANS)


def _can_be_said(sentence: PlannedSentence) -> bool:
    """Whether `text` has a place for every value and no braces besides, which would be formats that nobody meant."""
    bare = sentence.text.replace("{}", "")
    places = sentence.text.count("{}")
    return not sentence.values or (places == len(sentence.values) and "{" not in bare and "}" not in bare)


def load_plan(path: str | Path) -> Plan:
    """Read a plan from `path`; raises `InputError` for anything that is not one."""
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from error
    except (ValueError, RecursionError):
        raise InputError(
            "this is not a plan: it isn't JSON",
            path=path,
            remedy="make one with `memplan plan GRAPH -o plan.json`",
        ) from None
    try:
        return plan_from_json(document)
    except InputError as error:
        raise error.of(path) from None
