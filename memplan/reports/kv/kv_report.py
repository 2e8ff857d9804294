"""The KV budget of a served model: the memory of one die, its blocks, what fits, and what else was asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration, format_share
from memplan.deployment.cases import Effect, MemoryTier
from memplan.deployment.engine_changes import EngineComparison
from memplan.deployment.lookup_placement import LookupPlacements
from memplan.deployment.ways_to_serve import WayToServe
from memplan.kv import BudgetPart, KvBudget, TokenPools
from memplan.reports.kv.engine_section import engine_document, engine_section
from memplan.reports.kv.lookup_section import lookup_document, lookup_section
from memplan.reports.kv.ways_to_serve_section import ways_to_serve_document, ways_to_serve_section
from memplan.reports.report import (
    Column,
    Figure,
    Figures,
    Part,
    Quantity,
    Remark,
    Report,
    ReportCell,
    ReportSection,
    ReportTable,
    section,
)

_MEMORY = (Column("memory of one die"), Column("size", Quantity.BYTES), Column("source"))
_GROUPS = (
    Column("cache"),
    Column("parts"),
    Column("caches", Quantity.COUNT),
    Column("tokens a block", Quantity.COUNT),
    Column("page B", Quantity.COUNT, key="page_bytes"),
    Column("padding", Quantity.SHARE),
)
_SETTINGS = (Column("setting"), Column("value"), Column("why"))
_TIERS = (
    Column("memory"),
    Column("size", Quantity.BYTES),
    Column("tokens it holds", Quantity.COUNT),
    Column("link"),
    Column("restore a sequence", Quantity.DURATION),
    Column("rate from"),
)
_EFFECTS = (
    Column("option"),
    Column("value"),
    Column("sequences", Quantity.COUNT),
    Column("fixed a request", Quantity.BYTES),
    Column("B a token", Quantity.NUMBER, 0, key="bytes_per_token"),
    Column("prefix tokens", Quantity.COUNT),
    Column("", key="remark"),
)


@dataclass(frozen=True, slots=True)
class KvQuestions:
    """
    What is asked besides the budget: the `longest` context in tokens for a `batch`, memory `tiers` outside the die by
    name with the time to `recompute_ns` instead, the `effects` of other options, another engine to compare `against`,
    the `places` of lookup tables, and `notes` on what of it are times.

    `ways` are the changes after which a budget that does not fit does, `None` where nobody looked for any.
    """

    batch: int | None = None
    longest: int | None = None
    tiers: Mapping[str, MemoryTier] = field(default_factory=dict)
    recompute_ns: int | None = None
    effects: Sequence[Effect] = ()
    against: EngineComparison | None = None
    places: LookupPlacements | None = None
    notes: tuple[str, ...] = ()
    ways: Sequence[WayToServe] | None = None


def kv_report(result: KvBudget, more: KvQuestions = KvQuestions()) -> Report:
    """`result` and the answers to what else was asked."""
    title = f"{result.model} on {result.chip}, {result.layout}, {result.engine}"
    if result.layout.pipeline > 1:
        title += f", stage {result.stage}"
    context = f"{result.context:,}"
    headline = f"fits: {result.sequences:,} sequences of {context} tokens at once"
    if result.fits and not result.sequences:
        headline = f"starts with {context} tokens, but no sequence as long fits whole"
    if not result.fits:
        headline = f"does not fit: {format_bytes(result.missing_bytes)} missing for one sequence of {context} tokens"
    items = tuple(_item_rows(result))
    figures = (*fit_figures(result), *cost_figures(result), *pool_figures(result), *layout_figures(result))
    sections = [section("", ReportTable(_MEMORY, items))]
    if more.ways is not None:
        sections.append(ways_to_serve_section(more.ways))
    settings = tuple((item.setting, item.value, item.reason) for item in result.choices)
    sections.append(section("Settings as the engine runs with them", ReportTable(_SETTINGS, settings)))
    if result.pool.groups:
        blocks = f"{result.pool.num_blocks:,} blocks of {result.pool.planned_per_block:,} B"
        sections.append(section(blocks, _groups(result)))
    sections.append(section("What fits", Figures(figures)))
    if more.batch is not None:
        limit = f"longest context for {more.batch:,} sequences at once: {more.longest or 0:,} tokens"
        sections.append(section("", f"{limit} (the model's own is the limit)"))
    if more.tiers:
        sections.append(_tiers(result, more))
    if more.effects:
        rows = tuple(_effect_row(item) for item in more.effects)
        sections.append(section("What other options would do", ReportTable(_EFFECTS, rows)))
    if more.against is not None:
        sections.append(engine_section(more.against))
    if more.places is not None:
        sections.append(lookup_section(more.places))
    return Report(
        title=title,
        headline=headline,
        sections=tuple(sections),
        notes=tuple(Remark(note) for note in (*result.notes, *more.notes)),
        answer=result.fits,
        document=lambda: _document(result, more),
    )


def _item_rows(result: KvBudget) -> Iterator[tuple[ReportCell, ...]]:
    """The lines of the budget; what all weights rest on is said once."""
    said: Text | None = None
    for item in result.items:
        again = item.part is BudgetPart.WEIGHTS and item.source == said
        said = item.source if item.part is BudgetPart.WEIGHTS else None
        yield item.name, "unknown" if item.nbytes is None else item.nbytes, "" if again else item.source


def _groups(result: KvBudget) -> ReportTable:
    rows = tuple(
        (
            group.kind.value,
            ", ".join(sorted({spec.part for spec in group.members})),
            len(group.members),
            group.block_size * group.specs[0].entry_tokens,
            group.page_bytes,
            group.padding,
        )
        for group in result.pool.groups
    )
    return ReportTable(_GROUPS, rows)


def fit_figures(result: KvBudget) -> tuple[Figure, ...]:
    """How much fits, on a rank and on all of them."""
    context = f"{result.context:,}"
    said = [
        Figure(
            Sentence("sequences at once"),
            result.sequences,
            Quantity.COUNT,
            Sentence("of {} [token|tokens] each, on one rank", (context,)),
        ),
        Figure(Sentence("tokens in all"), result.tokens, Quantity.COUNT, Sentence("in sequences of that length")),
    ]
    ranks = result.layout.data
    if ranks > 1:
        label = Sentence("on all {} data-parallel [rank|ranks]", (f"{ranks:,}",))
        said.append(Figure(label, result.sequences * ranks, Quantity.COUNT, Sentence("sequences")))
    return tuple(said)


def _token_digits(nbytes: float) -> int:
    """Digits behind the point of bytes a token: of whole ones none, of what a block shares out one."""
    return 0 if float(round(nbytes, 1)).is_integer() else 1


def cost_figures(result: KvBudget) -> tuple[Figure, ...]:
    """What a token and a request take, and how much of it is content."""
    held = result.pool.blocks_per_request * result.pool.planned_per_block
    content = result.logical_bytes_per_token
    return (
        Figure(
            Sentence("bytes per token"),
            result.bytes_per_token,
            Quantity.NUMBER,
            Sentence("{} of them content", (f"{content:,.{_token_digits(content)}f}",)),
            _token_digits(result.bytes_per_token),
        ),
        Figure(
            Sentence("fixed bytes per request"),
            result.fixed_bytes_per_request,
            Quantity.COUNT,
            Sentence("{} of them content", (f"{result.logical_fixed_bytes:,}",)),
        ),
        Figure(
            Sentence("waste per request"),
            result.waste_bytes,
            Quantity.BYTES,
            Sentence("{} of its blocks", (format_share(result.waste_bytes / max(1, held)),)),
        ),
    )


def pool_figures(result: KvBudget) -> tuple[Figure, ...]:
    """Blocks of the engine's pool."""
    pool = result.pool
    if result.token_pools is not None:
        return token_figures(result, result.token_pools)
    return (
        Figure(
            Sentence("blocks"),
            pool.num_blocks,
            Quantity.COUNT,
            Sentence("of {} B, one of them the engine's null block", (f"{pool.planned_per_block:,}",)),
        ),
        Figure(
            Sentence("blocks per request"),
            pool.blocks_per_request,
            Quantity.COUNT,
            Sentence("at {} [token|tokens]", (f"{result.context:,}",)),
        ),
        Figure(
            Sentence("engine's max concurrency"),
            pool.max_concurrency,
            Quantity.NUMBER,
            Sentence("as the engine prints it"),
            4,
        ),
        Figure(
            Sentence("KV cache size in tokens"),
            int(pool.max_concurrency * result.context),
            Quantity.COUNT,
            Sentence("as the engine prints it: that many sequences of {}", (f"{result.context:,}",)),
        ),
        Figure(Sentence("prefix-cache granularity"), result.prefix_granularity, Quantity.COUNT, Sentence("tokens")),
    )


def token_figures(result: KvBudget, pools: TokenPools) -> tuple[Figure, ...]:
    """Pools of an engine that deals memory out in tokens, in its own words."""
    page = Sentence("in pages of {}", (f"{pools.page:,}",))
    said = [Figure("max_total_num_tokens", pools.tokens, Quantity.COUNT, page)]
    if pools.window_tokens is not None:
        what = Sentence("tokens of the windows' pool")
        said.append(Figure("swa_max_total_num_tokens", pools.window_tokens, Quantity.COUNT, what))
    for ratio, entries in pools.entries.items():
        what = Sentence("compressed entries of ratio {}", (str(ratio),))
        said.append(Figure(f"c{ratio}_max_total_num_tokens", entries, Quantity.COUNT, what))
    if pools.states is not None:
        what = Sentence("slots of states, {} of them a request", (f"{pools.states // max(1, pools.requests):,}",))
        said.append(Figure("max_mamba_cache_size", pools.states, Quantity.COUNT, what))
    running = Sentence("at once, whatever their length")
    said.append(Figure("max_running_requests", pools.requests, Quantity.COUNT, running))
    granularity = Sentence("prefix-cache granularity")
    said.append(Figure(granularity, result.prefix_granularity, Quantity.COUNT, Sentence("tokens")))
    return tuple(said)


def layout_figures(result: KvBudget) -> tuple[Figure, ...]:
    """Which stage is the tightest, and the dies of the layout."""
    said = []
    stages = result.layout.pipeline
    if stages > 1:
        remark = Sentence("of {}, counted from 0", (f"{stages:,}",))
        said.append(Figure(Sentence("tightest stage"), result.stage, Quantity.COUNT, remark))
    said.append(Figure(Sentence("dies"), result.dies, Quantity.COUNT, str(result.layout)))
    return tuple(said)


def _tiers(result: KvBudget, more: KvQuestions) -> ReportSection:
    rows = tuple(
        (name, tier.nbytes, tier.tokens, tier.link, tier.restore_ns, tier.rests_on) for name, tier in more.tiers.items()
    )
    parts: list[Part] = [ReportTable(_TIERS, rows)]
    if more.recompute_ns is not None:
        parts.append(f"recomputing {result.context:,} tokens instead: {format_duration(more.recompute_ns)}")
    return section("KV cache outside the die", *parts)


def _effect_row(item: Effect) -> tuple[ReportCell, ...]:
    found = item.result
    if found is None:
        return item.option, item.value, None, None, None, None, item.refused
    missing = "" if found.fits else f"{format_bytes(found.missing_bytes)} missing"
    fixed, per_token = found.fixed_bytes_per_request, found.bytes_per_token
    return item.option, item.value, found.sequences, fixed, per_token, found.prefix_granularity, missing


def _document(result: KvBudget, more: KvQuestions) -> dict[str, Any]:
    document = budget_document(result)
    if more.batch is not None:
        document["longest_context"] = {"sequences": more.batch, "tokens": more.longest}
    if more.tiers:
        document["tiers"] = {name: dataclasses.asdict(tier) for name, tier in more.tiers.items()}
        document["recompute_ns"] = more.recompute_ns
    if more.effects:
        document["effects"] = [_effect_document(item) for item in more.effects]
    if more.against is not None:
        document["against"] = engine_document(more.against)
    if more.places is not None:
        document["lookup_places"] = lookup_document(more.places)
    if more.ways is not None:
        document["fits_instead"] = ways_to_serve_document(more.ways)
    document["notes"] += more.notes
    return document


def _effect_document(item: Effect) -> dict[str, Any]:
    document: dict[str, Any] = {"option": item.option, "value": item.value, "refused": item.refused or None}
    if item.result is not None:
        names = ("sequences", "fixed_bytes_per_request", "bytes_per_token", "waste_bytes", "prefix_granularity")
        document |= {name: getattr(item.result, name) for name in names}
    return document


def budget_document(result: KvBudget) -> dict[str, Any]:
    """The budget as JSON values."""
    pool = result.pool
    document = {
        field.name: getattr(result, field.name)
        for field in dataclasses.fields(result)
        if field.name not in ("token_pools", "items", "pool", "layout", "refusal", "notes", "choices")
    }
    return {
        **document,
        "layout": dataclasses.asdict(result.layout),
        "items": [{**dataclasses.asdict(item), "source": str(item.source)} for item in result.items],
        "pool": {
            "num_blocks": pool.num_blocks,
            "bytes_per_block": pool.bytes_per_block,
            "planned_per_block": pool.planned_per_block,
            "allocated_per_block": pool.allocated_per_block,
            "allocated_bytes": pool.allocated_bytes,
            "blocks_per_request": pool.blocks_per_request,
            "max_concurrency": pool.max_concurrency,
            "groups": [
                {
                    "kind": group.kind.value,
                    "layers": len(group.members),
                    "block_size": group.block_size,
                    "page_bytes": group.page_bytes,
                    "payload_bytes": group.payload_bytes,
                    "padding": group.padding,
                    "parts": sorted({spec.part for spec in group.members}),
                }
                for group in pool.groups
            ],
        },
        **({} if result.token_pools is None else {"token_pools": dataclasses.asdict(result.token_pools)}),
        "refusal": None if result.refusal is None else dataclasses.asdict(result.refusal),
        "notes": [str(note) for note in result.notes],
        "settings": [
            {"setting": str(item.setting), "value": str(item.value), "why": str(item.reason)} for item in result.choices
        ],
    }
