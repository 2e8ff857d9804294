"""Two engines' budgets of the same case, rule by rule."""

from __future__ import annotations

from typing import Any

from memplan.deployment.engine_changes import EngineChange, EngineComparison
from memplan.kv import KvBudget
from memplan.reports.report import Column, Part, Quantity, ReportCell, ReportSection, ReportTable, section

_RULES = (
    Column("rule"),
    Column("KV memory", Quantity.BYTES),
    Column("B a block", Quantity.COUNT, key="bytes_per_block"),
    Column("blocks", Quantity.COUNT),
    Column("blocks a request", Quantity.COUNT),
    Column("B a request", Quantity.COUNT, key="bytes_per_request"),
    Column("concurrency", Quantity.NUMBER, 4),
    Column("bytes changed", Quantity.COUNT),
)
_SETTINGS_CHANGED = (Column("rule"), Column("setting"), Column("was"), Column("is"), Column("why"))


def engine_section(found: EngineComparison) -> ReportSection:
    """
    The figures of the one engine, those after each rule of the other, and the settings that changed with it.

    The bytes changed are those that one request of the context takes; they add up to the whole difference.
    """
    rows = [(found.here.engine, *_figures(found.here), 0)]
    rows += [
        (item.rule, *_figures(item.result), _request(item.result) - _request(item.before)) for item in found.changes
    ]
    settings = [(item.rule, *setting) for item in found.changes for setting in item.settings]
    title = f"From {found.here.engine} to {found.there.engine}"
    parts: list[Part] = [ReportTable(_RULES, tuple(rows))]
    if settings:
        parts.append(ReportTable(_SETTINGS_CHANGED, tuple(settings)))
    return section(title, *parts)


def _request(result: KvBudget) -> int:
    return result.pool.blocks_per_request * result.pool.planned_per_block


def _figures(result: KvBudget) -> tuple[ReportCell, ...]:
    pool = result.pool
    return (
        pool.available_bytes,
        pool.planned_per_block,
        pool.num_blocks,
        pool.blocks_per_request,
        _request(result),
        pool.max_concurrency,
    )


def engine_document(found: EngineComparison) -> dict[str, Any]:
    """The same as JSON values."""

    def figures(result: KvBudget) -> dict[str, Any]:
        names = ("memory_bytes", "bytes_per_block", "num_blocks", "blocks_per_request", "bytes_per_request")
        return dict(zip((*names, "max_concurrency"), _figures(result), strict=True))

    def change(item: EngineChange) -> dict[str, Any]:
        settings = [
            {"setting": str(setting), "was": was, "is": value, "why": why} for setting, was, value, why in item.settings
        ]
        return {"rule": str(item.rule), **figures(item.result), "settings": settings}

    return {
        "here": {"engine": found.here.engine, **figures(found.here)},
        "there": {"engine": found.there.engine, **figures(found.there)},
        "changes": [change(item) for item in found.changes],
    }
