"""A KV cache planned beside the one that was: blocks, tokens, sequences."""

from __future__ import annotations

import dataclasses
from typing import Any

from memplan.kv import KvBudget
from memplan.reports.report import Column, Quantified, Quantity, ReportCell, ReportSection, ReportTable, section
from memplan.traces.logs.cache_use import CacheUse

_ROWS = (
    Column("what"),
    Column("planned", Quantity.NUMBER),
    Column("was", Quantity.NUMBER),
    Column("change", Quantity.CHANGE),
)


def cache_use_section(budget: KvBudget, use: CacheUse) -> ReportSection:
    """Blocks, tokens and sequences of `budget` beside those of `use`, and how much was in use at most."""
    rows: list[tuple[ReportCell, ...]] = []
    for what, planned, was in _pairs(budget, use):
        quantity = Quantity.NUMBER if isinstance(was, float) else Quantity.COUNT
        change = was / planned - 1 if was is not None and planned else None
        rows.append((what, Quantified(planned, Quantity.COUNT), Quantified(was, quantity), change))
    if use.nbytes is not None:
        planned = budget.available_bytes
        room = Quantified(planned, Quantity.BYTES), Quantified(use.nbytes, Quantity.BYTES)
        rows.append(("memory for the cache", *room, use.nbytes / planned - 1 if planned > 0 else None))
    rows.append(("blocks in use at most", None, use.used_blocks, None))
    rows.append(("tokens in use at most", None, use.used_tokens, None))
    rows.append(("share in use at most", None, Quantified(use.usage, Quantity.SHARE), None))
    rows.append(("sequences waiting at most", None, use.waiting, None))
    known = tuple(
        row for row in rows if isinstance(row[2], int) or (isinstance(row[2], Quantified) and row[2].value is not None)
    )
    return section("Planned beside used", f"what was, by {use.source}", ReportTable(_ROWS, known))


def _pairs(budget: KvBudget, use: CacheUse) -> list[tuple[str, int | None, float | None]]:
    ranks = "" if use.context in (None, budget.context) else f" (the engine counts {use.context:,} tokens each)"
    return [
        ("blocks", budget.pool.num_blocks, use.blocks),
        ("tokens", budget.tokens, use.tokens),
        (f"sequences of {budget.context:,} tokens{ranks}", budget.sequences, use.concurrency),
        ("sequences at once", budget.sequences, use.sequences),
    ]


def cache_use_document(use: CacheUse) -> dict[str, Any]:
    """The use as JSON values."""
    return dataclasses.asdict(use)
