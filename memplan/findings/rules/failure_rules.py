"""Out of memory: which allocation failed, what it lacked, what held the memory, and what should not have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes
from memplan.findings.block_owners import accumulated, blocks_alive_at, owners_of
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.traces.profile import Allocations, FailedAllocation, MemorySegments

_MOST = 8
_FULL, _FRAGMENTED, _GROWN, _OUTSIDE = "full", "fragmented", "grown", "outside"
_WHY: dict[str, Text] = {
    _FULL: Sentence("the device is full"),
    _FRAGMENTED: Sentence("as much is reserved and free, but in pieces"),
    _GROWN: Sentence("memory has grown by what is never released"),
    _OUTSIDE: Sentence("much of the device is held outside of this allocator"),
}


def failure_findings(job: JobCase) -> Iterator[Finding]:
    """A finding for the first failed allocation of every rank and device; those that follow are its consequence."""
    for facts in job.ranks.values():
        failures = facts.case.profile.failures()
        for device in dict.fromkeys(one.device for one in failures):
            mine = [one for one in failures if one.device == device]
            yield _failed(facts, mine[0], mine[1:])


def _failed(facts: RankFacts, one: FailedAllocation, further: Sequence[FailedAllocation]) -> Finding:
    profile = facts.case.profile
    blocks, segments = profile.allocations(), _of_device(profile.segments(), one.device)
    time = one.time_ns if one.time_ns >= 0 else None
    kept = accumulated(blocks, time) if blocks is not None else []
    piece = int(segments.largest_free.max()) if segments is not None and len(segments) else None
    cause = _cause(one, sum(size for _, size in kept))
    size = one.size or 0
    lacking = max(size - max(one.free or 0, piece or 0), 0) if cause != _FRAGMENTED else size
    alive = owners_of(blocks, blocks_alive_at(blocks, time)) if blocks is not None and time is not None else []
    figures = (
        ("asked for", one.size), ("free on the device", one.free), ("allocated", one.allocated),
        ("reserved", one.reserved), ("device", one.capacity), ("largest free piece in a segment", piece),
    )  # fmt: skip
    evidence = [Evidence(label, value, "bytes") for label, value in figures if value is not None]
    if one.name:
        evidence.append(Evidence("asked for by", one.name))
    evidence += [
        Evidence(Sentence("never released: {}", (name or Sentence("unknown"),)), held, "bytes")
        for name, held in kept[:_MOST]
    ]
    evidence += [
        Evidence(Sentence("alive then: {}", (name or Sentence("unknown"),)), held, "bytes")
        for name, held in alive[:_MOST]
    ]
    evidence += _newest(blocks, time)
    evidence.append(Evidence("told by", one.source))
    if further:
        evidence.append(Evidence("allocations that failed after it", len(further), "count"))
    asked = "an unknown size" if one.size is None else format_bytes(one.size)
    return Finding(
        kind=f"oom.{cause}",
        title=Sentence("Out of memory: {} could not be allocated: {}", (asked, _WHY[cause])),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=lacking or one.size,
        bound="an allocation that succeeds",
        formula="bytes asked for less what was free in one piece",
        confidence=Confidence.MEASURED if cause != _GROWN else Confidence.DERIVED,
        places=(_place(facts, one, [name for name, _ in (kept or alive)[:_MOST]]),),
        evidence=tuple(evidence),
    )


def _place(facts: RankFacts, one: FailedAllocation, tensors: Sequence[str]) -> Place:
    span = (one.time_ns, one.time_ns) if one.time_ns >= 0 else None
    return Place((facts.case.rank,), span_ns=span, ops=(one.name,) if one.name else (), tensors=tuple(tensors))


def _cause(one: FailedAllocation, grown: int) -> str:
    """Why it failed: what is more certain goes first."""
    size = one.size or 0
    pieces = one.reserved - one.allocated if one.reserved is not None and one.allocated is not None else 0
    # Without what has piled up there would be more room than all pieces together make.
    if grown >= max(size, pieces, threshold("growth_share") * max(one.allocated or 0, 1)) and grown:
        return _GROWN
    if size and pieces >= size:
        return _FRAGMENTED
    if one.capacity is not None and one.reserved is not None and one.free is not None:
        outside = one.capacity - one.free - one.reserved
        if outside >= max(threshold("outside_of_device_share") * one.capacity, size):
            return _OUTSIDE
    return _FULL


def _of_device(segments: MemorySegments | None, device: str) -> MemorySegments | None:
    number = device.rpartition(":")[2]
    if segments is None or not number.isdigit():
        return segments
    rows = np.flatnonzero(segments.device == int(number))
    return MemorySegments(
        segments.device[rows], segments.address[rows], segments.size[rows], segments.allocated[rows],
        segments.largest_free[rows], segments.expandable[rows], [segments.holder[row] for row in rows.tolist()],
    )  # fmt: skip


def _newest(blocks: Allocations | None, time: int | None) -> list[Evidence]:
    """The last blocks that were still allocated before it failed."""
    if blocks is None or time is None:
        return []
    rows = blocks_alive_at(blocks, time)
    last = rows[np.argsort(-blocks.allocation_ns[rows], kind="stable")][:3]
    return [
        Evidence(Sentence("newest: {}", (blocks.name[row] or Sentence("unknown"),)), int(blocks.size[row]), "bytes")
        for row in last.tolist()
    ]
