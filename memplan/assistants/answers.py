"""Reports as an assistant gets them: text of a bounded size, and the rows of any table on request."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from memplan.core.errors import InputError
from memplan.reports.renderers.render import render_report
from memplan.reports.report import Report, ReportTable, cell_text

MOST_TEXT = 24_000
"""Characters of one answer."""
ANSWERED_ROWS = 200
"""Rows of a table in one answer."""
_KEPT = 16


class Answers:
    """The last reports that were made, by the name under which their tables can be asked for."""

    def __init__(self) -> None:
        self._reports: OrderedDict[str, Report] = OrderedDict()
        self._made = 0

    def told(self, report: Report) -> str:
        """`report` as Markdown, its name and its tables; what is cut is said."""
        self._made += 1
        name = f"report-{self._made}"
        self._reports[name] = report
        while len(self._reports) > _KEPT:
            self._reports.popitem(last=False)
        text = render_report(report, "md")
        if len(text) > MOST_TEXT:
            text = f"{text[:MOST_TEXT]}\n\n[cut: {len(text) - MOST_TEXT:,} of {len(text):,} characters are left out]\n"
        tables = "\n".join(
            f"- table {number}: {title}, {len(table.rows):,} rows"
            for number, (title, table) in enumerate(_tables(report))
        )
        yes = "yes" if report.answer else "no"
        return f"name: {name}\nanswer: {yes}\n\n{text}\n\nTables that can be asked for by number:\n{tables}\n"

    def rows(self, name: str, number: int, start: int, count: int) -> str:
        """Rows `start` to `start + count` of table `number` as JSON, numbers in the units that the columns name."""
        report = self._reports.get(name)
        if report is None:
            known = ", ".join(self._reports) or "none"
            raise InputError(f"there is no report {name!r:.40}", remedy=f"known are {known}")
        tables = list(_tables(report))
        if not 0 <= number < len(tables):
            raise InputError(f"{name} has no table {number}", remedy=f"it has {len(tables)}, numbered from 0")
        if start < 0 or count < 1:
            raise InputError("rows are counted from 0, and at least one is asked for")
        title, table = tables[number]
        end = min(start + min(count, ANSWERED_ROWS), len(table.rows))
        rows = [_row(table, row) for row in table.rows[start:end]]
        document = {"table": title, "rows_in_all": len(table.rows), "first": start, "rows": rows}
        while rows and len(text := _json(document)) > MOST_TEXT:
            del rows[len(rows) // 2 :]
            document["cut"] = f"only {len(rows)} rows are told: more would be too long"
        return text if rows else _json(document)[:MOST_TEXT]


def _json(document: dict[str, Any]) -> str:
    """`document` in as few characters as there can be, lone surrogates alone as escapes: the protocol is UTF-8."""
    return json.dumps(document, ensure_ascii=False).encode(errors="backslashreplace").decode()


def _tables(report: Report) -> list[tuple[str, ReportTable]]:
    return [
        (part.title or str(section.title), part)
        for section in report.sections
        for part in section.parts
        if isinstance(part, ReportTable)
    ]


def _row(table: ReportTable, row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        column.file_key: cell if isinstance(cell, str | int | float | None) else cell_text(cell, column.quantity)
        for column, cell in zip(table.columns, row, strict=True)
    }
