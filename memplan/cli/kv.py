"""`memplan kv CONFIG`: the KV budget of a published language model on one die."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.reporting import reporting
from memplan.reports.report import Report
from memplan.requests.kv_request import KvRequest


@reporting
def command(
    request: KvRequest,
    used: Annotated[
        Path | None,
        typer.Option(
            help="A log of the engine, or a folder of msServiceProfiler's tables: what was used, beside the plan.",
            show_default=False,
        ),
    ] = None,
) -> Report:
    """
    Budget the KV cache of a served model, from the card's size down to blocks, tokens and sequences.

    Exits with 0 when a sequence of the context fits, 1 when none does, 2 when the input can't be used.
    """
    from memplan.deployment.cases import longest_context, memory_tier, recompute_ns, usual_effects
    from memplan.deployment.engine_changes import engine_comparison
    from memplan.reports.cache_use_section import cache_use_document, cache_use_section
    from memplan.reports.kv_report import KvQuestions, kv_report
    from memplan.traces.cache_use import cache_use

    case, other = request.case(), request.other_engine()
    result = case.budget()
    tiers = {name: memory_tier(case, size, link) for name, (size, link) in request.memories.items()}
    more = KvQuestions(
        batch=request.batch,
        longest=None if request.batch is None else longest_context(case, request.batch),
        tiers=tiers,
        recompute_ns=recompute_ns(case) if tiers else None,
        effects=usual_effects(case) if request.effects else (),
        against=None if other is None else engine_comparison(case, other),
    )
    report = kv_report(result, more)
    if used is None:
        return report
    found = cache_use(used)
    document = report.document
    return replace(
        report,
        sections=(*report.sections, cache_use_section(result, found)),
        document=None if document is None else lambda: {**document(), "used": cache_use_document(found)},
    )
