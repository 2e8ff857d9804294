"""Traffic over the links of a job, summed up between global ranks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from memplan.traces.parallel_groups import ParallelGroups
from memplan.traces.profile import LinkTraffic

SMALLEST_USE = 10**6
"""Bytes; shorter messages measure latency and are left out of rates."""
SLOW_LINK = 0.05
"""From msprof-analyze: its rule for slow links flags a spread of 5 % of the mean."""
_CHOSEN = re.compile(r"(.*)-(?:top|middle|bottom|total)\d*")
_LOCAL = "LOCAL"


@dataclass(frozen=True, slots=True)
class LinkTotal:
    """All that went from global rank `source` to `target` over `transport`: bytes, and the ns that this took."""

    source: int
    target: int
    transport: str
    size: int
    duration_ns: int

    @property
    def bytes_per_second(self) -> float:
        """The mean rate."""
        return self.size / self.duration_ns * 1e9


def link_totals(
    uses: Mapping[int, Sequence[LinkTraffic]], groups: Mapping[int, ParallelGroups], smallest: int = SMALLEST_USE
) -> list[LinkTotal]:
    """
    Totals of the links between the ranks whose communication matrices `uses` holds by global rank.

    Messages of less than `smallest` bytes are left out.

    A matrix counts ranks inside each group: which ranks these are is told by every rank's copies to itself, by the
    groups of its metadata, or, where places and ranks are the same as far as is known, taken to be so throughout.
    Links to a rank that nothing tells are left out. Of a kind of communication the profiler's own total counts where
    there is one, else every single communication once.
    """
    members = _members(uses, groups)
    sums: dict[tuple[int, int, str], list[int]] = {}
    counted: set[tuple[object, ...]] = set()
    for own in uses.values():
        for use in _counted(own):
            ranks = members.get(_group(use), {})
            source, target = ranks.get(use.source), ranks.get(use.target)
            if source is None or target is None or source == target or use.duration_ns <= 0 or use.size < smallest:
                continue
            # Files that were gathered from all ranks hold the same uses once for every rank.
            key = (use.step, use.op, use.single, source, target, use.size, use.duration_ns)
            if key not in counted:
                counted.add(key)
                total = sums.setdefault((source, target, use.transport), [0, 0])
                total[0] += use.size
                total[1] += use.duration_ns
    return [LinkTotal(*ends, *total) for ends, total in sorted(sums.items())]


def _group(use: LinkTraffic) -> str:
    return use.op.partition("@")[2]


def _counted(uses: Sequence[LinkTraffic]) -> Iterator[LinkTraffic]:
    """The uses that add up: totals where the profiler made them, else each single communication over a link once."""
    kinds: dict[tuple[int | None, str, str], list[LinkTraffic]] = {}
    for use in uses:
        name = use.op.partition("@")[0]
        match = _CHOSEN.fullmatch(name)
        kinds.setdefault((use.step, match[1] if match else "", _group(use)), []).append(use)
    for (_, kind, _), mine in kinds.items():
        totals = [use for use in mine if use.op.partition("@")[0] == f"{kind}-total"]
        if not kind or totals:
            yield from totals if kind else mine
            continue
        once: dict[tuple[object, ...], LinkTraffic] = {}
        for use in mine:
            once.setdefault((use.source, use.target, use.single or (use.size, use.duration_ns)), use)
        yield from once.values()


def _members(
    uses: Mapping[int, Sequence[LinkTraffic]], groups: Mapping[int, ParallelGroups]
) -> dict[str, dict[int, int]]:
    """The global rank at each place of each group, as far as it is known."""
    places: dict[str, dict[int, int]] = {}
    seen: dict[str, set[int]] = {}
    takers: dict[str, set[int]] = {}
    for rank, own in uses.items():
        for use in own:
            group = _group(use)
            seen.setdefault(group, set()).update((use.source, use.target))
            takers.setdefault(group, set()).add(rank)
            if use.transport == _LOCAL and use.source == use.target:
                places.setdefault(group, {})[use.source] = rank
    watched = {rank for rank, own in uses.items() if own}
    found = {}
    for group, inside in seen.items():
        known = places.get(group, {})
        told = _of_metadata(group, known, max(inside), takers[group], watched, groups)
        if told is not None:
            found[group] = dict(enumerate(told))
        elif all(place == rank for place, rank in known.items()) and not inside <= known.keys():
            found[group] = {place: place for place in inside}
        else:
            found[group] = known
    return found


def _of_metadata(
    group: str,
    known: Mapping[int, int],
    highest: int,
    takers: set[int],
    watched: set[int],
    groups: Mapping[int, ParallelGroups],
) -> tuple[int, ...] | None:
    """
    The ranks of `group`, where the metadata of one of its ranks leaves only one possibility.

    Ids there are not always those of the matrix. A group of the metadata is possible if it has a place for every rank
    that is seen, the known ones where they are, and no rank that was watched and took no part.
    """
    possible: set[tuple[int, ...]] = set()
    for rank in takers:
        for one in groups.get(rank, ParallelGroups()).groups:
            if one.id == group:
                return one.ranks
            fits = all(place < len(one.ranks) and one.ranks[place] == member for place, member in known.items())
            if fits and highest < len(one.ranks) and takers == watched & set(one.ranks):
                possible.add(one.ranks)
    return possible.pop() if len(possible) == 1 else None


def slower_links(links: Sequence[LinkTotal], threshold: float = SLOW_LINK) -> list[tuple[LinkTotal, float]]:
    """Links slower than the mean of their transport by more than `threshold` of it, with their share; worst first."""
    found = []
    for transport in {link.transport for link in links}:
        peers = [link for link in links if link.transport == transport]
        average = mean(link.bytes_per_second for link in peers)
        found += [(link, share) for link in peers if (share := link.bytes_per_second / average) < 1 - threshold]
    return sorted(found, key=lambda entry: (entry[1], entry[0].source, entry[0].target))
