"""Links between tiers and between chips: rate and latency with their source."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.hardware.chip import Chip, SourcedValue


@dataclass(frozen=True, slots=True)
class Link:
    """
    One link as seen by one die.

    `bytes_per_second` is one direction, `None` where no source gives it; `also` holds what other sources say, in
    bytes per second. `applies_to` names the chip families the figure was given for (`*`: any). `reduce_share` is what
    exchanges that add up reach of the rate.
    """

    name: str
    bytes_per_second: float | None
    latency_ns: int | None
    source: str
    applies_to: tuple[str, ...]
    also: tuple[SourcedValue, ...] = ()
    note: str = ""
    reduce_share: float = 1.0


@functools.cache
def _all() -> tuple[Link, ...]:
    return tuple(
        Link(
            name=row["name"],
            bytes_per_second=row["bytes_per_second"],
            latency_ns=row["latency_ns"],
            source=row["source"],
            applies_to=tuple(row["applies_to"]),
            also=tuple(SourcedValue(item["value"], "B/s", item["source"]) for item in row.get("also", ())),
            note=row.get("note", ""),
            reduce_share=row.get("reduce_share", 1.0),
        )
        for row in table("memplan.hardware", "links.json")["links"]
    )


def links(chip: Chip) -> tuple[Link, ...]:
    """The links of `chip`, one a name: a figure for its own family goes before one given for any chip."""
    best: dict[str, tuple[int, Link]] = {}
    for item in _all():
        nearness = 2 if chip.name in item.applies_to else 1 if chip.family in item.applies_to else 0
        if nearness or "*" in item.applies_to:
            held = best.get(item.name)
            if held is None or nearness > held[0]:
                best[item.name] = (nearness, item)
    return tuple(item for _, item in best.values())


def link(chip: Chip, name: str) -> Link:
    """The link of `chip` called `name` (`d2h`, `h2d`, `hccs`, `ub`, ...); raises `InputError` if it has none."""
    found = {item.name: item for item in links(chip)}
    if name not in found:
        raise InputError("{} has no link {!r}", chip.name, name, remedy=Sentence("it has {}", (", ".join(found),)))
    return found[name]
