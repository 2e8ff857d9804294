"""Memory: what makes the peak, what fragments, what grows, what lies outside of the allocator, what is left."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence, joined
from memplan.core.units import format_bytes, format_share
from memplan.findings.block_owners import accumulated, blocks_alive_at, owners_of
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.memory_trend import growth_by_hour, growth_by_step
from memplan.traces.process_memory import ProcessPart, process_memory
from memplan.traces.profile import Allocations, MemoryCurve

_ALLOCATORS = ("PTA", "MindSpore", "GE", "PTA+GE", "Caching allocator", "snapshot")
_MOST_OWNERS = 8


def memory_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank's memory."""
    for facts in job.ranks.values():
        curves = facts.case.profile.memory_curves()
        name = next((name for name in (*_ALLOCATORS, *curves) if name in curves and _used(curves[name])), None)
        yield from _outside(facts)
        yield from _headroom(facts, job)
        if name is None:
            continue
        yield from _fragmented(facts, curves[name])
        yield from _growing(facts, curves[name])
        yield from _piling(facts, curves[name])
        yield from _peak(facts, curves[name])


def _used(curve: MemoryCurve) -> bool:
    return curve.allocated is not None and bool(len(curve.allocated)) and int(curve.allocated.max()) > 0


def _outside(facts: RankFacts) -> Iterator[Finding]:
    memory = process_memory(facts.case.profile.memory_curves(), _fullest_ns(facts))
    if memory is None or memory.gap < threshold("outside_share") * memory.held:
        return
    inner = (ProcessPart.ALLOCATED, ProcessPart.CACHED)
    items = [item for item in memory.items if item.part not in inner and item.nbytes > 0]
    named = joined(
        (Sentence("{} {}", (item.name or Sentence("not itemised"), format_bytes(item.nbytes))) for item in items[:3]),
        "{}, {}",
    )
    yield Finding(
        kind="memory.outside",
        title=Sentence("{} of the process lie outside of the allocator: {}", (format_bytes(memory.gap), named)),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=memory.gap,
        bound="",
        formula="memory of the process less what the framework's allocator reserved, at its peak",
        confidence=Confidence.MEASURED,
        places=(Place((facts.case.rank,), span_ns=(memory.time_ns, memory.time_ns), tracks=("APP",)),),
        evidence=(
            Evidence("process", memory.held, "bytes"),
            Evidence("reserved by the allocator", memory.reserved, "bytes"),
            *(Evidence(item.name or "not itemised", item.nbytes, "bytes") for item in items),
        ),
    )


def _fullest_ns(facts: RankFacts) -> int | None:
    """When the process held most, ns; `None` where the profile doesn't tell."""
    process = facts.case.profile.memory_curves().get("APP")
    held = None if process is None else process.reserved if process.reserved is not None else process.allocated
    if process is None or held is None or not len(held):
        return None
    return int(process.time_ns[int(held.argmax())])


def room_left(facts: RankFacts, job: JobCase) -> tuple[int, int] | None:
    """Device memory that is free when most is held, and all that is usable; `None` where chip or process is unknown."""
    memory = process_memory(facts.case.profile.memory_curves())
    if memory is None or job.machine is None:
        return None
    from memplan.hardware import chip as find_chip  # loaded with the cost model, where there is one

    chip = find_chip(job.machine.name)
    if chip.hbm_bytes is None:
        return None
    usable = chip.hbm_bytes - (chip.hbm_reserved_bytes or 0)
    return usable - memory.held, usable


def _headroom(facts: RankFacts, job: JobCase) -> Iterator[Finding]:
    """Device memory that is nearly full, where the chip and the memory of the whole process are known."""
    memory, room = process_memory(facts.case.profile.memory_curves()), room_left(facts, job)
    if memory is None or room is None:
        return
    free, usable = room
    wanted = round(threshold("headroom_share") * usable)
    if free >= wanted:
        return
    yield Finding(
        kind="memory.headroom",
        title=Sentence(
            "{} of {} are left when most is allocated: the next larger batch fails",
            (format_bytes(max(free, 0)), format_bytes(usable)),
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=wanted - free,
        bound=Sentence("{} of the device memory free", (f"{threshold('headroom_share'):.0%}",)),
        formula="device memory less what the driver keeps and what the process holds",
        confidence=Confidence.DERIVED,
        places=(Place((facts.case.rank,), span_ns=(memory.time_ns, memory.time_ns), tracks=("APP",)),),
        evidence=(Evidence("usable", usable, "bytes"), Evidence("held", memory.held, "bytes")),
    )


def _fragmented(facts: RankFacts, curve: MemoryCurve) -> Iterator[Finding]:
    if curve.allocated is None or curve.reserved is None:
        return
    peak = int(curve.allocated.argmax())
    allocated, reserved = int(curve.allocated[peak]), int(curve.reserved.max())
    unused = reserved - allocated
    if unused < threshold("fragmentation_share") * reserved:
        return
    last = int(np.argmax(curve.reserved >= reserved))
    yield Finding(
        kind="memory.fragmentation",
        title=Sentence(
            "{} are reserved and hold nothing when most is allocated ({} of what is reserved)",
            (format_bytes(unused), format_share(unused / reserved)),
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=unused,
        bound="an allocator that reserves what is allocated at the peak",
        formula="highest reserved - highest allocated",
        confidence=Confidence.MEASURED,
        places=(
            Place((facts.case.rank,), span_ns=(int(curve.time_ns[last]), int(curve.time_ns[last])),
                  tracks=(curve.component,)),
        ),
        evidence=(
            Evidence("highest allocated", allocated, "bytes"),
            Evidence("highest reserved", reserved, "bytes"),
            Evidence("reserved when most is allocated", int(curve.reserved[peak]), "bytes"),
            *_holes(facts),
        ),
    )  # fmt: skip


def _growing(facts: RankFacts, curve: MemoryCurve) -> Iterator[Finding]:
    """Memory whose lowest level rises from step to step."""
    windows = facts.case.windows
    if curve.allocated is None or len(windows) < 3:
        return
    ends = np.array([window.end_ns for window in windows], dtype=np.int64)
    place = np.searchsorted(curve.time_ns, ends, side="right") - 1
    if (place < 0).any():
        return
    # A host that runs ahead allocates the next step early: of each step the lowest level counts.
    lows = []
    for window in windows:
        first, last = np.searchsorted(curve.time_ns, [window.start_ns, window.end_ns]).tolist()
        # Where no sample lies in a step, what the one before tells still holds.
        last = max(last, 1)
        lows.append(int(curve.allocated[min(first, last - 1) : last].min()))
    growth = growth_by_step(np.array(lows, dtype=np.int64))
    if growth is None:
        return
    owners = _kept(facts, windows[0].start_ns, windows[-1].start_ns)
    named = f"; most of it by {owners[0].label}" if owners else ""
    yield Finding(
        kind="memory.growth",
        title=Sentence(
            "Memory grows by {} a step, {} in all{}", (format_bytes(growth.each), format_bytes(growth.total), named)
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=growth.total,
        bound="a step that ends as it began",
        formula=growth.formula,
        confidence=Confidence.MEASURED,
        places=(
            Place((facts.case.rank,), span_ns=(windows[0].start_ns, windows[-1].end_ns), tracks=(curve.component,),
                  tensors=tuple(str(one.label) for one in owners[:_MOST_OWNERS])),
        ),
        evidence=(
            Evidence("steps", len(windows), "count"),
            Evidence("first step's lowest", lows[0], "bytes"),
            Evidence("last step's lowest", lows[-1], "bytes"),
            *owners,
        ),
    )  # fmt: skip


def _kept(facts: RankFacts, start_ns: int, end_ns: int) -> list[Evidence]:
    """Who made the blocks of all steps but the last that were never released, by bytes."""
    blocks = facts.case.profile.allocations()
    if blocks is None:
        return []
    kept = (blocks.release_ns < 0) & (blocks.allocation_ns >= start_ns) & (blocks.allocation_ns < end_ns)
    return _owners(blocks, np.flatnonzero(kept).astype(np.int64))


def _counted_by(curve: MemoryCurve, blocks: Allocations, rows: Int64s) -> Int64s:
    """Those of `rows` that `curve` counts."""
    if not blocks.component:
        return rows
    mine = [row for row in rows.tolist() if blocks.component[row] == curve.component]
    return np.array(mine, dtype=np.int64)


def _owners(blocks: Allocations, rows: Int64s) -> list[Evidence]:
    return [Evidence(name or "unknown", size, "bytes") for name, size in owners_of(blocks, rows)[:_MOST_OWNERS]]


def _piling(facts: RankFacts, curve: MemoryCurve) -> Iterator[Finding]:
    """Blocks that pile up in a history without steps, as snapshots have it, or a level that rises by the hour."""
    blocks = facts.case.profile.allocations()
    if facts.case.windows or curve.allocated is None:
        return
    found = accumulated(blocks) if blocks is not None else []
    total = sum(size for _, size in found)
    if blocks is None or total < threshold("piling_share") * int(curve.allocated.max()) or not total:
        yield from _rising(facts, curve)
        return
    known = blocks.allocation_ns >= 0
    span = (int(blocks.allocation_ns[known].min()), int(blocks.allocation_ns[known].max()))
    yield Finding(
        kind="memory.growth",
        title=Sentence("{} pile up and are never released; most of it by {}", (format_bytes(total), found[0][0])),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=total,
        bound="a history that ends as it began",
        formula="blocks never released, of who asks for such in most of eight equal parts of the history",
        confidence=Confidence.DERIVED,
        places=(Place((facts.case.rank,), span_ns=span, tensors=tuple(name for name, _ in found[:_MOST_OWNERS])),),
        evidence=tuple(Evidence(name, size, "bytes") for name, size in found[:_MOST_OWNERS]),
    )


def _rising(facts: RankFacts, curve: MemoryCurve) -> Iterator[Finding]:
    """A level that rises over a recording of which neither steps nor blocks are known."""
    growth = growth_by_hour(curve)
    if growth is None:
        return
    yield Finding(
        kind="memory.growth",
        title=Sentence(
            "Memory grows by {} an hour, {} in all", (format_bytes(growth.each), format_bytes(growth.total))
        ),
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=growth.total,
        bound="a recording that ends as it began",
        formula=growth.formula,
        confidence=Confidence.DERIVED,
        places=(
            Place((facts.case.rank,), span_ns=(int(curve.time_ns[0]), int(curve.time_ns[-1])),
                  tracks=(curve.component,)),
        ),
        evidence=(Evidence("samples", len(curve.time_ns), "count"),),
    )  # fmt: skip


def _holes(facts: RankFacts) -> list[Evidence]:
    """The segments that hold most bytes that nobody uses, and what keeps each from being given back."""
    segments = facts.case.profile.segments()
    if segments is None:
        return []
    unused = segments.size - segments.allocated
    found = []
    for row in np.argsort(-unused, kind="stable")[:_MOST_OWNERS].tolist():
        if unused[row] and segments.allocated[row]:
            where = (f"{int(segments.address[row]):#x}", format_bytes(int(segments.size[row])))
            words = Sentence("segment at {} of {}: unused", where)
            if segments.holder[row]:
                words = Sentence("segment at {} of {}, kept by {}: unused", (*where, segments.holder[row]))
            found.append(Evidence(words, int(unused[row]), "bytes"))
    idle = int(segments.size[segments.allocated == 0].sum())
    return [*found, Evidence("segments that hold nothing", idle, "bytes")]


def _peak(facts: RankFacts, curve: MemoryCurve) -> Iterator[Finding]:
    """What is alive when most is allocated; a fact to know rather than a fault, so it costs nothing."""
    if curve.allocated is None:
        return
    row = int(curve.allocated.argmax())
    peak, time = int(curve.allocated[row]), int(curve.time_ns[row])
    blocks = facts.case.profile.allocations()
    evidence = [Evidence("allocated at the peak", peak, "bytes")]
    if curve.reserved is not None:
        evidence.append(Evidence("reserved then", int(curve.reserved[row]), "bytes"))
    owners: list[Evidence] = []
    if blocks is not None and len(blocks):
        rows = _counted_by(curve, blocks, blocks_alive_at(blocks, time))
        owners = _owners(blocks, rows)
        known = int(blocks.size[rows].sum())
        evidence.append(Evidence("from before the profile began", max(peak - known, 0), "bytes"))
    title = Sentence("The peak is {}", (format_bytes(peak),))
    if owners:
        values = (format_bytes(peak), owners[0].label)
        title = Sentence("The peak is {}; the largest share made since the start by {}", values)
    yield Finding(
        kind="memory.peak",
        title=title,
        rank=facts.case.rank,
        cost_ns=None,
        cost_bytes=None,
        bound="",
        formula="blocks alive when most is allocated, by the op that made them",
        confidence=Confidence.MEASURED,
        places=(Place((facts.case.rank,), span_ns=(time, time), tensors=tuple(str(one.label) for one in owners)),),
        evidence=(*evidence, *owners),
    )
