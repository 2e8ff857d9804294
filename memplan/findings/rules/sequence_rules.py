"""Vector kernels that follow each other again and again: where fusion would spare passes over memory and launches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import column_codes, signatures
from memplan.traces.decimals import ABSENT
from memplan.traces.profile import Kernels

_MOST, _LONGEST = 6, 6
_VECTOR_CORES = ("AI_VECTOR_CORE", "MIX_AIV")


def sequence_findings(job: JobCase) -> Iterator[Finding]:
    """
    Runs of vector kernels between others, by what they run: facts to know, each kernel in one of them.

    What fusing them would save depends on what they read of each other, which a profile doesn't tell; so no cost.
    """
    for facts in job.ranks.values():
        kernels = facts.case.kernels
        if kernels is not None and len(facts.case.computing_rows):
            yield from _repeated(job, facts, kernels)


def _repeated(job: JobCase, facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    rows = facts.case.computing_rows
    shapes, cores = column_codes(kernels.input_shapes), column_codes(kernels.core)
    told = np.array([text.strip() not in ABSENT for text in shapes.values], dtype=bool)[shapes.codes[rows]]
    vector = np.array([text in _VECTOR_CORES for text in cores.values], dtype=bool)[cores.codes[rows]]
    begins, ends = _runs(vector & told, kernels.stream[rows])
    if not len(begins):
        return
    _, number = signatures(kernels, rows)
    first, which = _kinds(number, begins, ends)
    counts = np.bincount(which)
    end_ns = kernels.start_ns[rows] + kernels.duration_ns[rows]
    busy = np.concatenate([[0], np.cumsum(kernels.duration_ns[rows])])
    run_busy = busy[ends] - busy[begins]
    run_wall = end_ns[ends - 1] - kernels.start_ns[rows[begins]]
    time = np.bincount(which, weights=run_busy)
    wall = np.bincount(which, weights=run_wall)
    often = (counts >= threshold("sequence_count")) & (time >= threshold("sequence_share") * facts.length_ns)
    chosen = [place for place in np.argsort(-time, kind="stable").tolist() if often[place]]
    if not chosen:
        return
    total, held = int(time[chosen].sum()), int(wall[chosen].sum())
    types = column_codes(kernels.type)
    evidence, places = [], []
    for place in chosen[:_MOST]:
        run = int(first[place])
        mine = rows[begins[run] : ends[run]]
        names = [types.values[types.codes[row]] for row in mine.tolist()]
        words = " ".join(names[:_LONGEST]) + (f" and {len(names) - _LONGEST} more" if len(names) > _LONGEST else "")
        evidence.append(Evidence(f"{counts[place]} x {words}", int(time[place]), "ns"))
        places.append(job.kernel_place(facts.case.rank, int(begins[run]), int(ends[run]) - 1))
    yield Finding(
        kind="kernel.sequences",
        title=Sentence(
            "{} [sequence|sequences] of vector kernels [repeats and takes|repeat and take] {} ({}), "
            "{} with their gaps: candidates for fusion",
            (str(len(chosen)), format_duration(total), format_share(total / facts.length_ns), format_duration(held)),
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula="vector kernels between others on their stream, of one type and shape each, counted once",
        confidence=Confidence.MEASURED,
        places=tuple(places),
        evidence=tuple(evidence),
    )


def _runs(wanted: NDArray[np.bool_], streams: Int64s) -> tuple[Int64s, Int64s]:
    """Begins and ends of stretches of two and more wanted kernels on one stream."""
    follows = wanted[1:] & wanted[:-1] & (streams[1:] == streams[:-1])
    begins = np.flatnonzero(wanted & ~np.append(False, follows))
    ends = np.flatnonzero(wanted & ~np.append(follows, False)) + 1
    several = ends - begins >= 2
    return begins[several].astype(np.int64), ends[several].astype(np.int64)


def _kinds(number: Int64s, begins: Int64s, ends: Int64s) -> tuple[Int64s, Int64s]:
    """The first run of each kind, and the kind of each run: runs of the same kernels in the same order are one kind."""
    kinds: dict[bytes, int] = {}
    found = [
        kinds.setdefault(number[begin:end].tobytes(), len(kinds))
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]
    which = np.array(found, dtype=np.int64)
    return np.unique(which, return_index=True)[1].astype(np.int64), which
