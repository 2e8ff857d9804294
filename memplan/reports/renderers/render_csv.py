"""Reports as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from memplan.core.csv_rows import csv_rows
from memplan.reports.renderers.render_json import Raw, raw_value
from memplan.reports.report import Figures, Report, ReportTable


def render_csv(report: Report) -> str:
    """
    The tables of `report` with raw numbers; their columns name the unit.

    One table is a plain file. Of several each stands below a line `# title`, with an empty line between them.
    """
    blocks = [(title, lines) for title, lines in _blocks(report) if lines]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, (title, lines) in enumerate(blocks):
        if len(blocks) > 1:
            text.write(f"{chr(10) if number else ''}# {' '.join(title.split())}\n")
        writer.writerows(csv_rows(lines))
    return text.getvalue()


def _blocks(report: Report) -> Iterator[tuple[str, list[list[Raw]]]]:
    for item in report.sections:
        for part in item.parts:
            if isinstance(part, ReportTable):
                rows: list[list[Raw]] = [[raw_value(cell) for cell in row] for row in part.rows]
                names: list[Raw] = [column.file_key for column in part.columns]
                yield part.title or str(item.title), [names, *rows]
            elif isinstance(part, Figures):
                rows = [[str(f.label), raw_value(f.value), f.quantity.value, str(f.remark)] for f in part.items]
                yield str(item.title), [["figure", "value", "unit", "remark"], *rows]
