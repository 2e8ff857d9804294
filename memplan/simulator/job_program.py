"""What each rank of a simulated job does in a step: computing, communication, copies and what its host does besides."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from math import ceil

from memplan.schema import Plan, PlannedOp
from memplan.simulator.kernel_records import COMMUNICATION, core_of

_BUCKETS = (0.45, 0.6, 0.75, 0.85)
"""After which shares of what a step computes before its last op gradients are reduced."""
_BUCKET_SHARE = 0.03
"""Time of one bucket's transfer as a share of the same: early enough that computing hides them all."""
_UPDATES = re.compile(r"Apply|Adam|Momentum|SGD|Lamb|Lion|Adafactor", re.IGNORECASE)
_SHORTEST_NS, _FILLED_NS = 500_000, 1_000_000
"""A step in less is shorter than what its host does for it besides: it is run as often as fills this."""
LINK_BYTES_PER_NS = 18.0
"""Rate of the simulated links; round, near the 18.9 GB/s of HCCS in a real profile of four ranks."""


class Doing(str, Enum):
    """What an item of a program is."""

    KERNEL = "kernel"
    COLLECTIVE = "collective"
    EXCHANGE = "exchange"
    AWAIT = "await"
    COPY = "copy"
    HOST = "host"
    SYNCHRONISE = "synchronise"


@dataclass(frozen=True, slots=True)
class Item:
    """
    One thing that a rank does in a step, `duration_ns` long.

    A `COLLECTIVE` or `EXCHANGE` (send and receive) runs on a stream of its own: `duration_ns` is its transfer, in
    packets of `packet` bytes, after all ranks are there; computing goes on until an `AWAIT`. A `COPY` keeps computing
    waiting, or runs `beside` it until an `AWAIT` of type `copy`. `HOST` work keeps the host from launching, under
    `name`. `SYNCHRONISE` makes the host wait for the device and takes `duration_ns` more until the next launch. A
    kernel waits `late_ns` between its launch and its start. Communication joins the ranks of `group`, or all of them,
    and moves `size` bytes over `transport`, or as many as links move in its time; what is `only` in some steps is left
    out of others. Host work of type `quiet`, as waiting of that type, leaves no event behind.
    A kernel with a `dtype` is told to run on `elements` of it.
    """

    doing: Doing
    name: str
    type: str
    duration_ns: int
    op: PlannedOp | None = None
    core: str = ""
    packet: int = 0
    late_ns: int = 0
    busy: float = 0.9
    dtype: str = ""
    group: tuple[int, ...] = ()
    only: frozenset[int] | None = None
    beside: bool = False
    size: int | None = None
    transport: str = "HCCS"
    elements: int = 1024


RankProgram = tuple[Item, ...]


def program_of(plan: Plan, ranks: int, *, filled: bool = True) -> RankProgram:
    """
    One step of `plan` as every rank runs it: its computing ops, and the collectives of its gradients beside them.

    The last op needs all gradients. A bucket leaves before the op in which its share of the computing is reached: after
    a long one, too little might be left to hide it. A step too short for a host is `filled` with micro-batches.
    """
    ops = _ops_of_step(plan, filled=filled)
    total = sum(op.duration_ns for op in ops[:-1])
    items: list[Item] = []
    done, bucket = 0, 0
    for op in ops[:-1]:
        done += op.duration_ns
        while ranks > 1 and bucket < len(_BUCKETS) and done >= _BUCKETS[bucket] * total:
            items.append(collective(f"hcom_allReduce__{bucket:03}_1_1", round(_BUCKET_SHARE * total)))
            bucket += 1
        items.append(_kernel(op))
    if ranks > 1:
        items.append(Item(Doing.AWAIT, "await", "", 0))
    return (*items, *map(_kernel, ops[-1:]))


def _ops_of_step(plan: Plan, *, filled: bool) -> list[PlannedOp]:
    """
    The computing ops that a step runs: those of `plan`; `filled`, of a plan that takes next to no time, as many
    micro-batches as make a step that a host can launch. Weights are updated once.
    """
    ops = [op for op in plan.ops if op.launches and op.duration_ns > 0 and core_of(op.type) != COMMUNICATION]
    total = sum(op.duration_ns for op in ops)
    if total >= _SHORTEST_NS or not filled:
        return ops
    update = next((place for place, op in enumerate(ops) if updates_weights(op.type)), len(ops))
    batch = sum(op.duration_ns for op in ops[:update])
    return ops[:update] * max(ceil((_FILLED_NS - total + batch) / batch), 1) + ops[update:] if batch else ops


def updates_weights(type_name: str) -> bool:
    """Whether ops of this type are an optimiser's."""
    return _UPDATES.search(type_name) is not None


def _kernel(op: PlannedOp) -> Item:
    return Item(Doing.KERNEL, op.name, op.type, op.duration_ns, op, core_of(op.type))


def collective(name: str, transfer_ns: int, packet: int = 64_000_000, group: tuple[int, ...] = ()) -> Item:
    """A collective that moves bytes for `transfer_ns` among the ranks of `group`, or all; its type is in its name."""
    kind = name.partition("__")[0]
    return Item(Doing.COLLECTIVE, name, f"{kind}_", transfer_ns, packet=packet, group=group)


def computing_ns(program: RankProgram) -> int:
    """Planned time of the kernels of a program."""
    return sum(item.duration_ns for item in program if item.doing is Doing.KERNEL)


def scaled_kernels(program: RankProgram, factor: float, *, bound: str | None = None, types: str = "") -> RankProgram:
    """`program` with kernels (those that `bound` bounds, of a type that holds `types`) `factor` times as long."""
    return tuple(
        replace(item, duration_ns=round(item.duration_ns * factor))
        if item.doing is Doing.KERNEL
        and (bound is None or (item.op is not None and item.op.bound == bound))
        and types.casefold() in item.type.casefold()
        else item
        for item in program
    )


def copied_beside(program: RankProgram, way: str, count: int, length: Callable[[int, int], int]) -> RankProgram:
    """
    `program` cut before `count` kernels that are spread evenly, with a copy beside all but the first of its stretches.

    A copy goes the `way` that its type says (`host to device`) and takes the `length` of how many copies follow it and
    of the time of its stretch; the next stretch waits for it. The host has run ahead, but no copy begins before what it
    replaces, or takes away, has been used.
    """
    kernels = [place for place, one in enumerate(program) if one.doing is Doing.KERNEL]
    places = sorted({kernels[(number + 1) * len(kernels) // (count + 1)] for number in range(count)})
    found = list(program[: places[0]])
    for number, (begin, end) in enumerate(pairwise((*places, len(program))), 1):
        stretch = program[begin:end]
        copied = length(len(places) - number, sum(one.duration_ns for one in stretch))
        found += [
            Item(Doing.AWAIT, "await", "copy", 0),
            Item(Doing.SYNCHRONISE, "drained", "quiet", 0),
            Item(Doing.COPY, "MEMCPY_ASYNC", way, copied, beside=True),
            *stretch,
        ]
    return (*found, Item(Doing.AWAIT, "await", "copy", 0))


def spread_out(program: RankProgram, item: Item, count: int) -> RankProgram:
    """`program` with `item` put in `count` times, evenly after its kernels, each with a number of its own."""
    kernels = [place for place, one in enumerate(program) if one.doing is Doing.KERNEL]
    after = {kernels[(number + 1) * (len(kernels) - 1) // (count + 1)]: number for number in range(count)}
    found: list[Item] = []
    for place, one in enumerate(program):
        found.append(one)
        if place in after:
            # Host events keep their names, which tell what they are.
            name = f"{item.name}_{after[place]}" if item.doing is Doing.KERNEL else item.name
            found.append(replace(item, name=name))
    return tuple(found)
