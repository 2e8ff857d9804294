"""What the ranks of a simulated job sent each other: communication.json and communication_matrix.json of one rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memplan.core.units import microseconds
from memplan.simulator.job_program import LINK_BYTES_PER_NS, Doing
from memplan.simulator.job_run import Ran, RankRun
from memplan.simulator.job_settings import FaultyJob
from memplan.simulator.simulation import EPOCH_NS

COMMUNICATING = (Doing.COLLECTIVE, Doing.EXCHANGE)
_GROUP = "77"


@dataclass(frozen=True, slots=True)
class SimulatedGroup:
    """One communicator: its name, what it is for, and its ranks."""

    name: str
    purpose: str
    ranks: tuple[int, ...]


def communication_groups(job: FaultyJob, rank: int) -> list[SimulatedGroup]:
    """The groups that `rank` is in, the more particular last: the world, its data, line and layer's share."""
    ranks, stages, tensor = len(job.programs), job.settings.stages, job.settings.tensor
    each = ranks // stages
    stage, place = divmod(rank, each) if each else (0, 0)
    members = {
        "default_group": tuple(range(ranks)),
        "dp": tuple(stage * each + number for number in range(place % tensor, each, tensor)),
        "pp": tuple(number * each + place for number in range(stages)),
    }
    if tensor > 1:
        members["tp"] = tuple(stage * each + place // tensor * tensor + number for number in range(tensor))
    return [
        SimulatedGroup(f"group_name_{number}", purpose, own)
        for number, (purpose, own) in enumerate(members.items())
        if rank in own
    ]


def _names(job: FaultyJob, rank: int) -> dict[tuple[int, ...], str]:
    """The name of the most particular group of the same ranks."""
    return {group.ranks: group.name for group in communication_groups(job, rank)}


def group_document(job: FaultyJob, rank: int) -> dict[str, Any]:
    """The groups of `rank` as `parallel_group_info` of profiler_metadata.json has them."""
    return {
        group.name: {
            "group_name": group.purpose, "group_rank": group.ranks.index(rank), "global_ranks": list(group.ranks)
        }
        for group in communication_groups(job, rank)
    }  # fmt: skip


def exchange_document(job: FaultyJob, run: RankRun, rank: int) -> dict[str, Any]:
    """Every communication of `rank`: when, how long, how much of it waiting, in packets of which size."""
    names = _names(job, rank)
    found: dict[str, Any] = {}
    for one in run.ran:
        if one.item.doing not in COMMUNICATING:
            continue
        kind = "collective" if one.item.doing is Doing.COLLECTIVE else "p2p"
        elapsed, size = one.end_ns - one.start_ns, _bytes(one)
        group = names.get(one.item.group, _GROUP)
        # Ops are called alike in every step, as HCCL numbers them anew.
        found.setdefault(f"step{one.step + 1}", {"p2p": {}, "collective": {}})[kind][f"{one.item.name}@{group}"] = {
            "Communication Time Info": {
                "Start Timestamp(us)": float(microseconds(EPOCH_NS + one.start_ns)),
                "Elapse Time(ms)": elapsed / 1e6,
                "Transit Time(ms)": one.transfer_ns / 1e6,
                "Wait Time(ms)": (elapsed - one.transfer_ns) / 1e6,
                "Synchronization Time(ms)": (elapsed - one.transfer_ns) / 1e6,
                "Idle Time(ms)": 0,
            },
            "Communication Bandwidth Info": {
                one.item.transport: {
                    "Transit Size(MB)": size / 1e6,
                    "Transit Time(ms)": one.transfer_ns / 1e6,
                    "Bandwidth(GB/s)": size / max(one.transfer_ns, 1),
                    "Size Distribution": _sizes(size, one.item.packet, one.transfer_ns / 1e6),
                }
            },
        }
    return found


def matrix_document(job: FaultyJob, run: RankRun, rank: int) -> dict[str, Any]:
    """
    The links that `rank` sent over: its ring's next rank, in every collective.

    Links are named by places within the group, as HCCL does. A job under real conditions has them as torch_npu
    sums them up: of each kind of collective the slowest, the middle, the fastest three and the total.
    """
    summed = bool(job.settings.conditions.speeds)
    names = _names(job, rank)
    found: dict[str, Any] = {}
    kinds: dict[tuple[int, str, str], list[tuple[Ran, float]]] = {}
    for one in run.ran:
        group = one.item.group or tuple(range(len(job.programs)))
        if one.item.doing is not Doing.COLLECTIVE or len(group) < 2:
            continue
        slow = job.settings.slow_link if rank == 1 and one.item.packet >= job.settings.slow_from else 1.0
        name = names.get(one.item.group, _GROUP)
        if summed:
            kind = one.item.type.removeprefix("hcom_").rstrip("_").lower()
            kinds.setdefault((one.step, kind, name), []).append((one, slow))
            continue
        step = found.setdefault(f"step{one.step + 1}", {"p2p": {}, "collective": {}})
        step["collective"][f"{one.item.name}@{name}"] = _links([(one, slow)], rank, group)
    for (number, kind, name), ran in kinds.items():
        ran.sort(key=lambda pair: _bytes(pair[0]) / (pair[0].item.duration_ns * pair[1] or 1))
        group = ran[0][0].item.group or tuple(range(len(job.programs)))
        step = found.setdefault(f"step{number + 1}", {"p2p": {}, "collective": {}})["collective"]
        step[f"{kind}-top1@{name}"] = _links(ran[-1:], rank, group)
        step[f"{kind}-middle@{name}"] = _links([ran[len(ran) // 2]], rank, group)
        for place, pair in enumerate(ran[:3]):
            step[f"{kind}-bottom{place + 1}@{name}"] = _links([pair], rank, group)
        step[f"{kind}-total@{name}"] = _links(ran, rank, group)
    return found


def _sizes(size: int, packet: int, time_ms: float) -> dict[str, list[float]]:
    """Packets of `size` bytes in `packet` each by their megabytes: how many, and their ms; the last holds the rest."""
    whole, rest = divmod(size, max(packet, 1))
    parts = {packet: whole, rest: 1} if rest else {packet: whole}
    return {str(each / 1e6): [count, time_ms * each * count / max(size, 1)] for each, count in parts.items() if count}


def _bytes(one: Ran) -> int:
    if one.item.size is not None:
        return one.item.size
    rate = LINK_BYTES_PER_NS if one.item.packet >= 1_000_000 else LINK_BYTES_PER_NS / 20
    return round(one.item.duration_ns * rate)


def _links(ran: Sequence[tuple[Ran, float]], rank: int, group: Sequence[int]) -> dict[str, Any]:
    size = sum(_bytes(one) for one, _ in ran)
    time = sum(one.item.duration_ns * slow for one, slow in ran)
    here = group.index(rank)
    return {
        f"{here}-{here}": {"Transport Type": "LOCAL", "Transit Size(MB)": size / 1e6, "Transit Time(ms)": 0.01},
        f"{here}-{(here + 1) % len(group)}": {
            "Transport Type": ran[0][0].item.transport,
            "Transit Size(MB)": size / 1e6,
            "Transit Time(ms)": time / 1e6,
            "Bandwidth(GB/s)": size / max(time, 1),
            "Op Name": ran[0][0].item.name,
        },
    }
