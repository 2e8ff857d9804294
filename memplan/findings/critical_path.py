"""The critical path of a job: the chain of work and waiting, over streams and ranks, that its length is made of."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.intervals import Intervals, interval_difference, interval_intersection, interval_total, interval_union
from memplan.findings.claims import BUBBLE, COMPUTING, COPYING, TRANSFER, WAITING, Taken, idle_part
from memplan.findings.device_nodes import DeviceNodes, NodeKind, device_nodes
from memplan.findings.exposed_communication import ExposedCommunication
from memplan.findings.finding import threshold
from memplan.findings.meetings import Meetings
from memplan.findings.rank_case import RankCase
from memplan.findings.step_breakdown import idle_by_cause

HOST_BEHIND, NOT_SEEN = "host, while the device works", "what the profile doesn't show"


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """
    What the path is made of, ns: `parts` by rank and part of a step (the names of `claims`, idle time by cause, and
    what belongs to no part); they add up to `length_ns`. `kernels` are the places of computing kernels on it, by rank.
    """

    length_ns: int
    parts: Mapping[int, Mapping[str, int]]
    kernels: Mapping[int, Int64s]

    @property
    def composition(self) -> Mapping[str, int]:
        """Parts over all ranks, the largest first."""
        sums: dict[str, int] = {}
        for parts in self.parts.values():
            for part, length in parts.items():
                sums[part] = sums.get(part, 0) + length
        return dict(sorted(sums.items(), key=lambda entry: -entry[1]))

    def share_of(self, rank: int, taken: Taken, case: RankCase, total_ns: int) -> float:
        """How much of what a finding claimed lies on the path: exactly for kernels, by its part of `total_ns` else."""
        if taken.rows is not None and case.kernels is not None:
            length = case.kernels.duration_ns[case.computing_rows]
            on_path = np.isin(taken.rows, self.kernels.get(rank, np.empty(0, dtype=np.int64)))
            whole = float(length[taken.rows].sum())
            return float(length[taken.rows[on_path]].sum()) / whole if whole else 0.0
        return min(self.parts.get(rank, {}).get(taken.part, 0) / total_ns, 1.0) if total_ns else 0.0


def critical_path(
    cases: Mapping[int, RankCase], exposed: Mapping[int, Sequence[ExposedCommunication]], meetings: Meetings
) -> CriticalPath | None:
    """
    The path back from what ends last; `None` where no rank has anything in time.

    A communication that several ranks ran together begins for the path when the last of them is there, and the path
    goes on with what that one waited for.
    """
    timed = {rank: case for rank, case in cases.items() if len(case.computing[0])}
    if not timed:
        return None
    ends = {rank: _end(case) - meetings.offset_ns.get(rank, 0) for rank, case in timed.items()}
    walk = _Walk(cases, meetings)
    walk.from_end_of(max(ends, key=lambda number: ends[number]))
    parts: dict[int, dict[str, int]] = {}
    kernels: dict[int, Int64s] = {}
    for rank, chain in walk.chains.items():
        parts[rank], kernels[rank] = _summed(cases[rank], exposed[rank], chain)
    return CriticalPath(sum(sum(found.values()) for found in parts.values()), parts, kernels)


def _end(case: RankCase) -> int:
    return max(int(case.computing[1][-1]), *(one.end_ns for one in case.communications), 0)


@dataclass(slots=True)
class _Chain:
    """
    The nodes of a rank, as views too, which are walked faster; and what of them the walk has passed.

    `passed` are kernels and copies, `met` communications by their row with the time in them; where the path left the
    rank's communications backwards is `resumed`.
    """

    nodes: DeviceNodes
    kind: memoryview
    before: memoryview
    row: memoryview
    of_communication: Mapping[int, int]
    passed: array[int] = field(default_factory=lambda: array("q"))
    met: list[tuple[int, int]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)


def _chain_of(case: RankCase) -> _Chain:
    nodes = device_nodes(case)
    met = np.flatnonzero(nodes.kind == NodeKind.COMMUNICATION).tolist()
    # The path begins with the first step.
    inside = (nodes.before >= 0) & (nodes.start_ns[nodes.before] >= _begin(case, nodes))
    before = np.where(inside, nodes.before, -1)
    rows = nodes.row.data
    return _Chain(replace(nodes, before=before), nodes.kind.data, before.data, rows, {rows[node]: node for node in met})


def _begin(case: RankCase, nodes: DeviceNodes) -> int:
    return case.windows[0].start_ns if case.windows else int(nodes.start_ns[0])


class _Walk:
    """The walk back from node to node; chains of ranks are made when it first comes to them."""

    def __init__(self, cases: Mapping[int, RankCase], meetings: Meetings) -> None:
        self._cases = cases
        self._met = {(rank, place): one for one in meetings.all for rank, place in one.place.items()}
        self.chains: dict[int, _Chain] = {}

    def chain(self, rank: int) -> _Chain:
        """The chain of `rank`."""
        if rank not in self.chains:
            self.chains[rank] = _chain_of(self._cases[rank])
        return self.chains[rank]

    def from_end_of(self, rank: int) -> None:
        """Walk the path back from what ends last on `rank`."""
        node = int(self.chain(rank).nodes.end_ns.argmax())
        while node >= 0:
            node = _kernels_back(self.chain(rank), node)
            if node >= 0:
                rank, node = self._meet(rank, node)
                chain = self.chain(rank)
                chain.resumed.append(node)
                node = chain.before[node]

    def _meet(self, rank: int, node: int) -> tuple[int, int]:
        """Pass a communication; that of the rank which came last to it, where the path goes on."""
        chain = self.chain(rank)
        row = chain.row[node]
        length = int(chain.nodes.end_ns[node] - chain.nodes.start_ns[node])
        meeting = self._met.get((rank, row))
        last = rank if meeting is None else meeting.last
        lag = 0 if meeting is None else meeting.start_ns[last] - meeting.start_ns[rank]
        if meeting is None or lag <= threshold("stream_gap_ns"):
            chain.met.append((row, length))
            return rank, node
        chain.met.append((row, max(length - lag, 0)))
        other = self.chain(last).of_communication.get(meeting.place[last])
        return (rank, node) if other is None else (last, other)


def _kernels_back(chain: _Chain, node: int) -> int:
    """Pass kernels and copies back to a communication, which is returned; -1 where the path begins."""
    kind, before, passed = chain.kind, chain.before, chain.passed
    communication = NodeKind.COMMUNICATION.value
    while node >= 0 and kind[node] != communication:
        passed.append(node)
        node = before[node]
    return node


def _summed(case: RankCase, exposed: Sequence[ExposedCommunication], chain: _Chain) -> tuple[dict[str, int], Int64s]:
    """What the path is made of on one rank, and the computing kernels that it passes."""
    nodes, passed = chain.nodes, np.sort(np.array(chain.passed, dtype=np.int64))
    length = nodes.end_ns[passed] - nodes.start_ns[passed]
    computing = nodes.kind[passed] == NodeKind.KERNEL
    found: dict[str, int] = {COMPUTING: int(length[computing].sum()), COPYING: int(length[~computing].sum())}

    def add(part: str, length: int) -> None:
        found[part] = found.get(part, 0) + length

    for row, spent in chain.met:
        one = exposed[row]
        moving = 0 if one.is_bubble else min(one.communication.transfer_ns or 0, spent)
        add(TRANSFER, moving)
        add(BUBBLE if one.is_bubble else WAITING, spent - moving)
    left = np.concatenate([passed, np.array(chain.resumed, dtype=np.int64)])
    before = nodes.before[left]
    begin = _begin(case, nodes)
    since = np.where(before >= 0, nodes.end_ns[before], np.minimum(begin, nodes.start_ns[left]))
    for part, spent in _gap_parts(case, interval_union(since, nodes.start_ns[left])).items():
        add(part, spent)
    return {part: spent for part, spent in found.items() if spent > 0}, nodes.row[passed[computing]]


def _gap_parts(case: RankCase, gaps: Intervals) -> dict[str, int]:
    """The gaps of one rank by why its device was idle; where it was not, the host alone was behind."""
    if not case.windows:
        return {NOT_SEEN: interval_total(*gaps)}
    found = {}
    for cause, idle in idle_by_cause(case).items():
        part = interval_intersection(gaps, idle)
        found[idle_part(cause)] = interval_total(*part)
        gaps = interval_difference(gaps, part)
    found[HOST_BEHIND] = interval_total(*gaps)
    return found
