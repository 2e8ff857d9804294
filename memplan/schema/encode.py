"""Frozen records as JSON: a tuple of records is stored as columns, so that large plans stay small and load fast."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from memplan.core.files import replacing_file


def encoded(record: Any) -> dict[str, Any]:
    """The data class instance `record` as JSON values, its tuples of records as columns."""
    kind = type(record)
    tables = record_tuples(kind)
    return {
        field.name: _columns(getattr(record, field.name), tables[field.name])
        if field.name in tables
        else _plain(getattr(record, field.name))
        for field in dataclasses.fields(kind)
    }


def save_json(document: Mapping[str, Any], path: str | Path) -> None:
    """Write `document` to `path`, replacing what is there in one step or leaving it untouched."""
    with replacing_file(path) as file:
        json.dump(document, file, separators=(",", ":"))


def record_tuples(kind: type[Any]) -> dict[str, Any]:
    """Fields of `kind` that hold a tuple of records, with the record's class."""
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, hint in hints.items():
        arguments = typing.get_args(hint)
        if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(arguments[0]):
            found[name] = arguments[0]
    return found


def fields_with_defaults(kind: type[Any]) -> frozenset[str]:
    """Fields of `kind` that need not be given."""
    return frozenset(field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def _columns(records: Iterable[Any], kind: type[Any]) -> dict[str, list[Any]]:
    rows = tuple(records)
    return {field.name: [_plain(getattr(row, field.name)) for row in rows] for field in dataclasses.fields(kind)}
