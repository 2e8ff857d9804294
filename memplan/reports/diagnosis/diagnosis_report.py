"""What a diagnosis found: findings by cost, what shows each and what to do, steps taken apart, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import Intervals
from memplan.core.sentence import Sentence, Text, sentence_of
from memplan.core.units import format_duration, format_share
from memplan.findings.alike import folded, ranks_of
from memplan.findings.diagnosis import Diagnosis
from memplan.findings.finding import Evidence, Finding, Place
from memplan.findings.step_breakdown import StepBreakdown
from memplan.reports.report import (
    Column,
    Drawing,
    Part,
    Quantified,
    Quantity,
    Remark,
    Report,
    ReportCell,
    ReportSection,
    ReportTable,
    Severity,
    section,
)
from memplan.schema import Source
from memplan.traces.link_totals import link_totals

_MOST_DETAILS, _MOST_STEPS, _MOST_STRIPS, _MOST_BARS = 12, 32, 4, 32
_MOST_FINDINGS, _MOST_ROWS = 60, 200
_MOST_LINES, _MOST_MATRIX = 4, 64
_UNITS = {
    "ns": Quantity.DURATION, "bytes": Quantity.BYTES, "share": Quantity.SHARE, "count": Quantity.COUNT,
    "B/s": Quantity.RATE,
}  # fmt: skip
_FINDINGS = (
    Column("#", Quantity.COUNT),
    Column("rank"),
    Column("finding"),
    Column("cost", Quantity.DURATION),
    Column("of the steps", Quantity.SHARE),
    Column("on the critical path", Quantity.DURATION),
    Column("memory", Quantity.BYTES),
    Column("how known"),
    Column("kind", shown=False),
)
_EVIDENCE = (Column("evidence"), Column("value", Quantity.NUMBER))
_REMEDIES = (
    Column("framework"), Column("what to change"), Column("why"), Column("of version"), Column("read in", shown=False),
)  # fmt: skip
_PLACES = (
    Column("rank"), Column("step"), Column("op"), Column("from", Quantity.DURATION), Column("for", Quantity.DURATION),
)  # fmt: skip
_STEPS = (
    Column("rank"),
    Column("step"),
    Column("length", Quantity.DURATION),
    Column("computing", Quantity.DURATION),
    Column("beside communication", Quantity.DURATION),
    Column("transfer", Quantity.DURATION),
    Column("waiting", Quantity.DURATION),
    Column("exposed", Quantity.DURATION),
    Column("bubble", Quantity.DURATION),
    Column("copies", Quantity.DURATION),
    Column("idle", Quantity.DURATION),
    Column("idle: mostly"),
)
_BALANCE = (
    Column("rank"),
    Column("steps", Quantity.DURATION),
    Column("findings", Quantity.DURATION),
    Column("computing without objection", Quantity.DURATION),
    Column("not explained", Quantity.DURATION),
)


def diagnosis_report(diagnosis: Diagnosis, title: str, notes: Sequence[Remark] = ()) -> Report:
    """`diagnosis` of the profile called `title`, with `notes` of what could not be read."""
    findings, alike = folded(diagnosis.findings)
    rows = tuple(_row(number, one, diagnosis, alike) for number, one in enumerate(findings, 1))
    table = ReportTable(_FINDINGS, rows[:_MOST_FINDINGS], total=len(rows))
    sections = [section("Findings", table if rows else "Nothing costs enough to be reported.")]
    if any(facts.steps for facts in diagnosis.job.ranks.values()):
        time = ReportSection("Where the time went", _time_tables(diagnosis), lambda: tuple(_time_pictures(diagnosis)))
        sections.append(time)
    sections += [
        ReportSection("Memory", (), lambda: tuple(_memory_pictures(diagnosis))),
        ReportSection("Links between ranks", (), lambda: (_links(diagnosis),)),
    ]
    sections += [_details(number, one, diagnosis, alike) for number, one in enumerate(findings[:_MOST_DETAILS], 1)]
    remarks = list(notes)
    remarks += [
        Remark(
            Sentence(
                "Rank {}: the kernel table has {} of the computing that the profiler sums up; its steps are told by "
                "these sums",
                (str(rank), format_share(facts.case.kept_share)),
            ),
            Severity.WARNING,
        )
        for rank, facts in diagnosis.job.ranks.items()
        if facts.case.kept_share is not None
    ]
    if diagnosis.chip is None and any(facts.case.kernels for facts in diagnosis.job.ranks.values()):
        remarks.append(
            Remark("The profile does not name its chip: kernels are held against their own counters; give --chip",
                   Severity.WARNING)
        )  # fmt: skip
    return Report(
        title=Sentence("Diagnosis of {}", (title,)),
        headline=findings[0].title if findings else _nothing(diagnosis),
        verdict=not findings,
        sections=tuple(sections),
        notes=tuple(remarks),
        sources=(Source("thresholds", "memplan/findings/thresholds.json, each with its source"),),
        document=lambda: _document(diagnosis, title, [str(remark.text) for remark in notes]),
    )


def _nothing(diagnosis: Diagnosis) -> Sentence:
    if not any(facts.steps for facts in diagnosis.job.ranks.values()):
        return Sentence("The profile tells neither of steps nor of kernels: there is no time to be explained")
    return Sentence("Nothing costs enough to be reported")


def _whose(one: Finding, alike: Mapping[str, int]) -> Text | int:
    told = ranks_of(one, alike.get(one.kind, 0))
    return one.rank if one.rank is not None and told == str(one.rank) else told


def _row(number: int, one: Finding, diagnosis: Diagnosis, alike: Mapping[str, int]) -> tuple[ReportCell, ...]:
    return (
        number, _whose(one, alike), one.title, one.cost_ns, _share(one, diagnosis), one.path_ns,
        one.cost_bytes, one.confidence.value, one.kind,
    )  # fmt: skip


def _share(one: Finding, diagnosis: Diagnosis) -> float | None:
    if one.cost_ns is None or one.rank is None or one.rank not in diagnosis.job.ranks:
        return None
    return one.cost_ns / max(diagnosis.job.ranks[one.rank].length_ns, 1)


def _details(number: int, one: Finding, diagnosis: Diagnosis, alike: Mapping[str, int]) -> ReportSection:
    parts: list[Part] = [one.title]
    if one.bound:
        parts.append(Sentence("Cost against {}; {}.", (sentence_of(one.bound), sentence_of(one.formula))))
    elif one.formula:
        parts.append(Sentence("Reckoned as: {}.", (sentence_of(one.formula),)))
    if one.evidence:
        parts.append(ReportTable(_EVIDENCE, tuple((item.label, _value(item)) for item in one.evidence)))
    places = [row for row in (_place(item, diagnosis) for item in one.places) if row is not None]
    if places:
        parts.append(ReportTable(_PLACES, tuple(places), "Where"))
    if one.remedies:
        remedies = tuple(
            (item.framework, item.knob, item.text, item.version or None, item.source) for item in one.remedies
        )
        parts.append(ReportTable(_REMEDIES, remedies, "What to do"))
    head: Text = f"{number}. {one.kind}"
    if one.rank is not None:
        head = Sentence("{}, rank {}", (head, ranks_of(one, alike.get(one.kind, 0))))
    if one.cost_ns is not None:
        head = Sentence("{}: {}", (head, format_duration(one.cost_ns)))
    return section(head, *parts)


def _value(item: Evidence) -> ReportCell:
    if isinstance(item.value, str):
        return item.value
    return Quantified(item.value, _UNITS.get(item.unit, Quantity.NUMBER))


def _place(place: Place, diagnosis: Diagnosis) -> tuple[ReportCell, ...] | None:
    if place.span_ns is None and not place.ops and not place.tensors:
        return None
    rank = place.ranks[0] if place.ranks else None
    origin = None
    if rank is not None and rank in diagnosis.job.ranks and diagnosis.job.ranks[rank].case.windows:
        origin = diagnosis.job.ranks[rank].case.windows[0].start_ns
    start = place.span_ns[0] - origin if place.span_ns and origin is not None else None
    length = place.span_ns[1] - place.span_ns[0] if place.span_ns else None
    names = ", ".join(filter(None, (*place.ops, *place.tensors)))
    return (", ".join(map(str, place.ranks)), None if place.step is None else str(place.step), names, start, length)


def _told_steps(diagnosis: Diagnosis) -> list[tuple[int, StepBreakdown]]:
    """Steps with their rank, in the order of the report."""
    ranks = diagnosis.job.ranks
    return [(rank, step) for rank in _dearest_first(diagnosis) for step in ranks[rank].steps[:_MOST_STEPS]]


def _time_tables(diagnosis: Diagnosis) -> tuple[ReportTable, ReportTable]:
    rows = tuple(_step_row(rank, step) for rank, step in _told_steps(diagnosis)[:_MOST_ROWS])
    total = sum(len(facts.steps) for facts in diagnosis.job.ranks.values())
    told_of = (diagnosis.explained_ns, diagnosis.working_ns, diagnosis.unexplained_ns)
    balance = tuple(
        (rank, facts.length_ns, *(told(rank) for told in told_of)) for rank, facts in diagnosis.job.ranks.items()
    )
    return (
        ReportTable(_STEPS, rows, "Steps", total=total),
        ReportTable(_BALANCE, balance[:_MOST_ROWS], "What the findings explain", total=len(balance)),
    )


def _time_pictures(diagnosis: Diagnosis) -> Iterator[Drawing]:
    from memplan.reports.step_pictures import device_strip, parts_of_step, stacked_steps

    bars: list[tuple[Text, Mapping[str, int]]] = [
        (Sentence("rank {}, step {}", (rank, "–" if step.step is None else step.step)), parts_of_step(step))
        for rank, step in _told_steps(diagnosis)[:_MOST_BARS]
    ]
    total = sum(len(facts.steps) for facts in diagnosis.job.ranks.values())
    title: Text = "Steps taken apart"
    if total > _MOST_BARS:
        few = "Steps taken apart: {} of {}, those of the dearest findings first"
        title = Sentence(few, (_MOST_BARS, f"{total:,}"))
    yield stacked_steps(bars, title=title)
    for rank in _dearest_first(diagnosis)[:_MOST_STRIPS]:
        facts = diagnosis.job.ranks[rank]
        if facts.case.windows:
            span = facts.case.windows[0].start_ns, facts.case.windows[-1].end_ns
            lanes: list[tuple[str, Intervals]] = [
                ("computing", facts.case.computing),
                ("communication", facts.case.communicating),
                ("copies", facts.case.copying),
                ("idle", facts.case.idle),
            ]
            first = next((one for one in diagnosis.findings if one.rank == rank and one.places), None)
            marks = [place.span_ns for place in (first.places[:3] if first else ()) if place.span_ns]
            framed = "Rank {}: what the device did; framed, where the dearest finding is"
            title = Sentence(framed if marks else "Rank {}: what the device did", (rank,))
            yield device_strip([lane for lane in lanes if len(lane[1][0])], span, marks, title=title)


def _dearest_first(diagnosis: Diagnosis) -> list[int]:
    """All ranks, in their order where a page has room for them, else those that findings name first."""
    ranks = diagnosis.job.ranks
    if sum(len(facts.steps) for facts in ranks.values()) <= _MOST_BARS:
        return list(ranks)
    named = [one.rank for one in diagnosis.findings if one.rank is not None and one.rank in ranks]
    return list(dict.fromkeys((*named, *ranks)))


def _memory_pictures(diagnosis: Diagnosis) -> Iterator[Drawing]:
    """What the process held, and what its allocators reserved and allocated, on the first ranks that tell."""
    from memplan.reports.step_pictures import memory_lines

    drawn = 0
    for rank in _dearest_first(diagnosis):
        if drawn == _MOST_STRIPS:
            break
        facts = diagnosis.job.ranks[rank]
        curves = facts.case.profile.memory_curves()
        lines: list[tuple[Text, Int64s, Int64s]] = []
        spans: list[tuple[int, int]] = []
        for name, curve in curves.items():
            for words, values in (("{} reserved", curve.reserved), ("{} allocated", curve.allocated)):
                if values is None or not len(values) or int(values.max()) <= 0 or len(lines) == _MOST_LINES:
                    continue
                lines.append((Sentence(words, (name,)), curve.time_ns, values))
                spans.append((int(curve.time_ns[0]), int(curve.time_ns[-1])))
        if lines:
            # The process first: whatever else there is lies below it.
            lines.sort(key=lambda line: -int(line[2].max()))
            span = (min(begin for begin, _ in spans), max(end for _, end in spans))
            yield memory_lines(lines, span, title=Sentence("Rank {}: device memory while it was recorded", (rank,)))
            drawn += 1


def _links(diagnosis: Diagnosis) -> Drawing:
    from memplan.reports.step_pictures import rank_matrix

    facts = diagnosis.job.ranks
    uses = {rank: one.case.profile.links() for rank, one in facts.items()} if len(facts) <= _MOST_MATRIX else {}
    links = link_totals(uses, {rank: one.case.profile.groups for rank, one in facts.items()})
    ranks = sorted({link.source for link in links} | {link.target for link in links})
    rates = {(link.source, link.target): link.bytes_per_second for link in links}
    return rank_matrix(ranks, rates, title="Rates of links in GB/s: rows send, columns receive")


def _step_row(rank: int, step: StepBreakdown) -> tuple[ReportCell, ...]:
    cause = max(step.idle_ns, key=lambda name: step.idle_ns[name], default=None)
    mostly: Text = ""
    if cause is not None and step.idle_ns[cause]:
        share = format_share(step.idle_ns[cause] / max(step.idle_total_ns, 1), 0)
        mostly = Sentence("{} {}", (Sentence(cause), share))
    return (
        rank, None if step.step is None else str(step.step), step.length_ns, step.computing_ns, step.overlapped_ns,
        step.transfer_ns, step.waiting_ns, step.exposed_ns, step.bubble_ns, step.copying_ns, step.idle_total_ns, mostly,
    )  # fmt: skip


def _document(diagnosis: Diagnosis, title: str, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "profile": title,
        "chip": diagnosis.chip,
        "findings": [_plain(one) | {"remedies": [_plain(item) for item in one.remedies]} for one in diagnosis.findings],
        "steps": [
            _plain(step) | {"rank": rank, "idle_total_ns": step.idle_total_ns}
            for rank, facts in diagnosis.job.ranks.items()
            for step in facts.steps
        ],
        "balance": [
            {
                "rank": rank,
                "length_ns": facts.length_ns,
                "explained_ns": diagnosis.explained_ns(rank),
                "working_ns": diagnosis.working_ns(rank),
                "unexplained_ns": diagnosis.unexplained_ns(rank),
            }
            for rank, facts in diagnosis.job.ranks.items()
        ],
        "notes": list(notes),
    }


def _plain(value: Any) -> Any:
    """`value` as JSON has it: sentences in English, numpy's numbers as Python's own."""
    if isinstance(value, Sentence):
        return str(value)
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
