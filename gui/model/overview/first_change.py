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


def change_of_a_finding(session: Session, kinds: tuple[str, ...] = ()) -> FirstChange | None:
    """The first remedy of the dearest finding whose kind begins with one of `kinds`; by default of any."""
    found = dearest_finding(session, kinds)
    if found is None:
        return None
    number, one = found
    return FirstChange(Sentence("{} → {}", (one.title, remedy_words(one.remedies[0]))), FindingRef(number))


def dearest_finding(session: Session, kinds: tuple[str, ...] = ()) -> tuple[int, Finding] | None:
    """
    The dearest finding of all ranks that has a remedy, with its number; the shown rank's own where it has one of the
    same kind. Of `kinds` alone, where these are given, and then one that the shown rank has or waits for goes first.
    """
    shown = session.document.rank
    found = [entry for entry in _costly(session) if entry[1].remedies and entry[1].kind.startswith(kinds or ("",))]
    if shown is not None:
        own = [entry for entry in found if entry[1].rank in (None, shown.rank)]
        waited = [entry for entry in found if shown.rank in dict(entry[1].waits_ns)]
        found = [*(sorted((*own, *waited), key=lambda entry: entry[0]) if kinds else ()), *found]
        found = [*(entry for entry in own if entry[1].kind == found[0][1].kind), *found] if found else []
    return found[0] if found else None


def _costly(session: Session) -> list[tuple[int, Finding]]:
    """Findings that cost anything or ended the run, with their numbers, as ranked."""
    found = enumerate(session.diagnosis.findings if session.diagnosis is not None else ())
    return [entry for entry in found if entry[1].cost_ns or entry[1].cost_bytes or entry[1].kind.startswith("oom.")]
