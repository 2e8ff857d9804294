"""All that is known of a finding: what it costs, what shows it, where it is, what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.sentence import Sentence, Text, sentence_of
from memplan.core.units import format_bytes, format_duration, format_rate, format_share
from memplan.gui.model.details.facts import Fact, Section, fact
from memplan.gui.model.session.plan_notes import note_in_words
from memplan.gui.model.session.session import FindingRef, Session

if TYPE_CHECKING:
    from memplan.findings import Evidence, Finding
    from memplan.findings.finding import Remedy

_MOST_PLACES = 30
_ANY = "any"
"""What remedies call the framework where they go for all of them."""


def finding_share(session: Session, one: Finding) -> float | None:
    """What a finding costs of all steps of its rank."""
    ranks = session.diagnosis.job.ranks if session.diagnosis is not None else {}
    if one.cost_ns is None or one.rank is None or one.rank not in ranks:
        return None
    return one.cost_ns / max(ranks[one.rank].length_ns, 1)


def finding_sections(session: Session, item: FindingRef) -> list[Section]:
    """What a finding costs, what shows it, where it is (each a jump), and what can be done."""
    one = session.finding(item)
    if one is None:
        return []
    share = finding_share(session, one)
    head = [] if one.rank is None else [fact("rank", str(one.rank))]
    if one.cost_ns is not None:
        cost = format_duration(one.cost_ns)
        told = cost if share is None else Sentence("{} ({} of the steps)", (cost, format_share(share)))
        head.append(fact("cost", told))
    if one.path_ns is not None:
        head.append(fact("on the critical path", format_duration(one.path_ns)))
    if one.cost_bytes is not None:
        head.append(fact("memory", format_bytes(one.cost_bytes)))
    if one.bound:
        head.append(fact("against", sentence_of(one.bound)))
    if one.formula:
        head.append(fact("reckoned as", sentence_of(one.formula)))
    head.append(fact("how known", Sentence(one.confidence.value)))
    sections = [Section(one.title, tuple(head))]
    if one.evidence:
        shown = tuple(Fact(_label(item.label), evidence_text(item)) for item in one.evidence)
        sections.append(Section(Sentence("What shows it"), shown))
    places = tuple(_places(session, item, one))
    if places:
        sections.append(Section(Sentence("Where"), places))
    remedies = tuple(map(_remedy, one.remedies))
    if remedies:
        sections.append(Section(Sentence("What to do"), remedies))
    return sections


def _remedy(remedy: Remedy) -> Fact:
    framework: Text = Sentence(_ANY) if remedy.framework == _ANY else remedy.framework
    return Fact(framework, remedy_words(remedy))


def remedy_words(remedy: Remedy) -> Sentence:
    """What a framework is told to do; what goes for any is told in words, the knobs of one by its own names."""
    knob: Text = Sentence(remedy.knob) if remedy.framework == _ANY else remedy.knob
    return Sentence("{}: {}", (knob, Sentence(remedy.text)))


def _places(session: Session, item: FindingRef, one: Finding) -> list[Fact]:
    """The instances of a finding that lie in the shown rank, each a jump."""
    spans = session.finding_spans(item)
    rank = session.document.rank
    here = [
        place
        for place in one.places
        if place.span_ns is not None and (not place.ranks or (rank is not None and rank.rank in place.ranks))
    ]
    facts = []
    for number, (place, span) in enumerate(list(zip(here, spans, strict=True))[:_MOST_PLACES]):
        length = span[1] - span[0]
        at = format_duration(span[0] - session.origin_ns)
        when = Sentence("at {} for {}", (at, format_duration(length))) if length else Sentence("at {}", (at,))
        names = ", ".join((*place.ops, *place.tensors, *place.tracks))
        label: Text = names if names else Sentence("place {}", (str(number + 1),))
        facts.append(Fact(when, label, FindingRef(item.number, number)))
    return facts


def _label(label: Text) -> Sentence:
    """The words of a piece of evidence; what is one text with its figures is taken apart."""
    return sentence_of(note_in_words(label) if isinstance(label, str) else label)


def evidence_text(item: Evidence) -> Text:
    """The figure of a piece of evidence with its unit."""
    value = item.value
    if isinstance(value, str):
        return value
    if item.unit == "ns":
        return format_duration(round(value))
    if item.unit == "bytes":
        return format_bytes(round(value))
    if item.unit == "share":
        return format_share(float(value))
    if item.unit == "B/s":
        return format_rate(float(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
