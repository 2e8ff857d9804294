"""The parallel layout of a run: from what its files say in so many words, else from shapes."""

from __future__ import annotations

from typing import Any

from memplan.likeness.setting import LikeSettings
from memplan.schema import Certainty
from memplan.traces.parallel_groups import ParallelGroups

_NAMES = {
    "tp": "tensor parallelism", "pp": "pipeline parallelism", "dp": "data parallelism", "cp": "context parallelism",
    "ep": "expert parallelism",
}  # fmt: skip


def told_ranks(groups: ParallelGroups, settings: LikeSettings) -> None:
    """Take the ranks by dimension that the metadata of a profile tells."""
    for name in _NAMES:
        group = groups.of(name)
        if name in groups.sizes:
            evidence = "distributed_args of profiler_metadata.json"
            if group is not None and len(group.ranks) != groups.sizes[name]:
                evidence += f", although its group has the ranks {_ranks(group.ranks)}"
            settings.put(name, groups.sizes[name], evidence, Certainty.TOLD)
        elif group is not None:
            settings.put(
                name, len(group.ranks), f"group {group.purpose} joins ranks {_ranks(group.ranks)}", Certainty.TOLD
            )
    joint = groups.of("dp_cp")
    if "dp" not in settings and joint is not None:
        context = settings.get("cp") if "cp" in settings else 1
        if len(joint.ranks) % context == 0:
            settings.put(
                "dp",
                len(joint.ranks) // context,
                f"group {joint.purpose} joins ranks {_ranks(joint.ranks)}",
                Certainty.TOLD,
            )
    if groups.sequence_parallel is not None:
        settings.put(
            "sequence_parallel", groups.sequence_parallel, "distributed_args of profiler_metadata.json", Certainty.TOLD
        )
    _check_world(groups, settings)


def _check_world(groups: ParallelGroups, settings: LikeSettings) -> None:
    """What one dimension lacks follows from the others and from how many ranks there are."""
    if groups.world is None:
        return
    known = {name: settings.get(name) for name in ("tp", "pp", "dp", "cp") if name in settings}
    product = 1
    for size in known.values():
        product *= size
    missing = [name for name in ("tp", "pp", "dp", "cp") if name not in known]
    if missing and product == groups.world:
        for name in missing:
            settings.put(name, 1, f"{_text(known)} are the {groups.world} ranks already")
    elif missing == ["dp"] and groups.world % product == 0:
        settings.put("dp", groups.world // product, f"{groups.world} ranks over {_text(known)}")
    elif not missing and product != groups.world:
        settings.contradictions.append(f"{_text(known)} are {product} ranks, but the run has {groups.world}")


def place_in_layout(groups: ParallelGroups, rank: int, settings: LikeSettings) -> None:
    """Which pipeline stage and which replica `rank` is, as its groups or the order of ranks tell."""
    pipeline, data, inner = settings.get("pp"), settings.get("dp"), settings.get("tp") * settings.get("cp")
    for name, dimensions, size in (("stage", ("pp",), pipeline), ("data_rank", ("dp", "dp_cp"), data)):
        group = next((found for key in dimensions if (found := groups.of(key)) is not None), None)
        if (
            group is not None
            and group.place is not None
            and group.place < size * (settings.get("cp") if group.dimension == "dp_cp" else 1)
        ):
            place = group.place // (settings.get("cp") if group.dimension == "dp_cp" else 1)
            settings.put(
                name,
                place,
                f"rank {rank} is number {group.place} in group {group.purpose} of ranks {_ranks(group.ranks)}",
                Certainty.TOLD,
            )
        elif size == 1:
            settings.put(name, 0, "there is one")
    if "data_rank" not in settings:
        settings.put(
            "data_rank",
            rank // inner % data,
            f"rank {rank} in the order of ranks tp, cp, dp, pp (Megatron's)",
            Certainty.LIKELY,
        )


def stage_by_order(rank: int, settings: LikeSettings) -> tuple[int, str]:
    """The stage of `rank` where ranks are numbered as Megatron does it, and why."""
    inner = settings.get("tp") * settings.get("cp") * settings.get("dp")
    return rank // inner % settings.get("pp"), f"rank {rank} in the order of ranks tp, cp, dp, pp (Megatron's)"


def _ranks(ranks: tuple[int, ...]) -> str:
    return ", ".join(map(str, ranks)) if len(ranks) <= 8 else f"{ranks[0]} to {ranks[-1]}"


def _text(known: dict[str, Any]) -> str:
    return " x ".join(f"{name} {size}" for name, size in known.items())
