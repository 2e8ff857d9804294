"""Where lookup tables can stand."""

from __future__ import annotations

import dataclasses
from typing import Any

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes
from memplan.deployment.lookup_placement import LookupPlacements
from memplan.reports.report import Column, Quantity, ReportSection, ReportTable, section

_PLACES = (
    Column("tables in"),
    Column("on a die", Quantity.BYTES),
    Column("in host memory", Quantity.BYTES),
    Column("rows over"),
    Column("rate", Quantity.RATE),
    Column("tokens/s a replica", Quantity.COUNT),
    Column("one read at a time", Quantity.COUNT),
    Column("KV cache of a die", Quantity.BYTES),
    Column("sequences", Quantity.COUNT),
    Column("", key="remark"),
    Column("rate from"),
)


def lookup_section(found: LookupPlacements) -> ReportSection:
    """The places side by side, and where they cross."""
    rows = tuple(
        (
            place.name,
            place.on_die,
            place.on_host,
            place.link,
            None if place.rate is None else round(place.rate),
            None if place.tokens_per_second is None else round(place.tokens_per_second),
            None if place.serial is None else round(place.serial),
            place.cache,
            place.sequences,
            place.refused or _remark(place.tokens_per_second, found),
            place.rests_on,
        )
        for place in found.places
    )
    read = format_bytes(found.token_bytes)
    said = f"a token reads {found.rows:,} rows, {read}, of which each rank of a replica its share"
    return section("Where the lookup tables can stand", said, ReportTable(_PLACES, rows), *_crossings(found))


def _remark(sustained: float | None, found: LookupPlacements) -> Text:
    """By how much the place sustains more than a replica reads and decodes."""
    if sustained is None or found.reading is None:
        return ""
    if sustained < found.reading:
        return Sentence("slower than prompts are read: {} of it", (f"{sustained / found.reading:.2f}",))
    return Sentence("{} times what prompts need", (f"{sustained / found.reading:,.0f}",))


def _crossings(found: LookupPlacements) -> list[str]:
    lines = []
    if found.reading is not None and found.decoding is not None:
        rates = f"a replica reads prompts at {found.reading:,.0f} tokens/s and decodes at {found.decoding:,.0f}"
        lines.append(f"{rates}: a place that sustains less is what bounds it")
    free = [place for place in found.places if not place.refused]
    said: set[tuple[str, int, int]] = set()
    for fast in free:
        for slow in free:
            bound, lost = slow.tokens_per_second or 0, slow.sequences - fast.sequences
            key = str(fast.name), round(bound), lost
            if lost > 0 and (fast.tokens_per_second or 0) > bound and key not in said:
                said.add(key)
                cost = f"{lost:,} sequences fewer than {slow.name}"
                lines.append(f"{fast.name} pays from {bound:,.0f} tokens/s a replica on: {cost}")
    if found.least_tensor is None:
        lines.append("no tensor parallelism that divides the hashes keeps the tables and a sequence on the dies")
    else:
        lines.append(f"tables and a sequence are on the dies from tensor parallelism {found.least_tensor} on")
    return lines


def lookup_document(found: LookupPlacements) -> dict[str, Any]:
    """The places as JSON values."""
    document = dataclasses.asdict(found)
    for place, kept in zip(document["places"], found.places, strict=True):
        place |= {"name": str(kept.name), "refused": str(kept.refused)}
    return document
