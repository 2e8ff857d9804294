"""KV caches outside the dies: what tiers hold and take, what traffic finds in them, and what to set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from memplan.core.sentence import Sentence, Text
from memplan.core.units import UNKNOWN, format_bytes, format_duration, format_share
from memplan.deployment.cache_tiers import CacheTierPlan
from memplan.deployment.latent_offload import LayerwiseReuse, SparseOffload
from memplan.reports.report import (
    Column,
    Figure,
    Figures,
    Part,
    Quantity,
    ReportCell,
    ReportSection,
    ReportTable,
    section,
)
from memplan.traffic import PrefixHits

_TIERS = (
    Column("tier"),
    Column("what"),
    Column("size", Quantity.BYTES),
    Column("tokens it holds", Quantity.COUNT),
    Column("copies of a byte", Quantity.NUMBER, 0),
    Column("link"),
    Column("rate a die", Quantity.RATE),
    Column("pays from", Quantity.COUNT, key="crossing_tokens"),
    Column("at best", Quantity.COUNT, key="crossing_low_tokens"),
    Column("at worst", Quantity.COUNT, key="crossing_high_tokens"),
    Column("rate from"),
)
_HITS = (
    Column("tier"),
    Column("tokens it holds", Quantity.COUNT),
    Column("tokens found", Quantity.COUNT),
    Column("of all prompts", Quantity.SHARE),
    Column("requests", Quantity.COUNT),
)
_SETTINGS = (Column("tier"), Column("setting"), Column("value"), Column("where"), Column("source"))


@dataclass(frozen=True, slots=True)
class CacheTierAnswers:
    """What was asked of tiers: their plans, hits of some traffic, and what latent caches do in part on the dies."""

    plans: tuple[CacheTierPlan, ...] = ()
    hits: PrefixHits | None = None
    layerwise: LayerwiseReuse | None = None
    sparse: SparseOffload | None = None


def tiers_sections(found: CacheTierAnswers) -> Iterator[ReportSection]:
    """The answers as sections of a report."""
    if found.plans:
        rows = tuple(_tier(item) for item in found.plans)
        how = (
            "pays from: tokens of a prefix from which on bringing it back is sooner than computing it in the step that "
            "reads the 128 tokens behind it anyway; at best and at worst if steps are as slow or as quick as four of "
            "five public ones"
        )
        notes = [str(note) for item in found.plans for note in item.notes]
        yield section("KV cache outside the dies", ReportTable(_TIERS, rows), how, *dict.fromkeys(notes))
        yield section("Bringing a prefix back, or computing it", _restore(found.plans))
    if found.hits is not None:
        yield section("What traffic finds", *_hits(found.hits))
    if found.plans:
        settings = tuple(
            (item.asked.name, each.name, each.value, each.where, each.source)
            for item in found.plans
            for each in item.settings
        )
        if settings:
            yield section("What to set", ReportTable(_SETTINGS, settings))
    if found.layerwise is not None:
        yield section(
            "Layers of a prefill that share buffers", Figures(_layerwise(found.layerwise)), found.layerwise.source
        )
    if found.sparse is not None:
        yield section(
            "Latent caches in host memory while decoding", Figures(_sparse(found.sparse)), found.sparse.source
        )


def _tier(item: CacheTierPlan) -> tuple[ReportCell, ...]:
    return (
        item.asked.name,
        item.what,
        item.asked.nbytes,
        item.tokens,
        item.copies,
        "given" if item.asked.rate is not None else UNKNOWN if item.link is None else item.link.name,
        item.rate,
        item.crossing,
        item.crossings[0],
        item.crossings[1],
        item.rests_on or "not known",
    )


def _restore(plans: Sequence[CacheTierPlan]) -> ReportTable:
    columns = [Column("prefix", Quantity.COUNT, key="tokens"), Column("computing", Quantity.DURATION)]
    columns += [Column(item.asked.name, Quantity.DURATION) for item in plans]
    rows = []
    for number, point in enumerate(plans[0].points):
        rows.append((point.tokens, point.compute_ns, *(item.points[number].restore_ns for item in plans)))
    return ReportTable(tuple(columns), tuple(rows))


def _hits(found: PrefixHits) -> Iterator[Part]:
    said = f"{found.requests:,} requests, {found.input_tokens:,} tokens of prompts, {found.output_tokens:,} of answers"
    if found.rate is not None:
        said += f"; {found.rate:.3g} requests/s, {found.busiest:,} in the busiest minute"
    yield said
    if found.unmarked:
        yield f"{found.unmarked:,} requests have no hashes: nothing of them is found"
    rows = tuple(
        (item.tier.name, item.tier.tokens, item.tokens, item.tokens / found.input_tokens, item.requests)
        for item in found.tiers
    )
    yield ReportTable(_HITS, rows)
    total = sum(item.tokens for item in found.tiers)
    yield (
        f"{format_share(total / found.input_tokens)} of all prompts are found; least recently used blocks go first, "
        "from each tier to the next, and requests are routed to where their prefix is; memory of requests that run is "
        "not deducted"
    )


def _layerwise(item: LayerwiseReuse) -> tuple[Figure, ...]:
    hidden = Sentence("hidden behind computing") if item.hidden else Sentence("not hidden: a layer waits for it")
    chunk = Sentence("of {} [token|tokens] of the context of {}", (f"{item.chunk:,}", f"{item.context:,}"))
    return (
        Figure(
            "layerwise_num_shared_buffers",
            item.buffers,
            Quantity.COUNT,
            Sentence("for {} [layer|layers]", (f"{item.layers:,}",)),
        ),
        Figure(Sentence("tokens that fit, times"), item.factor, Quantity.NUMBER, hidden, 2),
        Figure(Sentence("loading a layer"), round(item.load_ns), Quantity.DURATION, Sentence("its cached tokens")),
        Figure(Sentence("saving a layer"), round(item.save_ns), Quantity.DURATION, Sentence("its new tokens")),
        Figure(Sentence("computing a layer"), round(item.compute_ns), Quantity.DURATION, chunk),
    )


def _sparse(item: SparseOffload) -> tuple[Figure, ...]:
    fetched = f"{format_duration(item.fetch_ns)} a step and sequence if all {item.picked:,} tokens are fetched"
    return (
        Figure(
            "topk_buffer_size",
            item.buffer_tokens,
            Quantity.COUNT,
            Sentence("twice the {} picked", (f"{item.picked:,}",)),
        ),
        Figure(
            "dram_size_per_dp_GB",
            item.host_bytes // 2**30,
            Quantity.COUNT,
            Sentence("{} a sequence of the context", (format_bytes(item.host_sequence_bytes),)),
        ),
        Figure(
            Sentence("sequences at once"),
            min(item.sequences, item.host_sequences),
            Quantity.COUNT,
            Sentence(
                "{} by the die, {} by host memory; {} before",
                (f"{item.sequences:,}", f"{item.host_sequences:,}", f"{item.before:,}"),
            ),
        ),
        Figure(
            Sentence("bytes of a sequence on the die"),
            item.device_bytes,
            Quantity.BYTES,
            Sentence("keys of the indexer, and the buffer"),
        ),
        Figure(
            Sentence("fetching"),
            round(item.fetch_ns),
            Quantity.DURATION,
            Sentence("{}; what share is fetched no source says", (fetched,)),
        ),
    )


def tiers_document(found: CacheTierAnswers) -> dict[str, Any]:
    """The answers as JSON values."""
    document: dict[str, Any] = {}
    if found.plans:
        document["cache_tiers"] = [_plan_document(item) for item in found.plans]
    if found.hits is not None:
        hits = found.hits
        document["traffic"] = {
            "requests": hits.requests,
            "requests_per_second": hits.rate,
            "input_tokens": hits.input_tokens,
            "output_tokens": hits.output_tokens,
            "without_hashes": hits.unmarked,
            "tiers": [
                {
                    "name": item.tier.name,
                    "tokens": item.tier.tokens,
                    "hit_tokens": item.tokens,
                    "hit_share": item.tokens / hits.input_tokens,
                    "requests": item.requests,
                }
                for item in hits.tiers
            ],
        }
    if found.layerwise is not None:
        document["layerwise"] = dataclasses.asdict(found.layerwise)
    if found.sparse is not None:
        document["sparse_offload"] = dataclasses.asdict(found.sparse)
    return document


def _plan_document(item: CacheTierPlan) -> dict[str, Any]:
    notes: tuple[Text, ...] = item.notes
    return {
        **dataclasses.asdict(item.asked),
        "what": item.what,
        "tokens": item.tokens,
        "copies": item.copies,
        "link": None if item.link is None else item.link.name,
        "bytes_per_second": item.rate,
        "rests_on": item.rests_on or None,
        "crossing_tokens": item.crossing,
        "crossing_bounds": list(item.crossings),
        "points": [dataclasses.asdict(point) for point in item.points],
        "settings": [dataclasses.asdict(each) for each in item.settings],
        "notes": [str(note) for note in notes],
    }
