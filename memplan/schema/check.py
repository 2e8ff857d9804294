"""An independent check of a finished plan: it shares no code with what made it and looks only at the Plan."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from itertools import accumulate

from memplan.schema.contents import content_violations
from memplan.schema.onchip_check import onchip_violations
from memplan.schema.plan import Placement, Plan, Transfer
from memplan.schema.tier import Tier


def violations(plan: Plan, *, most: int = 20) -> tuple[str, ...]:
    """Everything that makes `plan` impossible, at most `most` sentences; empty for a valid plan."""
    found: list[str] = []
    parts = (
        _addresses,
        _capacity,
        _elsewhere,
        _residency,
        _order,
        _moving,
        _links,
        content_violations,
        onchip_violations,
    )
    for part in parts:
        found += part(plan)
        if len(found) >= most:
            break
    return tuple(found[:most])


def checked(plan: Plan) -> Plan:
    """`plan` with what makes it impossible in `violations`."""
    found = violations(plan)
    return plan if found == plan.violations else replace(plan, violations=found)


def _hbm(plan: Plan) -> list[Placement]:
    return [p for p in plan.placements if p.tier is Tier.HBM and p.size and p.start < p.end]


def _addresses(plan: Plan) -> list[str]:
    """
    No two placements overlap in address while both are alive: a sweep over steps with the alive ones by address.

    A plan that gives no address at all says sizes and lifetimes only, which nothing can contradict.
    """
    found: list[str] = []
    placements = _hbm(plan)
    if all(placement.offset is None for placement in placements):
        return found
    events = sorted(
        [(p.start, 1, i) for i, p in enumerate(placements)] + [(p.end, 0, i) for i, p in enumerate(placements)]
    )
    alive: list[tuple[int, int]] = []
    for _, opens, index in events:
        placement = placements[index]
        if placement.offset is None:
            if opens:
                found.append(f"tensor {placement.tensor} has no address in HBM")
            continue
        entry = (placement.offset, index)
        at = bisect_left(alive, entry)
        if not opens:
            del alive[at]
            continue
        for neighbour in alive[max(at - 1, 0) : at + 1]:
            other = placements[neighbour[1]]
            if neighbour[0] < placement.offset + placement.size and placement.offset < neighbour[0] + other.size:
                found.append(f"tensors {placement.tensor} and {other.tensor} share HBM bytes at step {placement.start}")
        insort(alive, entry)
    return found


def _capacity(plan: Plan) -> list[str]:
    use = plan.tier(Tier.HBM)
    if use is None:
        return ["the plan says nothing of HBM"]
    ends = [p.offset + p.size for p in _hbm(plan) if p.offset is not None]
    top = max(ends, default=0)
    found = []
    if top != use.peak and (ends or not _hbm(plan)):
        found.append(f"HBM is used up to {top}, the plan says {use.peak}")
    if use.peak < use.lower_bound:
        found.append(f"the HBM peak {use.peak} is below its own lower bound {use.lower_bound}")
    if plan.fits and use.capacity is not None and top > use.capacity:
        found.append(f"HBM is used up to {top} of {use.capacity}, yet the plan is said to fit")
    return found


def _elsewhere(plan: Plan) -> list[str]:
    """What is kept outside HBM has room there, in a tier that the plan tells of and for as much as it says."""
    found = []
    for tier in (Tier.HOST, Tier.REMOTE):
        change = [0] * (len(plan.ops) + 1)
        for placement in plan.placements:
            if placement.tier is tier and placement.start < placement.end:
                change[placement.start] += placement.size
                change[placement.end] -= placement.size
        most = max(accumulate(change))
        use = plan.tier(tier)
        if use is None:
            if most:
                found.append(f"{tier.value} is to hold {most} bytes, and the plan says nothing of it")
            continue
        if use.capacity is not None and most > use.capacity:
            found.append(f"{tier.value} is to hold {most} of {use.capacity} bytes")
        if most > use.peak:
            found.append(f"{tier.value} is to hold {most} bytes, the plan says {use.peak}")
    return found


def _residency(plan: Plan) -> list[str]:
    """Every tensor is in HBM at each step that uses it."""
    where: dict[int, list[tuple[int, int]]] = {}
    for placement in _hbm(plan):
        where.setdefault(placement.tensor, []).append((placement.start, placement.end))
    found = []
    for tensor in plan.tensors:
        if not tensor.nbytes:
            continue
        spans = sorted(where.get(tensor.index, ()))
        at = 0
        for step in sorted(tensor.uses):
            while at < len(spans) and spans[at][1] <= step:
                at += 1
            if at == len(spans) or spans[at][0] > step:
                found.append(f"tensor {tensor.index} is not in HBM at step {step}, which uses it")
                break
    return found


def _order(plan: Plan) -> list[str]:
    """Ops follow each other on their stream, and transfers lie between the steps they depend on."""
    found = []
    free: dict[int, int] = {}
    for op in plan.ops:
        if op.duration_ns < 0 or op.start_ns < free.get(op.stream, 0):
            found.append(f"op {op.index} starts at {op.start_ns} ns, before its stream is free")
        free[op.stream] = op.start_ns + op.duration_ns
    for transfer in plan.transfers:
        after, before = transfer.after_step, transfer.before_step
        if after is not None and transfer.source is Tier.HBM:
            done = plan.ops[after].start_ns + plan.ops[after].duration_ns
            if transfer.start_ns < done:
                found.append(f"tensor {transfer.tensor} leaves HBM while step {after} still uses it")
        if before is not None and transfer.target is Tier.HBM and transfer.end_ns > plan.ops[before].start_ns:
            found.append(f"tensor {transfer.tensor} is back in HBM only after step {before} started")
    return found


def _moving(plan: Plan) -> list[str]:
    """Bytes under way keep their place: until the last one is out, and from before the first one comes in."""
    where: dict[int, list[Placement]] = {}
    for placement in _hbm(plan):
        where.setdefault(placement.tensor, []).append(placement)
    found = []
    for transfer in plan.transfers:
        step = transfer.after_step if transfer.source is Tier.HBM else transfer.before_step
        held = [p for p in where.get(transfer.tensor, ()) if step is not None and p.start <= step < p.end]
        if not held:
            found.append(f"tensor {transfer.tensor} is moved but has no place in HBM at step {step}")
        elif transfer.source is Tier.HBM and held[0].end < len(plan.ops):
            if plan.ops[held[0].end].start_ns < transfer.end_ns:
                found.append(f"tensor {transfer.tensor} gives up its HBM before it has left")
        elif transfer.target is Tier.HBM and held[0].start > 0:
            before = plan.ops[held[0].start - 1]
            if transfer.start_ns < before.start_ns + before.duration_ns:
                found.append(f"tensor {transfer.tensor} comes back before its HBM is free")
    return found


def _links(plan: Plan) -> list[str]:
    """
    A link carries one transfer at a time, between its own tiers and no faster than its rate.

    One that does not say what it joins may join two tiers, whichever they are.
    """
    found = []
    rates = {link.name: link for link in plan.links}
    by_link: dict[str, list[Transfer]] = {}
    for transfer in plan.transfers:
        by_link.setdefault(transfer.link, []).append(transfer)
    for name, transfers in by_link.items():
        if name not in rates:
            found.append(f"transfers use link {name}, which the plan does not describe")
            continue
        free, link = 0, rates[name]
        ends = link.from_tier or transfers[0].source, link.to_tier or transfers[0].target
        for transfer in sorted(transfers, key=lambda t: (t.start_ns, t.end_ns)):
            if (transfer.source, transfer.target) != ends:
                way = f"from {transfer.source.value} to {transfer.target.value}"
                found.append(
                    f"tensor {transfer.tensor} goes {way} over link {name}, "
                    f"which leads from {ends[0].value} to {ends[1].value}"
                )
            if transfer.start_ns < free:
                found.append(f"link {name} carries two transfers at {transfer.start_ns} ns")
            free = transfer.end_ns
            if (transfer.end_ns - transfer.start_ns) * link.bytes_per_second < transfer.size * 1e9 * 0.999999:
                found.append(f"link {name} is faster than its rate for tensor {transfer.tensor}")
    return found
