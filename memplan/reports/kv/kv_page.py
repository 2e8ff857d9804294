"""A KV budget as a piece of HTML that loads nothing, for notebooks."""

from __future__ import annotations

from memplan.kv import KvBudget
from memplan.reports.kv.kv_report import kv_report
from memplan.reports.renderers.render_html import html_fragment


def budget_html(budget: KvBudget) -> str:
    """The budget line by line, and what fits."""
    return html_fragment(kv_report(budget))
