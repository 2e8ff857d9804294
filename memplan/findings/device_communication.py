"""Communications of a rank as its device ran them, each with the part that moved bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memplan.core.intervals import Intervals, interval_total, interval_union, intervals_within
from memplan.traces.profile import CommunicationTime, Kernels, TrackKind
from memplan.traces.rank import RankProfile

_SEND_RECEIVE = re.compile(r"send|recv|receive", re.IGNORECASE)
_MOVES = re.compile(r"memcpy|reduce_inline|rdma_?send|reduce_async|sdma", re.IGNORECASE)
"""Tasks on the planes of a communication that move bytes; others wait or tell."""


@dataclass(frozen=True, slots=True)
class DeviceCommunication:
    """
    One communication on the device; `transfer_ns` is how much of it moved bytes, `None` where nothing tells.

    `peer_to_peer` is a send, a receive or both. `told` is what the profiler's own analysis says of it.
    """

    name: str
    start_ns: int
    end_ns: int
    peer_to_peer: bool
    transfer_ns: int | None
    told: CommunicationTime | None


def device_communications(
    rank: RankProfile, kernels: Kernels, rows: NDArray[np.bool_], told: Sequence[CommunicationTime]
) -> list[DeviceCommunication]:
    """Communications by the kernel table, else by the profiler's analysis; by the trace where neither has any."""
    by_name: dict[str, list[CommunicationTime]] = {}
    for one in told:
        by_name.setdefault(one.op, []).append(one)
    links = _link_times(rank)
    chosen = np.flatnonzero(rows).tolist()
    found = []
    for row in chosen:
        start, name = int(kernels.start_ns[row]), kernels.name[row]
        near = min(by_name.get(name, ()), key=lambda one: abs(one.start_ns - start), default=None)
        found.append(device_communication(name, start, start + int(kernels.duration_ns[row]), near, links))
    if not chosen:
        found = [device_communication(one.op, one.start_ns, one.end_ns, one, links) for one in told]
    if not found:
        found = traced_communications(rank)
    return sorted(found, key=lambda one: one.start_ns)


def traced_communications(rank: RankProfile) -> list[DeviceCommunication]:
    """Communications of the trace; the tasks on their planes, where it has these, tell when bytes moved."""
    found = []
    moving = _on_planes(rank)
    for track in rank.tracks:
        if track.kind is TrackKind.COMMUNICATION and "plane" not in track.thread.casefold():
            slices = rank.slices(track.id)
            for start, length, name in zip(
                slices.start_ns.tolist(), slices.duration_ns.tolist(), slices.name.tolist(), strict=True
            ):
                one = device_communication(slices.names[name], start, start + length, None, {})
                if moving is not None:
                    inside = intervals_within(moving, start, start + length)
                    one = replace(one, transfer_ns=interval_total(*inside))
                found.append(one)
    return found


def device_communication(
    name: str, start: int, end: int, told: CommunicationTime | None, links: Mapping[str, int]
) -> DeviceCommunication:
    """
    One communication with the part of it that moved bytes.

    That is the profiler's own transit time; where it is left 0 although bytes moved, the longest time of any one link
    of the op, else the times of all packets, which is exact for one link and too much for several.
    """
    transfer: int | None = None
    if told is not None:
        packets = sum(packet.duration_ns for packet in told.packets)
        transfer = told.transit_ns or links.get(name, 0) or packets
        transfer = min(transfer, end - start)
    peer = told.peer_to_peer if told is not None else bool(_SEND_RECEIVE.search(name))
    return DeviceCommunication(name, start, end, peer, transfer, told)


def _link_times(rank: RankProfile) -> dict[str, int]:
    """The longest time that any one link was busy in a communication, by its name."""
    found: dict[str, int] = {}
    for use in rank.links():
        if use.single and use.source != use.target:
            found[use.single] = max(found.get(use.single, 0), use.duration_ns)
    return found


def _on_planes(rank: RankProfile) -> Intervals | None:
    """When any plane of the communications moved bytes; `None` where the trace shows no tasks on planes."""
    starts, ends = [], []
    for track in rank.tracks:
        if track.kind is TrackKind.COMMUNICATION and "plane" in track.thread.casefold() and track.count:
            slices = rank.slices(track.id)
            moves = [code for code in np.unique(slices.name).tolist() if _MOVES.search(slices.names[code])]
            rows = np.isin(slices.name, moves)
            starts.append(slices.start_ns[rows])
            ends.append(slices.start_ns[rows] + slices.duration_ns[rows])
    return interval_union(np.concatenate(starts), np.concatenate(ends)) if starts else None
