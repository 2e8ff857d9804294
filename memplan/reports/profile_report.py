"""What a CANN profile holds: ranks, tracks, steps, op types by time, memory peaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration
from memplan.reports.charts import bar_chart
from memplan.reports.report import (
    Column,
    Part,
    Quantity,
    Remark,
    Report,
    ReportCell,
    ReportSection,
    ReportTable,
    Severity,
    section,
)
from memplan.traces.communication_times import communication_totals, transport_totals
from memplan.traces.directory import Profile
from memplan.traces.profile import Note, NoteSeverity
from memplan.traces.rank import RankProfile

_MOST_NOTES = 20
_MOST_RANKS = 4
_EVERY = 1 << 30

_TRACKS = (Column("process"), Column("tracks", Quantity.COUNT), Column("events", Quantity.COUNT))
_STEPS = (
    Column("step", Quantity.TEXT),
    Column("length", Quantity.DURATION),
    Column("computing", Quantity.DURATION),
    Column("communication not overlapped", Quantity.DURATION),
    Column("free", Quantity.DURATION),
    Column("stage", Quantity.DURATION),
)
_OP_TYPES = (
    Column("type"),
    Column("count", Quantity.COUNT),
    Column("total", Quantity.DURATION),
    Column("of all", Quantity.SHARE),
)
_MEMORY = (
    Column("component"),
    Column("samples", Quantity.COUNT),
    Column("peak allocated", Quantity.BYTES),
    Column("peak reserved", Quantity.BYTES),
)
_COMMUNICATIONS = (
    Column("communication"),
    Column("count", Quantity.COUNT),
    Column("elapsed", Quantity.DURATION),
    Column("moving bytes", Quantity.DURATION),
    Column("waiting", Quantity.DURATION),
    Column("moved", Quantity.BYTES),
)
_TRANSPORTS = (
    Column("link"),
    Column("moved", Quantity.BYTES),
    Column("time on links", Quantity.DURATION),
    Column("rate", Quantity.RATE),
)
_RANKS = (
    Column("rank"),
    Column("device"),
    Column("kernels", Quantity.COUNT),
    Column("span", Quantity.DURATION),
    Column("steps", Quantity.COUNT),
    Column("computing a step", Quantity.DURATION),
    Column("free a step", Quantity.DURATION),
    Column("peak allocated", Quantity.BYTES),
)


def profile_report(profile: Profile, ranks: Sequence[dict[str, Any]]) -> Report:
    """`profile` with the `rank_facts` of those of its ranks that are to be shown."""
    kind = "SIMULATED profile" if profile.simulated else "profile"
    numbers = list(profile.ranks)
    listed = ", ".join(map(str, numbers[:16])) + (", ..." if len(numbers) > 16 else "")
    notes = [note_remark(note) for note in gravest(profile.notes)[:_MOST_NOTES]]
    if len(profile.notes) > _MOST_NOTES:
        notes.append(Remark(f"and {len(profile.notes) - _MOST_NOTES} more; --json lists them all"))
    sections = [_table_of(ranks)] if len(ranks) > _MOST_RANKS else [part for rank in ranks for part in _sections(rank)]
    return Report(
        title=f"{profile.path}: {kind} by {profile.producer}",
        headline=f"{len(numbers)} rank(s): {listed}",
        sections=tuple(sections),
        notes=tuple(notes),
        document=lambda: {
            "path": str(profile.path),
            "producer": profile.producer,
            "simulated": profile.simulated,
            "all_ranks": numbers,
            "ranks": list(ranks),
            "notes": [note.plain for note in profile.notes],
        },
    )


def gravest(notes: Sequence[Note]) -> list[Note]:
    """Notes with those first that tell of something missing."""
    return sorted(notes, key=lambda note: note.severity is NoteSeverity.INFO)


def note_remark(note: Note, of: str = "") -> Remark:
    """A note of a reader as a remark of its severity, after whose it is."""
    severity = Severity.NOTE if note.severity is NoteSeverity.INFO else Severity.WARNING
    return Remark(Sentence("{}: {}", (of + note.file, note.sentence)), severity)


def profile_remarks(*profiles: Profile) -> list[Remark]:
    """What readers noted of `profiles`, each note once, those of something missing first; and whether one is no run."""
    notes = dict.fromkeys(note for profile in profiles for note in profile.notes)
    made = [Remark("The profile is SIMULATED.")] if any(profile.simulated for profile in profiles) else []
    return made + [note_remark(note) for note in gravest(list(notes))]


def rank_facts(rank: RankProfile, top: int, progress: Progress = silent) -> dict[str, Any]:
    """What one rank holds, as JSON values: bytes and nanoseconds."""
    rank.read_for_window(progress)
    start, end = rank.span_ns
    tracks: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for track in rank.tracks:
        tracks[track.process] += 1
        events[track.process] += track.count
    memory = []
    for component in rank.memory_components():
        curve = rank.memory(component)
        if curve is None:
            continue
        peaks = {
            f"peak_{name}": int(values.max()) if values is not None and len(values) else None
            for name, values in (("allocated", curve.allocated), ("reserved", curve.reserved))
        }
        memory.append({"component": component, "samples": len(curve.time_ns), **peaks})
    kernels = rank.kernels()
    types = rank.top_ops(_EVERY)
    steps = [
        {
            "step": step.step,
            "start_ns": step.start_ns,
            "length_ns": step.length_ns,
            "computing_ns": step.computing_ns,
            "communication_not_overlapped_ns": step.communication_not_overlapped_ns,
            "free_ns": step.free_ns,
            "stage_ns": step.stage_ns,
        }
        for step in rank.steps(progress)
    ]
    communications = rank.communications(progress)
    return {
        "rank": rank.rank,
        "device": rank.device,
        "chip": rank.chip,
        "start_ns": start,
        "end_ns": end,
        "kernels": None if kernels is None else len(kernels),
        "tracks": [
            {"process": process, "tracks": count, "events": events[process]} for process, count in tracks.items()
        ],
        "steps": steps,
        "top_ops": [{"type": op.type, "count": op.count, "total_ns": op.total_ns} for op in types[:top]],
        "ops_total_ns": sum(op.total_ns for op in types),
        "memory": memory,
        "communications": [asdict(total) for total in communication_totals(communications)],
        "transports": [
            {**asdict(total), "bytes_per_second": total.bytes_per_second} for total in transport_totals(communications)
        ],
    }


def _sections(rank: dict[str, Any]) -> Iterator[ReportSection]:
    chip = rank["chip"] or "unknown chip"
    kernels = "no kernels" if rank["kernels"] is None else f"{rank['kernels']:,} kernels"
    span = format_duration(rank["end_ns"] - rank["start_ns"])
    joint = "over "
    if rank["kernels"] is None and rank["end_ns"] <= rank["start_ns"]:
        present = [name for name in ("steps", "memory", "communications") if rank[name]]
        if present:
            kernels, joint, span = "no kernels and no timeline, only", "", " and ".join(present)
    parts: list[Part] = []
    if rank["tracks"]:
        tracks = tuple((row["process"], row["tracks"], row["events"]) for row in rank["tracks"])
        parts.append(ReportTable(_TRACKS, tracks, "Tracks"))
    if rank["steps"]:
        keys = ("step", "length_ns", "computing_ns", "communication_not_overlapped_ns", "free_ns", "stage_ns")
        parts.append(ReportTable(_STEPS, tuple(tuple(row[key] for key in keys) for row in rank["steps"]), "Steps"))
    if rank["top_ops"]:
        total = rank["ops_total_ns"] or 1
        types = tuple((row["type"], row["count"], row["total_ns"], row["total_ns"] / total) for row in rank["top_ops"])
        parts.append(ReportTable(_OP_TYPES, types, "Op types by time"))
        parts.append(bar_chart([(row["type"], row["total_ns"]) for row in rank["top_ops"]], Quantity.DURATION))
    if rank["communications"]:
        waits = tuple(tuple(row.values()) for row in rank["communications"])
        parts.append(ReportTable(_COMMUNICATIONS, waits, "Communications by time"))
    if rank["transports"]:
        links = tuple(tuple(row.values()) for row in rank["transports"])
        parts.append(ReportTable(_TRANSPORTS, links, "Traffic by kind of link"))
    held = [row for row in rank["memory"] if max(row["peak_allocated"] or 0, row["peak_reserved"] or 0) > 0]
    if held:
        rows = tuple(
            (row["component"], row["samples"], _size(row["peak_allocated"]), _size(row["peak_reserved"]))
            for row in held
        )
        parts.append(ReportTable(_MEMORY, rows, "Memory"))
    if len(held) < len(rank["memory"]):
        parts.append(f"{len(rank['memory']) - len(held)} more components hold nothing; --json lists them")
    device = rank["device"] or "unknown device"
    yield section(f"Rank {rank['rank']} on {device} ({chip}): {kernels} {joint}{span}", *parts)


def _size(count: int | None) -> int | None:
    """Bytes that were measured; some tools write -1 where they measured none."""
    return None if count is None or count < 0 else count


def _table_of(ranks: Sequence[dict[str, Any]]) -> ReportSection:
    """One row a rank, where there are too many to show each in full."""
    rows: list[tuple[ReportCell, ...]] = []
    for rank in ranks:
        steps = rank["steps"]
        computing = [row["computing_ns"] for row in steps if row["computing_ns"] is not None]
        free = [row["free_ns"] for row in steps if row["free_ns"] is not None]
        allocated = [row["peak_allocated"] for row in rank["memory"] if row["peak_allocated"] is not None]
        rows.append(
            (
                str(rank["rank"]),
                rank["device"],
                rank["kernels"],
                rank["end_ns"] - rank["start_ns"],
                len(steps),
                sum(computing) // len(computing) if computing else None,
                sum(free) // len(free) if free else None,
                _size(max(allocated, default=None)),
            )
        )
    return section("Ranks", ReportTable(_RANKS, tuple(rows)), "--rank N prints one of them in full")
