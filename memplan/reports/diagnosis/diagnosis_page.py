"""What a diagnosis found as a piece of HTML that loads nothing, for notebooks."""

from __future__ import annotations

from memplan.findings.diagnosis import Diagnosis
from memplan.reports.diagnosis.diagnosis_report import diagnosis_report
from memplan.reports.renderers.render_html import html_fragment


def diagnosis_html(diagnosis: Diagnosis) -> str:
    """The findings by cost, and where the time went."""
    return html_fragment(diagnosis_report(diagnosis, "the profile"))
