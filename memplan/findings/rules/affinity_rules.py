"""Work in pieces where the framework has one op for it: layers, optimizers, statistics of batches, shapes left open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.intervals import interval_total
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_share
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.kernel_bounds import column_codes
from memplan.findings.op_patterns import first_matches
from memplan.findings.rank_case import NOTHING
from memplan.graph.op_names import op_family
from memplan.traces.profile import Kernels, Track, TrackKind

if TYPE_CHECKING:
    from memplan.findings.planned_kernels import PlannedKernels

_MOST = 8
_STEP = re.compile(r"Optimizer\.step#(\w+)\.step")
_BATCH_NORM = re.compile(r"SyncBatchNorm", re.IGNORECASE)


def affinity_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank about ops that one op of the framework would do."""
    for rank, facts in job.ranks.items():
        kernels, planned = facts.case.kernels, job.planned.get(rank)
        if kernels is not None and len(facts.case.computing_rows):
            yield from _pieces(job, facts, kernels, planned)
            yield from _dynamic(facts, kernels)
        yield from _calls(facts)


@dataclass(frozen=True, slots=True)
class _Piece:
    """
    Places of one layer's kernels among the computing kernels, and what one kernel for them would save.

    `brief_ns` is what those take that are no longer than a launch: of them nobody can say what is left of it in one
    kernel, and it is no part of `saved_ns`.
    """

    form: str
    places: Int64s
    saved_ns: int
    brief_ns: int


def _pieces(job: JobCase, facts: RankFacts, kernels: Kernels, planned: PlannedKernels | None) -> Iterator[Finding]:
    """Layers that run as several kernels; those that a plan has so too are what was asked for."""
    forms: Mapping[str, Sequence[Sequence[str]]] = table("memplan.findings", "affinity.json")["kernels"]["forms"]
    found = [
        piece
        for stream in _by_stream(facts, kernels)
        for piece in _matched(facts, kernels, stream, forms)
        if planned is None or (planned.op[piece.places] < 0).any()
    ]
    cost, brief = sum(piece.saved_ns for piece in found), sum(piece.brief_ns for piece in found)
    if not facts.worth(cost + brief):
        return
    costly = facts.worth(cost)
    by_form: dict[str, list[_Piece]] = {}
    for piece in found:
        by_form.setdefault(piece.form, []).append(piece)
    order = sorted(by_form, key=lambda form: -sum(piece.saved_ns + piece.brief_ns for piece in by_form[form]))
    evidence = []
    for form in order:
        mine = by_form[form]
        evidence.append(Evidence(Sentence("{}, as pieces", (form,)), len(mine), "count"))
        evidence.append(Evidence("  one kernel would save", sum(piece.saved_ns for piece in mine), "ns"))
        if short := sum(piece.brief_ns for piece in mine):
            evidence.append(Evidence("  kernels no longer than a launch take, not counted", short, "ns"))
    places = np.concatenate([piece.places for piece in found])
    worst = sorted(found, key=lambda piece: -piece.saved_ns)[:_MOST]
    told = (f"{len(found):,}", f"{len(places):,}")
    yield Finding(
        kind="kernel.pieces",
        title=Sentence(
            "{} [layer runs|layers run] as pieces of {} [kernel|kernels]: "
            "one kernel each would save {} ({}); most for {}",
            (*told, format_duration(cost), format_share(cost / facts.length_ns), order[0]),
        )
        if costly
        else Sentence(
            "{} [layer runs|layers run] as pieces of {} [kernel|kernels], most of them no longer than a launch ({}); "
            "most for {}",
            (*told, format_share(brief / facts.length_ns), order[0]),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take_kernels(places, cost) if costly else None,
        cost_bytes=None,
        bound="the longest of the pieces, and its matmuls" if costly else "",
        formula=Sentence(
            "time of the vector kernels of a layer that are longer than {} us less the longest one of them",
            (f"{threshold('launch_bound_ns') / 1000:g}",),
        ),
        confidence=Confidence.ASSUMED,
        places=tuple(job.kernel_place(facts.case.rank, int(one.places[0]), int(one.places[-1])) for one in worst),
        evidence=tuple(evidence),
    )  # fmt: skip


def _by_stream(facts: RankFacts, kernels: Kernels) -> Iterator[Int64s]:
    """Places among the computing kernels, of one stream at a time."""
    streams = kernels.stream[facts.case.computing_rows]
    for stream in np.unique(streams).tolist():
        yield np.flatnonzero(streams == stream).astype(np.int64)


def _matched(
    facts: RankFacts, kernels: Kernels, stream: Int64s, forms: Mapping[str, Sequence[Sequence[str]]]
) -> Iterator[_Piece]:
    coded = column_codes(kernels.type)
    names = list(dict.fromkeys(op_family(text) for text in coded.values))
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.array([numbers[op_family(text)] for text in coded.values], dtype=np.int64)
    rows = facts.case.computing_rows[stream]
    length = kernels.duration_ns[rows]
    cube = np.array([name in ("matmul", "batchmatmul") for name in names], dtype=bool)
    ops = codes[coded.codes[rows]]
    for form, spans in first_matches(ops, names, forms).items():
        for start, end in spans:
            own = stream[start:end]
            if len(facts.claims.unclaimed(own)) < len(own):
                continue
            vector = length[start:end][~cube[ops[start:end]]]
            brief = vector < threshold("launch_bound_ns")
            work = vector[~brief]
            longest = 0 if cube[ops[start:end]].any() else int(work.max(initial=0))
            yield _Piece(form, own, int(work.sum()) - longest, int(vector[brief].sum()))


def _dynamic(facts: RankFacts, kernels: Kernels) -> Iterator[Finding]:
    """Kernels made for any shape: a fact that costs the host time, where something is compiled or the host is late."""
    if not kernels.state:
        return
    coded = column_codes(kernels.state)
    wanted = np.array([text.casefold() == "dynamic" for text in coded.values], dtype=bool)
    share = float(wanted[coded.codes[facts.case.computing_rows]].mean())
    compiled = interval_total(*facts.case.host.get("compile", NOTHING))
    if share < threshold("dynamic_share"):
        return
    yield Finding(
        kind="kernel.dynamic",
        title=Sentence("{} of the kernels are made for any shape", (format_share(share, 0),)),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula="OP State of the kernel table: dynamic",
        confidence=Confidence.MEASURED,
        evidence=(Evidence("share of the kernels", share, "share"), Evidence("ops are compiled for", compiled, "ns")),
    )


def _calls(facts: RankFacts) -> Iterator[Finding]:
    rules = table("memplan.findings", "affinity.json")
    fused = rules["optimizers"]["names"]
    found: dict[str, list[tuple[int, int]]] = {}
    norms: list[tuple[int, int]] = []
    for track in facts.case.profile.tracks:
        if track.kind is not TrackKind.HOST:
            continue
        slices = facts.case.profile.slices(track.id)
        ends = slices.start_ns + slices.duration_ns
        used = np.unique(slices.name).tolist()
        for code in used:
            match = _STEP.search(slices.names[code])
            api = fused.get(match.group(1)) if match else None
            wanted = found.setdefault(api, []) if api else norms if _BATCH_NORM.search(slices.names[code]) else None
            if wanted is not None:
                rows = np.flatnonzero(slices.name == code)
                wanted += zip(slices.start_ns[rows].tolist(), ends[rows].tolist(), strict=True)
        for api, spans in _called(facts, track, rules["calls"]["forms"]).items():
            found.setdefault(api, []).extend(spans)
    if found:
        yield _affinity(facts, found)
    if len(norms) >= threshold("sync_batch_norms"):
        yield _batch_norms(facts, norms)


def _called(
    facts: RankFacts, track: Track, forms: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, list[tuple[int, int]]]:
    """Spans of calls of one thread that one call would do, by that one."""
    slices = facts.case.profile.slices(track.id)
    prefix = "aten::"
    aten: NDArray[np.bool_] = np.zeros(len(slices.names), dtype=bool)
    used = np.unique(slices.name).tolist()
    for code in used:
        aten[code] = slices.names[code].startswith(prefix)
    rows = np.flatnonzero(aten[slices.name])
    if not len(rows):
        return {}
    start, end = slices.start_ns[rows], slices.start_ns[rows] + slices.duration_ns[rows]
    before = np.maximum.accumulate(np.concatenate([[np.int64(-1)], end[:-1]]))
    outer = end > before  # ops within another aten op are its own affair
    rows, start, end = rows[outer], start[outer], end[outer]
    names = [text.removeprefix(prefix) for text in slices.names]
    short = np.unique(slices.name[rows])
    ops = np.searchsorted(short, slices.name[rows]).astype(np.int64)
    # Between calls that belong together the host does nothing else for long: a gap is an op of its own.
    gaps = np.flatnonzero(start[1:] - end[:-1] > threshold("call_gap_ns")) + 1
    ops, start, end = np.insert(ops, gaps, len(short)), np.insert(start, gaps, 0), np.insert(end, gaps, 0)
    matched = first_matches(ops, [*(names[code] for code in short.tolist()), "gap"], forms)
    return {api: [(int(start[a]), int(end[b - 1])) for a, b in spans] for api, spans in matched.items()}


def _affinity(facts: RankFacts, found: Mapping[str, list[tuple[int, int]]]) -> Finding:
    order = sorted(found, key=lambda api: -sum(end - start for start, end in found[api]))
    evidence = []
    for api in order:
        evidence.append(Evidence(Sentence("{} in place of", (api,)), len(found[api]), "count"))
        evidence.append(Evidence("  calls of the host, together", sum(b - a for a, b in found[api]), "ns"))
    return Finding(
        kind="host.affinity",
        title=Sentence(
            "{} [call has|calls have] a fused form on this device: {}",
            (str(sum(map(len, found.values()))), ", ".join(order[:4])),
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula="sequences of calls in affinity.json",
        confidence=Confidence.ASSUMED,
        places=tuple(Place((facts.case.rank,), span_ns=found[api][0], ops=(api,)) for api in order[:_MOST]),
        evidence=tuple(evidence),
    )  # fmt: skip


def _batch_norms(facts: RankFacts, norms: Sequence[tuple[int, int]]) -> Finding:
    return Finding(
        kind="host.sync_batch_norm",
        title=Sentence(
            "{} synchronised batch [norm exchanges|norms exchange] their statistics one by one", (f"{len(norms):,}",)
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula="calls of SyncBatchNorm",
        confidence=Confidence.ASSUMED,
        places=tuple(Place((facts.case.rank,), span_ns=span) for span in norms[:_MOST]),
        evidence=(Evidence("calls", len(norms), "count"), Evidence("together", sum(b - a for a, b in norms), "ns")),
    )
