"""What the collectives of a plan cost: what of them is hidden behind computing, what is not, and what would hide it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memplan.schema.plan import Bound, Plan, PlannedOp
from memplan.schema.stream_timeline import StreamOp, StreamTimes, run_streams
from memplan.schema.tier import Tier


@dataclass(frozen=True, slots=True)
class CollectiveUse:
    """
    Collectives of one type and group: how many, the bytes of their buffers, ns that they take, ns that streams stand
    idle for them (`exposed_ns`).
    """

    type: str
    group: str
    ranks: int | None
    count: int
    nbytes: int
    duration_ns: int
    exposed_ns: int


@dataclass(frozen=True, slots=True)
class LayerBalance:
    """
    The layer of one phase that has most to exchange for what it computes.

    Hidden behind its own computing, its exchanges need `needed_rate` bytes per second for each FLOP per second that it
    reaches; the link gives `given_rate`.
    """

    phase: str
    layer: int
    flops: int
    compute_ns: int
    nbytes: int
    exchange_ns: int

    @property
    def needed_rate(self) -> float:
        """Bytes of exchange for each FLOP."""
        return self.nbytes / max(self.flops, 1)

    @property
    def given_rate(self) -> float:
        """Bytes that the link moves in the time of one FLOP."""
        return self.needed_rate * self.compute_ns / max(self.exchange_ns, 1)


@dataclass(frozen=True, slots=True)
class CommunicationOutlook:
    """
    Collectives on a stream of their own, beside computing as far as data, stream order and the plan's addresses allow.

    `serial_ns` is the step with everything one after the other, `step_ns` with collectives beside it. `pair_ns` is what
    two micro-batches take that give way to each other, `pair_serial_ns` what they take one after the other.
    """

    uses: tuple[CollectiveUse, ...]
    layers: tuple[LayerBalance, ...]
    serial_ns: int
    step_ns: int
    pair_ns: int
    pair_serial_ns: int

    @property
    def duration_ns(self) -> int:
        """All collectives together."""
        return sum(use.duration_ns for use in self.uses)

    @property
    def exposed_ns(self) -> int:
        """What computing waits for them."""
        return sum(use.exposed_ns for use in self.uses)


def communication_outlook(plan: Plan) -> CommunicationOutlook | None:
    """The outlook of `plan`; `None` without collectives, times, or what ops read and write."""
    linked = [op for op in plan.ops if op.bound is Bound.LINK]
    if not linked or not plan.timed or any(op.reads is None or op.writes is None for op in plan.ops):
        return None
    ops = stream_ops(plan.ops, _address_needs(plan))
    times = run_streams(ops)
    exposed = _exposed(plan.ops, times)
    # What runs on after the last op that computes hides behind nothing.
    done = max((times.start_ns[op.index] + op.duration_ns for op in plan.ops if op.bound is not Bound.LINK), default=0)
    for op in linked:
        end = times.start_ns[op.index] + op.duration_ns
        if end > done:
            exposed[op.index] += end - max(done, times.start_ns[op.index])
    pair, one = _pair(plan.ops)
    return CommunicationOutlook(
        _uses(plan, linked, exposed), _layers(plan), sum(op.duration_ns + op.stalled_ns for op in plan.ops),
        times.makespan_ns, pair, 2 * one,
    )  # fmt: skip


def _exposed(ops: Sequence[PlannedOp], times: StreamTimes) -> dict[int, int]:
    """By collective, for how long it ran while ops waited for it or for one behind it in the queue of the links."""
    linked = [op for op in ops if op.bound is Bound.LINK]
    ends = [times.start_ns[op.index] + op.duration_ns for op in linked]
    found: dict[int, int] = defaultdict(int)
    for op in ops:
        cause = times.waited_for[op.index]
        if op.bound is Bound.LINK or cause < 0 or ops[cause].bound is not Bound.LINK:
            continue
        end = times.start_ns[op.index]
        begin = end - times.waited_ns[op.index]
        for place in range(bisect_right(ends, begin), len(linked)):
            start = times.start_ns[linked[place].index]
            if start >= end:
                break
            found[linked[place].index] += min(ends[place], end) - max(start, begin)
    return found


def stream_ops(ops: Sequence[PlannedOp], also: dict[int, set[int]] | None = None) -> list[StreamOp]:
    """
    `ops`, numbered from 0 in the order given, with collectives on a stream of their own.

    An op needs who last wrote what it touches, and to write what others read until then; a collective begins after all
    that was issued before it on the main stream. `also` are further needs. Waits for moves stay where they are.
    """
    link = max((op.stream for op in ops), default=0) + 1
    number = {op.index: place for place, op in enumerate(ops)}
    wrote: dict[int, int] = {}
    read: dict[int, list[int]] = defaultdict(list)
    stream = [link if op.bound is Bound.LINK else op.stream for op in ops]
    last: dict[int, int] = {}
    found = []
    for place, op in enumerate(ops):
        needs: set[int] = {number[step] for step in (also or {}).get(op.index, ()) if step in number}
        for tensor in op.reads or ():
            if tensor in wrote:
                needs.add(wrote[tensor])
            read[tensor].append(place)
        for tensor in op.writes or ():
            needs.update(read.pop(tensor, ()))
            if tensor in wrote:
                needs.add(wrote[tensor])
            wrote[tensor] = place
        if op.bound is Bound.LINK and op.stream in last:
            needs.add(last[op.stream])
        elif op.bound is not Bound.LINK:
            last[op.stream] = place
        needs.discard(place)
        others = tuple(sorted(need for need in needs if stream[need] != stream[place]))
        found.append(StreamOp(op.duration_ns, stream[place], others, op.stalled_ns))
    return found


def _address_needs(plan: Plan) -> dict[int, set[int]]:
    """Ops that take over addresses, with the collectives that used them before."""
    spans = sorted(
        (p.start, p.end, p.offset, p.size, p.tensor)
        for p in plan.placements
        if p.tier is Tier.HBM and p.offset is not None and p.size and p.start < p.end
    )
    starts = [span[0] for span in spans]
    ending: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for _, end, offset, size, _ in spans:
        if end < len(plan.ops) and plan.ops[end - 1].bound is Bound.LINK:
            ending[end].append((offset, offset + size))
    found: dict[int, set[int]] = defaultdict(set)
    for end, freed in ending.items():
        for low, high in freed:
            for start, _, offset, size, _ in spans[bisect_left(starts, end) :]:
                if offset < high and low < offset + size:
                    found[start].add(end - 1)
                    break
    return found


def _uses(plan: Plan, linked: Sequence[PlannedOp], exposed: dict[int, int]) -> tuple[CollectiveUse, ...]:
    groups: dict[tuple[str, str, int | None], list[PlannedOp]] = defaultdict(list)
    for op in linked:
        attributes = {} if op.kernel is None else {a.name: a.value for a in plan.kernels[op.kernel].attributes}
        ranks = attributes.get("rank_size")
        groups[op.type, str(attributes.get("group", "")), ranks if isinstance(ranks, int) else None].append(op)
    uses = [
        CollectiveUse(
            kind, group, ranks, len(ops), sum(_payload(plan, op) for op in ops),
            sum(op.duration_ns for op in ops), sum(exposed.get(op.index, 0) for op in ops),
        )
        for (kind, group, ranks), ops in groups.items()
    ]  # fmt: skip
    return tuple(sorted(uses, key=lambda use: -use.exposed_ns))


def _payload(plan: Plan, op: PlannedOp) -> int:
    """The larger of what a collective takes and what it gives."""
    if op.kernel is None:
        return op.gm_bytes // 2
    kernel = plan.kernels[op.kernel]
    taken = sum(operand.nbytes for operand in kernel.inputs if operand is not None)
    return max(taken, sum(operand.nbytes for operand in kernel.outputs))


def _layers(plan: Plan) -> tuple[LayerBalance, ...]:
    """For each phase the layer whose exchanges take longest beside its computing."""
    members: dict[tuple[str, int, int | None], list[PlannedOp]] = defaultdict(list)
    for op in plan.ops:
        if op.layer is not None and op.phase is not None:
            members[op.phase, op.layer, op.micro_batch].append(op)
    found: dict[str, LayerBalance] = {}
    for (phase, layer, _), ops in members.items():
        linked = [op for op in ops if op.bound is Bound.LINK]
        if not linked:
            continue
        others = [op for op in ops if op.bound is not Bound.LINK]
        balance = LayerBalance(
            phase, layer, sum(op.flops for op in others), sum(op.duration_ns for op in others),
            sum(_payload(plan, op) for op in linked), sum(op.duration_ns for op in linked),
        )  # fmt: skip
        known = found.get(phase)
        if known is None or balance.exchange_ns * known.compute_ns > known.exchange_ns * balance.compute_ns:
            found[phase] = balance
    return tuple(found.values())


def _pair(ops: Sequence[PlannedOp]) -> tuple[int, int]:
    """What the layers of two equal micro-batches take side by side, and those of one alone."""
    mine = [op for op in ops if op.layer is not None and op.micro_batch in (None, 0) and op.phase != "optimizer"]
    one = [replace(op, held_ns=0) for op in stream_ops(mine)]
    count = len(one)
    two = [*one, *(replace(op, needs=tuple(need + count for need in op.needs)) for op in one)]
    both = run_streams(two, [range(count), range(count, 2 * count)])
    return both.makespan_ns, run_streams(one).makespan_ns
