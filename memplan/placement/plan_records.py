"""A memory layout as the records of a plan: placements, transfers, tiers and links."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from memplan.hardware import HostTier, Link
from memplan.placement.memory_layout import MemoryLayout
from memplan.schema import LinkUse, Placement, Source, Tier, TierUse, Transfer


def placement_records(layout: MemoryLayout) -> tuple[Placement, ...]:
    """Where every storage is over which steps: in HBM, then its copies on the host."""
    return (*_in_hbm(layout), *_on_host(layout))


def _in_hbm(layout: MemoryLayout) -> list[Placement]:
    return [
        Placement(
            tensor=layout.storages[residency.storage].tensor,
            tier=Tier.HBM,
            offset=offset,
            size=layout.storages[residency.storage].size,
            start=residency.start,
            end=residency.end,
        )
        for residency, offset in zip(layout.schedule.residencies, layout.hbm.offsets, strict=True)
    ]


def _on_host(layout: MemoryLayout) -> list[Placement]:
    """Host copies: a storage that ever leaves keeps its place on its tier from its first gap to its last."""
    steps = len(layout.schedule.start_ns)
    spans: dict[int, tuple[int, int]] = {}
    tiers: dict[int, int] = {}
    for move in layout.schedule.moves:
        gap = move.gap
        tiers[gap.storage] = move.tier
        start, end = spans.get(gap.storage, (steps, 0))
        spans[gap.storage] = min(start, gap.start), max(end, gap.end)
    return [
        Placement(
            tensor=layout.storages[index].tensor,
            tier=Tier(layout.host.tiers[tiers[index]].name),
            offset=None,
            size=layout.storages[index].size,
            start=0 if layout.storages[index].persistent else start,
            end=steps if layout.storages[index].persistent else end,
        )
        for index, (start, end) in sorted(spans.items())
    ]


def transfer_records(layout: MemoryLayout) -> tuple[Transfer, ...]:
    """What moves between HBM and the tiers behind it, in order of time."""
    return tuple(
        Transfer(
            tensor=layout.storages[move.gap.storage].tensor,
            source=Tier.HBM if move.out else Tier(tier.name),
            target=Tier(tier.name) if move.out else Tier.HBM,
            size=layout.storages[move.gap.storage].size,
            link=tier.out_link.name if move.out else tier.in_link.name,
            start_ns=move.start_ns,
            end_ns=move.end_ns,
            after_step=move.gap.leaves_after,
            before_step=None if move.out else move.gap.returns_at,
        )
        for move in sorted(layout.schedule.moves, key=lambda move: (move.start_ns, move.end_ns))
        for tier in (layout.host.tiers[move.tier],)
    )


def tier_records(layout: MemoryLayout) -> tuple[TierUse, ...]:
    """How full HBM gets, and the tiers behind it where something moves there."""
    moved = {move.gap.storage for move in layout.schedule.moves}
    stay = (storage for index, storage in enumerate(layout.storages) if storage.persistent and index not in moved)
    hbm = TierUse(
        tier=Tier.HBM,
        capacity=layout.room.capacity,
        reserved=layout.room.reserved,
        persistent=sum(storage.size for storage in stay),
        peak=layout.hbm.peak,
        peak_step=layout.hbm.peak_step,
        lower_bound=layout.hbm.lower_bound,
        lower_bound_method=layout.hbm.lower_bound_method,
    )
    places = _on_host(layout)
    return hbm, *(
        _outside(tier, [place for place in places if place.tier is Tier(tier.name)], len(layout.schedule.start_ns))
        for tier in layout.used_tiers
    )


def _outside(tier: HostTier, places: Sequence[Placement], steps: int) -> TierUse:
    kept, change = 0, [0] * (steps + 1)
    for place in places:
        change[place.start] += place.size
        change[place.end] -= place.size
        kept += place.size if (place.start, place.end) == (0, steps) else 0
    on_host = list(accumulate(change))
    return TierUse(
        tier=Tier(tier.name),
        capacity=tier.capacity,
        reserved=0,
        persistent=kept,
        peak=max(on_host),
        peak_step=on_host.index(max(on_host)),
        lower_bound=max(on_host),
        lower_bound_method="every moved tensor keeps its place there",
    )


def link_records(layout: MemoryLayout) -> tuple[LinkUse, ...]:
    """The links that are used; none where nothing moves."""
    found: list[LinkUse] = []
    for tier in layout.used_tiers:
        outside = Tier(tier.name)
        found += [_link_use(tier.out_link, Tier.HBM, outside), _link_use(tier.in_link, outside, Tier.HBM)]
    return tuple(found)


def _link_use(link: Link, from_tier: Tier, to_tier: Tier) -> LinkUse:
    return LinkUse(
        name=link.name,
        bytes_per_second=float(link.bytes_per_second or 0),
        latency_ns=link.latency_ns or 0,
        source=Source(link.source, link.note),
        from_tier=from_tier,
        to_tier=to_tier,
    )
