"""The chip database: SoC names and product names to chips."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.hardware.chip import Chip, Value

_VENDOR = "ascend"


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


def _value(row: Sequence[Any], units: Sequence[str], sources: Sequence[str]) -> Value:
    value, unit, source, *rest = row
    return Value(
        value=tuple(value) if isinstance(value, list) else value,
        unit=units[unit],
        source=sources[source],
        also=tuple(_value(other, units, sources) for other in rest[0]) if rest else (),
        note=rest[1] if len(rest) > 1 else "",
    )


@functools.cache
def chips() -> tuple[Chip, ...]:
    """Every SoC of the database, ordered by name."""
    document = table("memplan.hardware", "chips.json")
    units, sources = document["units"], document["sources"]
    found = []
    for name, rows in document["chips"].items():
        values = {key: _value(row, units, sources) for key, row in rows.items()}
        arch, family = values.get("NpuArch"), values["Short_SoC_version"]
        found.append(
            Chip(
                name=name,
                npu_arch=None if arch is None else str(arch.value),
                family=str(family.value),
                values=MappingProxyType(values),
            )
        )
    return tuple(found)


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
            f"{name!r} names several chips: {', '.join(_short(item) for item in product.candidates)}",
            remedy=product.note,
        )
    same = [item for item in chips() if wanted and wanted in (_key(item.name), _key(item.name.rpartition("_")[2]))]
    if len(same) == 1:
        return same[0]
    begins = same or [item for item in chips() if wanted and _key(item.name).startswith(wanted)]
    if begins:
        names = ", ".join(_short(item.name) for item in begins)
        raise InputError(f"{name!r} names several chips: {names}", remedy="write one of them")
    keys = {_key(item.name): item.name for item in chips()} | {_key(item.name): item.name for item in _aliases()}
    near = difflib.get_close_matches(wanted, keys, n=3, cutoff=0.5)
    hint = f"nearest: {', '.join(_short(keys[key]) for key in near)}" if near else "`memplan chips` lists them"
    raise InputError(f"no chip is called {name!r:.60}", remedy=hint)


def _short(name: str) -> str:
    return name.removeprefix("Ascend") if name != "Ascend910B" else name
