"""How long each communication of a rank took and waited: `communication.json`. Its MB are 10⁶ bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memplan.core.sentence import Sentence
from memplan.traces.decimals import scaled
from memplan.traces.notes import Notebook
from memplan.traces.profile import CommunicationTime, PacketTraffic
from memplan.traces.rank_links import communication_documents, step_told

_MB, _MS = 10**6, 10**6
_BANDWIDTH = "Communication Bandwidth Info"
_OF_ENTRY = {"Communication Time Info", _BANDWIDTH}
_NUMBERS_OF_OP = re.compile(r"(?:_+\d+)+$")
_TRANSPORTS = ("RDMA", "HCCS", "PCIE", "SIO", "UB")
"""Of the entries of a bandwidth table; `SDMA` is the sum of those that the copy engine serves."""


def read_communication_times(paths: Sequence[Path], notes: Notebook) -> list[CommunicationTime]:
    """The communications that `communication.json` files tell of, in order of start; sums over ops are left out."""
    found: list[CommunicationTime] = []
    for path, value in communication_documents(paths, notes):
        if _placed(value) < path.read_bytes().count(b'"Communication Time Info"'):
            notes.add(path, "holds more communications than stand where they belong")
        found.extend(_told(value, path, notes))
    return sorted(found, key=lambda one: (one.start_ns, one.op))


@dataclass(frozen=True, slots=True)
class CommunicationTotal:
    """
    All communications of one type: how many, their time, that of moving and of waiting in it, and their bytes.

    `transit_ns` is `None` where the profiler left it 0 though bytes were moved.
    """

    type: str
    count: int
    elapsed_ns: int
    transit_ns: int | None
    wait_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class TransportTotal:
    """All that went over one kind of link: bytes, and the time of its packets summed over links."""

    transport: str
    size: int
    duration_ns: int

    @property
    def bytes_per_second(self) -> float | None:
        """The mean rate of one link while it moves bytes."""
        return self.size * 1e9 / self.duration_ns if self.duration_ns else None


def communication_totals(told: Iterable[CommunicationTime]) -> list[CommunicationTotal]:
    """Totals by type, longest first; the type is the op's name without the numbers at its end."""
    found: dict[str, CommunicationTotal] = {}
    for one in told:
        name = _NUMBERS_OF_OP.sub("", one.op)
        before = found.get(name, CommunicationTotal(name, 0, 0, 0, 0, 0))
        untold = before.transit_ns is None or (one.size and not one.transit_ns)
        found[name] = CommunicationTotal(
            name,
            before.count + 1,
            before.elapsed_ns + one.elapsed_ns,
            None if untold else (before.transit_ns or 0) + one.transit_ns,
            before.wait_ns + one.wait_ns,
            before.size + one.size,
        )
    return sorted(found.values(), key=lambda total: (-total.elapsed_ns, total.type))


def transport_totals(told: Iterable[CommunicationTime]) -> list[TransportTotal]:
    """Totals by kind of link, most bytes first."""
    found: dict[str, TransportTotal] = {}
    for packet in (packet for one in told for packet in one.packets):
        before = found.get(packet.transport, TransportTotal(packet.transport, 0, 0))
        found[packet.transport] = TransportTotal(
            packet.transport, before.size + packet.size, before.duration_ns + packet.duration_ns
        )
    return sorted(found.values(), key=lambda total: (-total.size, total.transport))


def _placed(value: object) -> int:
    """How many communications, and sums over them, stand where they belong."""
    entries = (
        entry for _, kinds in _members(value) for _, ops in _members(kinds) for _, entry in _members(ops)
    )  # fmt: skip
    return sum(isinstance(entry, dict) and "Communication Time Info" in entry for entry in entries)


def _told(value: object, path: Path, notes: Notebook) -> Iterator[CommunicationTime]:
    for step_name, kinds in _members(value):
        step = step_told(step_name)
        for kind, ops in _members(kinds):
            for name, entry in _members(ops):
                if name == "Total Op Info":
                    continue
                times = entry.get("Communication Time Info") if isinstance(entry, dict) else None
                links = entry.get(_BANDWIDTH) if isinstance(entry, dict) else None
                if isinstance(entry, dict) and (others := entry.keys() - _OF_ENTRY):
                    notes.add(
                        path, Sentence("{}: unknown entries, the first {!r}, are not read", (name, min(others)[:40]))
                    )
                one = communication_time(step, kind, name, times, links)
                if one is None:
                    notes.add(path, Sentence("{}: no usable start and time; skipped", (name,)))
                else:
                    yield one


def read_cluster_communications(paths: Sequence[Path], notes: Notebook) -> dict[int, list[CommunicationTime]]:
    """
    The communications that `cluster_communication.json` files tell of, by rank, in order of start.

    The file nests kind or group of ranks, step, op and rank; what a rank says is as in its own `communication.json`.
    """
    found: dict[int, list[CommunicationTime]] = {}
    for path, value in communication_documents(paths, notes):
        for kind, steps in _members(value):
            for step_name, ops in _members(steps):
                for name, ranks in _members(ops):
                    for rank, entry in _members(ranks) if name != "Total Op Info" else ():
                        times, links = _member(entry, "Communication Time Info"), _member(entry, _BANDWIDTH)
                        one = communication_time(step_told(step_name), kind, name, times, links)
                        if one is None or not rank.isascii() or not rank.isdigit() or len(rank) > 7:
                            notes.add(path, Sentence("{}: no usable rank, start and time; skipped", (name[:80],)))
                        else:
                            found.setdefault(int(rank), []).append(one)
    return {rank: sorted(told, key=lambda one: (one.start_ns, one.op)) for rank, told in found.items()}


def communication_time(
    step: int | None, kind: str, name: str, times: object, links: object
) -> CommunicationTime | None:
    """One communication from its times in ms and its traffic in MB; `None` where its start or length is no number."""
    told = times if isinstance(times, Mapping) else {}
    start = scaled(str(told.get("Start Timestamp(us)", "")), 1000)
    elapsed = scaled(str(told.get("Elapse Time(ms)", "")), _MS)
    if start is None or elapsed is None or elapsed < 0:
        return None
    op, _, group = name.partition("@")
    return CommunicationTime(
        step=step,
        op=op,
        group=group,
        peer_to_peer=kind == "p2p",
        start_ns=start,
        elapsed_ns=elapsed,
        transit_ns=_ns(told.get("Transit Time(ms)")),
        wait_ns=_ns(told.get("Wait Time(ms)")),
        synchronisation_ns=_ns(told.get("Synchronization Time(ms)")),
        packets=tuple(_packets(links)),
    )


def _packets(links: object) -> Iterator[PacketTraffic]:
    """Traffic by transport and size of packet; one entry without a packet size where the file has no distribution."""
    for transport, told in _members(links):
        size, time = _bytes(_member(told, "Transit Size(MB)")), _ns(_member(told, "Transit Time(ms)"))
        if transport not in _TRANSPORTS or not size:
            continue
        sizes = list(_members(_member(told, "Size Distribution")))
        for packet, counted in sizes:
            if isinstance(counted, list) and len(counted) == 2:
                count = scaled(str(counted[0]), 1) or 0
                yield PacketTraffic(transport, (_bytes(packet) or 0) * count, _ns(counted[1]), count)
        if not sizes:
            yield PacketTraffic(transport, size, time, None)


def _ns(value: object) -> int:
    return max(scaled(str(value), _MS) or 0, 0)


def _bytes(value: object) -> int:
    return max(scaled(str(value), _MB) or 0, 0)


def _member(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _members(value: object) -> Iterator[tuple[str, object]]:
    return iter(value.items()) if isinstance(value, dict) else iter(())
