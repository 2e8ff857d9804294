"""
Collectives by the alpha-beta model: steps times latency plus bytes over the link, for the algorithm of each.

The forms are those of HCCL's own description (hicann/hccl docs coll_algo_intro: ring, mesh, recursive halving and
doubling); latency and rate come from the link database. Latency unknown there counts as the launch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2

from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.op_classes import OpClass
from memplan.cost.limits import LINK, KernelCost, launch_alone
from memplan.cost.machine import Machine
from memplan.hardware import Link


@dataclass(frozen=True, slots=True)
class CollectiveTime:
    """Nanoseconds of a collective, split into latency and transfer, and the algorithm that takes least."""

    duration: float
    latency: float
    transfer: float
    algorithm: str


# Steps, and how often the payload crosses one rank's links, by collective and algorithm; p ranks, payload = the
# full buffer (all_gather: gathered, reduce_scatter: before scattering, all_to_all: what one rank sends). Dispatch and
# combine of experts write straight to every peer; their links carry the rate that such writes reach.
_STEPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "all_reduce": {
        "ring": ("2(p-1)", "2(p-1)/p"),
        "mesh": ("2", "2(p-1)/p"),
        "halving-doubling": ("2log", "2(p-1)/p"),
    },
    "all_gather": {"ring": ("(p-1)", "(p-1)/p"), "mesh": ("1", "(p-1)/p"), "halving-doubling": ("log", "(p-1)/p")},
    "reduce_scatter": {"ring": ("(p-1)", "(p-1)/p"), "mesh": ("1", "(p-1)/p"), "halving-doubling": ("log", "(p-1)/p")},
    "all_to_all": {"pairwise": ("(p-1)", "(p-1)/p"), "mesh": ("1", "(p-1)/p")},
    "moe_dispatch": {"mesh": ("1", "(p-1)/p")},
    "moe_combine": {"mesh": ("1", "(p-1)/p")},
    "broadcast": {"ring": ("(p-1)", "1"), "tree": ("log", "log")},
    "send_receive": {"direct": ("1", "1")},
}
_ADDING = {"reduce_scatter": 1.0, "all_reduce": 0.5}
"""The part of a collective's way on which what arrives is added up."""


def _count(term: str, ranks: int) -> float:
    doublings = ceil(log2(max(ranks, 1)))
    return {
        "1": 1.0,
        "2": 2.0,
        "log": float(doublings),
        "2log": 2.0 * doublings,
        "(p-1)": ranks - 1.0,
        "2(p-1)": 2.0 * (ranks - 1),
        "(p-1)/p": (ranks - 1) / ranks,
        "2(p-1)/p": 2 * (ranks - 1) / ranks,
    }[term]


def collective_time(
    kind: str, payload: float, ranks: int, link: Link, *, mesh_links: int = 1, head_ns: float = 0.0
) -> CollectiveTime | None:
    """
    Time of collective `kind` of `payload` bytes over `ranks` ranks joined by `link`; `None` where its rate is unknown.

    `mesh_links` is how many such links one rank drives at once in a full mesh.
    """
    if link.bytes_per_second is None or kind not in _STEPS:
        return None
    if ranks <= 1:
        return CollectiveTime(head_ns, 0.0, 0.0, "none")
    latency_ns = float(link.latency_ns or 0)
    adding = _ADDING.get(kind, 0.0)
    slower = 1.0 - adding + adding / link.reduce_share
    found = []
    for algorithm, (steps, crossings) in _STEPS[kind].items():
        rate = link.bytes_per_second * (min(mesh_links, ranks - 1) if algorithm == "mesh" else 1)
        latency = _count(steps, ranks) * latency_ns
        transfer = _count(crossings, ranks) * payload / rate * slower * 1e9
        found.append(CollectiveTime(head_ns + latency + transfer, latency, transfer, algorithm))
    return min(found, key=lambda time: time.duration)


_ALIKE = 0.9
"""Share of a link's rate from which another source counts as saying the same."""
_SERVER_RANKS = 8
"""Chips of an A2 server, which HCCS joins one to one."""
_EXPERT_LINKS = {"moe_dispatch": "deepep_dispatch", "moe_combine": "deepep_combine"}


def collective_cost(kernel: Kernel, rule: OpClass, machine: Machine) -> KernelCost:
    payload = float(max(kernel.read_bytes, kernel.written_bytes))
    ranks = kernel.attribute("rank_size") or kernel.attribute("group_size")
    links = {link.name: link for link in machine.interconnect}
    link = links.get(_EXPERT_LINKS.get(rule.rule, "")) or links.get("ub") or links.get("hccs")
    head = machine.head_ns(0, 1)
    assumed = ""
    if not isinstance(ranks, int):
        ranks, assumed = 8, "the number of ranks is not known: 8"
    # Chips of a server have a link to each other one; beyond a server, and over a switch, one link carries all.
    mesh = ranks - 1 if link is not None and link.name == "hccs" and ranks <= _SERVER_RANKS else 1
    time = (
        collective_time(rule.rule, payload, ranks, link, mesh_links=max(mesh, 1), head_ns=head)
        if link is not None and payload
        else None
    )
    if time is None:
        return launch_alone(head, rule.kind, "bytes or link are not known: the launch alone", round(payload))
    return KernelCost(
        round(time.duration), LINK, {}, 0, round(payload), round(payload), rule.kind,
        assumed="; ".join(text for text in (assumed, _over(time.algorithm, link)) if text),
    )  # fmt: skip


def _over(algorithm: str, link: Link | None) -> str:
    """The way of a collective, and how much longer it takes where another source's rate of the link holds."""
    if link is None:
        return algorithm
    rates = [float(other.value) for other in link.also if isinstance(other.value, int | float)]
    rate, least = link.bytes_per_second or 0.0, min(rates, default=0.0)
    unsure = f"; up to {rate / least:.1f} times as long, as another source has it" if 0 < least < rate * _ALIKE else ""
    return f"{algorithm} over {link.name}{unsure}"
