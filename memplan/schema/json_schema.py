"""A JSON Schema of saved plans, made of the data classes that are read and written."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from memplan.schema.encode import fields_with_defaults, record_tuples
from memplan.schema.plan import PLAN_FORMAT, SCHEMA_VERSION, Plan

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN_KINDS: Mapping[Any, Mapping[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
}
_UNITS = (
    (re.compile(r"bytes_per_second$"), "bytes per second"),
    (re.compile(r"_ns$"), "nanoseconds"),
    (re.compile(r"bytes$"), "bytes"),
)
"""Units by the ending of a field's name, where its class doesn't speak of it."""


def plan_json_schema() -> dict[str, Any]:
    """
    The JSON Schema (draft 2020-12) of what `Plan.save` writes in this version of the format.

    Tables (ops, tensors, ...) are objects of columns, a list for each field. What a schema can't say (columns of one
    length, indices that exist, addresses that don't overlap) is checked when a plan is read. Earlier versions are read
    too, and are not described.
    """
    tables = record_tuples(Plan)
    named: dict[str, type[Any]] = {}
    properties: dict[str, Any] = {"format": {"const": PLAN_FORMAT}, "schema_version": {"const": SCHEMA_VERSION}}
    for name, hint in typing.get_type_hints(Plan).items():
        told = _columns_of(tables[name], named) if name in tables else _kind_of(hint, named)
        properties[name] = _described(told, Plan, name)
    records: dict[str, Any] = {}
    while waiting := [kind for name, kind in named.items() if name not in records]:
        for kind in waiting:
            records[kind.__name__] = _enum_of(kind) if issubclass(kind, Enum) else _record_of(kind, named)
    return {
        "$schema": _DRAFT,
        "$id": f"urn:{PLAN_FORMAT}:{SCHEMA_VERSION}",
        "title": "A plan of memplan",
        "description": _paragraph(inspect.getdoc(inspect.getmodule(Plan))),
        "type": "object",
        "properties": properties,
        "required": ["format", "schema_version", *_required(Plan)],
        "$defs": dict(sorted(records.items())),
    }


def _required(kind: type[Any]) -> list[str]:
    optional = fields_with_defaults(kind)
    return [field.name for field in dataclasses.fields(kind) if field.name not in optional]


def _columns_of(kind: type[Any], named: dict[str, type[Any]]) -> dict[str, Any]:
    """A tuple of records of `kind` as an object of columns, of which those of later versions may be left out."""
    columns = {
        name: _described({"type": "array", "items": _kind_of(hint, named)}, kind, name)
        for name, hint in typing.get_type_hints(kind).items()
    }
    return {"description": _about(kind), "type": "object", "properties": columns, "required": _required(kind)}


def _record_of(kind: type[Any], named: dict[str, type[Any]]) -> dict[str, Any]:
    """One record of `kind` as an object with all its fields."""
    fields = {name: _described(_kind_of(hint, named), kind, name) for name, hint in typing.get_type_hints(kind).items()}
    return {"description": _about(kind), "type": "object", "properties": fields, "required": list(fields)}


def _enum_of(kind: type[Enum]) -> dict[str, Any]:
    return {"description": _about(kind), "enum": [item.value for item in kind]}


def _kind_of(hint: Any, named: dict[str, type[Any]]) -> dict[str, Any]:
    """What may stand for a value of type `hint`; records and enumerations are kept in `named` and referred to."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return {"anyOf": [_kind_of(item, named) for item in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _kind_of(arguments[0], named)}
    if hint in _PLAIN_KINDS:
        return dict(_PLAIN_KINDS[hint])
    named[hint.__name__] = hint
    return {"$ref": f"#/$defs/{hint.__name__}"}


def _described(told: dict[str, Any], kind: type[Any], name: str) -> dict[str, Any]:
    """`told` with the unit that the name of `kind`'s field `name` tells, and the sentences on it."""
    unit = next((words for ending, words in _UNITS if ending.search(name)), "")
    about = (sentence for sentence in _sentences(inspect.getdoc(kind)) if f"`{name}`" in sentence)
    text = " ".join(filter(None, (unit and f"In {unit}.", told.get("description", ""), *about)))
    return {**({"description": text} if text else {}), **{key: told[key] for key in told if key != "description"}}


def _about(kind: type[Any]) -> str:
    return _paragraph(inspect.getdoc(kind))


def _paragraph(text: str | None) -> str:
    return " ".join(_sentences(text))


def _sentences(text: str | None) -> Iterable[str]:
    """Sentences of a docstring, each on one line; none where the interpreter keeps no docstrings."""
    return re.split(r"(?<=[.:]) (?=[A-Z`])", " ".join((text or "").split())) if text else ()
