"""
How much of the prompts of some traffic a prefix cache of given tiers holds when they arrive.

Blocks stand in the order of their last use (LRU), the newest in the first tier; what a tier has no room for moves to
the next, and what the last has no room for is lost. A hit is the longest run of blocks from the prompt's start that are
held. Later blocks of a prompt are dropped before earlier ones, as vLLM frees them (v1/core/kv_cache_manager.py: in
reverse order), and the last token of a prompt is always computed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.traffic.arrivals import MOONCAKE_BLOCK, Arrival

_MOST_BLOCKS = 20_000_000
"""Blocks that an unlimited tier may hold before it is given up: about 2 GB of this process."""
_LENGTH_STEP = 64
"""Lengths are counted to this many tokens, so that their table stays small whatever the traffic."""


@dataclass(frozen=True, slots=True)
class CacheTier:
    """A tier of a prefix cache and the tokens it holds, `None` for as many as come."""

    name: str
    tokens: int | None


@dataclass(frozen=True, slots=True)
class TierHits:
    """Of a tier: tokens of prompts found in it, and requests of which some were."""

    tier: CacheTier
    tokens: int
    requests: int


@dataclass(frozen=True, slots=True)
class PrefixHits:
    """
    What came of some traffic: `requests` in `span_ns` from the first to the last, tokens in all, and hits by tier.

    `computed` counts requests by the tokens of their prompts that no tier had, `made` by the tokens of their answers,
    both rounded up to 64; `busiest` are the most requests of any minute, `longest` the most tokens of a prompt and its
    answer, and `unmarked` requests have no hashes.
    """

    requests: int
    span_ns: int
    busiest: int
    input_tokens: int
    output_tokens: int
    tiers: tuple[TierHits, ...]
    computed: dict[int, int]
    made: dict[int, int]
    longest: int
    unmarked: int

    @property
    def rate(self) -> float | None:
        """Requests a second, `None` where all arrive at once."""
        return (self.requests - 1) / self.span_ns * 1e9 if self.span_ns else None


class _Store:
    """Blocks by their last use in tiers of so many blocks each."""

    def __init__(self, rooms: Sequence[int | None]) -> None:
        self.rooms = rooms
        self.held: list[OrderedDict[int, None]] = [OrderedDict() for _ in rooms]

    def place(self, block: int) -> int | None:
        """The tier that has `block`."""
        for number, held in enumerate(self.held):
            if block in held:
                return number
        return None

    def use(self, block: int) -> None:
        """Make `block` the newest; what has no room moves on."""
        newest = self.held[0]
        if block in newest:
            newest.move_to_end(block)
            return
        found = self.place(block)
        if found is not None:
            del self.held[found][block]
        moving = block
        for room, held in zip(self.rooms, self.held, strict=True):
            held[moving] = None
            if room is None or len(held) <= room:
                if room is None and len(held) > _MOST_BLOCKS:
                    raise InputError(
                        f"more than {_MOST_BLOCKS:,} different blocks", remedy="give every tier a size, or a part of it"
                    )
                return
            moving, _ = held.popitem(last=False)


def prefix_hits(
    arrivals: Iterable[Arrival],
    tiers: Sequence[CacheTier],
    *,
    block: int = MOONCAKE_BLOCK,
    granularity: int = 1,
    progress: Progress = silent,
) -> PrefixHits:
    """
    Hits of `arrivals` in `tiers`, the fastest first; hits are whole multiples of `granularity` tokens as well.

    `block` is how many tokens a hash stands for. Memory grows with the tiers' blocks, not with the traffic. Answers
    fill no blocks here, for traffic of hashed prompts doesn't say what they were.
    """
    store = _Store([None if tier.tokens is None else max(0, tier.tokens // block) for tier in tiers])
    tokens, requests = [0] * len(tiers), [0] * len(tiers)
    computed: Counter[int] = Counter()
    made: Counter[int] = Counter()
    count = total = answers = unmarked = longest = 0
    first = last = 0
    minute, in_minute, busiest = -1, 0, 0
    for count, item in enumerate(arrivals, 1):
        if count % 4096 == 0:
            progress(count, count, "requests")
        first = item.time_ns if count == 1 else min(first, item.time_ns)
        last = max(last, item.time_ns)
        if item.time_ns // 60_000_000_000 != minute:
            minute, in_minute = item.time_ns // 60_000_000_000, 0
        in_minute += 1
        busiest = max(busiest, in_minute)
        total, answers = total + item.input_tokens, answers + item.output_tokens
        longest = max(longest, item.input_tokens + item.output_tokens)
        unmarked += not item.blocks
        found = _run(store, item, block, granularity)
        for number, hit in enumerate(found):
            tokens[number] += hit
            requests[number] += hit > 0
        computed[_rounded(item.input_tokens - sum(found))] += 1
        made[_rounded(item.output_tokens)] += 1
        if tiers:
            for one in reversed(item.blocks):
                store.use(one)
    return PrefixHits(
        requests=count,
        span_ns=last - first,
        busiest=busiest,
        input_tokens=total,
        output_tokens=answers,
        tiers=tuple(TierHits(*each) for each in zip(tiers, tokens, requests, strict=True)),
        computed=dict(sorted(computed.items())),
        made=dict(sorted(made.items())),
        longest=longest,
        unmarked=unmarked,
    )


def _run(store: _Store, item: Arrival, block: int, granularity: int) -> list[int]:
    """Tokens found in each tier, from the start of the prompt up to the first block that none has."""
    most = (item.input_tokens - 1) // block
    places = []
    for one in item.blocks[:most]:
        place = store.place(one)
        if place is None:
            break
        places.append(place)
    found = [0] * len(store.rooms)
    left = len(places) * block // granularity * granularity
    for place in places:
        taken = min(block, left)
        found[place] += taken
        left -= taken
    return found


def _rounded(tokens: int) -> int:
    return -(-tokens // _LENGTH_STEP) * _LENGTH_STEP
