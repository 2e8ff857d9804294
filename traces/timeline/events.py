"""
Events of a trace file as columns, and the plain reader that makes them with Python's own JSON parser.

A trace is a JSON list of events (or an object that holds it under `traceEvents`): `X` slices, `C` counter samples,
`s`, `t`, `f` flow ends, `M` names of processes and threads. Times are decimal microseconds, as text or number.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memplan.core.arrays import Floats, Int32s, Int64s
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.traces.decimals import nanoseconds, number
from memplan.traces.notes import Notebook
from memplan.traces.timeline.begin_end import BEGIN_MARK, END_MARK, joined_durations
from memplan.traces.timeline.text_damage import CUT_NOTE, TAIL, UTF_16_MARKS, is_cut, with_known_escapes

FLOW_START, FLOW_STEP, FLOW_END = 0, 1, 2
_MOST_NUMBERS = 64  # in one counter sample
_MOST_DAMAGED = 10_000  # places in a small file, after which the rest is given up
_MOST_WASTED = 400_000_000  # characters read in vain, after which it is given up too
_LEVEL_COST = 40  # a level of nesting costs about as much as so many characters
_HALVES = {"B": BEGIN_MARK, "E": END_MARK}
_PHASES = {"s": FLOW_START, "t": FLOW_STEP, "f": FLOW_END}


@dataclass(frozen=True, slots=True)
class SliceRows:
    """
    Slices in file order. `thread` indexes `Events.threads`, `name` and `category` index `Events.strings`.

    `arguments_at` and `arguments_size` locate the `args` object of each: bytes of the file, or rows of
    `Events.arguments`.
    """

    start_ns: Int64s
    duration_ns: Int64s
    thread: Int32s
    name: Int32s
    category: Int32s
    arguments_at: Int64s
    arguments_size: Int32s


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Counter samples in file order: one row per number; `instance` is the `..._id` beside it, -1 where none."""

    time_ns: Int64s
    thread: Int32s
    name: Int32s
    key: Int32s
    instance: Int64s
    value: Floats


@dataclass(frozen=True, slots=True)
class FlowRows:
    """Ends of flow arrows in file order; those of one arrow share `category` and `id`."""

    time_ns: Int64s
    thread: Int32s
    phase: Int32s
    category: Int32s
    id: Int64s


@dataclass(frozen=True, slots=True)
class Events:
    """All events of one trace file. `threads` are `(pid, tid)` as written; string 0 is empty."""

    strings: Sequence[str]
    threads: Sequence[tuple[str, str]]
    slices: SliceRows
    samples: SampleRows
    flows: FlowRows
    metadata: Sequence[Mapping[str, object]]
    arguments: Sequence[object] | None = None


class _Numbered:
    """Strings to consecutive numbers."""

    def __init__(self, *first: str) -> None:
        self.index = {text: number for number, text in enumerate(first)}

    def __call__(self, text: str) -> int:
        return self.index.setdefault(text, len(self.index))


def read_events(path: Path, data: bytes, notes: Notebook, progress: Progress) -> Events:
    """
    Events of the trace file whose content is `data`.

    What can't be understood is skipped, and a note says how much and where it began.
    """
    if data[:2] in UTF_16_MARKS:
        notes.tell(path, "written as UTF-16: read so")
        data = data.decode("utf-16", errors="replace").encode()
    text = data.decode("utf-8-sig", errors="replace")
    if "\ufffd" in text:
        notes.add(path, "holds bytes that are not UTF-8; they were replaced")
    builder = _Builder()
    values = _whole(text)
    if values is None and (repaired := with_known_escapes(text)) != text:
        text = repaired
        values = _whole(text)
    if values is None:
        values = _salvaged(path, text, notes)
    for done, event in enumerate(values):
        if done % 65536 == 0:
            progress(done, len(values), "events")
        builder.add(event)
    builder.report(path, notes)
    if (joined := text.count('"ph"') - builder.phases) > 0:
        notes.add(
            path,
            Sentence("{} [event runs|events run] into others, or [holds|hold] a phase where none belongs", (joined,)),
        )
    if values and is_cut(data[:64], data[-TAIL:]):
        notes.add(path, CUT_NOTE)
    return with_joined_slices(builder.events(), path, notes)


def with_joined_slices(events: Events, path: Path, notes: Notebook) -> Events:
    """`events` with one row for each slice that is told by two events, in the place of its begin."""
    rows = events.slices
    if not (rows.duration_ns < 0).any():
        return events
    duration, stray = joined_durations(rows.start_ns, rows.duration_ns, rows.thread)
    if stray:
        notes.add(path, Sentence("{} [event|events] of phases 'B' and 'E' without another end, not shown", (stray,)))
    rows, kept = replace(rows, duration_ns=duration), duration >= 0
    return replace(events, slices=SliceRows(*(getattr(rows, name)[kept] for name in SliceRows.__dataclass_fields__)))


class _Written(str):
    """A number as the file writes it: a time must not pass through float."""

    __slots__ = ()


def _integer(text: str) -> int | _Written:
    """`text` as an integer, unless it is hostile: Python takes quadratic time for a million digits."""
    return int(text) if len(text) < 40 else _Written(text)


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_float=_Written, parse_int=_integer, parse_constant=_Written, strict=False)


def plain_json(value: object) -> object:
    """A parsed value with its numbers as numbers, for showing."""
    if isinstance(value, _Written):
        return float(value)
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    return [plain_json(item) for item in value] if isinstance(value, list) else value


def _whole(text: str) -> list[object] | None:
    """The list of events where `text` is valid JSON, else `None`."""
    try:
        value = _decoder().decode(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = value.get("traceEvents")
    return value if isinstance(value, list) else None


def _salvaged(path: Path, text: str, notes: Notebook) -> list[object]:
    """Every object that parses, looking for the next one wherever one does not."""
    scan: Callable[[str, int], tuple[object, int]] = _decoder().raw_decode
    found: list[object] = []
    skipped = wasted = 0
    first = -1
    at = text.find("[")
    at = text.find("{", max(at, 0))
    while at >= 0:
        try:
            value, end = scan(text, at)
            found.append(value)
        except (ValueError, RecursionError) as error:
            skipped += 1
            wasted += _wasted(error, text, at)
            first = at if first < 0 else first
            end = _next_event(text, at + 1)
            if end < 0 or skipped >= _MOST_DAMAGED or wasted > _MOST_WASTED:
                break
            at = end
            continue
        at = text.find("{", end)
    if skipped:
        notes.add(path, damaged_note(skipped, first))
    elif not found:
        notes.add(path, "holds no events")
    return found


def _wasted(error: ValueError | RecursionError, text: str, at: int) -> int:
    """Characters read in vain by an attempt to parse at `at`."""
    if not isinstance(error, json.JSONDecodeError):
        # How deep the attempt went depends on the interpreter's limit, which others in the process may have raised.
        return max(sys.getrecursionlimit() * _LEVEL_COST, 1)
    return (len(text) if error.msg.startswith("Unterminated") else error.pos) - at


def damaged_note(count: int, first: int) -> Sentence:
    """What to say about text that is no event."""
    return Sentence(
        "damaged: {} [place|places] skipped where no event could be read, the first at offset {}", (count, first)
    )


def unusable_note(count: int) -> Sentence:
    """What to say about events that lack what their kind needs."""
    return Sentence("{} [event|events] without a usable time, duration or value skipped", (count,))


def unknown_note(phase: str, count: int) -> Sentence:
    """What to say about events of another kind."""
    return Sentence("{} [event|events] of phase {!r}, of no known kind, not shown", (count, phase))


def _next_event(text: str, start: int) -> int:
    """Where the next object begins that follows another one, -1 at the end of the text."""
    while (close := text.find("}", start)) >= 0:
        rest = close + 1
        while rest < len(text) and text[rest] in " \t\r\n,":
            rest += 1
        if rest < len(text) and text[rest] == "{":
            return rest
        start = close + 1
    return -1


class _Builder:
    """Sorts events into columns."""

    def __init__(self) -> None:
        self.strings = _Numbered("")
        self.threads: dict[tuple[str, str], int] = {}
        self.slices: list[tuple[int, int, int, int, int, int, int]] = []
        self.samples: list[tuple[int, int, int, int, int]] = []
        self.values: list[float] = []
        self.flows: list[tuple[int, int, int, int, int]] = []
        self.metadata: list[Mapping[str, object]] = []
        self.arguments: list[object] = []
        self.unusable = 0
        self.phases = 0
        self.unknown: dict[str, int] = {}

    def add(self, event: object) -> None:
        if not isinstance(event, dict):
            self.unusable += 1
            return
        phase = event.get("ph")
        self.phases += "ph" in event
        if phase == "M":
            self.metadata.append(event)
            return
        time = nanoseconds(str(event.get("ts", "")))
        if phase not in ("X", "B", "E", "C", "s", "t", "f"):
            letter = phase if isinstance(phase, str) and len(phase) == 1 else ""
            self.unknown[letter] = self.unknown.get(letter, 0) + 1
        elif time is None:
            self.unusable += 1
        elif phase in ("X", "B", "E"):
            self._slice(event, time)
        elif phase == "C":
            self._sample(event, time)
        else:
            category = self.strings(str(event.get("cat", "")))
            self.flows.append((time, self._thread(event), _PHASES[phase], category, flow_id(str(event.get("id", "")))))

    def _slice(self, event: Mapping[str, object], time: int) -> None:
        duration = _HALVES.get(str(event["ph"]))
        if duration is None:
            duration = nanoseconds(str(event.get("dur", "")))
            if duration is None or duration < 0:
                self.unusable += 1
                return
        arguments = event.get("args")
        category = event.get("cat")
        size = 0
        if isinstance(arguments, dict) and arguments:
            self.arguments.append(arguments)
            size = 1
            task = arguments.get("Task Type")
            if category is None and isinstance(task, str):
                category = task
        name = self.strings(str(event.get("name", "")))
        kind = self.strings("" if category is None else str(category))
        row = (time, duration, self._thread(event), name, kind, len(self.arguments) - 1, size)
        self.slices.append(row)

    def _sample(self, event: Mapping[str, object], time: int) -> None:
        arguments = event.get("args")
        if not isinstance(arguments, dict):
            self.unusable += 1
            return
        thread, name = self._thread(event), self.strings(str(event.get("name", "")))
        instance = -1
        numbers = []
        for key, value in arguments.items():
            quantity = number(str(value))
            if math.isnan(quantity):
                continue
            if key.endswith("_id"):
                instance = int(quantity) if abs(quantity) < 2**53 else -1
            else:
                numbers.append((key, quantity))
        self.unusable += not numbers
        for key, quantity in numbers[:_MOST_NUMBERS]:
            self.samples.append((time, thread, name, self.strings(key), instance))
            self.values.append(quantity)

    def _thread(self, event: Mapping[str, object]) -> int:
        key = (str(event.get("pid", "")), str(event.get("tid", "")))
        return self.threads.setdefault(key, len(self.threads))

    def report(self, path: Path, notes: Notebook) -> None:
        if self.unusable:
            notes.add(path, unusable_note(self.unusable))
        for phase, count in self.unknown.items():
            notes.add(path, unknown_note(phase, count))

    def events(self) -> Events:
        slices = np.array(self.slices, dtype=np.int64).reshape(-1, 7).T
        samples = np.array(self.samples, dtype=np.int64).reshape(-1, 5).T
        flows = np.array(self.flows, dtype=np.int64).reshape(-1, 5).T
        return Events(
            strings=list(self.strings.index),
            threads=list(self.threads),
            slices=SliceRows(
                slices[0],
                slices[1],
                slices[2].astype(np.int32),
                slices[3].astype(np.int32),
                slices[4].astype(np.int32),
                slices[5],
                slices[6].astype(np.int32),
            ),
            samples=SampleRows(
                samples[0],
                samples[1].astype(np.int32),
                samples[2].astype(np.int32),
                samples[3].astype(np.int32),
                samples[4],
                np.array(self.values, dtype=np.float64),
            ),
            flows=FlowRows(
                flows[0], flows[1].astype(np.int32), flows[2].astype(np.int32), flows[3].astype(np.int32), flows[4]
            ),
            metadata=self.metadata,
            arguments=self.arguments,
        )


def flow_id(text: str) -> int:
    """
    A flow's id as a number: itself where it is a whole number below 2⁶², else a hash with bit 62 set.

    Ids are text or numbers, as the producer likes, and only ever compared.
    """
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    value = 0xCBF29CE484222325
    for byte in text.encode("utf-8", errors="replace"):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return (value >> 2) | (1 << 62)
