"""Statistics of a selected stretch of time: what ran in it, and for how long."""

from __future__ import annotations

import numpy as np

from memplan.gui.model.facts import Fact, Section, fact
from memplan.gui.model.ruler import span_text
from memplan.gui.model.session import Session
from memplan.sentence import Sentence

_MOST = 8


def selection_sections(session: Session) -> list[Section]:
    """
    Per loaded row with slices in the selection: how many, their time inside it, and the categories by time.

    Times count what lies inside the selection only; slices within slices count on their own level.
    """
    selection = session.viewport.selection
    if selection is None:
        return []
    start = session.origin_ns + int(selection[0])
    end = session.origin_ns + int(np.ceil(selection[1]))
    length = max(end - start, 1)
    sections = [Section(Sentence("Selection"), (fact("length", span_text(float(end - start))),))]
    for row in session.rows.rows:
        lanes = session.rows.lanes(row)
        if lanes is None:
            continue
        count, total = 0, 0
        by_category: dict[int, int] = {}
        for lane in lanes.lanes:
            first, last = lane.between(start, end)
            if first == last:
                continue
            begin = np.maximum(lane.start_ns[first:last], start)
            finish = np.minimum(lane.start_ns[first:last] + lane.duration_ns[first:last], end)
            inside = np.maximum(finish - begin, 0)
            count += last - first
            total += int(inside.sum())
            codes = lane.category[first:last]
            for code in np.unique(codes).tolist():
                by_category[code] = by_category.get(code, 0) + int(inside[codes == code].sum())
        if not count:
            continue
        facts = [fact("slices", f"{count:,}"), fact("time", f"{span_text(float(total))} ({total / length:.0%})")]
        categories = lanes.slices.categories
        if all(not categories[code] for code in by_category):
            by_category = {}  # no slice has a category: the time of all of them stands above
        largest = sorted(by_category.items(), key=lambda item: (-item[1], item[0]))[:_MOST]
        facts += [Fact(categories[code] or Sentence("no category"), span_text(float(time))) for code, time in largest]
        sections.append(Section(row.title, tuple(facts)))
    return sections
