"""Layers that the backward pass computes again: how long that takes, and whether memory makes it necessary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.distinct import running_count
from memplan.core.resources import table
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import column_codes
from memplan.findings.rules.memory_rules import room_left
from memplan.graph.op_names import op_family
from memplan.traces.profile import Kernels

_MOST = 6
_PHASE = "recompute"
"""The phase of planned ops that run again."""
_LONGER = 2
"""How many times as long as most layers one may be: what belongs to it is told by its types."""


def recompute_findings(job: JobCase) -> Iterator[Finding]:
    """A finding for every rank that computes layers again; it costs something where memory would do without."""
    for rank, facts in job.ranks.items():
        kernels = facts.case.kernels
        if kernels is None or not len(facts.case.computing_rows):
            continue
        planned = job.planned.get(rank)
        asked = np.empty(0, dtype=np.int64) if planned is None else planned.of_phase(_PHASE)
        beside = np.setdiff1d(run_again(kernels, facts.case.computing_rows), asked)
        # What a plan has was asked for: it is told, and costs nothing.
        if facts.worth(int(kernels.duration_ns[facts.case.computing_rows[beside]].sum())) or not len(asked):
            yield from _again(job, facts, kernels, beside)
        else:
            yield from _again(job, facts, kernels, asked, asked=True)


def run_again(kernels: Kernels, rows: Int64s) -> Int64s:
    """
    Places in `rows` of the kernels that run a layer again on the way back.

    Before the gradient of a layer's attention that runs forward once more, gradients between it and the one before. Of
    the kernels around it those are the layer's that are of the same types as around an attention on the way forward.
    """
    names = table("memplan.findings", "kernel_kinds.json")["attention"]["names"]
    coded = column_codes(kernels.type)
    families = [op_family(text) for text in coded.values]
    of_type = coded.codes[rows]
    forward = np.flatnonzero(np.array([name in names for name in families], dtype=bool)[of_type])
    back = np.flatnonzero(np.array([name.removesuffix("grad") in names and name.endswith("grad") for name in families],
                                   dtype=bool)[of_type])  # fmt: skip
    gradients = running_count(np.array([name.endswith("grad") for name in families], dtype=bool)[of_type])
    if len(back) < 2 or len(forward) <= len(back):
        return np.empty(0, dtype=np.int64)
    ahead = np.searchsorted(forward, back) - 1
    ahead = ahead[ahead >= 1]
    again = ahead[gradients[forward[ahead]] > gradients[forward[ahead - 1]]]
    first = np.setdiff1d(np.arange(np.searchsorted(forward, back[0])), again)
    if len(again) < 2 or len(first) < 2:
        return np.empty(0, dtype=np.int64)
    # Layers differ, as with experts and without: one is like the neighbour that it has most in common with.
    length = _LONGER * int(np.median(np.diff(forward[first])))
    # The last may itself run again, unless another attention runs between it and the first gradient of one.
    last = len(first) - (1 if forward[first[-1] + 1] < back[0] else 2)
    middle = len(first) // 2
    likes = {int(forward[first[min(place, last)]]) for place in (0, middle - 1, middle, last)}
    found = [
        max((_layer_around(int(forward[place]), like, of_type, length) for like in likes), key=len)
        for place in np.unique(again).tolist()
    ]
    return np.unique(np.concatenate(found))


def _layer_around(attention: int, like: int, types: NDArray[np.int32], length: int) -> Int64s:
    """The kernels around an attention that are of the same types as those around `like`, at most a layer of them."""
    before = after = 0
    while (
        before + 1 < length
        and min(attention, like) > before
        and (types[attention - before - 1] == types[like - before - 1])
    ):
        before += 1
    while (
        before + after + 1 < length
        and max(attention, like) + after + 1 < len(types)
        and (types[attention + after + 1] == types[like + after + 1])
    ):
        after += 1
    return np.arange(attention - before, attention + after + 1, dtype=np.int64)


def _again(
    job: JobCase, facts: RankFacts, kernels: Kernels, again: Int64s, *, asked: bool = False
) -> Iterator[Finding]:
    free = facts.claims.unclaimed(again)
    length = kernels.duration_ns[facts.case.computing_rows]
    total = int(length[free].sum())
    if not facts.worth(total):
        return
    room = room_left(facts, job)
    roomy = room is not None and room[0] >= 2 * threshold("headroom_share") * room[1]
    said: Text
    if asked:
        said = Sentence(", as planned")
    elif room is None:
        said = Sentence("; whether memory needs that, the profile doesn't tell without --chip")
    elif roomy:
        said = Sentence("; {} of device memory are free", (format_bytes(room[0]),))
    else:
        said = Sentence("; memory needs that: {} are free", (format_bytes(max(room[0], 0)),))
    worst = free[np.argsort(-length[free], kind="stable")[:_MOST]]
    evidence = [Evidence("kernels", len(free), "count"), Evidence("they take", total, "ns")]
    if room is not None:
        evidence += [Evidence("free device memory", room[0], "bytes"), Evidence("device memory", room[1], "bytes")]
    yield Finding(
        kind="recompute.layers",
        title=Sentence(
            "The backward pass computes layers again for {} ({}){}",
            (format_duration(total), format_share(total / facts.length_ns), said),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(free, total) if roomy and not asked else None,
        cost_bytes=None,
        bound="activations that are kept, where there is room for them",
        formula="time of forward kernels between the gradients of two layers",
        confidence=Confidence.ASSUMED,
        places=tuple(job.kernel_place(facts.case.rank, kernel) for kernel in worst.tolist()),
        evidence=tuple(evidence),
    )
