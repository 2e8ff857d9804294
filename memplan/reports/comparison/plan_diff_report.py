"""Two plans beside each other: peak, time, what they were made for, tensors, ops and moves that differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from memplan.core.sentence import Sentence, Text, joined
from memplan.core.units import format_bytes, format_change, format_duration
from memplan.reports.report import (
    Column,
    Figure,
    Figures,
    Quantified,
    Quantity,
    Remark,
    Report,
    ReportSection,
    ReportTable,
    section,
)
from memplan.schema import Plan, PlanChange, plan_change

_MOST_ROWS = 15
_BYTES_CHANGE = Column("change", Quantity.BYTES)
_BOTH_BYTES = (Column("before", Quantity.BYTES), Column("after", Quantity.BYTES))
_BOTH_TIMES = (Column("before", Quantity.DURATION), Column("after", Quantity.DURATION))
_TERMS = (Column("of the plan"), Column("before"), Column("after"))
_TIERS = (
    Column("tier"), Column("peak before", Quantity.BYTES), Column("peak after", Quantity.BYTES), _BYTES_CHANGE,
    Column("bound before", Quantity.BYTES), Column("bound after", Quantity.BYTES),
    Column("capacity before", Quantity.BYTES), Column("capacity after", Quantity.BYTES),
)  # fmt: skip
_KINDS = (Column("kind"), *_BOTH_BYTES, _BYTES_CHANGE)
_COUNTS = (Column("tensors that"), Column("tensors", Quantity.COUNT), *_BOTH_BYTES)
_TENSORS = (
    Column("tensor"), Column("kind"), Column("it"), *_BOTH_BYTES, Column("place before"), Column("place after"),
)  # fmt: skip
_OPS = (Column("op"), Column("type"), *_BOTH_TIMES, Column("change", Quantity.DURATION))
_MOVES = (
    Column("tensor"), Column("from"), Column("to"), *_BOTH_BYTES,
    Column("start before", Quantity.DURATION), Column("start after", Quantity.DURATION),
)  # fmt: skip
_WORDS = {
    "came": "came", "went": "went", "grew": "grew", "shrank": "shrank", "form": "has another form",
    "tiers": "lies in other tiers", "address": "lies at another address",
}  # fmt: skip


def plan_diff_report(before: Plan, after: Plan, before_name: str, after_name: str) -> Report:
    """What changed between the plans `before` and `after`, which are called by their names."""
    change = plan_change(before, after)
    figures = (
        Figure("HBM peak before", change.before_peak, Quantity.BYTES),
        Figure("HBM peak after", change.after_peak, Quantity.BYTES),
        Figure("makespan before", change.before_makespan_ns, Quantity.DURATION),
        Figure("makespan after", change.after_makespan_ns, Quantity.DURATION),
        Figure("waiting for moves before", change.before_stalled_ns, Quantity.DURATION),
        Figure("waiting for moves after", change.after_stalled_ns, Quantity.DURATION),
        Figure("ops in both", change.shared_ops, Quantity.NUMBER, f"of {len(before.ops):,} and {len(after.ops):,}"),
        Figure("tensors in both", change.shared_tensors, Quantity.NUMBER,
               f"of {len(before.tensors):,} and {len(after.tensors):,}"),
    )  # fmt: skip
    untimed = [name for name, plan in ((before_name, before), (after_name, after)) if not plan.timed]
    return Report(
        title=f"{before_name} and {after_name}",
        headline=_headline(change),
        sections=(section("", Figures(figures)), *_sections(change)),
        notes=(
            *(Remark(f"{name} says nothing of time: times are not compared") for name in untimed),
            *([Remark("the ops of both run in another order")] if change.reordered else []),
        ),
        document=lambda: {"before": before_name, "after": after_name, "differs": change.differs, **asdict(change)},
    )


def _sections(change: PlanChange) -> Iterator[ReportSection]:
    if change.terms:
        rows = tuple((term.name, term.before, term.after) for term in change.terms)
        yield section("Made of and for", ReportTable(_TERMS, rows, most=2 * _MOST_ROWS))
    if change.tiers:
        tiers = tuple(
            (one.tier, one.before_peak, one.after_peak, _grown(one.before_peak, one.after_peak, Quantity.BYTES),
             one.before_lower_bound, one.after_lower_bound, one.before_capacity, one.after_capacity)
            for one in change.tiers
        )  # fmt: skip
        yield section("Memory", ReportTable(_TIERS, tiers))
    if any(one.before_bytes != one.after_bytes for one in change.peak_kinds):
        kinds = tuple(
            (one.kind, one.before_bytes, one.after_bytes, _grown(one.before_bytes, one.after_bytes, Quantity.BYTES))
            for one in change.peak_kinds
        )
        yield section("HBM at its fullest", ReportTable(_KINDS, kinds))
    if change.tensors:
        tensors = tuple(
            (
                one.name,
                one.kind,
                _WORDS[one.change],
                one.before_bytes,
                one.after_bytes,
                one.before_place,
                one.after_place,
            )
            for one in change.tensors
        )
        yield section("Tensors", _tensor_counts(change), ReportTable(_TENSORS, tensors, most=_MOST_ROWS))
    if change.ops:
        ops = tuple(
            (one.name, one.type, one.before_ns, one.after_ns,
             _grown(one.before_ns or 0, one.after_ns or 0, Quantity.DURATION))
            for one in change.ops
        )  # fmt: skip
        yield section("Ops", ReportTable(_OPS, ops, most=_MOST_ROWS))
    if change.moves:
        moves = tuple(
            (
                one.tensor,
                one.source,
                one.target,
                one.before_bytes,
                one.after_bytes,
                one.before_start_ns,
                one.after_start_ns,
            )
            for one in change.moves
        )
        yield section("Moves", ReportTable(_MOVES, moves, most=_MOST_ROWS))


def _tensor_counts(change: PlanChange) -> ReportTable:
    groups = {what: [one for one in change.tensors if one.change == what] for what in _WORDS}
    rows = tuple(
        (
            _WORDS[what],
            len(members),
            sum(one.before_bytes or 0 for one in members),
            sum(one.after_bytes or 0 for one in members),
        )
        for what, members in groups.items()
        if members
    )
    return ReportTable(_COUNTS, rows)


def _grown(before: int | None, after: int | None, quantity: Quantity) -> Quantified | None:
    return None if before is None or after is None else Quantified(after - before, quantity, signed=True)


def _headline(change: PlanChange) -> Text:
    if change.equal:
        return Sentence("The plans are the same")
    if not change.differs:
        return Sentence("The plans differ only in what is not listed, such as lifetimes, starts of ops or sources")
    told: list[Text] = []
    if change.before_peak is not None and change.after_peak is not None:
        told.append(_peak_words(change, change.before_peak, change.after_peak))
    if change.before_makespan_ns is not None and change.after_makespan_ns is not None:
        lengths = change.before_makespan_ns, change.after_makespan_ns
        if lengths[0] == lengths[1]:
            told.append(Sentence("makespan {} in both", (format_duration(lengths[0]),)))
        else:
            words = (*map(format_duration, lengths), format_change(lengths[1] / lengths[0] - 1 if lengths[0] else 0.0))
            told.append(Sentence("makespan {} and {} ({})" if lengths[0] else "makespan {} and {}", words))
    return joined(told, "{}; {}") if told else Sentence("The plans differ")


def _peak_words(change: PlanChange, before: int, after: int) -> Text:
    if before == after:
        return Sentence("HBM peak {} in both", (format_bytes(before),))
    words = (format_bytes(before), format_bytes(after))
    first = next(iter(change.peak_kinds), None)
    grown = 0 if first is None else first.after_bytes - first.before_bytes
    if first is None or not grown:
        return Sentence("HBM peak {} and {}", words)
    sign = "+" if grown > 0 else "−"
    return Sentence("HBM peak {} and {}, most of it {}: {}{}", (*words, first.kind, sign, format_bytes(abs(grown))))
