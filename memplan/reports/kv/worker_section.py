"""A plan beside a worker's log."""

from __future__ import annotations

import dataclasses
from typing import Any

from memplan.core.sentence import Sentence
from memplan.deployment.worker_check import WorkerCheck
from memplan.kv import KvBudget
from memplan.reports.report import Column, Quantified, Quantity, ReportCell, ReportSection, ReportTable, section

_ITEMS = (
    Column("memory"),
    Column("planned", Quantity.BYTES),
    Column("logged", Quantity.BYTES),
    Column("change", Quantity.CHANGE),
    Column("option"),
)
_SIZES = (
    Column("what"),
    Column("planned", Quantity.NUMBER),
    Column("logged", Quantity.NUMBER),
    Column("change", Quantity.CHANGE),
)


def printed_tokens(result: KvBudget) -> int:
    """Tokens as the engine prints them: sequences at once of the longest length, times that length."""
    if result.token_pools is not None:
        return result.token_pools.tokens
    return int(result.pool.max_concurrency * result.context)


def worker_section(check: WorkerCheck) -> ReportSection:
    """Items side by side, then the cache with the log's figures taken over."""
    items = tuple(
        (item.name, item.planned, item.logged, _change(item.planned, item.logged), item.knob)
        for item in check.items
        if item.logged is not None
    )
    return section(
        "The plan beside the worker's log",
        ReportTable(_ITEMS, items),
        "with the log's device, share, activations and buffers taken over:",
        ReportTable(_SIZES, tuple(_sizes(check))),
    )


def _change(planned: float | None, logged: float | None) -> float | None:
    return logged / planned - 1 if planned and logged is not None else None


def _sizes(check: WorkerCheck) -> list[tuple[ReportCell, ...]]:
    after, logged = check.after, check.logged
    fed = check.sized or after
    pairs = (
        (Sentence("KV cache"), Quantity.BYTES, after.available_bytes, logged.cache),
        (Sentence("blocks"), Quantity.COUNT, fed.pool.num_blocks, logged.blocks),
        (Sentence("KV cache size in tokens"), Quantity.COUNT, printed_tokens(fed), logged.tokens),
        (Sentence("concurrency"), Quantity.NUMBER, fed.pool.max_concurrency, logged.concurrency),
    )
    return [
        (name, Quantified(planned, quantity), Quantified(was, quantity), _change(planned, was))
        for name, quantity, planned, was in pairs
        if was is not None
    ]


def worker_document(check: WorkerCheck) -> dict[str, Any]:
    """The comparison as JSON values."""
    fed = check.sized or check.after
    return {
        "logged": dataclasses.asdict(check.logged),
        "items": [{**dataclasses.asdict(item), "name": str(item.name)} for item in check.items],
        "measured": {
            "available_bytes": check.after.available_bytes,
            "num_blocks": fed.pool.num_blocks,
            "tokens": printed_tokens(fed),
            "max_concurrency": fed.pool.max_concurrency,
        },
    }
