"""Where lookup tables can stand."""

from __future__ import annotations

import dataclasses
from typing import Any

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_rate
from memplan.deployment.lookup_placement import LookupPlacements
from memplan.reports.report import Column, Part, Quantity, ReportCell, ReportSection, ReportTable, section

_PLACES = (
    Column("tables in"),
    Column("on a die", Quantity.BYTES),
    Column("in host memory", Quantity.BYTES),
    Column("rows over"),
    Column("rate", Quantity.RATE),
    Column("tokens/s a replica", Quantity.COUNT),
    Column("one read at a time", Quantity.COUNT),
    Column("reads under way", Quantity.NUMBER, 1),
    Column("KV cache of a die", Quantity.BYTES),
    Column("sequences", Quantity.COUNT),
    Column("", key="remark"),
    Column("rate from"),
)


_RATES = (
    Column("rate a die", Quantity.RATE),
    Column("tokens/s a replica", Quantity.COUNT),
    Column("keeps up with"),
)
_USUAL_RATES = (1e6, 1e7, 1e8, 1e9, 1e10, 1e11)
_AS_MUCH = 1 - 1e-9


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
            place.in_flight,
            place.cache,
            place.sequences,
            place.refused or _remark(place.tokens_per_second, found),
            place.rests_on,
        )
        for place in found.places
    )
    read = format_bytes(found.token_bytes)
    said = f"a token reads {found.rows:,} rows, {read}, of which each rank of a replica its share"
    parts: list[Part] = [said, ReportTable(_PLACES, rows), *_crossings(found)]
    unknown = [place for place in found.places if place.rate is None]
    if unknown and found.reading_rate is not None and found.decoding_rate is not None:
        names = " and of ".join(str(place.name) for place in unknown)
        parts.append(f"no source says the rate of {names} for this chip; with a rate of so much a die:")
        parts.append(ReportTable(_RATES, tuple(_at_rate(rate, found) for rate in _rates(found))))
    return section("Where the lookup tables can stand", *parts)


def _rates(found: LookupPlacements) -> list[float]:
    """Usual rates, and those at which the place begins to keep up with decoding and with prompts."""
    crossings = [rate for rate in (found.decoding_rate, found.reading_rate) if rate is not None]
    return sorted({*crossings, *_USUAL_RATES})


def _at_rate(rate: float, found: LookupPlacements) -> tuple[ReportCell, ...]:
    tokens = rate / found.rank_bytes
    decodes, reads = found.decoding or 0.0, found.reading or 0.0
    keeps = "prompts and decoding" if tokens >= reads * _AS_MUCH else "decoding" if tokens >= decodes * _AS_MUCH else ""
    return round(rate), round(tokens), keeps or "neither"


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
        needed = (format_rate(found.reading * found.rank_bytes), format_rate(found.decoding * found.rank_bytes))
        lines.append(f"that is {needed[0]} and {needed[1]} of rows a die, whatever the place")
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
    document |= {
        "decoding_bytes_per_second": found.decoding_rate,
        "reading_bytes_per_second": found.reading_rate,
        "at_rates": [
            dict(zip(("bytes_per_second", "tokens_per_second", "keeps_up_with"), _at_rate(rate, found), strict=True))
            for rate in _rates(found)
        ],
    }
    for place, kept in zip(document["places"], found.places, strict=True):
        place |= {"name": str(kept.name), "refused": str(kept.refused)}
    return document
