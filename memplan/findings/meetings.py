"""Communications of several ranks put together: who came when, on clocks that their common ends align."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from memplan.findings.exposed_communication import ExposedCommunication


@dataclass(frozen=True, slots=True)
class Meeting:
    """
    One communication as each rank that was profiled ran it.

    `place` is its row in `exposed` of each rank; `start_ns` and `end_ns` are on the clock of the first rank. `step` is
    `None` where the profile tells none.
    """

    step: int | None
    group: str
    op: str
    peer_to_peer: bool
    place: Mapping[int, int]
    start_ns: Mapping[int, int]
    end_ns: Mapping[int, int]

    @property
    def last(self) -> int:
        """The rank that came last."""
        return max(self.start_ns, key=lambda rank: self.start_ns[rank])

    @property
    def lag_ns(self) -> int:
        """How much later the last rank came than the one before it."""
        order = sorted(self.start_ns.values())
        return order[-1] - order[-2]


@dataclass(frozen=True, slots=True)
class Meetings:
    """
    All communications that two and more profiled ranks ran together.

    `offset_ns` is how much later each rank's clock shows the ends of what it ran with others than the first rank's;
    ranks that never meet, even through others, have 0. `residual_ns` is the median spread of the aligned ends.
    """

    all: Sequence[Meeting]
    offset_ns: Mapping[int, int]
    residual_ns: int


def meetings_of(exposed: Mapping[int, Sequence[ExposedCommunication]]) -> Meetings:
    """
    The meetings of the ranks of a job, by their communications.

    Communications of one name in one communicator and step are one on all ranks, the n-th with the n-th. A
    communication ends on all its ranks at once: ends align the clocks. Names without a communicator don't tell that
    ranks met.
    """
    together: dict[tuple[int | None, str, str, int], dict[int, int]] = {}
    for rank, ran in exposed.items():
        count: dict[tuple[int | None, str, str], int] = {}
        for place, one in enumerate(ran):
            told = one.communication.told
            if told is None or not told.group:
                continue
            key = (told.step, told.group, told.op)
            count[key] = count.get(key, -1) + 1
            together.setdefault((*key, count[key]), {})[rank] = place
    shared = {key: met for key, met in together.items() if len(met) > 1}
    ends = [{rank: exposed[rank][place].communication.end_ns for rank, place in met.items()} for met in shared.values()]
    offsets = clock_offsets(ends, list(exposed))
    spreads = []
    for met_ends in ends:
        aligned = [end - offsets[rank] for rank, end in met_ends.items()]
        spreads.append(max(aligned) - min(aligned))
    found = []
    for (step, group, op, _), met in shared.items():
        ran_together = {rank: exposed[rank][place].communication for rank, place in met.items()}
        found.append(
            Meeting(
                step, group, op, any(one.peer_to_peer for one in ran_together.values()), met,
                {rank: one.start_ns - offsets[rank] for rank, one in ran_together.items()},
                {rank: one.end_ns - offsets[rank] for rank, one in ran_together.items()},
            )
        )  # fmt: skip
    return Meetings(found, offsets, round(median(spreads)) if spreads else 0)


def clock_offsets(ends: Sequence[Mapping[int, int]], ranks: Sequence[int]) -> dict[int, int]:
    """
    How much later each rank's clock shows common ends than the first one's, ns: medians over what they ran together.

    Ranks that never met the first one are aligned through ranks that did.
    """
    gaps: dict[tuple[int, int], list[int]] = {}
    for met in ends:
        first = min(met)
        for rank, end in met.items():
            if rank != first:
                gaps.setdefault((first, rank), []).append(end - met[first])
    beside: dict[int, dict[int, int]] = {}
    for (first, rank), found in gaps.items():
        gap = round(median(found))
        beside.setdefault(first, {})[rank] = gap
        beside.setdefault(rank, {})[first] = -gap
    offsets: dict[int, int] = {}
    for root in ranks:
        if root in offsets:
            continue
        offsets[root] = 0
        waiting = [root]
        while waiting:
            known = waiting.pop(0)
            for rank, gap in beside.get(known, {}).items():
                if rank not in offsets:
                    offsets[rank] = offsets[known] + gap
                    waiting.append(rank)
    return offsets
