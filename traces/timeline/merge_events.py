"""Events of several trace files of one rank (slices of one export, or one file for each iteration) as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int32s
from memplan.core.sentence import Sentence
from memplan.traces.devices import DeviceShare
from memplan.traces.far_times import far_note, far_times
from memplan.traces.notes import Notebook
from memplan.traces.timeline.events import Events, FlowRows, SampleRows, SliceRows

_Rows = TypeVar("_Rows", SliceRows, SampleRows, FlowRows)


def merge_events(parts: list[Events], file_bit: int, paths: list[Path], notes: Notebook) -> Events:
    """
    The events of `parts` (emptied on the way) as one; slices that several files repeat are kept once.

    Places of arguments get the number of their part above bit `file_bit`; with `file_bit` 0 they become rows of the
    joined `arguments`.
    """
    if len(parts) == 1:
        return _without_second_copy(parts.pop(), paths[0], notes)
    strings: dict[str, int] = {"": 0}
    threads: dict[tuple[str, str], int] = {}
    slices: list[dict[str, NDArray[Any]]] = []
    samples: list[dict[str, NDArray[Any]]] = []
    flows: list[dict[str, NDArray[Any]]] = []
    metadata: list[Mapping[str, object]] = []
    arguments: list[object] = []
    parts.reverse()
    for number in range(len(parts)):
        part = parts.pop()
        names = np.array([strings.setdefault(text, len(strings)) for text in part.strings], dtype=np.int32)
        lanes = np.array([threads.setdefault(key, len(threads)) for key in part.threads], dtype=np.int32)
        maps = {"thread": lanes, "name": names, "category": names, "key": names}
        slices.append(_renumbered(part.slices, maps))
        samples.append(_renumbered(part.samples, maps))
        flows.append(_renumbered(part.flows, maps))
        offset = len(arguments) if file_bit == 0 else number << file_bit
        slices[-1]["arguments_at"] = slices[-1]["arguments_at"] + offset
        metadata.extend(part.metadata)
        arguments.extend(part.arguments or ())
        del part
    together = _joined(SliceRows, slices)
    together, repeated = _distinct(together)
    if repeated:
        notes.tell(
            paths[0], Sentence("{} [slice|slices] that further files of this trace repeat, shown once", (repeated,))
        )
    return Events(
        list(strings),
        list(threads),
        together,
        _joined(SampleRows, samples),
        _joined(FlowRows, flows),
        metadata,
        arguments if file_bit == 0 else None,
    )


def keep_newest_run(parts: list[Events], paths: list[Path], notes: Notebook) -> None:
    """
    Keep, of events of several files, those of the newest run, with a note about the others; all where it is one run.

    Slices of one export follow each other closely: files are of two runs where more than a minute, and ten times as
    long as either file is, lies between them. The others are left empty, so that parts keep their places.
    """
    spans = {place: span for place, part in enumerate(parts) if len(parts) > 1 and (span := _span(part)) is not None}
    newest: set[int] = set()
    reach = longest = 0
    for place, (first, last) in sorted(spans.items(), key=lambda item: item[1]):
        if newest and first - reach > max(_LEAST_PAUSE_NS, _PAUSE_LENGTHS * max(longest, last - first)):
            newest, longest = set(), 0
        newest.add(place)
        reach, longest = max(reach, last), max(longest, last - first)
    for place in spans.keys() - newest:
        parts[place] = _emptied(parts[place])
        notes.tell(
            paths[place], "not shown: of another run, recorded long before the newest one beside it; open it by itself"
        )


_LEAST_PAUSE_NS = 60 * 10**9
_PAUSE_LENGTHS = 10


def _span(part: Events) -> tuple[int, int] | None:
    start, length = part.slices.start_ns, part.slices.duration_ns
    if len(start) > 1:
        near = ~far_times(start, length)
        start, length = start[near], length[near]
    return (int(start.min()), int((start + length).max())) if len(start) else None


def _emptied(part: Events) -> Events:
    def none(rows: _Rows) -> _Rows:
        return type(rows)(*(getattr(rows, name)[:0] for name in type(rows).__dataclass_fields__))

    return replace(part, slices=none(part.slices), samples=none(part.samples), flows=none(part.flows), metadata=[])


def events_of_device(events: Events, share: DeviceShare | None) -> Events:
    """
    `events` without what is of other devices than `share` tells of; all where it is `None`.

    msprof labels processes of a device `NPU` and puts the device into the last five bits of their number. What has no
    such label is of the host, which all devices share.
    """
    if share is None:
        return events
    labels = {
        str(event.get("pid")): str(args.get("labels"))
        for event in events.metadata
        if event.get("name") == "process_labels" and isinstance(args := event.get("args"), Mapping)
    }
    shown = np.array([_is_shown(pid, labels.get(pid, ""), share) for pid, _ in events.threads], dtype=np.bool_)
    if shown.all():
        return events

    def kept(rows: _Rows) -> _Rows:
        mask = shown[rows.thread]
        return type(rows)(*(getattr(rows, name)[mask] for name in type(rows).__dataclass_fields__))

    return replace(events, slices=kept(events.slices), samples=kept(events.samples), flows=kept(events.flows))


_DEVICE_BITS = 31
_LEAST_NUMBERED = 1 << 10  # processes' own numbers stand above this in those that carry a device


def _is_shown(process: str, label: str, share: DeviceShare) -> bool:
    words = label.split()
    if words[:1] != ["NPU"]:
        return True
    if len(words) > 1:
        return share.holds(int(words[1]) if words[1].isascii() and words[1].isdigit() and len(words[1]) < 8 else None)
    number = int(process) if process.isascii() and process.isdigit() and len(process) < 20 else 0
    return share.holds(number & _DEVICE_BITS if number >= _LEAST_NUMBERED else None)


def without_far_slices(events: Events, path: Path, notes: Notebook) -> Events:
    """`events` without single slices at times far from all others; notes about the file at `path` tell what is odd."""
    rows = events.slices
    if nameless := int((rows.name == 0).sum()):
        notes.add(path, Sentence("{} [slice|slices] without a name", (nameless,)))
    far = far_times(rows.start_ns, rows.duration_ns)
    if not far.any():
        return events
    notes.add(path, far_note(int(far.sum()), "slices"))
    kept = SliceRows(*(getattr(rows, name)[~far] for name in SliceRows.__dataclass_fields__))
    return replace(events, slices=kept)


def _without_second_copy(events: Events, path: Path, notes: Notebook) -> Events:
    """`events` of a file to which they were written twice, one copy behind the other, once; others as they are."""
    rows = events.slices
    probes = np.flatnonzero(rows.duration_ns[: len(rows.start_ns) // 4 + 1] > 0)[:_PROBES].tolist()
    columns = (rows.start_ns, rows.thread, rows.name, rows.duration_ns)
    if not probes or any(_occurs_once(columns, probe) for probe in probes):
        return events
    kept, repeated = _distinct(rows)
    if repeated < len(rows.start_ns) // 3:
        return events
    notes.tell(path, Sentence("{} [slice|slices] that this file itself repeats, shown once", (repeated,)))
    return replace(events, slices=kept)


_PROBES = 3


def _occurs_once(columns: tuple[NDArray[Any], ...], row: int) -> bool:
    first, *rest = columns
    same = np.flatnonzero(first == first[row])
    for column in rest:
        same = same[column[same] == column[row]]
    return len(same) < 2


def _renumbered(rows: SliceRows | SampleRows | FlowRows, maps: Mapping[str, Int32s]) -> dict[str, NDArray[Any]]:
    """The columns of `rows`, those that `maps` names with their numbers replaced."""
    columns = {name: getattr(rows, name) for name in rows.__dataclass_fields__}
    for name in maps.keys() & columns.keys() if len(columns["thread"]) else ():
        columns[name] = maps[name][columns[name]]
    return columns


def _joined(kind: type[_Rows], parts: Sequence[dict[str, NDArray[Any]]]) -> _Rows:
    """The columns of `parts` (emptied on the way) one behind the other: no more than one column is held twice."""
    return kind(**{name: np.concatenate([part.pop(name) for part in parts]) for name in kind.__dataclass_fields__})


def _distinct(rows: SliceRows) -> tuple[SliceRows, int]:
    """Slices without those that equal another in thread, start, duration and name; and how many were left out."""
    order = np.lexsort((rows.name, rows.duration_ns, rows.start_ns, rows.thread))
    same = np.zeros(len(order), dtype=bool)
    same[1:] = True
    for column in (rows.name, rows.duration_ns, rows.start_ns, rows.thread):
        same[1:] &= column[order[1:]] == column[order[:-1]]
    repeated = int(same.sum())
    if not repeated:
        return rows, 0
    kept = np.sort(order[~same])
    return SliceRows(*(getattr(rows, name)[kept] for name in SliceRows.__dataclass_fields__)), repeated
