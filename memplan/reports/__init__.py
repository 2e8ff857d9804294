"""What commands and pages find, as reports, and the renderers that make text, JSON, CSV, Markdown and HTML of them."""

from memplan.reports.render import REPORT_FORMATS, format_of, render_report
from memplan.reports.report import (
    Quantified,
    ReportCell,
    Column,
    Drawing,
    Figure,
    Figures,
    Part,
    Quantity,
    Remark,
    Report,
    ReportSection,
    ReportTable,
    Severity,
    cell_text,
    section,
)

__all__ = [
    "REPORT_FORMATS",
    "Quantified",
    "ReportCell",
    "Column",
    "Drawing",
    "Figure",
    "Figures",
    "Part",
    "Quantity",
    "Remark",
    "Report",
    "ReportSection",
    "ReportTable",
    "Severity",
    "format_of",
    "render_report",
    "cell_text",
    "section",
]
