"""Which ranks work together, as a profile's own metadata (`profiler_metadata.json`) tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SIZES = {
    "tp": "tensor_model_parallel_size",
    "pp": "pipeline_model_parallel_size",
    "dp": "data_parallel_size",
    "cp": "context_parallel_size",
    "ep": "expert_model_parallel_size",
}
"""Keys of Megatron's arguments as MindSpeed writes them into `distributed_args`."""
_DIMENSION = re.compile(r"(?:pg_|group_)?(tp|pp|dp_cp|dp|cp|ep)(?:[:_-]?\d+)*(?:_group)?", re.IGNORECASE)
_MOST_RANKS = 1 << 20


@dataclass(frozen=True, slots=True)
class CommunicationGroup:
    """One communicator: what it is for, the global ranks in it in order, and the place of the profile's own rank."""

    id: str
    purpose: str
    ranks: tuple[int, ...]
    place: int | None

    @property
    def dimension(self) -> str | None:
        """The dimension of a parallel layout that it joins (`tp`, `pp`, `dp`, `cp`, `ep`, `dp_cp`), if it is one."""
        match = _DIMENSION.fullmatch(self.purpose.strip())
        return None if match is None else match[1].lower()


@dataclass(frozen=True, slots=True)
class ParallelGroups:
    """
    What the metadata of one rank tells of its job.

    `sizes` holds ranks by dimension (`tp`, `pp`, `dp`, `cp`, `ep`) as the framework's arguments have them;
    `sequence_parallel` is `None` where nothing tells it.
    """

    groups: tuple[CommunicationGroup, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    world: int | None = None
    sequence_parallel: bool | None = None

    def of(self, dimension: str) -> CommunicationGroup | None:
        """The group that joins the ranks of `dimension`, the largest where several do."""
        found = [group for group in self.groups if group.dimension == dimension]
        return max(found, key=lambda group: len(group.ranks), default=None)

    def stage_of(self, rank: int) -> int | None:
        """The pipeline stage of global `rank`: its place in its `pp` group; 0 in a job without stages, else `None`."""
        if self.sizes.get("pp") == 1:
            return 0
        group = self.of("pp")
        return group.ranks.index(rank) if group is not None and rank in group.ranks else None

    def __bool__(self) -> bool:
        return bool(self.groups or self.sizes)


def parallel_groups(metadata: Mapping[str, object]) -> ParallelGroups:
    """What `metadata` tells of parallel groups; entries that are no such thing are left out."""
    arguments = metadata.get("distributed_args")
    told = arguments if isinstance(arguments, Mapping) else {}
    sizes = {name: size for name, key in _SIZES.items() if (size := _count(told.get(key))) is not None}
    spread = told.get("sequence_parallel")
    groups = metadata.get("parallel_group_info")
    found = [
        group
        for name, entry in (groups.items() if isinstance(groups, Mapping) else ())
        if (group := _group(str(name), entry)) is not None
    ]
    return ParallelGroups(
        groups=tuple(found),
        sizes=sizes,
        world=_count(told.get("world_size")) or _world(found),
        sequence_parallel=spread if isinstance(spread, bool) else None,
    )


def _group(name: str, entry: object) -> CommunicationGroup | None:
    if not isinstance(entry, Mapping):
        return None
    ranks = entry.get("global_ranks")
    if not isinstance(ranks, list) or not ranks or not all(type(rank) is int and rank >= 0 for rank in ranks):
        return None
    place = entry.get("group_rank")
    inside = type(place) is int and 0 <= place < len(ranks)
    return CommunicationGroup(name, str(entry.get("group_name", "")), tuple(ranks), place if inside else None)


def _world(groups: list[CommunicationGroup]) -> int | None:
    whole = [len(group.ranks) for group in groups if group.purpose in ("default_group", "world", "hccl_world_group")]
    return max(whole, default=None)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 < value < _MOST_RANKS else None
