"""How bytes move: small and unaligned packets, transfers beside computing that lose their rate, packets sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from memplan.core.intervals import interval_intersection, interval_total
from memplan.core.sentence import Sentence
from memplan.core.units import format_duration, format_rate, format_share
from memplan.findings.claims import TRANSFER
from memplan.findings.finding import Confidence, Evidence, Finding, Place, threshold
from memplan.findings.job_case import JobCase, RankFacts
from memplan.findings.rules.communication_rules import places_of
from memplan.findings.step_breakdown import ExposedCommunication
from memplan.traces.profile import PacketTraffic

_MOST = 10


def packet_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank's transfers; they go before those of exposed communication as a whole."""
    for facts in job.ranks.values():
        yield from _small_packets(facts)
        yield from _unaligned(facts)
        yield from _contended(facts)
    yield from _sent_again(job)


def _packets(facts: RankFacts) -> list[PacketTraffic]:
    return [
        packet
        for one in facts.exposed
        if one.communication.told is not None
        for packet in one.communication.told.packets
        if packet.count
    ]


def _small_packets(facts: RankFacts) -> Iterator[Finding]:
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
        cost = _small_packet_excess(facts, least, transport == "RDMA", large)
        worth = cost is not None and facts.worth(cost)
        yield Finding(
            kind="communication.small_packets",
            title=Sentence(
                "Small packets: {} of {} packets over {} are smaller than {} MB and carry {} of the bytes",
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


def _small_packet_excess(facts: RankFacts, least: float, rdma: bool, large: list[PacketTraffic]) -> int | None:
    """
    How much shorter exposed transfers were at the rate of large packets, or what copies reach where there are none.

    `None` where neither is known: over RDMA the rate depends on the network.
    """
    if not large and rdma:
        return None
    rate = threshold("contention_rate") / 1e9
    if large:
        rate = sum(one.size for one in large) / max(sum(one.duration_ns for one in large), 1)

    def share(one: ExposedCommunication) -> float:
        told = one.communication.told
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
    for one in facts.exposed:
        ran = one.communication
        kind = ran.name.partition("__")[0]
        if kind != before or ran.start_ns > ended + threshold("stream_gap_ns"):
            ahead = 0.0
        ended, before = max(ended, ran.end_ns), kind
        ahead += (ran.transfer_ns or 0) * share(one)
        gained = min(one.transfer_ns or 0, ahead)
        total, ahead = total + gained, ahead - gained
    return round(total)


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
                "{} communications move packets that are no multiples of {} B", (str(len(found)), str(unit))
            ),
            rank=facts.case.rank,
            cost_ns=None,
            cost_bytes=None,
            bound="",
            formula=f"size of a packet % {unit} != 0",
            confidence=Confidence.ASSUMED,
            places=places_of(facts, found),
            evidence=tuple(Evidence("communication", one.communication.name) for one in found[:_MOST]),
        )


def _sdma_rate(one: ExposedCommunication) -> float | None:
    """Bytes a second over what copy engines serve, within the server; `None` where nothing moved there."""
    told = one.communication.told
    mine = [packet for packet in (told.packets if told else ()) if packet.transport != "RDMA"]
    time = sum(packet.duration_ns for packet in mine)
    return sum(packet.size for packet in mine) / time * 1e9 if time and any(packet.size for packet in mine) else None


def _contended(facts: RankFacts) -> Iterator[Finding]:
    """Transfers beside computing that are slower than those of the same profile without any."""
    beside: list[tuple[ExposedCommunication, float]] = []
    alone: list[tuple[ExposedCommunication, float]] = []
    for one in facts.exposed:
        rate = _sdma_rate(one)
        if rate is None:
            continue
        span = (np.array([one.communication.start_ns]), np.array([one.communication.end_ns]))
        hidden = interval_total(*interval_intersection(span, facts.case.computing))
        length = one.communication.end_ns - one.communication.start_ns
        (beside if hidden >= length / 2 else alone).append((one, rate))
    slow = [(one, rate) for one, rate in beside if rate < threshold("contention_rate")]
    # Small ones are slow by themselves: only what larger, lonely ones reach says that it is the company.
    usual = float(np.median([rate for _, rate in alone])) if alone else 0.0
    slow = [(one, rate) for one, rate in slow if rate < (1 - threshold("slow_link_share")) * usual]
    if not slow:
        return
    rates = {one.communication.start_ns: rate for one, rate in slow}
    lost = _spared(facts, lambda one: 1 - rates.get(one.communication.start_ns, usual) / usual)
    lost = min(lost, facts.claims.left(TRANSFER))
    yield Finding(
        kind="communication.contention",
        title=Sentence(
            "{} communications beside computing move at {} and less, where others reach {}",
            (str(len(slow)), format_rate(max(rate for _, rate in slow)), format_rate(usual)),
        ),
        rank=facts.case.rank,
        cost_ns=facts.claims.take(TRANSFER, lost) if facts.worth(lost) else None,
        cost_bytes=None,
        bound="the rate of communications without computing beside them",
        formula="transfer x (1 - rate / usual rate), as far as they, or what queues up behind them, are exposed",
        confidence=Confidence.DERIVED,
        places=places_of(facts, [one for one, _ in slow]),
        evidence=tuple(Evidence(one.communication.name, rate, "B/s") for one, rate in slow[:_MOST]),
    )


def _sent_again(job: JobCase) -> Iterator[Finding]:
    """Transfers between servers that take as long as a network waits before it sends a packet again."""
    least = threshold("retransmission_ns")
    for facts in job.ranks.values():
        found = []
        for one in facts.exposed:
            told = one.communication.told
            time = sum(packet.duration_ns for packet in (told.packets if told else ()) if packet.transport == "RDMA")
            if time >= least:
                found.append(one)
        if not found:
            continue
        total = sum(one.transfer_ns or 0 for one in found)
        yield Finding(
            kind="link.retransmission",
            title=Sentence(
                "{} transfers between servers take {} s and more: packets are sent again",
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
