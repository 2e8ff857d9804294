"""What a profile says in the words of its model: sections and JSON of a comparison with the plan like it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memplan.compare import Comparison
from memplan.reports.comparison.compare_words import comparison_words
from memplan.reports.comparison.holders_sections import (
    holders_document,
    holders_sections,
    process_document,
    process_section,
)
from memplan.reports.comparison.scope_sections import scope_document, scope_section
from memplan.reports.report import ReportSection, section
from memplan.schema import Plan


def model_sections(result: Comparison, plan: Plan) -> Iterator[ReportSection]:
    """Of a rank against the plan like it: in words, time by part and layer, who holds memory."""
    names = {op.index: op.name for op in plan.ops}
    yield section(f"Rank {result.rank} as {plan.origin.graph}", comparison_words(result, names))
    if result.times is not None:
        yield scope_section(result.times)
    if result.holders is not None:
        yield from holders_sections(result.holders, names)
    if result.process is not None:
        yield process_section(result.process)


def model_document(result: Comparison, plan: Plan) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "graph": plan.origin.graph,
        "chip": plan.chip,
        "words": comparison_words(result, {op.index: op.name for op in plan.ops}),
        "times": scope_document(result.times),
        "holders": holders_document(result.holders),
        "process": process_document(result.process),
    }
