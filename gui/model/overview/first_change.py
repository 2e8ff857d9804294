"""What to change first in a run: a remedy, and the finding or the difference from the plan that it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.core.sentence import Sentence
from memplan.gui.model.details.finding_details import remedy_words
from memplan.gui.model.session.session import FindingRef, Session

if TYPE_CHECKING:
    from memplan.findings import Finding


@dataclass(frozen=True, slots=True)
class FirstChange:
    """What to change first, and the finding or the number of the difference that it is for, where there is one."""

    said: Sentence
    finding: FindingRef | None = None
    difference: int | None = None


def change_of_a_finding(session: Session, kinds: tuple[str, ...] = ("",)) -> FirstChange | None:
    """The first remedy of the dearest finding whose kind begins with one of `kinds`; by default of any."""
    for number, one in _dearest_first(session):
        if one.kind.startswith(kinds) and one.remedies:
            return FirstChange(Sentence("{} → {}", (one.title, remedy_words(one.remedies[0]))), FindingRef(number))
    return None


def _dearest_first(session: Session) -> list[tuple[int, Finding]]:
    """Findings that cost anything or ended the run, with their numbers, as ranked; the shown rank's go first."""
    rank = session.document.rank
    found = list(enumerate(session.diagnosis.findings if session.diagnosis is not None else ()))
    costly = [entry for entry in found if entry[1].cost_ns or entry[1].cost_bytes or entry[1].kind.startswith("oom.")]
    return sorted(costly, key=lambda entry: rank is not None and entry[1].rank not in (None, rank.rank))
