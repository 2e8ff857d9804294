"""How bytes move: small and unaligned packets, transfers beside computing that lose their rate, packets sent again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from memplan.core.intervals import interval_intersection, interval_total
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_rate, format_share
from memplan.findings.claims import TRANSFER
from memplan.findings.exposed_communication import ExposedCommunication
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.rank_case import NOTHING
from memplan.findings.rules.communication_rules import places_of
from memplan.traces.profile import PacketTraffic

_MOST, _FEWEST_ALIKE = 10, 3


def packet_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank's transfers; they go before those of exposed communication as a whole."""
    yield from _sent_again(job)
    for facts in job.ranks.values():
        # Neither size nor company explains what is slow once, nor size what is slow in company alone.
        irregular = _far_slower(facts)
        yield from _irregular(facts, irregular)
        told = {one.one.communication.start_ns for one in irregular}
        yield from _contended(facts, told)
        yield from _small_packets(facts, told)
        yield from _unaligned(facts)


def _packets(facts: RankFacts) -> list[PacketTraffic]:
    return [
        packet
        for one in facts.exposed
        if one.communication.told is not None
        for packet in one.communication.told.packets
        if packet.count
    ]


def _small_packets(facts: RankFacts, known: Set[int]) -> Iterator[Finding]:
    for transport, limit in (("SDMA", "small_packet_sdma_bytes"), ("RDMA", "small_packet_rdma_bytes")):
        mine = [one for one in _packets(facts) if (one.transport == "RDMA") == (transport == "RDMA")]
        least = threshold(limit)
        small = [one for one in mine if one.count and one.size / one.count < least]
        large = [one for one in mine if one.count and one.size / one.count >= least]
        moved = sum(one.size for one in mine)
        few = sum(one.size for one in small)
        number, among = sum(one.count or 0 for one in small), sum(one.count or 0 for one in mine)
        if not moved or not few or max(few / moved, number / among) < threshold("small_packet_share"):
            continue
        time = sum(one.duration_ns for one in small)
        cost = _small_packet_excess(facts, least, transport == "RDMA", large, known)
        worth = cost is not None and facts.worth(cost)
        yield Finding(
            kind="communication.small_packets",
            title=Sentence(
                "Small packets: {} of {} [packet|packets] over {} are smaller than {} MB and carry {} of the bytes",
                (f"{number:,}", f"{among:,}", transport, f"{least / 1e6:g}", format_share(few / moved)),
            ),
            rank=facts.case.rank,
            cost_ns=facts.claims.take(TRANSFER, cost or 0) if worth else None,
            cost_bytes=None,
            bound="the rate that the profile's own large packets reach" if large else "what copies over HCCS reach",
            formula="time of small packets less their bytes at the rate of large ones, as far as they, or what queues"
            " up behind them, are exposed",
            confidence=Confidence.DERIVED,
            places=(Place(ranks=(facts.case.rank,)),),
            evidence=(
                Evidence("bytes in small packets", few, "bytes"),
                Evidence("small packets", number, "count"),
                Evidence("all packets", among, "count"),
                Evidence("time on links", time, "ns"),
            ),
        )


def _small_packet_excess(
    facts: RankFacts, least: float, rdma: bool, large: list[PacketTraffic], known: Set[int]
) -> int | None:
    """
    How much shorter exposed transfers were at the rate of large packets, or what copies reach where there are none.

    Those that start at one of `known` are slow for another reason. `None` where neither rate is known: over RDMA it
    depends on the network.
    """
    if not large and rdma:
        return None
    rate = threshold("contention_rate") / 1e9
    if large:
        rate = sum(one.size for one in large) / max(sum(one.duration_ns for one in large), 1)

    def share(one: ExposedCommunication) -> float:
        told = one.communication.told if one.communication.start_ns not in known else None
        packets = [packet for packet in (told.packets if told else ()) if (packet.transport == "RDMA") == rdma]
        small = [packet for packet in packets if packet.count and packet.size / packet.count < least]
        excess = sum(max(packet.duration_ns - packet.size / rate, 0.0) for packet in small)
        return excess / max(sum(packet.duration_ns for packet in packets), 1)

    return _spared(facts, share)


def _spared(facts: RankFacts, share: Callable[[ExposedCommunication], float]) -> int:
    """
    How much less of a rank's transfers were exposed if each took a `share` of its time less, ns.

    Those of one kind that follow each other without a pause queue up for a link: what an early one takes less, those
    behind it start earlier, and so an exposed one gains from hidden ones before it. One of another kind need not have
    its bytes ready by then: gradients that are reduced wait for the link, weights that are gathered for the optimiser.
    """
    total = ahead = 0.0
    ended, before = 0, ""
    for one, waited in zip(facts.exposed, _awaited_transfers(facts), strict=True):
        ran = one.communication
        kind = ran.name.partition("__")[0]
        if kind != before or ran.start_ns > ended + threshold("stream_gap_ns"):
            ahead = 0.0
        ended, before = max(ended, ran.end_ns), kind
        ahead += (ran.transfer_ns or 0) * share(one)
        gained = min(waited, ahead)
        total, ahead = total + gained, ahead - gained
    return round(total)


def _awaited_transfers(facts: RankFacts) -> list[int]:
    """
    What of each exposed transfer computing waits for, ns.

    One that runs beside a full queue shows between its kernels too: these lie apart whether or not bytes move.
    """
    pieces = np.array([len(one.exposed[0]) for one in facts.exposed], dtype=np.int64)
    rows = np.repeat(np.arange(len(pieces)), pieces)
    start, end = (np.concatenate([NOTHING[side], *(one.exposed[side] for one in facts.exposed)]) for side in (0, 1))
    # Bytes move last; whatever is exposed lies in one gap between kernels.
    moves = np.array(
        [one.communication.end_ns - (one.communication.transfer_ns or 0) for one in facts.exposed], dtype=np.int64
    )
    began, went_on = facts.case.computing
    after = np.searchsorted(began, end, side="left")
    inner = (after > 0) & (after < len(began))
    gap = began[np.minimum(after, len(began) - 1)] - went_on[np.maximum(after - 1, 0)] if len(began) else end
    between = inner & (gap <= threshold("queue_gap_ns"))
    length = np.where(between, 0, np.maximum(end - np.maximum(start, moves[rows]), 0))
    found = np.bincount(rows, weights=length, minlength=len(facts.exposed)).astype(np.int64)
    known = np.array([one.transfer_ns or 0 for one in facts.exposed], dtype=np.int64)
    awaited: list[int] = np.minimum(found, known).tolist()
    return awaited


def _unaligned(facts: RankFacts) -> Iterator[Finding]:
    unit = int(threshold("alignment_bytes"))
    found = []
    for one in facts.exposed:
        told = one.communication.told
        packets = told.packets if told else ()
        if any(packet.count and packet.size // packet.count % unit for packet in packets):
            found.append(one)
    if found:
        yield Finding(
            kind="communication.unaligned",
            title=Sentence(
                "{} [communication moves|communications move] packets that are no multiples of {} B",
                (str(len(found)), str(unit)),
            ),
            rank=facts.case.rank,
            cost_ns=None,
            cost_bytes=None,
            bound="",
            formula=Sentence("size of a packet modulo {} is not 0", (unit,)),
            confidence=Confidence.ASSUMED,
            places=places_of(facts, found),
            evidence=tuple(Evidence("communication", one.communication.name) for one in found[:_MOST]),
        )


@dataclass(frozen=True, slots=True)
class _Moved:
    """A communication over what copy engines serve, within the server: bytes a second, and bytes of a packet."""

    one: ExposedCommunication
    rate: float
    packet: float


def _moved(one: ExposedCommunication) -> _Moved | None:
    """How `one` moved what it did within the server; `None` where it moved nothing there."""
    told = one.communication.told
    mine = [packet for packet in (told.packets if told else ()) if packet.transport != "RDMA"]
    time, size = sum(packet.duration_ns for packet in mine), sum(packet.size for packet in mine)
    count = sum(packet.count or 0 for packet in mine)
    return _Moved(one, size / time * 1e9, size / max(count, 1)) if time and size else None


def _contended(facts: RankFacts, known: Set[int]) -> Iterator[Finding]:
    """
    Transfers beside computing that are slower than those of the same profile without any, in packets no larger.

    Those that start at one of `known` are slow for another reason.
    """
    beside: list[_Moved] = []
    alone: list[_Moved] = []
    for one in facts.exposed:
        moved = None if one.communication.start_ns in known else _moved(one)
        if moved is None:
            continue
        span = (np.array([one.communication.start_ns]), np.array([one.communication.end_ns]))
        hidden = interval_total(*interval_intersection(span, facts.case.computing))
        length = one.communication.end_ns - one.communication.start_ns
        (beside if hidden >= length / 2 else alone).append(moved)
    # Small packets are slow by themselves: only what lonely ones of no more bytes reach says that it is the company.
    slow: list[tuple[_Moved, float]] = []
    for moved in beside:
        like = [other.rate for other in alone if other.packet <= moved.packet]
        usual = float(np.median(like)) if like else 0.0
        if moved.rate < min(threshold("contention_rate"), (1 - threshold("slow_link_share")) * usual):
            slow.append((moved, usual))
    if not slow:
        return
    share = {moved.one.communication.start_ns: 1 - moved.rate / usual for moved, usual in slow}
    lost = _spared(facts, lambda one: share.get(one.communication.start_ns, 0.0))
    lost = min(lost, facts.claims.left(TRANSFER))
    yield Finding(
        kind="communication.contention",
        title=Sentence(
            "{} [communication|communications] beside computing [moves|move] at {} and less, where others reach {}",
            (
                str(len(slow)),
                format_rate(max(moved.rate for moved, _ in slow)),
                format_rate(float(np.median([usual for _, usual in slow]))),
            ),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take(TRANSFER, lost) if facts.worth(lost) else None,
        cost_bytes=None,
        bound="the rate of communications in packets no larger, without computing beside them",
        formula="transfer x (1 - rate / usual rate), as far as they, or what queues up behind them, are exposed",
        confidence=Confidence.DERIVED,
        places=places_of(facts, [moved.one for moved, _ in slow]),
        evidence=tuple(Evidence(moved.one.communication.name, moved.rate, "B/s") for moved, _ in slow[:_MOST]),
    )


def _resent(one: ExposedCommunication) -> bool:
    """Whether it spends as long between servers as a network waits before it sends a packet again."""
    told = one.communication.told
    time = sum(packet.duration_ns for packet in (told.packets if told else ()) if packet.transport == "RDMA")
    return time >= threshold("retransmission_ns")


def _sent_again(job: JobCase) -> Iterator[Finding]:
    """Transfers between servers that take as long as a network waits before it sends a packet again."""
    least = threshold("retransmission_ns")
    for facts in job.ranks.values():
        found = [one for one in facts.exposed if _resent(one)]
        if not found:
            continue
        total = sum(one.transfer_ns or 0 for one in found)
        yield Finding(
            kind="link.retransmission",
            title=Sentence(
                "{} [transfer|transfers] between servers [takes|take] {} s and more: packets are sent again",
                (str(len(found)), f"{least / 1e9:g}"),
            ),
            rank=facts.case.rank,
            cost_ns=facts.claims.take(TRANSFER, total),
            cost_bytes=None,
            bound="a network that loses nothing",
            formula="exposed transfer of communications that spend so long on RDMA",
            confidence=Confidence.ASSUMED,
            places=places_of(facts, found),
            evidence=(Evidence("transfers", len(found), "count"), Evidence("exposed", format_duration(total))),
        )


@dataclass(frozen=True, slots=True)
class _Slower:
    """A communication that moves for far longer than `usual_ns`, as others of its bytes do; `lost_ns` is awaited."""

    one: ExposedCommunication
    usual_ns: int
    lost_ns: int


def _far_slower(facts: RankFacts) -> list[_Slower]:
    """
    Communications whose transfer takes far longer than in most steps, at the same place and of the same bytes.

    What is slow there in every step has a reason that is not chance.
    """
    like: dict[object, list[tuple[ExposedCommunication, int]]] = {}
    place: Counter[object] = Counter()
    for one, awaited in zip(facts.exposed, _awaited_transfers(facts), strict=True):
        told = one.communication.told
        if told is None or not told.packets or one.communication.peer_to_peer or _resent(one):
            continue
        moved = tuple(sorted((packet.transport, packet.size, packet.count or 0) for packet in told.packets))
        kind = (one.communication.name.partition("__")[0], moved)
        step = facts.case.step_at(one.communication.start_ns)
        place[kind, step] += 1
        like.setdefault((kind, place[kind, step]), []).append((one, awaited))
    found: list[_Slower] = []
    for ran in like.values():
        usual = int(np.median([one.communication.transfer_ns or 0 for one, _ in ran]))
        for one, awaited in ran if len(ran) >= _FEWEST_ALIKE else ():
            beyond = (one.communication.transfer_ns or 0) - usual
            if beyond > (threshold("irregular_factor") - 1) * usual:
                found.append(_Slower(one, usual, min(beyond, awaited)))
    return sorted(found, key=lambda one: one.one.communication.start_ns)


def _irregular(facts: RankFacts, slower: Sequence[_Slower]) -> Iterator[Finding]:
    total = min(sum(one.lost_ns for one in slower), facts.claims.left(TRANSFER))
    # One alone may be chance, as of kernels.
    least = threshold("irregular_share" if len(slower) > 1 else "high_share")
    if not total or total < least * facts.length_ns:
        return
    yield Finding(
        kind="communication.irregular",
        title=Sentence(
            "{} [transfer takes|transfers take] far longer than the same ones do in other steps: {} ({})",
            (str(len(slower)), format_duration(total), format_share(total / facts.length_ns)),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take(TRANSFER, total),
        cost_bytes=None,
        bound="the median of the same transfer in all steps",
        formula=Sentence(
            "transfer - median, as far as computing waits for it, where it is more than {} times the median",
            (f"{threshold('irregular_factor'):g}",),
        ),
        confidence=Confidence.MEASURED,
        places=places_of(facts, [one.one for one in slower]),
        evidence=tuple(
            Evidence(
                Sentence("{}, otherwise {}", (one.one.communication.name, format_duration(one.usual_ns))),
                one.one.communication.transfer_ns or 0,
                "ns",
            )
            for one in slower[:_MOST]
        ),
    )
