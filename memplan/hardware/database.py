"""
The chip database: SoC names and product names to chips.

`chips.json` holds one record a chip and is edited by hand. A record is `like` another one but for its own `figures`, of
which `null` takes one away; `families` hold what all chips of a Short_SoC_version share.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.hardware.chip import Chip, DispatchBuffer, Fabric, SourcedValue
from memplan.hardware.derived import with_derived

_VENDOR = "ascend"
_FILE = "chips.json"
_FIELDS = {"value", "source", "also", "note", "basis"}


@dataclass(frozen=True, slots=True)
class Alias:
    """
    What a product name stands for: the SoCs sold under it, and how many dies one product holds.

    `chip` is the SoC meant when nothing more is said; `None` where the name alone does not settle it.
    """

    name: str
    chip: str | None
    candidates: tuple[str, ...]
    dies: int
    source: str
    note: str


@functools.cache
def chips() -> tuple[Chip, ...]:
    """Every SoC of the database, ordered by name; raises `InputError` naming the chip and figure of a bad record."""
    return tuple(_chip(name) for name in sorted(table("memplan.hardware", _FILE)["chips"]))


def _chip(name: str) -> Chip:
    document = table("memplan.hardware", _FILE)
    ini, figures = _inherited(name, ())
    values = {key: _value(figure, key, name, ini) for key, figure in figures.items()}
    if "Short_SoC_version" not in values:
        raise _wrong(f"{name}.Short_SoC_version", "is missing", "give the chip's family, or let it be like another one")
    arch, family = values.get("NpuArch"), str(values["Short_SoC_version"].value)
    shared = document["families"].get(family, {})
    found = Chip(
        name=name,
        npu_arch=None if arch is None else str(arch.value),
        family=family,
        values=MappingProxyType(values),
        fabric=Fabric(**shared["fabric"]) if "fabric" in shared else None,
        dispatch_buffer=DispatchBuffer(**shared["dispatch_buffer"]) if "dispatch_buffer" in shared else None,
    )
    return with_derived(found, {key: _value({"value": None, **row}, key, name, ini, row["unit"])
                                for key, row in document["derived"].items()})  # fmt: skip


def _inherited(name: str, below: tuple[str, ...]) -> tuple[str, Mapping[str, Any]]:
    """The name of a chip's platform file among the sources, and its figures with those of what it is like."""
    records = table("memplan.hardware", _FILE)["chips"]
    if name not in records or name in below:
        raise _wrong(f"{below[-1]}.like", f"names {name!r:.60}", "name another chip of the file, and no circle of them")
    record = records[name]
    ini, figures = _inherited(record["like"], (*below, name)) if "like" in record else ("", {})
    merged = {**figures, **record.get("figures", {})}
    return record.get("ini", ini), {key: figure for key, figure in merged.items() if figure is not None}


def _value(row: Mapping[str, Any], key: str, name: str, ini: str, unit: str | None = None) -> SourcedValue:
    """One figure of chip `name`, with what its source's `{names}` stand for."""
    document = table("memplan.hardware", _FILE)
    unit = document["units"].get(key) if unit is None else unit
    if unit is None:
        raise _wrong(f"{name}.{key}", "has no unit", "list the unit of that key under `units`")
    if not {"value", "source"} <= set(row):
        raise _wrong(f"{name}.{key}", "lacks a value or a source", "give both")
    if not _FIELDS | {"unit"} >= set(row):
        raise _wrong(f"{name}.{key}", f"holds {', '.join(set(row) - _FIELDS)}", f"use {', '.join(sorted(_FIELDS))}")

    def stands_for(found: re.Match[str]) -> str:
        word = found[1]
        text = name if word == "chip" else document["sources"].get(ini if word == "ini" else word)
        if text is None:
            raise _wrong(f"{name}.{key}", f"rests on {{{word}}}", "list that source under `sources`")
        return str(text).replace("{chip}", name)

    value = row["value"]
    return SourcedValue(
        value=tuple(value) if isinstance(value, list) else value,
        unit=unit,
        source=re.sub(r"\{(\w+)\}", stands_for, row["source"]),
        also=tuple(_value(other, key, name, ini, unit) for other in row.get("also", ())),
        note=row.get("note", ""),
        basis=row.get("basis", ""),
    )


def _wrong(place: str, message: str, remedy: str) -> InputError:
    return InputError(message, path=_FILE, place=place, remedy=remedy)


@functools.cache
def _aliases() -> tuple[Alias, ...]:
    return tuple(
        Alias(
            name=row["name"],
            chip=row["chip"],
            candidates=tuple(row["candidates"]),
            dies=row["dies"],
            source=row["source"],
            note=row["note"],
        )
        for row in table("memplan.hardware", "products.json")["products"]
    )


def _key(name: str) -> str:
    """`name` without vendor, case, blanks and separators: `Ascend 910B3` and `910b3` are one."""
    folded = "".join(letter for letter in name.casefold() if letter not in " -_")
    return folded.removeprefix("huawei").removeprefix(_VENDOR)


def alias(name: str) -> Alias | None:
    """The product called `name`, or `None`."""
    wanted = _key(name)
    return next((item for item in _aliases() if _key(item.name) == wanted), None)


def chip(name: str) -> Chip:
    """
    The SoC called `name`: `910B3`, `Ascend910B3`, `Ascend910_9382`, `9382`, or a product such as `910C`.

    Raises `InputError` listing the candidates for a name that several SoCs share, and the nearest names for an
    unknown one.
    """
    wanted = _key(name)
    by_name = {item.name: item for item in chips()}
    exact = by_name.get(name) or next((item for item in chips() if item.name.casefold() == name.casefold()), None)
    if exact is not None:
        return exact
    product = alias(name)
    if product is not None:
        if product.chip is not None:
            return by_name[product.chip]
        raise InputError(
            "{!r} names several chips: {}",
            name,
            ", ".join(_short(item) for item in product.candidates),
            remedy=product.note,
        )
    same = [item for item in chips() if wanted and wanted in (_key(item.name), _key(item.name.rpartition("_")[2]))]
    if len(same) == 1:
        return same[0]
    begins = same or [item for item in chips() if wanted and _key(item.name).startswith(wanted)]
    if begins:
        names = ", ".join(_short(item.name) for item in begins)
        raise InputError("{!r} names several chips: {}", name, names, remedy="write one of them")
    keys = {_key(item.name): item.name for item in chips()} | {_key(item.name): item.name for item in _aliases()}
    near = difflib.get_close_matches(wanted, keys, n=3, cutoff=0.5)
    shown = ", ".join(_short(keys[key]) for key in near)
    hint = Sentence("nearest: {}", (shown,)) if near else Sentence("`memplan chips` lists them")
    raise InputError("no chip is called {!r:.60}", name, remedy=hint)


def _short(name: str) -> str:
    """`name` without the vendor, where what is left isn't a product of another chip."""
    short = name.removeprefix("Ascend")
    return name if alias(short) is not None else short
