"""`memplan kv CONFIG`: the KV budget of a published language model on one die."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.export import EXPORTERS, export_budget
from memplan.reports.report import Report
from memplan.requests.kv_request import KvRequest

if TYPE_CHECKING:
    from memplan.deployment.cases import Case
    from memplan.deployment.lookup_placement import LookupPlacements
    from memplan.deployment.worker_check import WorkerCheck
    from memplan.export.settings import ConsumerSettings
    from memplan.kv import KvBudget
    from memplan.reports.kv.tiers_section import CacheTierAnswers

_TIERS = "Tiers"
_CONSUMERS = ", ".join(exporter.name for exporter in EXPORTERS.values() if exporter.budgets)


@dataclass(frozen=True, slots=True)
class _Offload:
    layerwise: bool
    sparse: str | None


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
    to: Annotated[
        str | None,
        typer.Option("--export", help=f"Also say it in another program's settings: {_CONSUMERS}.", show_default=False),
    ] = None,
    export_to: Annotated[
        Path | None,
        typer.Option("--export-to", help="Where to write these settings, a file or a folder.", show_default=False),
    ] = None,
    from_log: Annotated[
        Path | None,
        typer.Option(
            "--from-log",
            help="What a worker logged when it started: item by item beside the plan, and the plan with its figures.",
            show_default=False,
        ),
    ] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            "--tier",
            help="Memory for caches outside the dies: dram=512GiB, pool=4TiB, ucm=4TiB@20GB/s; several times.",
            rich_help_panel=_TIERS,
            show_default=False,
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Traffic of hashed blocks, JSON lines: what of its prompts is found in HBM and each tier.",
            rich_help_panel=_TIERS,
            show_default=False,
        ),
    ] = None,
    trace_block: Annotated[
        int, typer.Option("--trace-block", help="Tokens of a block in the traffic.", rich_help_panel=_TIERS, min=1)
    ] = 512,
    layerwise: Annotated[
        bool,
        typer.Option(
            "--layerwise", help="Also say how few buffers the layers of a prefill can share.", rich_help_panel=_TIERS
        ),
    ] = False,
    sparse_offload: Annotated[
        str | None,
        typer.Option(
            "--sparse-offload",
            help="Also say what so much host memory a replica adds while decoding, where attention picks tokens.",
            rich_help_panel=_TIERS,
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Whose host time steps have, by the names of memplan step --engine; by default the engine's.",
            rich_help_panel=_TIERS,
            show_default=False,
        ),
    ] = None,
) -> Report:
    """
    Budget the KV cache of a served model, from the card's size down to blocks, tokens and sequences.

    Exits with 0 when a sequence of the context fits, 1 when none does, 2 when the input can't be used.
    """
    from memplan.deployment.cases import longest_context, memory_tier, recompute_ns, time_notes, usual_effects
    from memplan.deployment.engine_changes import engine_comparison
    from memplan.deployment.ways_to_serve import ways_to_serve
    from memplan.deployment.worker_check import worker_check
    from memplan.reports.kv.cache_use_section import cache_use_document, cache_use_section
    from memplan.reports.kv.kv_report import KvQuestions, kv_report
    from memplan.traces.logs.cache_use import cache_use
    from memplan.traces.logs.worker_memory import read_worker_log

    case, other = replace(request.case(), timed_by=host), request.other_engine()
    result = case.budget()
    tiers = {name: memory_tier(case, size, link) for name, (size, link) in request.memories.items()}
    timed = tiers or tier or layerwise or request.tables
    more = KvQuestions(
        batch=request.batch,
        longest=None if request.batch is None else longest_context(case, request.batch),
        tiers=tiers,
        recompute_ns=recompute_ns(case) if tiers else None,
        effects=usual_effects(case) if request.effects else (),
        against=None if other is None else engine_comparison(case, other),
        places=_places(case) if request.tables else None,
        notes=time_notes(case) if timed else (),
        ways=None if result.fits else ways_to_serve(case),
    )
    report = kv_report(result, more)
    if export_to is not None and to is None:
        raise InputError("--export-to says where, not what", remedy="give --export NAME")
    if to is not None:
        sizes = {name: size for name, (size, _) in request.memories.items()}
        report = _with_settings(report, export_budget(case, result, to, sizes), export_to)
    if from_log is not None:
        report = _beside_log(report, worker_check(case, result, read_worker_log(from_log)))
    if tier or trace is not None or layerwise or sparse_offload is not None:
        texts, asked = tuple(tier or ()), _Offload(layerwise, sparse_offload)
        report = _with_tiers(report, _tier_answers(case, result, texts, trace, trace_block, asked))
    if used is None:
        return report
    found = cache_use(used)
    document = report.document
    return replace(
        report,
        sections=(*report.sections, cache_use_section(result, found)),
        document=None if document is None else lambda: {**document(), "used": cache_use_document(found)},
    )


def _with_settings(report: Report, settings: ConsumerSettings, path: Path | None) -> Report:
    """`report` with `settings`, which are written to `path` where there is one."""
    from memplan.export.consumer_settings import write_settings
    from memplan.export.settings_text import consumer_document
    from memplan.reports.settings_section import settings_section

    written = () if path is None else write_settings(settings, path)
    document = report.document
    return replace(
        report,
        sections=(*report.sections, settings_section(settings)),
        document=None if document is None else lambda: {**document(), "export": consumer_document(settings)},
        written=(*report.written, *written),
    )


def _places(case: Case) -> LookupPlacements:
    from memplan.deployment.lookup_placement import lookup_placements

    found = lookup_placements(case)
    if found is None:
        raise InputError(f"{case.model.name} has no lookup tables", remedy="leave --lookup-tables out")
    return found


def _beside_log(report: Report, check: WorkerCheck) -> Report:
    from memplan.reports.kv.worker_section import worker_document, worker_section

    document = report.document
    return replace(
        report,
        sections=(*report.sections, worker_section(check)),
        document=None if document is None else lambda: {**document(), "worker": worker_document(check)},
    )


def _tier_answers(
    case: Case, result: KvBudget, texts: tuple[str, ...], trace: Path | None, block: int, offload: _Offload
) -> CacheTierAnswers:
    from memplan.core.units import parse_size
    from memplan.deployment.cache_tiers import asked_tier, tier_plans
    from memplan.deployment.latent_offload import layerwise_reuse, sparse_offload
    from memplan.reports.kv.tiers_section import CacheTierAnswers
    from memplan.traffic import CacheTier, prefix_hits, read_arrivals

    plans = tier_plans(case, result, [asked_tier(text) for text in texts])
    hits = None
    if trace is not None:
        tiers = [CacheTier("HBM", result.tokens * case.layout.data)]
        tiers += [CacheTier(item.asked.name, item.tokens) for item in plans]
        with progress_bar() as progress:
            hits = prefix_hits(
                read_arrivals(trace, block), tiers, block=block, granularity=result.prefix_granularity,
                progress=progress,
            )  # fmt: skip
    return CacheTierAnswers(
        plans,
        hits,
        layerwise_reuse(case, result) if offload.layerwise else None,
        None if offload.sparse is None else sparse_offload(case, result, parse_size(offload.sparse)),
    )


def _with_tiers(report: Report, found: CacheTierAnswers) -> Report:
    from memplan.reports.kv.tiers_section import tiers_document, tiers_sections

    document = report.document
    return replace(
        report,
        sections=(*report.sections, *tiers_sections(found)),
        document=None if document is None else lambda: {**document(), **tiers_document(found)},
    )
