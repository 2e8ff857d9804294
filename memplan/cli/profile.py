"""`memplan profile DIR`: what a CANN profile holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import YES, JsonOption, print_json, print_table, progress_bar
from memplan.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from memplan.traces.directory import Profile
    from memplan.core.progress import Progress
    from memplan.traces.rank import RankProfile

ProfileArgument = Annotated[Path, typer.Argument(help="A profile directory, or a folder of them.", show_default=False)]
RankOption = Annotated[int | None, typer.Option(help="The rank to look at; the first by default.", show_default=False)]

_MOST_NOTES = 20
_MOST_RANKS = 4


def command(
    directory: ProfileArgument,
    rank: RankOption = None,
    top: Annotated[int, typer.Option(help="How many op types to list.", min=1)] = 10,
    as_json: JsonOption = False,
) -> int:
    """
    Print what a profile holds: ranks, tracks, steps, op types by time, memory peaks, and what could not be read.

    Exits with 2 when there is no profile in the folder.
    """
    import memplan
    from memplan.core.errors import InputError

    with progress_bar() as progress:
        progress(0, 1, "reading the profile")
        profile = memplan.open_profile(directory)
        chosen = list(profile.ranks) if rank is None else [rank]
        if rank is not None and rank not in profile.ranks:
            have = ", ".join(map(str, list(profile.ranks)[:10]))
            raise InputError(f"the profile has no rank {rank}", path=directory, remedy=f"it has {have}")
        reports = []
        for done, number in enumerate(chosen):
            progress(done, len(chosen), "ranks")
            reports.append(_report(profile.rank(number), top, progress))
    document = {
        "path": str(profile.path),
        "producer": profile.producer,
        "simulated": profile.simulated,
        "all_ranks": list(profile.ranks),
        "ranks": reports,
        "notes": [{"file": note.file, "text": note.text} for note in profile.notes],
    }
    if as_json:
        print_json(document)
    else:
        _print(profile, reports)
    return YES


def _report(rank: RankProfile, top: int, progress: Progress) -> dict[str, Any]:
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
    steps = [
        {
            "step": step.step,
            "computing_ns": step.computing_ns,
            "communication_not_overlapped_ns": step.communication_not_overlapped_ns,
            "free_ns": step.free_ns,
            "stage_ns": step.stage_ns,
        }
        for step in rank.steps(progress)
    ]
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
        "top_ops": [{"type": op.type, "count": op.count, "total_ns": op.total_ns} for op in rank.top_ops(top)],
        "memory": memory,
    }


def _print(profile: Profile, reports: list[dict[str, Any]]) -> None:
    kind = "SIMULATED profile" if profile.simulated else "profile"
    ranks = ", ".join(map(str, list(profile.ranks)[:16])) + (", ..." if len(profile.ranks) > 16 else "")
    print(f"{profile.path}: {kind} by {profile.producer}; {len(profile.ranks)} rank(s): {ranks}\n")
    if len(reports) > _MOST_RANKS:
        _print_ranks(reports)
    else:
        for report in reports:
            _print_rank(report)
    for note in list(profile.notes)[:_MOST_NOTES]:
        print(f"note: {note.file}: {note.text}")
    if len(profile.notes) > _MOST_NOTES:
        print(f"note: and {len(profile.notes) - _MOST_NOTES} more; --json lists them all")


def _print_rank(report: dict[str, Any]) -> None:
    chip = report["chip"] or "unknown chip"
    kernels = "no kernels" if report["kernels"] is None else f"{report['kernels']} kernels"
    span = format_duration(report["end_ns"] - report["start_ns"])
    print(f"Rank {report['rank']} on {report['device'] or 'unknown device'} ({chip}): {kernels} over {span}\n")
    if report["tracks"]:
        rows = [(row["process"], row["tracks"], f"{row['events']:,}") for row in report["tracks"]]
        print_table("Tracks", ["process", "tracks", "events"], rows, right=(1, 2))
    if report["steps"]:
        print_table(
            "Steps",
            ["step", "computing", "communication not overlapped", "free", "stage"],
            [
                (
                    row["step"],
                    *(
                        None if row[key] is None else format_duration(row[key])
                        for key in ("computing_ns", "communication_not_overlapped_ns", "free_ns", "stage_ns")
                    ),
                )
                for row in report["steps"]
            ],
            right=(0, 1, 2, 3, 4),
        )
    if report["top_ops"]:
        total = sum(row["total_ns"] for row in report["top_ops"]) or 1
        print_table(
            "Op types by time",
            ["type", "count", "total", "of these"],
            [
                (row["type"], row["count"], format_duration(row["total_ns"]), f"{row['total_ns'] / total:.1%}")
                for row in report["top_ops"]
            ],
            right=(1, 2, 3),
        )
    held = [row for row in report["memory"] if max(row["peak_allocated"] or 0, row["peak_reserved"] or 0) > 0]
    if held:
        print_table(
            "Memory",
            ["component", "samples", "peak allocated", "peak reserved"],
            [
                (row["component"], row["samples"], *map(_size, (row["peak_allocated"], row["peak_reserved"])))
                for row in held
            ],
            right=(1, 2, 3),
        )
    if len(held) < len(report["memory"]):
        print(f"{len(report['memory']) - len(held)} more components hold nothing; --json lists them\n")


def _size(count: int | None) -> str | None:
    return None if count is None or count < 0 else format_bytes(count)


def _print_ranks(reports: list[dict[str, Any]]) -> None:
    """One row a rank, where there are too many to print each in full."""
    rows = []
    for report in reports:
        steps = report["steps"]
        computing = [row["computing_ns"] for row in steps]
        free = [row["free_ns"] for row in steps]
        allocated = [row["peak_allocated"] for row in report["memory"] if row["peak_allocated"] is not None]
        rows.append(
            (
                report["rank"],
                report["device"],
                None if report["kernels"] is None else f"{report['kernels']:,}",
                format_duration(report["end_ns"] - report["start_ns"]),
                len(steps),
                format_duration(sum(computing) // len(steps)) if steps else None,
                format_duration(sum(free) // len(steps)) if steps else None,
                _size(max(allocated, default=None)),
            )
        )
    header = ["rank", "device", "kernels", "span", "steps", "computing a step", "free a step", "peak allocated"]
    print_table("Ranks", header, rows, right=range(2, 8))
    print("--rank N prints one of them in full\n")
