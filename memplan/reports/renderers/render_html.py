"""Reports as one HTML file that loads nothing, light or dark as the reader's system is, on wide and narrow screens."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import resources

from memplan.core.sentence import Sentence
from memplan.core.version import MEMPLAN_VERSION
from memplan.reports.report import Drawing, Figures, Part, Report, ReportTable, cell_text, source_text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Whatever a graph's or a profile's names hold, the page can't be made to load or run anything."""


def render_html(report: Report) -> str:
    """`report` as a page of its own."""
    style = resources.files("memplan.reports.renderers").joinpath("report.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="generator" content="memplan {escape(MEMPLAN_VERSION)}">',
            f"<title>{escape(report.title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_body(report),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def html_fragment(report: Report) -> str:
    """`report` as a piece of a page that is there, such as a notebook's, which styles it."""
    return "\n".join(["<div>", *_body(report), "</div>"])


def _body(report: Report) -> Iterator[str]:
    yield f"<header><h1>{escape(report.title)}</h1>"
    if report.headline:
        kind = ("yes" if report.answer else "no") if report.verdict else "told"
        yield f'<p class="headline {kind}">{escape(str(report.headline))}</p>'
    yield "</header>"
    for item in report.sections:
        yield "<section>"
        if item.title:
            yield f"<h2>{escape(item.title)}</h2>"
        for part in item.parts:
            yield from _part(part)
        yield "</section>"
    if report.notes:
        yield "<section><h2>Notes</h2><ul>"
        yield from (f'<li class="{note.severity.value}">{escape(str(note.text))}</li>' for note in report.notes)
        yield "</ul></section>"
    if report.sources:
        yield "<section><h2>What this rests on</h2><ul>"
        yield from (f"<li>{escape(source_text(source))}</li>" for source in report.sources)
        yield "</ul></section>"
    yield f"<footer>memplan {escape(MEMPLAN_VERSION)}</footer>"


def _part(part: Part) -> Iterator[str]:
    if isinstance(part, str | Sentence):
        yield f"<p>{escape(str(part))}</p>"
    elif isinstance(part, ReportTable):
        yield from _table(part)
    elif isinstance(part, Figures):
        yield '<dl class="figures">'
        for item in part.items:
            value = escape(cell_text(item.value, item.quantity, item.digits))
            remark = f" <small>{escape(str(item.remark))}</small>" if item.remark else ""
            yield f"<div><dt>{escape(str(item.label))}</dt><dd>{value}{remark}</dd></div>"
        yield "</dl>"
    elif isinstance(part, Drawing):
        yield "<figure>"
        # Drawings are made by functions of this program, never taken from a file.
        yield part.svg or f"<pre>{escape(part.text)}</pre>"
        if part.title:
            yield f"<figcaption>{escape(part.title)}</figcaption>"
        yield "</figure>"


def _table(part: ReportTable) -> Iterator[str]:
    shown = [(place, column) for place, column in enumerate(part.columns) if column.shown]
    classes = [' class="number"' if column.right else "" for _, column in shown]
    if part.title:
        yield f"<h3>{escape(part.title)}</h3>"
    yield '<div class="scroll" tabindex="0"><table><thead><tr>'
    yield "".join(f"<th{kind}>{escape(column.title)}</th>" for (_, column), kind in zip(shown, classes, strict=True))
    yield "</tr></thead><tbody>"
    for row in part.listed:
        cells = (
            f"<td{kind}>{escape(cell_text(row[place], column.quantity, column.digits))}</td>"
            for (place, column), kind in zip(shown, classes, strict=True)
        )
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"
    if part.extent:
        yield f"<p>{part.extent}</p>"
