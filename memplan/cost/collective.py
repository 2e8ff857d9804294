"""
Collectives by the alpha-beta model: steps times latency plus bytes over the link, for the algorithm of each.

The forms are those of HCCL's own description (hicann/hccl docs coll_algo_intro: ring, mesh, recursive halving and
doubling); latency and rate come from the link database. Latency unknown there counts as the launch alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2

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
