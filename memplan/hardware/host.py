"""The host behind a die as a tier for tensors: how much of its memory a plan may use and how fast bytes get there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_rate
from memplan.hardware.chip import Chip
from memplan.hardware.links import Link, link


@dataclass(frozen=True, slots=True)
class LinkRates:
    """
    Rates of the host link in bytes per second and its latency in nanoseconds, from `source`.

    `None`: not given; then the chip's own figure is taken.
    """

    to_host: float | None = None
    to_device: float | None = None
    latency_ns: int | None = None
    source: str = "given"


@dataclass(frozen=True, slots=True)
class HostTier:
    """
    What a plan may use beyond HBM: bytes of memory (`None`: no limit is known) and the link each way.

    `name` is `HOST` for the host's own memory and `REMOTE` for memory pooled over the hosts. `notes` says what the
    rates rest on where that is not the link's own figure. What lies `beside` it is used as well, over links of its own.
    """

    capacity: int | None
    out_link: Link
    in_link: Link
    notes: tuple[str, ...] = ()
    name: str = "HOST"
    beside: HostTier | None = None

    @property
    def tiers(self) -> tuple[HostTier, ...]:
        """The tier itself, and what lies beside it where there is such a one."""
        return (self,) if self.beside is None else (replace(self, beside=None), self.beside)

    @property
    def joined(self) -> HostTier:
        """
        All `tiers` as one that no use of them is better than: their bytes, and links that carry what all do together.

        A transfer's latency is the least that any of them takes of the sum of the rates.
        """
        if self.beside is None:
            return self
        sizes = [tier.capacity for tier in self.tiers]
        capacity = None if None in sizes else sum(size for size in sizes if size is not None)
        out_link, in_link = (
            _joined(name, links)
            for name, links in (
                ("out", [tier.out_link for tier in self.tiers]),
                ("in", [tier.in_link for tier in self.tiers]),
            )
        )
        return HostTier(capacity, out_link, in_link, tuple(note for tier in self.tiers for note in tier.notes))


def host_tier(chip: Chip, *, capacity: int | None = None, rates: LinkRates | None = None) -> HostTier:
    """
    The host tier of one die of `chip`: `capacity` bytes of memory, at `rates` where they are given.

    A rate that is not given is the chip's own, and no more than the die's part of the host's memory rate when all dies
    of the server move at once. A latency that nobody gives is a measured one of another server, for 0 would be free.
    Raises `InputError` for a size or rate below 1.
    """
    rates = rates or LinkRates()
    if capacity is not None and capacity <= 0:
        raise InputError("{} bytes of host memory hold nothing", capacity, remedy="give more than 0")
    for rate in (rates.to_host, rates.to_device):
        if rate is not None and not rate > 0:
            raise InputError("a rate of {:g} B/s moves nothing", rate, remedy="give one such as 20GB/s")
    host = _host(chip)
    notes = []
    found = []
    for name, given in (("d2h", rates.to_host), ("h2d", rates.to_device)):
        own = link(chip, name)
        if given is not None:
            own = replace(own, bytes_per_second=given, source=rates.source, note="")
        elif host is not None and host["bytes_per_second"] is not None and own.bytes_per_second is not None:
            part = host["bytes_per_second"] / host["dies"]
            if part < own.bytes_per_second:
                notes.append(
                    f"link {name}: {format_rate(part)} rather than {format_rate(own.bytes_per_second)}, the part of "
                    f"one of {host['dies']} dies of an {host['name']} when all move at once ({host['source']})"
                )
                own = replace(own, bytes_per_second=part)
        found.append(_with_latency(own, rates.latency_ns))
    limit = registered_limit()
    if capacity is not None and capacity > limit.older:
        notes.append(f"{format_bytes(capacity)} of pinned host memory: {limit.source}")
    return HostTier(capacity, found[0], found[1], tuple(notes))


def host_link(chip: Chip, dies: int) -> Link:
    """
    The way from the host to one die of `chip` while so many dies of a server move at once.

    No more than a die's part of the host's memory rate, where that is known.
    """
    own, host = link(chip, "h2d"), _host(chip)
    if host is None or host["bytes_per_second"] is None or own.bytes_per_second is None:
        return own
    part = host["bytes_per_second"] / min(dies, host["dies"])
    return own if part >= own.bytes_per_second else replace(own, bytes_per_second=part, source=host["source"])


def dies_of_server(chip: Chip) -> int | None:
    """Dies that share a host, `None` where no source says."""
    host = _host(chip)
    return None if host is None else int(host["dies"])


@dataclass(frozen=True, slots=True)
class RegisteredLimit:
    """Bytes of host memory that a process may register, with older and newer drivers, and the source."""

    older: int
    newer: int
    source: str


def registered_limit() -> RegisteredLimit:
    """How much host memory can be registered for transfers."""
    found = table("memplan.hardware", "hosts.json")["registered_bytes"]
    return RegisteredLimit(found["older"], found["newer"], found["source"])


def pooled_tier(chip: Chip, *, capacity: int | None = None, bytes_per_second: float | None = None) -> HostTier:
    """
    Memory of other hosts that the dies of `chip` reach, as a tier: `capacity` bytes at `bytes_per_second` each way.

    A rate that is not given is that of the pool's link, less what another node takes of it. Raises `InputError` for a
    size or rate below 1, and for a chip of which no source tells such a link where no rate is given.
    """
    if capacity is not None and capacity <= 0:
        raise InputError("{} bytes of pooled memory hold nothing", capacity, remedy="give more than 0")
    if bytes_per_second is not None and not bytes_per_second > 0:
        raise InputError("a rate of {:g} B/s moves nothing", bytes_per_second, remedy="give one such as 100GB/s")
    pools = table("memplan.hardware", "hosts.json")["pools"]
    pool = next((item for item in pools if chip.family in item["applies_to"] or chip.name in item["applies_to"]), None)
    if pool is None and bytes_per_second is None:
        remedy = Sentence("give --remote-rate, or --host for the host's own memory")
        raise InputError("no source tells a link from {} to pooled memory", chip.name, remedy=remedy)
    found = []
    for name in ("pool_out", "pool_in"):
        if pool is None:
            way = Link(name, bytes_per_second, None, "given", ("*",))
        else:
            own = link(chip, pool["link"])
            rate = None if own.bytes_per_second is None else own.bytes_per_second * pool["rate_share"]
            latency = None if own.latency_ns is None else own.latency_ns + pool["latency_ns"]
            way = replace(own, name=name, bytes_per_second=rate, latency_ns=latency)
            way = replace(way, source=f"{own.source}; {pool['source']}", note=pool["note"])
            if bytes_per_second is not None:
                way = replace(way, bytes_per_second=bytes_per_second, source="given")
        found.append(_with_latency(way, None))
    return HostTier(capacity, found[0], found[1], name="REMOTE")


def _joined(name: str, links: list[Link]) -> Link:
    rates = [link.bytes_per_second for link in links]
    if None in rates:
        raise InputError(
            "the rate of link {} is not known", links[rates.index(None)].name, remedy="choose a chip that has it"
        )
    total = sum(rate for rate in rates if rate is not None)
    taken = min((link.latency_ns or 0) * (link.bytes_per_second or 0.0) for link in links)
    return replace(links[0], name=name, bytes_per_second=total, latency_ns=int(taken / total))


def _with_latency(own: Link, given: int | None) -> Link:
    if given is not None:
        return replace(own, latency_ns=given)
    if own.latency_ns:
        return own
    known = table("memplan.hardware", "hosts.json")["transfer_latency"]
    return replace(own, latency_ns=known["ns"])


def _host(chip: Chip) -> dict[str, Any] | None:
    hosts = table("memplan.hardware", "hosts.json")["hosts"]
    return next((host for host in hosts if chip.family in host["applies_to"] or chip.name in host["applies_to"]), None)
