"""Two profiles beside each other: the step, its parts, kernels by type, findings that came, went or changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_change, format_duration
from memplan.findings.profile_change import ProfileChange
from memplan.reports.report import (
    Column,
    Figure,
    Figures,
    Quantified,
    Quantity,
    Remark,
    Report,
    ReportTable,
    Severity,
    section,
)
from memplan.reports.step_pictures import STEP_PARTS, stacked_steps

_MOST_TYPES = 15
_CHANGE = Column("change", Quantity.DURATION)
_PARTS = (
    Column("part of a step"), Column("before", Quantity.DURATION), Column("after", Quantity.DURATION), _CHANGE,
)  # fmt: skip
_TYPES = (
    Column("type"), Column("kernels before", Quantity.NUMBER), Column("after", Quantity.NUMBER, key="kernels_after"),
    Column("time before", Quantity.DURATION), Column("time after", Quantity.DURATION), _CHANGE,
)  # fmt: skip
_KINDS = (
    Column("finding"), Column("cost before", Quantity.DURATION), Column("cost after", Quantity.DURATION), _CHANGE,
    Column("memory before", Quantity.BYTES), Column("memory after", Quantity.BYTES),
)  # fmt: skip

_OWNERS = (
    Column("asked for by"), Column("before", Quantity.BYTES), Column("after", Quantity.BYTES),
    Column("change", Quantity.BYTES),
)  # fmt: skip


def diff_report(
    change: ProfileChange, before: str, after: str, notes: Sequence[Remark] = (), worse: Sequence[Sentence] = ()
) -> Report:
    """`change` between what is called `before` and `after`; `worse` is what grew by more than is allowed."""
    parts = tuple((one.part, one.before_ns, one.after_ns, _signed(one.change_ns)) for one in change.parts)
    types = tuple(
        (one.type, one.before_count, one.after_count, one.before_ns, one.after_ns, _signed(one.change_ns))
        for one in change.types[:_MOST_TYPES]
    )
    kinds = tuple(
        (
            one.kind, one.before_ns, one.after_ns,
            None if one.before_ns is None and one.after_ns is None else _signed(one.change_ns),
            one.before_bytes, one.after_bytes,
        )
        for one in change.findings
    )  # fmt: skip
    untold = [
        Remark(Sentence("Only one of the two tells of {}: that is not compared", (Sentence(what),)), Severity.WARNING)
        for what in change.untold
    ]
    figures = (
        Figure("step before", change.before_ns, Quantity.DURATION, f"mean of {change.before_steps}"),
        Figure("step after", change.after_ns, Quantity.DURATION, f"mean of {change.after_steps}"),
        Figure("change", Quantified(change.change_ns, Quantity.DURATION, signed=True)),
        Figure("peak before", change.before_peak, Quantity.BYTES),
        Figure("peak after", change.after_peak, Quantity.BYTES),
    )
    bars = [("before", _bar(change, False)), ("after", _bar(change, True))]
    sections = [section("", Figures(figures), stacked_steps(bars, title="A step before and after"))]
    sections.append(section("Parts of a step", ReportTable(_PARTS, parts)))
    if types:
        sections.append(section("Kernels", ReportTable(_TYPES, types, total=len(change.types))))
    if kinds:
        sections.append(section("Findings", ReportTable(_KINDS, kinds)))
    if change.owners:
        owners = tuple(
            (one.owner or "unknown", one.before_bytes, one.after_bytes,
             Quantified(one.change_bytes, Quantity.BYTES, signed=True))
            for one in change.owners[:_MOST_TYPES]
        )  # fmt: skip
        sections.append(section("Allocated at the end", ReportTable(_OWNERS, owners, total=len(change.owners))))
    return Report(
        title=f"{before} and {after}",
        headline=_headline(change),
        sections=tuple(sections),
        notes=(*(Remark(text, Severity.ERROR) for text in worse), *untold, *notes),
        answer=not worse,
        document=lambda: {
            "before": before,
            "after": after,
            **asdict(change),
            "change_ns": change.change_ns,
            "worse": list(map(str, worse)),
        },
    )


def _signed(length: int) -> Quantified:
    return Quantified(length, Quantity.DURATION, signed=True)


def _headline(change: ProfileChange) -> Sentence:
    if not change.before_ns and not change.after_ns and change.owners:
        first_owner = change.owners[0]
        most = "+" if first_owner.change_bytes > 0 else "−"
        words = (first_owner.owner or "unknown", most, format_bytes(abs(first_owner.change_bytes)))
        return Sentence("What is allocated at the end differs; most by {}: {}{}", words)
    if not change.before_ns:
        return Sentence("The first profile tells of no step")
    words = (
        format_duration(change.before_ns), format_duration(change.after_ns),
        format_change(change.after_ns / change.before_ns - 1),
    )  # fmt: skip
    if not change.parts or not change.parts[0].change_ns:
        return Sentence("A step takes {} and {} ({})", words)
    first = change.parts[0]
    most = "+" if first.change_ns > 0 else "−"
    return Sentence(
        "A step takes {} and {} ({}); most of it by {}: {}{}",
        (*words, first.part, most, format_duration(abs(first.change_ns))),
    )


def _bar(change: ProfileChange, after: bool) -> dict[str, int]:
    names = {
        "computing": "computing", "communication: bytes moving": "communication: transfer",
        "communication, exposed": "communication: transfer", "communication: waiting": "communication: waiting",
        "pipeline bubble": "pipeline bubble", "copies": "copies",
    }  # fmt: skip
    sums = dict.fromkeys(STEP_PARTS, 0)
    for one in change.parts:
        sums[names.get(one.part, "idle")] += one.after_ns if after else one.before_ns
    return sums
