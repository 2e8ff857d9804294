"""What commands and pages find, as reports, and the renderers that make text, JSON, CSV, Markdown and HTML of them."""

from memplan.reports.renderers.render import REPORT_FORMATS, format_of, render_report
from memplan.reports.report import (
    Column,
    Drawing,
    Figure,
    Figures,
    Part,
    Quantified,
    Quantity,
    Remark,
    Report,
    ReportCell,
    ReportSection,
    ReportTable,
    Severity,
    cell_text,
    section,
)

__all__ = [
    "REPORT_FORMATS",
    "Column",
    "Drawing",
    "Figure",
    "Figures",
    "Part",
    "Quantified",
    "Quantity",
    "Remark",
    "Report",
    "ReportCell",
    "ReportSection",
    "ReportTable",
    "Severity",
    "cell_text",
    "format_of",
    "render_report",
    "section",
]
