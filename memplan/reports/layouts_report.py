"""Parallel layouts that hold a model, the best first, and why the others don't."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from memplan.core.sentence import Text
from memplan.deployment.layout_search import Candidate, LayoutSearch
from memplan.deployment.ways_to_serve import WayToServe
from memplan.models.parallel import Layout
from memplan.reports.kv.ways_to_serve_section import ways_to_serve_document, ways_to_serve_section
from memplan.reports.report import Column, Quantity, Remark, Report, ReportCell, ReportTable, section
from memplan.serving import StepTime

_REJECTED = (Column("layout"), Column("why"))


def layouts_report(
    result: LayoutSearch,
    times: Mapping[Layout, StepTime],
    title: str,
    length: int,
    *,
    training: bool,
    ways: Sequence[WayToServe] | None = None,
    notes: Sequence[Text] = (),
) -> Report:
    """
    `result` with the `times` of a decode step of the layouts that were timed, and `notes` on all of them.

    Contexts that are shorter than the `length` asked about are told. Where none fits, `ways` are the changes after
    which the layout that lacks least does, or others do.
    """
    columns = [
        Column("layout"),
        Column("largest micro-batch" if training else "sequences in all", Quantity.COUNT),
        Column("peak of the tightest stage" if training else "KV cache of a die", Quantity.BYTES),
    ]
    contexts = {} if training else {item.layout: item.budget.context for item in result.fitting if item.budget}
    shortened = any(context < length for context in contexts.values())
    columns += [Column("context", Quantity.COUNT)] if shortened else []
    if times:
        columns += [Column("time a token", Quantity.DURATION), Column("tokens/s a die", Quantity.NUMBER, 0)]
    rows: list[tuple[ReportCell, ...]] = []
    for item in result.fitting:
        row: tuple[ReportCell, ...] = (str(item.layout), item.capacity, _memory(item) or 0)
        row += (contexts.get(item.layout),) if shortened else ()
        if times:
            time = times.get(item.layout)
            row += (None, None) if time is None else (time.tpot_ns, time.tokens_per_second_per_die)
        rows.append(row)
    hosts = " and ".join(sorted({time.engine for time in times.values()}))
    how = (
        "times are of a decode step with all sequences at once, without draft tokens, from the op graph and with the "
        f"host's time of {hosts}"
    )
    sections = []
    if rows:
        table = ReportTable(tuple(columns), tuple(rows))
        sections.append(section("", table, f"order: {result.order}", *([how] if times else ())))
    if ways is not None and result.nearest is not None:
        sections.append(ways_to_serve_section(ways, str(result.nearest.layout)))
    if result.rejected:
        out = tuple((str(item.layout), item.rejected) for item in result.rejected)
        sections.append(section(f"{len(out)} layouts rejected", ReportTable(_REJECTED, out)))
    return Report(
        title=f"{title}: {len(rows)} layouts fit",
        sections=tuple(sections),
        notes=tuple(Remark(note) for note in notes),
        answer=result.best is not None,
        document=partial(_document, result, times, ways, notes),
    )


def _memory(item: Candidate) -> int | None:
    if item.training is not None:
        return item.training.peak_bytes
    return None if item.budget is None else item.budget.available_bytes


def _document(
    result: LayoutSearch, times: Mapping[Layout, StepTime], ways: Sequence[WayToServe] | None, notes: Sequence[Text]
) -> dict[str, Any]:
    def entry(item: Candidate) -> dict[str, Any]:
        time = times.get(item.layout)
        return {
            "layout": dataclasses.asdict(item.layout),
            "capacity": item.capacity,
            "context": None if item.budget is None else item.budget.context,
            "memory_bytes": _memory(item),
            "tpot_ns": None if time is None else time.tpot_ns,
            "host_ns": None if time is None else time.host_ns,
            "tokens_per_second_per_die": None if time is None else time.tokens_per_second_per_die,
            "rejected": item.rejected or None,
        }

    return {
        "order": result.order,
        "fitting": [entry(item) for item in result.fitting],
        "rejected": [entry(item) for item in result.rejected],
        **({} if ways is None else {"fits_instead": ways_to_serve_document(ways)}),
        "notes": [str(note) for note in notes],
    }
