"""Kernels: those on AI CPUs, those that only change a layout, and those far from their bound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Bools, Floats, Int64s
from memplan.core.distinct import distinct, running_count
from memplan.core.medians import median_of, medians_of_kinds
from memplan.core.resources import table
from memplan.core.sentence import Sentence, joined
from memplan.core.units import format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import (
    KernelBounds,
    bounds_of_rank,
    column_codes,
    kernels_listed,
    longest_types,
    operands_told,
    recurring_of_rank,
    rows_of_type,
    signatures,
    unlike_work,
)
from memplan.traces.decimals import ABSENT
from memplan.traces.profile import Kernels

_MOST_KERNELS, _MOST_OPERANDS = 8, 20


def kernel_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank's kernels, each kernel in one of them."""
    for facts in job.ranks.values():
        kernels = facts.case.kernels
        if kernels is None or not len(facts.case.computing_rows):
            continue
        yield from _on_cpu(job, facts, kernels)
        yield from _layouts(job, facts, kernels)
        yield from _casts(job, facts, kernels)
        yield from _irregular(job, facts, kernels)


def bound_findings(job: JobCase) -> Iterator[Finding]:
    """What is left of every rank's kernels, by what bounds them."""
    for rank, facts in job.ranks.items():
        kernels = facts.case.kernels
        if kernels is None or not len(facts.case.computing_rows):
            continue
        bounds = bounds_of_rank(job, rank, kernels)
        yield from _far_from_bound(job, facts, kernels, bounds, recurring_of_rank(job, rank, kernels))
        yield from _limits_of(facts, kernels, bounds)


def _where(column_rows: NDArray[np.bool_]) -> Int64s:
    return np.flatnonzero(column_rows).astype(np.int64)


def _on_cpu(job: JobCase, facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    names = table("memplan.findings", "kernel_kinds.json")["cpu_cores"]["names"]
    coded = column_codes(kernels.core)
    wanted = np.array([text.upper() in names for text in coded.values], dtype=bool)
    rows = _where(wanted[coded.codes[facts.case.computing_rows]])
    length = kernels.duration_ns[facts.case.computing_rows[rows]]
    slow = rows[length >= threshold("aicpu_ns")]
    if facts.worth(int(length.sum())):
        slow = rows  # short ones that are many
    total = int(kernels.duration_ns[facts.case.computing_rows[slow]].sum())
    if not len(slow):
        return
    double = [row for row in slow.tolist() if "DOUBLE" in kernels.input_dtypes[int(facts.case.computing_rows[row])]]
    yield Finding(
        kind="kernel.aicpu",
        title=Sentence(
            "{} [op runs|ops run] on AI CPUs for {} ({})",
            (f"{len(slow):,}", format_duration(total), format_share(total / max(facts.length_ns, 1))),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(slow, total),
        cost_bytes=None,
        bound="the same work on AI cores, which takes next to no time",
        formula=Sentence(
            "kernels on AI CPUs of {} us and more; all where they take {} of the steps",
            (f"{threshold('aicpu_ns') / 1000:g}", f"{threshold('reported_share'):.0%}"),
        ),
        confidence=Confidence.MEASURED,
        places=_longest_of(job, facts, kernels, slow),
        evidence=(*_types(facts, kernels, slow), Evidence("of them on doubles", len(double), "count")),
    )


def _layouts(job: JobCase, facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    rows, _ = _of_names(job, facts, kernels, "formats")
    # Of a move that the model asks for and that takes no longer than a launch, no layout would save anything.
    moves = kernels_listed(kernels, "moves")
    asked = moves & (kernels.duration_ns < threshold("launch_bound_ns"))
    rows = rows[~asked[facts.case.computing_rows[rows]]]
    of_table = facts.case.computing_rows[rows]
    total = int(kernels.duration_ns[of_table].sum())
    if total < threshold("format_share") * facts.length_ns or not total:
        return
    yield Finding(
        kind="kernel.format",
        title=Sentence(
            "{} [kernel only changes|kernels only change] layouts: {} ({})",
            (f"{len(rows):,}", format_duration(total), format_share(total / max(facts.length_ns, 1))),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(rows, total),
        cost_bytes=None,
        bound="tensors that stay in the layout that their readers want",
        formula=Sentence(
            "time of kernels that move elements and compute nothing, but for transposes shorter than {} us",
            (f"{threshold('launch_bound_ns') / 1000:g}",),
        ),
        confidence=Confidence.MEASURED,
        places=_longest_of(job, facts, kernels, rows),
        evidence=_types(facts, kernels, rows),
        signs=frozenset(["moves"] * (2 * int(kernels.duration_ns[of_table[moves[of_table]]].sum()) > total)),
    )


def _casts(job: JobCase, facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    """Changes of type: a fault where a plan lacks them, else what is beyond those that mixed precision needs."""
    rows, total = _of_names(job, facts, kernels, "casts")
    planned = facts.case.rank in job.planned
    if not planned:
        rows = rows[~_beside_float32(facts, kernels)[rows]]
        total = int(kernels.duration_ns[facts.case.computing_rows[rows]].sum())
    usual = threshold("cast_share") * facts.length_ns
    if total < usual or not total:
        return
    cost = total if planned else round(total - usual)
    yield Finding(
        kind="kernel.cast",
        title=Sentence(
            "{} [kernel only changes|kernels only change] the type of numbers: {} ({})",
            (f"{len(rows):,}", format_duration(total), format_share(total / max(facts.length_ns, 1))),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(rows, cost) if facts.worth(cost) else None,
        cost_bytes=None,
        bound="tensors in the type that their readers take",
        formula=Sentence(
            "time of casts beyond {} of the steps, for mixed precision needs some; those beside ops that it computes in"
            " float32 are not counted",
            (f"{threshold('cast_share'):.0%}",),
        )
        if not planned
        else "time of casts that the plan lacks",
        confidence=Confidence.ASSUMED,
        places=_longest_of(job, facts, kernels, rows),
        evidence=_types(facts, kernels, rows),
    )


def _beside_float32(facts: RankFacts, kernels: Kernels) -> Bools:
    """Which computing kernels have an op that mixed precision computes in float32 next to them on their stream."""
    rows = facts.case.computing_rows
    wide = kernels_listed(kernels, "in_float32")[rows]
    order = np.lexsort((kernels.start_ns[rows], kernels.stream[rows]))
    same, wide = np.diff(kernels.stream[rows][order]) == 0, wide[order]
    beside = np.zeros(len(rows), dtype=bool)
    beside[order] = np.append(wide[1:] & same, False) | np.append(False, wide[:-1] & same)
    return beside


def _of_names(job: JobCase, facts: RankFacts, kernels: Kernels, names: str) -> tuple[Int64s, int]:
    """
    The kernels of a list of `kernel_kinds.json` that no finding has claimed, and what they take in ns.

    Those that a plan has are what was asked for, and left out.
    """
    rows = facts.claims.unclaimed(_where(kernels_listed(kernels, names)[facts.case.computing_rows]))
    if (planned := job.planned.get(facts.case.rank)) is not None:
        rows = rows[planned.op[rows] < 0]
    return rows, int(kernels.duration_ns[facts.case.computing_rows[rows]].sum())


def _irregular(job: JobCase, facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    """Runs of a kernel that took far longer than most on the same operands, where the profile tells these."""
    rows = facts.claims.unclaimed(_where(operands_told(kernels, facts.case.computing_rows)))
    if not len(rows):
        return
    length = kernels.duration_ns[facts.case.computing_rows[rows]].astype(np.float64)
    number = _alike(kernels, facts.case.computing_rows[rows])
    usual = medians_of_kinds(number, length)[number]
    often = np.bincount(number)[number] >= 4
    usual = usual * _load(kernels.step[facts.case.computing_rows[rows]], length / np.maximum(usual, 1.0))
    slow = often & (length > threshold("irregular_factor") * usual)
    if not slow.any():
        return
    excess = (length - usual)[slow]
    cost = int(excess.sum())
    # One run alone may be chance, which a long kernel of a short step makes dear.
    again = facts.worth(cost - int(excess.max()))
    if cost < threshold("irregular_share" if again else "high_share") * facts.length_ns:
        return
    yield Finding(
        kind="kernel.irregular",
        title=Sentence(
            "{} [kernel takes|kernels take] far longer than the same kernels do otherwise: {} ({})",
            (f"{int(slow.sum()):,}", format_duration(cost), format_share(cost / facts.length_ns)),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(rows[slow], cost),
        cost_bytes=None,
        bound="the median of the same kernel on the same operands, in a step with as much to do",
        formula=Sentence(
            "duration - median x what most kernels of its step take longer, where that is more than {} times"
            " the median",
            (f"{threshold('irregular_factor'):g}",),
        ),
        confidence=Confidence.MEASURED,
        places=_longest_of(job, facts, kernels, rows[slow]),
        evidence=_types(facts, kernels, rows[slow]),
    )


def _alike(kernels: Kernels, rows: Int64s) -> Int64s:
    """
    A number for each kernel that those with as much to do have: the same kernel on the same operands.

    Of attention and experts operands don't tell the work, which windows, lengths and routing divide: those are alike
    at the same place of a step.
    """
    _, number = signatures(kernels, rows)
    unlike = np.isin(rows, rows_of_type(kernels.type, rows, unlike_work()))
    if not unlike.any():
        return number
    order = np.lexsort((kernels.start_ns[rows], kernels.step[rows], number))
    first = np.append(True, (np.diff(number[order]) != 0) | (np.diff(kernels.step[rows][order]) != 0))
    begins = np.flatnonzero(first)
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = np.arange(len(rows)) - begins[running_count(first) - 1]
    key = number * len(rows) + np.where(unlike, place, 0)
    return distinct(key)[1]


def _load(step: Int64s, more: Floats) -> Floats:
    """How much longer most kernels of each one's step take than usual, at least 1: the step has more to do, then."""
    found = np.ones(len(step))
    for number in np.unique(step).tolist():
        mine = step == number
        found[mine] = max(median_of(more[mine]), 1.0)
    return found


_LIMITS = {
    "cube": "cube", "vector": "vector", "scalar": "scalar", "mte1": "mte", "memory": "memory", "launch": "launch",
    "no pipe": "unbound", "not counted": "uncounted",
}  # fmt: skip
_TITLES = {
    "cube": "Cube-bound kernels run {} ({}) beyond what the chip needs for them",
    "vector": "Vector-bound kernels run {} ({}) beyond what the chip needs for them",
    "scalar": "Kernels bound by their scalar unit run {} ({}) beyond what the chip needs for them",
    "mte": "Kernels bound by copies into L0 run {} ({}) beyond what the chip needs for them",
    "memory": "Memory-bound kernels run {} ({}) beyond what the chip needs for them",
    "launch": "Kernels that are shorter than their launch leave {} ({})",
    "unbound": "Kernels that keep no pipe busy leave {} ({})",
    "uncounted": "Kernels without counters run {} ({}) beyond what the chip needs for them",
}


def _far_from_bound(
    job: JobCase, facts: RankFacts, kernels: Kernels, bounds: KernelBounds, recurring: Floats
) -> Iterator[Finding]:
    everything = np.arange(len(facts.case.computing_rows), dtype=np.int64)
    free = facts.claims.unclaimed(everything)
    length = kernels.duration_ns[facts.case.computing_rows]
    excess = np.maximum(recurring - bounds.bound_ns, 0.0)
    for code, limit in enumerate(bounds.limits):
        rows = free[(bounds.limit[free] == code) & (excess[free] > 0)]
        cost = facts.claims.beyond_spread(int(excess[rows].sum()))
        if not facts.worth(cost):
            continue
        kind = _LIMITS[limit]
        modelled = float(bounds.modelled[rows].mean())
        rows = rows[np.argsort(-excess[rows], kind="stable")]
        yield Finding(
            kind=f"kernel.{kind}",
            title=Sentence(_TITLES[kind], (format_duration(cost), format_share(cost / facts.length_ns))),
            rank=facts.case.rank,
            cost_ns=facts.claims.take_kernels(rows, cost),
            cost_bytes=None,
            bound="the plan and the cost model of the chip" if modelled else "the kernel's own busiest pipe",
            formula=Sentence(
                "duration, up to the second longest of the same kernel, - bound / {}, or - bound where most that the"
                " same thing bounds take longer than that",
                (f"{threshold('bound_ratio'):g}",),
            ),
            confidence=Confidence.DERIVED,
            places=_longest_of(job, facts, kernels, rows),
            evidence=(
                Evidence("kernels", len(rows), "count"),
                Evidence("they take", int(length[rows].sum()), "ns"),
                Evidence("at their bound", int(bounds.bound_ns[rows].sum()), "ns"),
                Evidence("held against the cost model", modelled, "share"),
                *_types(facts, kernels, rows),
            ),
        )


def _limits_of(facts: RankFacts, kernels: Kernels, bounds: KernelBounds) -> Iterator[Finding]:
    """What bounds the computing time: a fact to know rather than a fault, so it costs nothing."""
    length = kernels.duration_ns[facts.case.computing_rows]
    sums = np.bincount(bounds.limit, weights=length, minlength=len(bounds.limits))
    total = sums.sum()
    if total <= 0 or not (length * bounds.busy).any():
        return
    order = [code for code in np.argsort(-sums, kind="stable").tolist() if sums[code]]
    words = joined(
        (
            Sentence("{} {}", (format_share(sums[code] / total, 0), Sentence(_WORDS[bounds.limits[code]])))
            for code in order[:3]
        ),
        "{}, {}",
    )
    evidence = []
    for code in order:
        evidence.append(Evidence(_WORDS[bounds.limits[code]], int(sums[code]), "ns"))
        evidence += [
            Evidence(f"  {item.label}", item.value, item.unit)
            for item in _types(facts, kernels, _where(bounds.limit == code))[:3]
        ]
    evidence += _longest(facts, kernels, bounds)
    yield Finding(
        kind="kernel.limits",
        title=Sentence("Computing is {}", (words,)),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula=Sentence(
            "kernels by the pipe that is busy for at least {} of their time", (f"{threshold('bound_ratio'):g}",)
        ),
        confidence=Confidence.MEASURED,
        evidence=tuple(evidence),
    )


def _longest(facts: RankFacts, kernels: Kernels, bounds: KernelBounds) -> Iterator[Evidence]:
    """The kernels, with their operands, that take longest, and how much of their time their busiest pipe works."""
    rows = facts.case.computing_rows
    first, number = signatures(kernels, rows)
    length = kernels.duration_ns[rows]
    time = np.bincount(number, weights=length)
    busy = np.bincount(number, weights=length * bounds.busy) / np.maximum(time, 1)
    count = np.bincount(number)
    for kind in np.argsort(-time, kind="stable")[:_MOST_OPERANDS].tolist():
        row, place = int(rows[first[kind]]), int(first[kind])
        shapes = kernels.input_shapes[row]
        operands = "" if shapes.strip() in ABSENT else f" {shapes:.60}"
        limit = _WORDS[bounds.limits[bounds.limit[place]]]
        words = f"{count[kind]} x {kernels.type[row]}{operands}: {limit}, busiest pipe {format_share(busy[kind], 0)}"
        yield Evidence(words, int(time[kind]), "ns")


_WORDS = {
    "cube": "cube bound", "vector": "vector bound", "scalar": "scalar bound", "mte1": "bound by copies into L0",
    "memory": "memory bound", "launch": "shorter than a launch", "no pipe": "bound by no pipe",
    "not counted": "of unknown bound",
}  # fmt: skip


def _types(facts: RankFacts, kernels: Kernels, rows: Int64s) -> tuple[Evidence, ...]:
    """Types of computing kernels `rows` by the time they take, the longest first."""
    mine = facts.case.computing_rows[rows]
    return longest_types(kernels, mine, kernels.duration_ns[mine], _MOST_KERNELS)


def _longest_of(job: JobCase, facts: RankFacts, kernels: Kernels, rows: Int64s) -> tuple[Place, ...]:
    """Where those of computing kernels `rows` run that take longest."""
    length = kernels.duration_ns[facts.case.computing_rows[rows]]
    worst = rows[np.argsort(-length, kind="stable")[:_MOST_KERNELS]]
    return tuple(job.kernel_place(facts.case.rank, kernel) for kernel in worst.tolist())
