"""What commands and pages find, as reports, and the renderers that make text, JSON, CSV, Markdown and HTML of them."""

from memplan.reports.render import FORMATS, format_of, render
from memplan.reports.report import (
    Amount,
    Cell,
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
    say,
    section,
)

__all__ = [
    "FORMATS",
    "Amount",
    "Cell",
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
    "render",
    "say",
    "section",
]
