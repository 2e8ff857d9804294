"""A plan on one page, for `print(plan)` and notebooks: the answer, what fills HBM, what takes long, what is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.reports.plan_report import plan_report
from memplan.reports.renderers.render_console import render_console
from memplan.reports.renderers.render_html import html_fragment, render_html
from memplan.reports.report import Remark, Report, ReportTable, section
from memplan.schema import Plan

_ROWS = 5
_NOTES = 6


def plan_page(plan: Plan) -> str:
    """The page as plain text."""
    return render_console(_page(plan)).rstrip("\n")


def plan_page_html(plan: Plan) -> str:
    """The page as a piece of HTML that loads nothing."""
    return html_fragment(_page(plan))


def write_plan_html(plan: Plan, path: Path, progress: Progress) -> None:
    """Write the plan's whole report to `path`, as one page that loads nothing."""
    progress(0, 1, "report")
    with replacing_file(path) as file:
        file.write(render_html(plan_report(plan)))


def _page(plan: Plan) -> Report:
    whole = plan_report(plan)
    program = plan.program
    done = []
    if program is not None:
        ran = f"{program.module}, {program.framework} {program.version}, {program.mode} mode, {program.device} kernels"
        kept = ", ".join(program.recomputed) or "nothing"
        done = [section("The program", f"{ran}; recomputed: {kept}")]
    sections = [
        replace(item, parts=tuple(_short(part) if isinstance(part, ReportTable) else part for part in item.parts))
        for item in whole.sections
    ]
    notes = whole.notes[:_NOTES]
    if len(whole.notes) > _NOTES:
        notes = (*notes, Remark(f"{len(whole.notes) - _NOTES} more notes"))
    return replace(whole, sections=(*done, *sections), notes=notes, sources=())


def _short(part: ReportTable) -> ReportTable:
    most = _ROWS if part.most is None else min(part.most, _ROWS)
    return replace(part, most=most)
