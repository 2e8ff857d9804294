"""Reports as JSON."""

from __future__ import annotations

import json
from typing import Any

from memplan.core.sentence import Sentence
from memplan.reports.report import Drawing, Figures, Part, Quantified, Report, ReportCell, ReportTable


def render_json(report: Report) -> str:
    """The command's own document, or all of the report where it has none; numbers are raw."""
    document = report.document() if report.document is not None else report_document(report)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def report_document(report: Report) -> dict[str, Any]:
    """All of `report` as JSON values; drawings are left out."""
    return {
        "title": str(report.title),
        "headline": str(report.headline),
        "answer": report.answer,
        "sections": [
            {
                "title": str(item.title),
                "parts": [part_document(part) for part in item.parts if not isinstance(part, Drawing)],
            }
            for item in report.sections
            if not item.pages_only
        ],
        "notes": [{"severity": note.severity.value, "text": str(note.text)} for note in report.notes],
        "rests_on": [{"value": source.value, "note": source.note} for source in report.sources],
        "written": [str(path) for path in report.written],
    }


def part_document(part: Part) -> dict[str, Any]:
    """One part of a section as JSON values."""
    if isinstance(part, ReportTable):
        keys = [column.file_key for column in part.columns]
        rows = [dict(zip(keys, map(raw_value, row), strict=True)) for row in part.rows]
        return {"table": part.title, "total": part.total if part.total is not None else len(part.rows), "rows": rows}
    if isinstance(part, Figures):
        return {
            "figures": [
                {"label": str(item.label), "value": raw_value(item.value), "unit": item.quantity.value,
                 "remark": str(item.remark)}
                for item in part.items
            ]
        }  # fmt: skip
    return {"text": str(part.text if isinstance(part, Drawing) else part)}


Raw = str | float | None
"""A value as files hold it."""


def raw_value(cell: ReportCell) -> Raw:
    """A cell as files hold it: the number itself, without digits lost or units added."""
    if isinstance(cell, Quantified):
        return cell.value
    return str(cell) if isinstance(cell, Sentence) else cell
