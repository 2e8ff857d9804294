"""Communication that nothing hides: pipeline bubbles, waiting, transfers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.core.intervals import interval_difference
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_duration, format_share
from memplan.findings.chance_waits import chance_waits
from memplan.findings.claims import BUBBLE, TRANSFER, WAITING
from memplan.findings.exposed_communication import ExposedCommunication
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts

_MOST_PLACES = 10


def communication_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank's communication, the more particular first."""
    by_chance = chance_waits(job)
    for rank, facts in job.ranks.items():
        yield from _bubble(facts)
        yield from _exposed(job, facts, by_chance.get(rank, 0))


def _bubble(facts: RankFacts) -> Iterator[Finding]:
    waits = [one for one in facts.exposed if one.bubble_ns]
    total = facts.claims.left(BUBBLE)
    if not facts.worth(total):
        return
    moved = sum(one.transfer_ns or 0 for one in waits)
    longest = max(waits, key=lambda one: one.exposed_ns)
    yield Finding(
        kind="pipeline.bubble",
        title=Sentence(
            "Pipeline bubble: sends and receives wait {} for the other stage, {} of the step",
            (format_duration(total), format_share(total / facts.length_ns)),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take(BUBBLE, total),
        cost_bytes=None,
        bound="a pipeline whose stages never wait",
        formula="waiting of sends and receives; all of their exposed time where bytes move in less than half of it",
        confidence=Confidence.MEASURED,
        places=places_of(facts, waits),
        evidence=(
            Evidence("sends and receives", len(waits), "count"),
            Evidence("bytes moving", moved, "ns"),
            Evidence("waiting", sum(one.waiting_ns or 0 for one in waits), "ns"),
            Evidence("longest", longest.communication.name),
            Evidence("longest takes", longest.exposed_ns, "ns"),
        ),
    )


def _exposed(job: JobCase, facts: RankFacts, by_chance: int) -> Iterator[Finding]:
    claims = facts.claims
    # Of what nobody else explains: no knob makes kernels scatter less.
    by_chance = min(by_chance, claims.left(WAITING))
    claims.excuse(WAITING, by_chance)
    transfer, waiting = claims.left(TRANSFER), claims.left(WAITING)
    total = transfer + waiting
    told = all(step.transfer_ns is not None for step in facts.steps)
    # Whoever comes late and what moves slowly are two causes, of which each is reported from a hundredth on.
    dearest = max(transfer - _between_kernels(facts), waiting) if told else total - _between_kernels(facts)
    if not facts.worth(dearest):
        return
    rest = [one for one in facts.exposed if not one.is_bubble and one.exposed_ns]
    longest = max(rest, key=lambda one: one.exposed_ns, default=None)
    claims.take(TRANSFER, transfer)
    claims.take(WAITING, waiting)
    evidence = [Evidence("exposed", total, "ns"), Evidence("of the steps", total / facts.length_ns, "share")]
    if told:
        evidence += [Evidence("waiting for others", waiting, "ns"), Evidence("bytes moving", transfer, "ns")]
        stalled = _stalled(job, facts)
        if stalled:
            evidence.append(
                Evidence("of the waiting, while all profiled ranks were there", min(stalled, waiting), "ns")
            )
    if by_chance:
        evidence.append(Evidence("not counted: waiting by chance, as kernels scatter", by_chance, "ns"))
    if longest is not None:
        evidence += [
            Evidence("longest", longest.communication.name),
            Evidence("longest takes", longest.exposed_ns, "ns"),
        ]
        if longest.transfer_ns is not None:
            evidence.append(Evidence("longest moves bytes for", longest.transfer_ns, "ns"))
    split = (
        Sentence(": {} waiting, {} moving bytes", (format_duration(waiting), format_duration(transfer)))
        if told
        else Sentence("; waiting and transfer are not told apart")
    )
    yield Finding(
        kind="communication.waiting" if told and waiting > transfer else "communication.exposed",
        title=Sentence(
            "Communication that no computing hides: {} of {} ({}){}{}",
            (
                format_duration(total),
                format_duration(facts.length_ns),
                format_share(total / facts.length_ns),
                split,
                _most_of_it(longest, total),
            ),
        ),
        rank=facts.case.rank,
        cost_ns=total,
        cost_bytes=None,
        bound="communication wholly hidden behind computing",
        formula="communication intervals less computing intervals; waiting = exposed - moving bytes",
        confidence=Confidence.MEASURED,
        places=places_of(facts, rest),
        evidence=tuple(evidence),
    )


def _between_kernels(facts: RankFacts) -> int:
    """Time in which a communication shows only because one kernel of a full queue follows another, ns."""
    starts, ends = interval_difference(facts.case.communicating, facts.case.computing)
    length = ends - starts
    return int(length[length <= threshold("queue_gap_ns")].sum())


def _stalled(job: JobCase, facts: RankFacts) -> int:
    """Time in communications, exposed, after the last rank had come and in which nothing moved: no peer explains it."""
    total = 0
    for one in job.meetings.all:
        place = one.place.get(facts.case.rank)
        if place is None or facts.exposed[place].is_bubble:
            continue
        ran = facts.exposed[place]
        late = one.start_ns[one.last] - one.start_ns[facts.case.rank]
        rest = ran.communication.end_ns - ran.communication.start_ns - late - (ran.communication.transfer_ns or 0)
        total += max(min(rest, ran.waiting_ns or 0), 0)
    return total


def _most_of_it(longest: ExposedCommunication | None, total: int) -> Text:
    # Of a longer one another finding explains a part: what is left of it is not known.
    if longest is None or not total / 2 <= longest.exposed_ns <= total:
        return ""
    return Sentence("; {} alone {}", (longest.communication.name, format_duration(longest.exposed_ns)))


def places_of(facts: RankFacts, found: Sequence[ExposedCommunication]) -> tuple[Place, ...]:
    """The communications that cost most, as places to open."""
    worst = sorted(found, key=lambda one: -one.exposed_ns)[:_MOST_PLACES]
    return tuple(
        Place(
            ranks=(facts.case.rank,),
            step=facts.case.step_at(one.communication.start_ns),
            span_ns=(one.communication.start_ns, one.communication.end_ns),
            ops=(one.communication.name,),
        )
        for one in worst
        if one.exposed_ns
    )
