"""Reports as Markdown with tables of GitHub's kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from memplan.core.sentence import Sentence
from memplan.reports.report import Drawing, Figures, Part, Report, ReportTable, cell_text, source_text


def render_markdown(report: Report) -> str:
    """`report` as a Markdown document."""
    lines = [f"# {_escaped(str(report.title))}", ""]
    if report.headline:
        lines += [f"**{_escaped(str(report.headline))}**", ""]
    for item in report.sections:
        if item.pages_only:
            continue
        if item.title:
            lines += [f"## {_escaped(str(item.title))}", ""]
        for part in item.parts:
            lines += _part(part)
    if report.notes:
        lines += ["## Notes", ""]
        lines += [f"- {note.severity.value}: {_escaped(str(note.text))}" for note in report.notes]
        lines.append("")
    if report.sources:
        lines += ["## Rests on", ""]
        lines += [f"- {_escaped(source_text(source))}" for source in report.sources]
        lines.append("")
    return "\n".join(lines)


def _part(part: Part) -> Iterator[str]:
    if isinstance(part, str | Sentence):
        yield from (_escaped(str(part)), "")
    elif isinstance(part, ReportTable):
        if part.title:
            yield from (f"### {_escaped(part.title)}", "")
        shown = [place for place, column in enumerate(part.columns) if column.shown]
        columns = [part.columns[place] for place in shown]
        rows = [
            [cell_text(row[place], part.columns[place].quantity, part.columns[place].digits) for place in shown]
            for row in part.listed
        ]
        yield from _grid([column.title for column in columns], [column.right for column in columns], rows)
        if part.extent:
            yield from (str(part.extent), "")
    elif isinstance(part, Figures):
        rows = [[str(f.label), cell_text(f.value, f.quantity, f.digits), str(f.remark)] for f in part.items]
        yield from _grid(["", "", ""], [False, True, False], rows)
    elif isinstance(part, Drawing) and part.text:
        yield from ("```text", *part.text.splitlines(), "```", "")


def _grid(header: Sequence[str], right: Sequence[bool], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(header)
    yield _row(["---:" if flag else "---" for flag in right], escape=False)
    yield from (_row(row) for row in rows)
    yield ""


def _row(cells: Sequence[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(_escaped(cell) if escape else cell for cell in cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it stands, in one line: names of ops are full of underscores and may hold `|`."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
