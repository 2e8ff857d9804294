"""
The timeline of a profiler database, as the events that its text export would hold.

Processes and threads get the names that the trace JSON gives them. The overlap analysis, which databases leave out,
is made again from the union of compute tasks and the union of communication ops; its sums are those of the
profiler's own `StepTraceTime`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import interval_difference, interval_union
from memplan.traces.readers.database_counters import add_counters
from memplan.traces.readers.event_builder import EventBuilder
from memplan.traces.tables.sqlite import Database
from memplan.traces.timeline.events import FLOW_END, FLOW_START, Events

SOURCES = ("TASK", "COMMUNICATION_TASK_INFO", "COMMUNICATION_OP", "CANN_API", "PYTORCH_API", "MSTX_EVENTS", "")
_SOURCE_BIT = 48  # places of arguments are a row number and, above this bit, the table's place in `SOURCES`
_LEVELS = {"acl": "AscendCL", "runtime": "Runtime", "node": "Node", "model": "Model", "hccl": "HCCL"}
_CATEGORIES = {"op": "cpu_op", "queue": "queue", "trace": "python_function", "mstx": "mstx"}


def events_of(database: Database) -> Events:
    """All events of a profiler database."""
    builder = EventBuilder()
    hardware = _tasks(database, builder)
    _communication(database, builder)
    _host(database, builder, hardware)
    _overlap(database, builder)
    add_counters(database, builder)
    return builder.events()


@dataclass(frozen=True, slots=True)
class TaskCopies:
    """What the database's tasks copied, by `globalTaskId` in ascending order: bytes, and numbers of `directions`."""

    task: Int64s
    nbytes: Int64s
    direction: Int64s
    directions: Mapping[int, str]

    @classmethod
    def read(cls, database: Database) -> TaskCopies:
        """The copies of `MEMCPY_INFO`; none where the database has no such table."""
        task, nbytes, direction = database.numbers("MEMCPY_INFO", "globalTaskId", "size", "memcpyOperation")
        order = np.argsort(task, kind="stable")
        return cls(task[order], nbytes[order], direction[order], database.enumeration("ENUM_MEMCPY_OPERATION"))

    def arguments(self, task: object) -> dict[str, object]:
        """Size and direction of what `task` copied, under the names of the text export; empty where nothing is told."""
        if not isinstance(task, int):
            return {}
        place = int(np.searchsorted(self.task, task))
        if place == len(self.task) or self.task[place] != task:
            return {}
        nbytes, direction = int(self.nbytes[place]), self.directions.get(int(self.direction[place]))
        size: dict[str, object] = {"data size(Byte)": nbytes} if nbytes >= 0 else {}
        return size if direction is None else {**size, "memcpy direction": direction}


def arguments_of(database: Database, copies: Callable[[], TaskCopies], at: int, size: int) -> dict[str, object]:
    """The columns of the row that a slice was made of, and what a task copied."""
    table = SOURCES[at >> _SOURCE_BIT] if size else ""
    if not table:
        return {}
    found = dict(database.row(table, at & ((1 << _SOURCE_BIT) - 1)))
    return {**found, **copies().arguments(found.get("globalTaskId"))} if table == "TASK" else found


def _at(table: str, rowid: Int64s) -> Int64s:
    return rowid | (SOURCES.index(table) << _SOURCE_BIT)


def _tasks(database: Database, builder: EventBuilder) -> tuple[Int64s, Int64s, Int64s]:
    """Device tasks as slices of their streams; returns connection, start and thread of each."""
    start, end, stream, task, kind, connection, rowid = database.numbers(
        "TASK", "startNs", "endNs", "streamId", "globalTaskId", "taskType", "connectionId", "rowid"
    )
    name, category = kind.copy(), kind.copy()
    for table, title, group in (
        ("COMMUNICATION_TASK_INFO", "taskType", "taskType"),
        ("COMPUTE_TASK_INFO", "name", "taskType"),
    ):
        owner, titles, groups = database.numbers(table, "globalTaskId", title, group)
        rows, places = _matched(task, owner)
        name[rows] = titles[places]
        if table == "COMPUTE_TASK_INFO":
            category[rows] = groups[places]
    lane = builder.lanes("Ascend Hardware", stream, lambda key: f"Stream {key}")
    builder.add(
        start, end, lane, builder.numbers(database, name), builder.numbers(database, category), _at("TASK", rowid)
    )
    return connection, start, lane


def _matched(task: Int64s, owner: Int64s) -> tuple[Int64s, Int64s]:
    """Rows of `task` that `owner` names, and their places in `owner`."""
    if not len(owner):
        none = np.empty(0, dtype=np.int64)
        return none, none
    order = np.argsort(owner, kind="stable")
    place = np.minimum(np.searchsorted(owner[order], task), len(owner) - 1)
    rows = np.flatnonzero((owner[order][place] == task) & (task >= 0))
    return rows, order[place[rows]]


def _communication(database: Database, builder: EventBuilder) -> None:
    start, end, name, group, kind, rowid = database.numbers(
        "COMMUNICATION_OP", "startNs", "endNs", "opName", "groupName", "opType", "rowid"
    )
    groups = {key: place for place, key in enumerate(dict.fromkeys(group.tolist()))}
    lane = builder.lanes("HCCL", group, lambda key: f"Group {groups[key]} Communication")
    builder.add(
        start, end, lane, builder.numbers(database, name), builder.numbers(database, kind),
        _at("COMMUNICATION_OP", rowid),
    )  # fmt: skip
    task, plane, title, rowid = database.numbers(
        "COMMUNICATION_TASK_INFO", "globalTaskId", "planeId", "taskType", "rowid"
    )
    times, ends, owner = database.numbers("TASK", "startNs", "endNs", "globalTaskId")
    rows, places = _matched(task, owner)
    lane = builder.lanes("HCCL", plane[rows], lambda key: f"Plane {key}")
    category = np.zeros(len(rows), dtype=np.int64)
    builder.add(
        times[places], ends[places], lane, builder.numbers(database, title[rows]), category,
        _at("COMMUNICATION_TASK_INFO", rowid[rows]),
    )  # fmt: skip


def _host(database: Database, builder: EventBuilder, hardware: tuple[Int64s, Int64s, Int64s]) -> None:
    """Calls of the host's layers, and the arrows between them and to the device."""
    kinds = database.enumeration("ENUM_API_TYPE")
    start, end, kind, thread, connection, name, rowid = database.numbers(
        "CANN_API", "startNs", "endNs", "type", "globalTid", "connectionId", "name", "rowid"
    )
    lane = builder.lanes("CANN", thread & 0xFFFFFFFF, lambda key: f"Thread {key}")
    title = np.zeros(len(start), dtype=np.int64)
    for number in np.unique(kind).tolist():
        level = kinds.get(number, "")
        rows = kind == number
        prefix = f"{_LEVELS.get(level, level.capitalize())}@"
        title[rows] = builder.numbers(database, name[rows], prefix.__add__)
    builder.add(start, end, lane, title, np.zeros(len(start), dtype=np.int64), _at("CANN_API", rowid))
    _arrows(builder, "HostToDevice", (connection, start, lane), hardware)

    for table in ("PYTORCH_API", "MSTX_EVENTS"):
        start, end, thread, link, name, kind, rowid = database.numbers(
            table, "startNs", "endNs", "globalTid", "connectionId", "name|message", "type|eventType", "rowid"
        )
        lane = builder.lanes("Python", thread & 0xFFFFFFFF, lambda key: f"Thread {key}")
        category = np.zeros(len(start), dtype=np.int64)
        for number in np.unique(kind).tolist():
            level = kinds.get(number, "") if table == "PYTORCH_API" else "mstx"
            category[kind == number] = builder.number(_CATEGORIES.get(level, level))
        builder.add(start, end, lane, builder.numbers(database, name), category, _at(table, rowid))
        if table == "PYTORCH_API":
            owner, target = database.numbers("CONNECTION_IDS", "id", "connectionId")
            rows, places = _matched(owner, link)
            _arrows(builder, "async_npu", (target[rows], start[places], lane[places]), hardware)


def _arrows(
    builder: EventBuilder, category: str, sources: tuple[Int64s, Int64s, Int64s], targets: tuple[Int64s, Int64s, Int64s]
) -> None:
    """Flow ends of `sources` and `targets` (connection, time and thread) whose connection occurs on both sides."""
    common = np.intersect1d(sources[0], targets[0])
    common = common[common >= 0]
    for phase, (connection, time, lane) in ((FLOW_START, sources), (FLOW_END, targets)):
        rows = np.isin(connection, common)
        count = int(rows.sum())
        fill = np.full(count, phase), np.full(count, builder.number(category))
        builder.flows.append([time[rows], lane[rows], *fill, connection[rows]])


def _overlap(database: Database, builder: EventBuilder) -> None:
    start, end, task = database.numbers("TASK", "startNs", "endNs", "globalTaskId")
    rows, _ = _matched(task, database.numbers("COMPUTE_TASK_INFO", "globalTaskId")[0])
    computing = interval_union(start[rows], end[rows])
    communication = interval_union(*database.numbers("COMMUNICATION_OP", "startNs", "endNs"))
    both = interval_union(*(np.concatenate(pair) for pair in zip(computing, communication, strict=True)))
    free = both[1][:-1], both[0][1:]
    for name, (begin, finish) in (
        ("Computing", computing),
        ("Communication", communication),
        ("Communication(Not Overlapped)", interval_difference(communication, computing)),
        ("Free", free),
    ):
        lane = builder.lanes("Overlap Analysis", np.zeros(len(begin), dtype=np.int64), _constant(name))
        title = np.full(len(begin), builder.number(name))
        builder.add(begin, finish, lane, title, np.zeros_like(title), np.full(len(begin), -1))


def _constant(text: str) -> Callable[[int], str]:
    return lambda _: text
