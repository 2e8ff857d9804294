"""The findings of a profile as rows of a table."""

from __future__ import annotations

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration, format_share
from memplan.findings.alike import folded, ranks_of
from memplan.gui.model.details.finding_details import finding_share
from memplan.gui.model.session.session import FindingRef, Session
from memplan.gui.model.tables.table import TableRow, TableShape

FINDING_SHAPE = TableShape(
    ("Finding", "Rank", "Cost", "Of the steps", "Memory", "How known"), wide=0, numbers=2, sorted_by=2
)


def finding_rows(session: Session) -> list[TableRow]:
    """
    Every finding, the dearest first; of those that many ranks share the dearest stands for all.

    Each has the place of its first instance, where it has one in the shown rank.
    """
    found = session.diagnosis
    if found is None:
        return []
    rows = []
    listed, further = folded(found.findings)
    chosen = set(map(id, listed))
    for number, one in enumerate(found.findings):
        if id(one) not in chosen:
            continue
        item = FindingRef(number)
        spans = session.finding_spans(item)
        share = finding_share(session, one)
        cells: tuple[Text, ...] = (
            one.title,
            ranks_of(one, further.get(one.kind, 0)),
            "–" if one.cost_ns is None else format_duration(one.cost_ns),
            "–" if share is None else format_share(share),
            "–" if one.cost_bytes is None else format_bytes(one.cost_bytes),
            Sentence(one.confidence.value),
        )
        # What ended the run leads, and what costs memory alone follows what costs time: as they are ranked.
        order = float(one.cost_ns or 0) if not one.kind.startswith("oom.") else float("inf")
        keys = (str(one.title), float(-1 if one.rank is None else one.rank), order - number * 1e-6,
                float(share or 0), float(one.cost_bytes or 0), one.confidence.value)  # fmt: skip
        rows.append(TableRow(cells, keys, item, spans[0] if spans else None))
    return rows
