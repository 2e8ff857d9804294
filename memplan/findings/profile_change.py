"""Two profiles, or two ranks, beside each other: where a step became longer or shorter, and what explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.findings.block_owners import blocks_alive_at, owners_of
from memplan.findings.diagnosis import Diagnosis
from memplan.findings.job_case import RankFacts
from memplan.findings.kernel_bounds import column_codes
from memplan.findings.step_breakdown import StepBreakdown
from memplan.traces.decimals import ABSENT


class _TimeChange:
    """What takes a time in both profiles."""

    __slots__ = ()
    before_ns: int
    after_ns: int

    @property
    def change_ns(self) -> int:
        """Positive where it takes longer afterwards."""
        return self.after_ns - self.before_ns


@dataclass(frozen=True, slots=True)
class PartChange(_TimeChange):
    """One part of a step in both profiles: mean ns a step."""

    part: str
    before_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True)
class TypeChange(_TimeChange):
    """Kernels of one type in both: how many a step, and their ns a step."""

    type: str
    before_count: float
    after_count: float
    before_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True)
class FindingChange:
    """A kind of finding in both: its cost a step, `None` where it is not found."""

    kind: str
    before_ns: int | None
    after_ns: int | None
    before_bytes: int | None
    after_bytes: int | None

    @property
    def change_ns(self) -> int:
        """Positive where it costs more afterwards."""
        return (self.after_ns or 0) - (self.before_ns or 0)


@dataclass(frozen=True, slots=True)
class OwnerChange:
    """Bytes in both that one owner asked for and that are still allocated at the end."""

    owner: str
    before_bytes: int
    after_bytes: int

    @property
    def change_bytes(self) -> int:
        """Positive where more is kept afterwards."""
        return self.after_bytes - self.before_bytes


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """
    What differs between `before` and `after`, ns a step: parts add up to the difference of the step.

    Types are sorted by how much they changed, and so are the owners of what is allocated at the end, those that hold as
    much in both left out. Memory is the highest allocated of each, `None` if unknown. `untold` is what only one of the
    two tells of, which is no change: it is left out.
    """

    before_ns: int
    after_ns: int
    before_steps: int
    after_steps: int
    parts: Sequence[PartChange]
    types: Sequence[TypeChange]
    findings: Sequence[FindingChange]
    before_peak: int | None
    after_peak: int | None
    owners: Sequence[OwnerChange] = ()
    untold: Sequence[str] = ()

    @property
    def change_ns(self) -> int:
        """Positive where a step takes longer afterwards."""
        return self.after_ns - self.before_ns


def profile_change(before: Diagnosis, before_rank: int, after: Diagnosis, after_rank: int) -> ProfileChange:
    """What differs between a rank of one diagnosis and a rank of another, or of the same."""
    first, second = before.job.ranks[before_rank], after.job.ranks[after_rank]
    told = all(step.transfer_ns is not None for step in (*first.steps, *second.steps))
    untold = _untold(first, second)
    causes = not any("idle." in families for families in untold.values())
    one, other = _mean_parts(first.steps, told, causes), _mean_parts(second.steps, told, causes)
    parts = [PartChange(name, one.get(name, 0), other.get(name, 0)) for name in dict.fromkeys([*one, *other])]
    parts = [part for part in parts if part.before_ns or part.after_ns]
    return ProfileChange(
        before_ns=sum(one.values()),
        after_ns=sum(other.values()),
        before_steps=len(first.steps),
        after_steps=len(second.steps),
        parts=sorted(parts, key=lambda part: -abs(part.change_ns)),
        types=_types(first, second),
        findings=_findings(before, before_rank, after, after_rank, untold),
        before_peak=_peak(first),
        after_peak=_peak(second),
        owners=_owners(first, second),
        untold=tuple(untold),
    )


def _untold(first: RankFacts, second: RankFacts) -> dict[str, tuple[str, ...]]:
    """What only one of the two tells of, and the families of findings that rest on it."""
    found: dict[str, tuple[str, ...]] = {}
    if bool(_type_sums(first)) != bool(_type_sums(second)):
        found["kernels"] = ("kernel.", "recompute.", "plan.", "idle.")  # which tell whom an idle device waits for
    if first.case.has_host != second.case.has_host:
        found["the host"] = ("idle.", "host.")
    if bool(first.case.profile.memory_curves()) != bool(second.case.profile.memory_curves()):
        found["memory"] = ("memory.",)
    return found


def _owners(first: RankFacts, second: RankFacts) -> list[OwnerChange]:
    def kept(facts: RankFacts) -> dict[str, int] | None:
        blocks = facts.case.profile.allocations()
        if blocks is None:
            return None
        if facts.case.cut:
            return dict(owners_of(blocks, blocks_alive_at(blocks, facts.case.windows[-1].busy_until_ns)))
        return dict(owners_of(blocks, np.flatnonzero(blocks.release_ns < 0).astype(np.int64)))

    one, other = kept(first), kept(second)
    if one is None or other is None:
        return []
    found = [OwnerChange(name, one.get(name, 0), other.get(name, 0)) for name in dict.fromkeys([*one, *other])]
    changed = [owner for owner in found if owner.change_bytes]
    return sorted(changed, key=lambda owner: (-abs(owner.change_bytes), owner.owner))


def _mean_parts(steps: Sequence[StepBreakdown], told: bool, causes: bool) -> dict[str, int]:
    """
    Mean ns of each part of a step.

    Unless waiting is `told` for all steps exposed communication is one part, and so is idle time without its `causes`.
    """
    count = max(len(steps), 1)
    sums: dict[str, int] = {}

    def add(name: str, length: int) -> None:
        sums[name] = sums.get(name, 0) + length

    for step in steps:
        add("computing", step.computed_ns)
        if told:
            add("communication: bytes moving", step.transfer_ns or 0)
            add("communication: waiting", step.waiting_ns or 0)
        else:
            add("communication, exposed", step.exposed_ns)
        add("pipeline bubble", step.bubble_ns)
        add("copies", step.copying_ns)
        for cause, length in step.idle_ns.items():
            add(f"idle: {cause}" if causes else "idle", length)
    return {name: length // count for name, length in sums.items()}


def _type_sums(facts: RankFacts) -> dict[str, tuple[float, int]]:
    kernels, rows = facts.case.kernels, facts.case.computing_rows
    if kernels is None:
        return {}
    steps = max(len(facts.steps), 1)
    coded = column_codes(kernels.type)
    codes = coded.codes[rows]
    counts = np.bincount(codes, minlength=len(coded.values))
    times = np.bincount(codes, weights=kernels.duration_ns[rows], minlength=len(coded.values))
    return {
        coded.values[code]: (counts[code] / steps, int(times[code] / steps)) for code in np.flatnonzero(counts).tolist()
    }


def _types(first: RankFacts, second: RankFacts) -> list[TypeChange]:
    """Types of kernels by how much they changed; none where a profile doesn't tell them, as at Level0, or no kernel."""
    one, other = _type_sums(first), _type_sums(second)
    if any(set(sums) <= ABSENT for sums in (one, other)):
        return []
    found = []
    for name in dict.fromkeys([*one, *other]):
        before, after = one.get(name, (0.0, 0)), other.get(name, (0.0, 0))
        found.append(TypeChange(name, before[0], after[0], before[1], after[1]))
    return sorted(found, key=lambda row: (-abs(row.change_ns), row.type))


def _findings(
    before: Diagnosis, before_rank: int, after: Diagnosis, after_rank: int, untold: Mapping[str, tuple[str, ...]]
) -> list[FindingChange]:
    left_out = tuple(family for families in untold.values() for family in families)

    def of(diagnosis: Diagnosis, rank: int) -> dict[str, tuple[int | None, int | None]]:
        steps = max(len(diagnosis.job.ranks[rank].steps), 1)
        found: dict[str, tuple[int | None, int | None]] = {}
        for one in diagnosis.findings:
            if one.rank == rank and (one.cost_ns or one.cost_bytes) and not one.kind.startswith(left_out):
                # Waiting and transfer are one matter whichever is the larger.
                kind = "communication.exposed" if one.kind == "communication.waiting" else one.kind
                time = None if one.cost_ns is None else (found.get(kind, (0, None))[0] or 0) + one.cost_ns // steps
                found[kind] = (time, one.cost_bytes)
        return found

    first, second = of(before, before_rank), of(after, after_rank)
    found = [
        FindingChange(
            kind, *(first.get(kind, (None, None))[0], second.get(kind, (None, None))[0]),
            *(first.get(kind, (None, None))[1], second.get(kind, (None, None))[1]),
        )
        for kind in dict.fromkeys([*first, *second])
    ]  # fmt: skip
    return sorted(found, key=lambda row: -abs(row.change_ns))


def _peak(facts: RankFacts) -> int | None:
    peaks = []
    for curve in facts.case.profile.memory_curves().values():
        if curve.allocated is not None and len(curve.allocated):
            held = curve.allocated
            if facts.case.cut:
                window = facts.case.windows[-1]
                held = held[(curve.time_ns >= window.start_ns) & (curve.time_ns < window.end_ns)]
            peaks.append(int(held.max(initial=-1)))
    highest = max(peaks, default=-1)
    return None if highest < 0 else highest
