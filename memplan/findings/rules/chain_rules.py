"""Chains of elementwise kernels, each of which reads what the one before wrote: one kernel would do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import column_codes, kernels_listed
from memplan.traces.decimals import ABSENT
from memplan.traces.profile import Kernels

_LEAST, _MOST = 3, 6
"""Kernels of a chain, for two are what fused kernels leave between them; and chains that are named."""


def chain_findings(job: JobCase) -> Iterator[Finding]:
    """A finding for every rank with chains that no plan has; of a chain all kernels but the longest could be spared."""
    for rank, facts in job.ranks.items():
        kernels = facts.case.kernels
        if kernels is None or not len(facts.case.computing_rows):
            continue
        rows = facts.case.computing_rows
        wanted = kernels_listed(kernels, "elementwise")[rows]
        if (planned := job.planned.get(rank)) is not None:
            wanted &= planned.op < 0
        free = np.zeros(len(rows), dtype=bool)
        free[facts.claims.unclaimed(np.arange(len(rows), dtype=np.int64))] = True
        begins, ends = _chains(kernels, rows, wanted & free)
        if len(begins):
            yield from _spared(job, facts, kernels, begins, ends)


def _chains(kernels: Kernels, rows: Int64s, wanted: Bools) -> tuple[Int64s, Int64s]:
    """Begins and ends of chains of wanted kernels on one stream whose first operand is as the output before it."""
    read, written = column_codes(kernels.input_shapes), column_codes(kernels.output_shapes)
    numbers: dict[str, int] = {}
    first, out = (
        np.array([numbers.setdefault(_first(text), len(numbers)) for text in column.values], dtype=np.int64)
        for column in (read, written)
    )
    unknown = numbers.get("", -1)
    left, right = out[written.codes[rows]][:-1], first[read.codes[rows]][1:]
    stream = kernels.stream[rows]
    follows = wanted[1:] & wanted[:-1] & (stream[1:] == stream[:-1]) & (left == right) & (left != unknown)
    inside = np.concatenate([[False], follows, [False]])
    begins = np.flatnonzero(~inside[:-1] & inside[1:])
    ends = np.flatnonzero(inside[:-1] & ~inside[1:]) + 1
    long = ends - begins >= _LEAST
    return begins[long].astype(np.int64), ends[long].astype(np.int64)


def _first(shapes: str) -> str:
    """The first operand's shape, empty where it is not told."""
    text = shapes.strip().strip('"').partition(";")[0].strip()
    return "" if text in ABSENT else text


def _spared(job: JobCase, facts: RankFacts, kernels: Kernels, begins: Int64s, ends: Int64s) -> Iterator[Finding]:
    rows = facts.case.computing_rows
    length = kernels.duration_ns[rows]
    edges = np.stack((begins, ends), axis=1).reshape(-1)
    # What lies between chains is added up too, and left out.
    padded = np.append(length, 0)
    whole, longest = np.add.reduceat(padded, edges)[::2], np.maximum.reduceat(padded, edges)[::2]
    chosen = np.concatenate([np.arange(begin, end) for begin, end in zip(begins, ends, strict=True)])
    computed = int((whole - longest).sum())
    cost = computed + _between(kernels, rows, chosen, begins)
    if not facts.worth(cost):
        return
    types = column_codes(kernels.type)
    counts: dict[str, list[int]] = {}
    for begin, end, time in zip(begins.tolist(), ends.tolist(), whole.tolist(), strict=True):
        words = " ".join(types.values[code] for code in types.codes[rows[begin:end]].tolist())
        found = counts.setdefault(words, [0, 0])
        found[0], found[1] = found[0] + 1, found[1] + time
    worst = np.argsort(-whole, kind="stable")[:_MOST].tolist()
    yield Finding(
        kind="kernel.chains",
        title=Sentence(
            "{} [chain|chains] of elementwise kernels [takes|take] {}: "
            "fused into one kernel each they would take {} ({}) less",
            (
                f"{len(begins):,}",
                format_duration(int(whole.sum())),
                format_duration(cost),
                format_share(cost / facts.length_ns),
            ),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(chosen.astype(np.int64), computed) + cost - computed,
        cost_bytes=None,
        bound="each chain as one kernel that takes as long as the longest of it",
        formula="elementwise kernels whose first operand has the shape that the one before wrote, less the longest; "
        "and what a full queue leaves between them",
        confidence=Confidence.ASSUMED,
        places=tuple(job.kernel_place(facts.case.rank, int(begins[place]), int(ends[place]) - 1) for place in worst),
        evidence=tuple(
            Evidence(f"{count} x {words:.80}", time, "ns")
            for words, (count, time) in sorted(counts.items(), key=lambda item: -item[1][1])[:_MOST]
        ),
    )


def _between(kernels: Kernels, rows: Int64s, chosen: Int64s, begins: Int64s) -> int:
    """What a full queue leaves between the kernels of chains, ns; it is nobody else's cost."""
    later = chosen[~np.isin(chosen, begins)]
    before, after = rows[later - 1], rows[later]
    gap = kernels.start_ns[after] - kernels.start_ns[before] - kernels.duration_ns[before]
    return int(gap[(gap > 0) & (gap <= threshold("queue_gap_ns"))].sum())
