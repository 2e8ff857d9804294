"""Reports as one HTML file that loads nothing, light or dark as the reader's system is, on wide and narrow screens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape, unescape
from importlib import resources

from memplan.core.sentence import Sentence, Text
from memplan.core.version import MEMPLAN_VERSION
from memplan.reports.report import (
    Drawing,
    Figures,
    Part,
    Quantity,
    Report,
    ReportCell,
    ReportTable,
    cell_text,
    source_text,
)

_MOST_NARROW_COLUMNS = 3
"""A table of more columns is wide: it becomes cards where the screen is narrow."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Whatever a graph's or a profile's names hold, the page can't be made to load or run anything."""


Speak = Callable[[Text], str]
"""What words are said with: in English, or looked up in another language."""
_DRAWN = re.compile(r'(<(?:text|title)\b[^>]*>|\baria-label=")([^<"]*)')
"""Words of a drawing: those that are seen, those under the mouse and those that are read out."""


def render_html(report: Report, say: Speak = str, language: str = "en") -> str:
    """`report` as a page of its own, its words said by `say` in `language`."""
    style = resources.files("memplan.reports.renderers").joinpath("report.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="{language}">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="generator" content="memplan {escape(MEMPLAN_VERSION)}">',
            f"<title>{escape(say(report.title))}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_body(report, say),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def html_fragment(report: Report) -> str:
    """`report` as a piece of a page that is there, such as a notebook's, which styles it."""
    return "\n".join(["<div>", *_body(report, str), "</div>"])


def _body(report: Report, say: Speak) -> Iterator[str]:
    yield f"<header><h1>{escape(say(report.title))}</h1>"
    if report.headline:
        kind = ("yes" if report.answer else "no") if report.verdict else "told"
        yield f'<p class="headline {kind}">{escape(say(report.headline))}</p>'
    yield "</header>"
    for item in report.sections:
        drawn = [one for one in item.pictures() if one.svg] if item.pictures is not None else []
        if not drawn and not item.parts and item.pictures is not None:
            continue
        yield "<section>"
        if item.title:
            yield f"<h2>{escape(say(item.title))}</h2>"
        for part in (*drawn, *item.parts):
            yield from _part(part, say)
        yield "</section>"
    if report.notes:
        yield f"<section><h2>{escape(say('Notes'))}</h2><ul>"
        yield from (f'<li class="{note.severity.value}">{escape(say(note.text))}</li>' for note in report.notes)
        yield "</ul></section>"
    if report.sources:
        yield f"<section><h2>{escape(say('What this rests on'))}</h2><ul>"
        yield from (f"<li>{escape(source_text(source))}</li>" for source in report.sources)
        yield "</ul></section>"
    yield f"<footer>memplan {escape(MEMPLAN_VERSION)}</footer>"


def _part(part: Part, say: Speak) -> Iterator[str]:
    if isinstance(part, str | Sentence):
        yield f"<p>{escape(say(part))}</p>"
    elif isinstance(part, ReportTable):
        yield from _table(part, say)
    elif isinstance(part, Figures):
        yield '<dl class="figures">'
        for item in part.items:
            value = escape(_cell(item.value, item.quantity, item.digits, say))
            remark = f" <small>{escape(say(item.remark))}</small>" if item.remark else ""
            yield f"<div><dt>{escape(say(item.label))}</dt><dd>{value}{remark}</dd></div>"
        yield "</dl>"
    elif isinstance(part, Drawing):
        yield "<figure>"
        # Drawings are made by functions of this program, never taken from a file.
        yield _said_drawing(part, say) if part.svg else f"<pre>{escape(part.text)}</pre>"
        if part.title:
            yield f"<figcaption>{escape(say(part.title))}</figcaption>"
        yield "</figure>"


def _said_drawing(drawing: Drawing, say: Speak) -> str:
    """A drawing's SVG with its words said by `say`."""
    if drawing.said:
        return drawing.svg
    sentences: dict[str, Text] = {str(one): one for one in (*drawing.words, drawing.title)}

    def said(found: re.Match[str]) -> str:
        words = unescape(found[2])
        return found[1] + escape(say(sentences.get(words, words)))

    return _DRAWN.sub(said, drawing.svg)


def _table(part: ReportTable, say: Speak) -> Iterator[str]:
    shown = [(place, column) for place, column in enumerate(part.columns) if column.shown]
    classes = [' class="number"' if column.right else "" for _, column in shown]
    if part.title:
        yield f"<h3>{escape(say(part.title))}</h3>"
    heads = [escape(say(column.title)) for _, column in shown]
    wide = len(shown) > _MOST_NARROW_COLUMNS
    opening = '<table class="wide">' if wide else "<table>"
    yield f'<div class="scroll" tabindex="0">{opening}<thead><tr>'
    yield "".join(f"<th{kind}>{head}</th>" for head, kind in zip(heads, classes, strict=True))
    yield "</tr></thead><tbody>"
    # On a narrow screen each row of a wide table is a card, whose cells carry their heads with them.
    names = [f' data-head="{head}"' if wide else "" for head in heads]
    for row in part.listed:
        cells = (
            f"<td{_no_value(kind) if wide and row[place] is None else kind}{name}>"
            f"{escape(_cell(row[place], column.quantity, column.digits, say))}</td>"
            for (place, column), kind, name in zip(shown, classes, names, strict=True)
        )
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"
    if part.extent:
        yield f"<p>{escape(say(part.extent))}</p>"


def _no_value(kind: str) -> str:
    """The attribute of a cell of the class of its column, which holds nothing."""
    return ' class="number none"' if kind else ' class="none"'


def _cell(value: ReportCell, quantity: Quantity, digits: int | None, say: Speak) -> str:
    return say(value) if isinstance(value, str | Sentence) else cell_text(value, quantity, digits)
