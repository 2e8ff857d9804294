"""
Compiled run of one schedule: ops in order on the compute stream, a queue for each direction of each link.

What leaves is queued in the order in which it leaves. What returns is queued in the order of need, as soon as its link
will be free for it and its bytes have room until they are needed; an op whose operand is not back waits for it. Of
several links each has its own queues; what is needed first gets room first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memplan.core.jit import jit, jit_inlined, jit_inner

LINKS = 2
"""Links beside each other: to the host's own memory, and to memory pooled over the hosts."""


@jit
def _up(heap: Any, count: int, value: int) -> int:
    """Add `value` to the `count` entries of a heap, the least first; returns the new count."""
    at = count
    while at > 0 and heap[(at - 1) >> 1] > value:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = value
    return count + 1


@jit
def _down(heap: Any, count: int) -> int:
    """Remove the least entry of a heap; returns the new count."""
    count -= 1
    last = heap[count]
    at = 0
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[at] = heap[child]
        at = child
    if count:
        heap[at] = last
    return count


@jit_inner
def _carried_ns(gaps: Any, lane: Any, each_ns: Any) -> Any:
    """How long each link carries what moves in `gaps`."""
    total = np.zeros(LINKS, np.int64)
    for gap in gaps:
        total[lane[gap]] += each_ns[gap]
    return total


@jit_inlined
def _queue(pending: Any, head: int, tail: int, gap: int, out_start: Any, out_ns: Any) -> None:
    """Add `gap` to those on their way out, `head` to `tail` of `pending`, by when they have left."""
    end = out_start[gap] + out_ns[gap]
    at = tail
    while at > head and out_start[pending[at - 1]] + out_ns[pending[at - 1]] > end:
        pending[at] = pending[at - 1]
        at -= 1
    pending[at] = gap


@jit_inlined
def _without_room(
    full: Any,
    step: int,
    back: int,
    most: int,
    pending: Any,
    head: int,
    tail: int,
    under_way: int,
    out_start: Any,
    out_ns: Any,
    size: Any,
    begin_here: int,
    ready: int,
    elapsed: Any,
) -> int:
    """
    Up to which step there is no room for what would be back until step `back`; before `step` where there is now.

    Room is up to `most` bytes. The last step is meant that has none whatever is still to leave, or `step` itself where
    only what leaves too late is in the way.
    """
    fullest = most
    for value in full[step:back]:
        fullest = max(fullest, value)
    worst = back - 1 if fullest > most else step - 1
    while worst >= step and full[worst] <= most:
        worst -= 1
    slot, rest, later = head, under_way, step
    while worst < step and slot < tail and later < back:
        # What leaves while this step waits for its operands still holds its room when the step begins.
        arrives = begin_here if later == step else ready + elapsed[later] - elapsed[step]
        while slot < tail and out_start[pending[slot]] + out_ns[pending[slot]] <= arrives:
            rest -= size[pending[slot]]
            slot += 1
        if full[later] + rest > most:
            worst = step
        later += 1
    return worst


@jit
def run_queues(
    duration: Any,  # int64[steps] ns
    live: Any,  # int64[steps]: bytes in HBM with every gap's storage absent during it
    capacity: int,
    size: Any,  # int64[gaps]
    start: Any,  # int64[gaps]: first step of the gap
    leaves: Any,  # int64[gaps]: step after which it is copied out, -1: it is not
    returns: Any,  # int64[gaps]: step that needs it back, -1: none
    out_ns: Any,  # int64[gaps]
    in_ns: Any,
    lane: Any,  # int64[gaps]: over which of the `LINKS` links it moves
    by_leave: Any,  # gaps with leaves >= 0 by leaves
    by_start: Any,  # gaps that are not copied out by start
    by_return: Any,  # gaps with returns >= 0 by returns
    step_start: Any,  # int64[steps], written
    stalled: Any,  # int64[steps], written
    free_at: Any,  # int64[steps], written: when all that leaves before the step has left
    out_start: Any,  # int64[gaps], written
    in_start: Any,  # int64[gaps], written
    gone: Any,  # int64[gaps], written: first step at which the bytes are out of HBM
    first: Any,  # int64[gaps], written: first step at which they are in HBM again
    limit: int,  # the run ends early, with some larger end, once all can't end by then
) -> tuple[int, int]:
    """Ends, in ns, of the last op and transfer, and of the last transfer back."""
    steps, gaps = duration.size, size.size
    elapsed = np.zeros(steps + 1, np.int64)
    for step in range(steps):
        elapsed[step + 1] = elapsed[step] + duration[step]
    place_of = np.empty(gaps, np.int64)
    for place in range(by_return.size):
        place_of[by_return[place]] = place
    waiting = np.empty((LINKS, gaps + 1), np.int64)  # for each link a heap of what could come back, as places
    waits = np.zeros(LINKS, np.int64)
    full = live.copy()  # with what returned before it is needed
    pending = np.empty(gaps, np.int64)  # what is on its way out, what is out first at the head
    head = tail = 0
    under_way = 0
    blocked = np.full(gaps, -1, np.int64)  # last step at which there was no room for it
    issued = np.zeros(gaps, np.bool_)
    at_leave = at_start = at_return = 0
    clock = last = 0
    out_free, in_free = np.zeros(LINKS, np.int64), np.zeros(LINKS, np.int64)
    rest_out, rest_in = _carried_ns(by_leave, lane, out_ns), _carried_ns(by_return, lane, in_ns)  # still to come
    for step in range(steps):
        at_best = clock + elapsed[steps] - elapsed[step]
        for way in range(LINKS):
            at_best = max(at_best, in_free[way] + rest_in[way], out_free[way] + rest_out[way])
        if at_best > limit:
            return at_best, last
        ready = clock
        while at_start < by_start.size and start[by_start[at_start]] <= step:
            gap = by_start[at_start]
            at_start += 1
            gone[gap] = start[gap]
            if returns[gap] >= 0:
                waits[lane[gap]] = _up(waiting[lane[gap]], waits[lane[gap]], place_of[gap])
        # Room for the step's operands, and what it needs back must have left before.
        until = ready
        look = at_return
        while look < by_return.size and returns[by_return[look]] <= step:
            gap = by_return[look]
            look += 1
            if not issued[gap] and leaves[gap] >= 0:
                until = max(until, out_start[gap] + out_ns[gap])
        while head < tail:
            gap = pending[head]
            end = out_start[gap] + out_ns[gap]
            if end > until and full[step] + under_way <= capacity:
                break
            head += 1
            under_way -= size[gap]
            ready = max(ready, end)
            gone[gap] = step
            if returns[gap] >= 0:
                waits[lane[gap]] = _up(waiting[lane[gap]], waits[lane[gap]], place_of[gap])
        begin_here = free_at[step] = ready
        while at_return < look:
            gap = by_return[at_return]
            at_return += 1
            if not issued[gap]:
                issued[gap] = True
                first[gap] = step
                way = lane[gap]
                in_start[gap] = max(begin_here, in_free[way])
                in_free[way] = in_start[gap] + in_ns[gap]
                rest_in[way] -= in_ns[gap]
            ready = max(ready, in_start[gap] + in_ns[gap])
        # What is needed later comes back as soon as the link is free for it and there is room until then.
        while True:
            soonest = by_return.size
            for way in range(LINKS):
                while waits[way] and issued[by_return[waiting[way, 0]]]:
                    waits[way] = _down(waiting[way], waits[way])
                if waits[way] and in_free[way] <= ready + duration[step]:
                    soonest = min(soonest, waiting[way, 0])
            if soonest == by_return.size or blocked[by_return[soonest]] >= step:
                break
            gap = by_return[soonest]
            worst = _without_room(
                full, step, returns[gap], capacity - size[gap], pending, head, tail, under_way, out_start, out_ns, size,
                begin_here, ready, elapsed,
            )  # fmt: skip
            if worst >= step:
                blocked[gap] = worst
                break
            way = lane[gap]
            waits[way] = _down(waiting[way], waits[way])
            issued[gap] = True
            first[gap] = step
            in_start[gap] = max(begin_here, in_free[way])
            in_free[way] = in_start[gap] + in_ns[gap]
            rest_in[way] -= in_ns[gap]
            ahead = full[step : returns[gap]]
            for later in range(ahead.size):
                ahead[later] += size[gap]
        stalled[step] = ready - clock
        step_start[step] = ready
        clock = ready + duration[step]
        while at_leave < by_leave.size and leaves[by_leave[at_leave]] <= step:
            gap = by_leave[at_leave]
            at_leave += 1
            way = lane[gap]
            out_start[gap] = max(clock, out_free[way])
            out_free[way] = out_start[gap] + out_ns[gap]
            rest_out[way] -= out_ns[gap]
            _queue(pending, head, tail, gap, out_start, out_ns)
            tail += 1
            under_way += size[gap]
        for way in range(LINKS):
            last = max(last, in_free[way])
    return max(clock, out_free.max(), last), last


@jit
def delay_returns(
    last: int,
    returns: Any,
    in_ns: Any,
    lane: Any,
    by_return: Any,
    step_start: Any,
    free_at: Any,
    in_start: Any,  # changed
    first: Any,  # changed
) -> None:
    """Each return of a run of the queues as late as its ops allow: it takes less room and nothing waits longer."""
    latest = last + 1
    for place in range(by_return.size):
        latest = max(latest, step_start[returns[by_return[place]]])
    limit = np.full(LINKS, latest)
    order = by_return[np.argsort(in_start[by_return], kind="mergesort")]
    for place in range(order.size - 1, -1, -1):
        gap = order[place]
        way = lane[gap]
        limit[way] = min(limit[way], step_start[returns[gap]])
        in_start[gap] = max(limit[way] - in_ns[gap], in_start[gap])
        limit[way] = in_start[gap]
        while first[gap] < returns[gap] and free_at[first[gap] + 1] <= in_start[gap]:
            first[gap] += 1
