"""
Ops on their streams: each stream runs its ops in order, and an op waits for what it needs of other streams.

One event model for all that runs side by side on a device: compute streams, collectives that share the links, and
queues of ops that take turns, such as two micro-batches; of several devices as well, each with streams of its own, that
meet in collectives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamOp:
    """
    One op: its time, its stream, and the ops (by place) that must have ended before it starts.

    `held_ns` is for how long the stream stays idle before it, whatever else: a given wait. Ops of one `meeting` are one
    collective: each keeps its stream busy from its own start on, and all end their duration after the last has started.
    """

    duration_ns: int
    stream: int
    needs: tuple[int, ...] = ()
    held_ns: int = 0
    meeting: int | None = None


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """
    When each op starts and ends, in ns, and the end of the last one.

    `waited_ns[i]` is for how long the stream of op `i` stood idle for the op `waited_for[i]` of another stream, -1 for
    none.
    """

    start_ns: tuple[int, ...]
    end_ns: tuple[int, ...]
    waited_ns: tuple[int, ...]
    waited_for: tuple[int, ...]
    makespan_ns: int


def run_streams(ops: Sequence[StreamOp], queues: Sequence[Sequence[int]] | None = None) -> StreamTimes:
    """
    Run `ops`, issued in the order given, or each of `queues` in its order, whichever can start first.

    What an op needs comes before it in its queue, or is in another one. Raises `ValueError` where nothing can start.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for number, op in enumerate(ops):
        if op.meeting is not None:
            members[op.meeting].append(number)
    still_to_come = {meeting: len(numbers) for meeting, numbers in members.items()}
    busy: set[int] = set()
    waiting = [list(range(len(ops)))] if queues is None else [list(queue) for queue in queues]
    place = [0] * len(waiting)
    ends: list[int | None] = [None] * len(ops)
    start, waited, cause = [0] * len(ops), [0] * len(ops), [-1] * len(ops)
    free: dict[int, int] = {}
    for _ in range(sum(map(len, waiting))):
        best: tuple[int, int, int, int] | None = None
        for queue, at in enumerate(place):
            if at == len(waiting[queue]):
                continue
            number = waiting[queue][at]
            op = ops[number]
            if op.stream in busy:
                continue
            ready, last = 0, -1
            for need in op.needs:
                end = ends[need]
                if end is None:
                    break
                if end > ready:
                    ready, last = end, need
            else:
                begin = max(free.get(op.stream, 0) + op.held_ns, ready)
                if best is None or begin < best[0]:
                    best = begin, queue, number, last
        if best is None:
            raise ValueError("ops wait for each other in a circle")
        begin, queue, number, last = best
        op = ops[number]
        idle = begin - free.get(op.stream, 0) - op.held_ns
        start[number] = begin
        if idle > 0 and last >= 0 and ops[last].stream != op.stream:
            waited[number], cause[number] = idle, last
        place[queue] += 1
        together = [number]
        if op.meeting is not None:
            busy.add(op.stream)
            still_to_come[op.meeting] -= 1
            if still_to_come[op.meeting]:
                continue
            together = members[op.meeting]
        done = max(start[member] for member in together) + max(ops[member].duration_ns for member in together)
        for member in together:
            ends[member] = free[ops[member].stream] = done
            busy.discard(ops[member].stream)
    ended = tuple(end or 0 for end in ends)
    return StreamTimes(tuple(start), ended, tuple(waited), tuple(cause), max(ended, default=0))
