"""The renderers of reports by the name of their format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.reports.report import CONTROLS, Report


def _table(report: Report) -> str:
    from memplan.reports.renderers.render_console import render_console

    return render_console(report)


def _json(report: Report) -> str:
    from memplan.reports.renderers.render_json import render_json

    return render_json(report)


def _html(report: Report) -> str:
    from memplan.reports.renderers.render_html import render_html

    return render_html(report)


def _markdown(report: Report) -> str:
    from memplan.reports.renderers.render_markdown import render_markdown

    return render_markdown(report)


def _csv(report: Report) -> str:
    from memplan.reports.renderers.render_csv import render_csv

    return render_csv(report)


# Each imports what it needs only when it is asked for.
REPORT_FORMATS: dict[str, Callable[[Report], str]] = {
    "table": _table,
    "json": _json,
    "html": _html,
    "md": _markdown,
    "csv": _csv,
}
"""Renderers by format."""

_SUFFIXES = {".json": "json", ".html": "html", ".htm": "html", ".md": "md", ".csv": "csv"}


def format_of(path: Path) -> str:
    """The format that the name of a file asks for; plain tables where it asks for none."""
    return _SUFFIXES.get(path.suffix.casefold(), "table")


def render_report(report: Report, form: str) -> str:
    """
    `report` as text in format `form`, ending with a new line; raises `InputError` for an unknown format.

    JSON writes control characters out; elsewhere they are taken out, for what is printed may go to a terminal.
    """
    if form not in REPORT_FORMATS:
        raise InputError(
            "--format {!r:.20} is not known", form, remedy=Sentence("write {}", (", ".join(REPORT_FORMATS),))
        )
    text = REPORT_FORMATS[form](report)
    return text if form == "json" else CONTROLS.sub("?", text)
