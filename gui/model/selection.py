"""Statistics of a selected stretch of time: what ran in it, and for how long."""

from __future__ import annotations

import numpy as np

from memplan.gui.model.facts import Fact, Section, fact
from memplan.gui.model.ruler import span_text
from memplan.gui.model.session import Session
from memplan.sentence import Sentence

_MOST = 8
_MOST_ROWS = 60


def selection_sections(session: Session) -> list[Section]:
    """
    Per loaded row with slices in the selection: how many, their time inside it, and the categories by time.

    Times count what lies inside the selection only; slices within slices count on their own level. Of very many tracks
    the first are listed.
    """
    selection = session.viewport.selection
    if selection is None:
        return []
    start = session.origin_ns + int(selection[0])
    end = session.origin_ns + int(np.ceil(selection[1]))
    length = max(end - start, 1)
    sections: list[Section] = []
    further = 0
    for row in session.rows.rows:
        lanes = session.rows.lanes(row)
        if lanes is None:
            continue
        times, counts = np.zeros((2, len(lanes.slices.categories)), dtype=np.int64)
        for lane in lanes.lanes:
            lane.add_times(start, end, times, counts)
        count, total = int(counts.sum()), int(times.sum())
        if not count:
            continue
        if len(sections) == _MOST_ROWS:
            further += 1
            continue
        facts = [fact("slices", f"{count:,}"), fact("time", f"{span_text(float(total))} ({total / length:.0%})")]
        categories = lanes.slices.categories
        present = np.flatnonzero(counts).tolist()
        if any(categories[code] for code in present):  # else the time of all of them stands above
            largest = sorted(present, key=lambda code: -int(times[code]))[:_MOST]
            facts += [
                Fact(categories[code] or Sentence("no category"), span_text(float(times[code]))) for code in largest
            ]
        sections.append(Section(row.title, tuple(facts)))
    whole = [fact("length", span_text(float(end - start)))]
    if further:
        whole.append(fact("further tracks", f"{further:,}"))
    return [Section(Sentence("Selection"), tuple(whole)), *sections]
