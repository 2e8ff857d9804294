"""
An engine simulated step by step: requests arrive at random, prompts are read in chunks beside what is decoded.

Nothing of `memplan.deployment` is used: steps last `base + each x sequences + token x tokens read` milliseconds, those
that read no less than `launched`.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SimulatedService:
    """`groups` of `ranks`, which step together where they are `locked`; prompts are drawn from `prompts`."""

    rate: float
    prompts: tuple[int, ...]
    answer: int
    chunk: int
    groups: int = 1
    ranks: int = 1
    locked: bool = False
    base: float = 20.0
    each: float = 0.2
    token: float = 0.08
    launched: float = 0.0


@dataclass(slots=True)
class _Rank:
    queue: list[list[float]] = field(default_factory=list)
    running: list[list[float]] = field(default_factory=list)


def simulate(asked: SimulatedService, requests: int, seed: int = 1) -> tuple[list[float], list[float], float]:
    """
    Milliseconds to the first token and a token, sorted, the first tenth left out, and the mean of sequences at once on
    a rank in the middle of the run.
    """
    draw = random.Random(seed)
    time, arrivals = 0.0, []
    for _ in range(requests):
        time += draw.expovariate(asked.rate) * 1e3
        arrivals.append((time, draw.choice(asked.prompts)))
    ranks = [_Rank() for _ in range(asked.groups * asked.ranks)]
    size = asked.ranks if asked.locked else 1
    together = [ranks[start : start + size] for start in range(0, len(ranks), size)]
    first: list[float] = []
    each: list[float] = []
    held = lasted = 0.0
    due = [(0.0, number) for number in range(len(together))]
    heapq.heapify(due)
    come = 0
    while len(each) < requests:
        now, number = heapq.heappop(due)
        while come < requests and arrivals[come][0] <= now:
            rank = min(ranks, key=lambda item: (sum(one[1] for one in item.queue), len(item.running)))
            rank.queue.append(list(arrivals[come]))
            come += 1
        read = [_read(rank, asked.chunk) for rank in together[number]]
        most = max(len(rank.running) for rank in together[number])
        tokens = max(found for found, _ in read)
        if not most and not tokens:
            heapq.heappush(due, (max(now + 0.01, arrivals[come][0] if come < requests else now), number))
            continue
        lasting = asked.base + asked.each * max(most, 1) + asked.token * tokens
        end = now + (max(lasting, asked.launched) if tokens else lasting)
        for rank, (_, done) in zip(together[number], read, strict=True):
            if requests // 5 < len(each) < requests * 4 // 5:
                held, lasted = held + len(rank.running) * (end - now), lasted + end - now
            each += [(end - start) / asked.answer for start, made in rank.running if made + 1 >= asked.answer]
            rank.running = [[start, made + 1] for start, made in rank.running if made + 1 < asked.answer]
            first += [end - start for start in done]
            rank.running += [[end, 0] for _ in done]
        heapq.heappush(due, (end, number))
    skipped = requests // 10
    return sorted(first[skipped:]), sorted(each[skipped:]), held / lasted


def _read(rank: _Rank, chunk: int) -> tuple[float, list[float]]:
    """Tokens of prompts read in a step, and when the requests had come whose prompts are done."""
    left, done = float(chunk), []
    while rank.queue and left:
        taken = min(left, rank.queue[0][1])
        rank.queue[0][1] -= taken
        left -= taken
        if not rank.queue[0][1]:
            done.append(rank.queue.pop(0)[0])
    return chunk - left, done
