"""`like_profile`: which step of a model a profile shows, as the options to plan the same with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.hardware import Chip
from memplan.likeness.chip_like import chip_like, chip_traces
from memplan.likeness.context_like import context_like, trained_context_like
from memplan.likeness.kernel_kinds import KernelSteps, one_step
from memplan.likeness.layout_like import told_ranks
from memplan.likeness.serving_like import serving_like
from memplan.likeness.setting import LikeSettings
from memplan.likeness.training_like import training_like
from memplan.likeness.training_shapes import training_shapes
from memplan.models.architecture import ModelConfig
from memplan.schema import Certainty, PlanSetting
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.directory import Profile
from memplan.traces.operand_shapes import operand_shapes
from memplan.traces.profile import Kernels
from memplan.traces.rank import RankProfile

_TRAINS = frozenset({"attention_grad", "optimizer", "norm_grad", "cross_entropy_grad", "embedding_grad"})


@dataclass(frozen=True, slots=True)
class Likeness:
    """
    What a profile tells of the step it shows, enough to plan the same.

    `values` holds options of a model's step by name, `settings` lists them with their evidence; `contradictions` says
    where given options, or files and kernels, don't agree. `rank` is the rank that was looked at.
    """

    rank: int
    values: Mapping[str, Any]
    chip: Chip
    settings: tuple[PlanSetting, ...]
    contradictions: tuple[str, ...]


def like_profile(
    model: ModelConfig,
    profile: Profile,
    rank: int | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Likeness:
    """
    Find out which step of `model` rank `rank` of `profile` ran (by default the first with kernels).

    `given` holds options by name (`tp`, `stage`, `context`, ...) that are known better: they win, and where the profile
    tells something else, that is said. Raises `InputError` where something can't be found out, naming the option.
    """
    chosen = _rank(profile, rank, progress)
    settings = LikeSettings(given or {})
    if len(profile.ranks) > 1:
        why = "asked for" if rank is not None else "the first with kernels"
        settings.put("rank", chosen.rank, why, Certainty.TOLD)
    kernels, whose = _kernels(profile, chosen, progress)
    step = None if kernels is None or not len(kernels.name) else one_step(kernels)
    phase = _phase(step, chosen, settings, progress)
    told_ranks(chosen.groups, settings)
    traces = None if kernels is None or step is None else chip_traces(whose, kernels, step, progress)
    die = chip_like(chosen.chip or whose.chip, traces, settings)
    if phase == "train":
        own = step if whose is chosen else None
        if own is None and step is not None:
            _from_sibling(model, step, whose, settings)
        shapes = training_shapes(model, own) if own is not None else None
        if kernels is not None and own is not None and not own.shaped:
            trained_context_like(model, kernels, own, die, settings)
        training_like(model, shapes, chosen.links(progress), chosen.groups, chosen.rank, settings)
    else:
        if kernels is None or step is None or not step.shaped:
            raise InputError(
                "the profile holds no kernels with shapes to tell a step by", remedy="give --phase, --batch, --sequence"
            )
        serving_like(model, step, chosen.groups, chosen.rank, settings)
        context_like(model, kernels, step, die, settings)
    return Likeness(
        rank=chosen.rank,
        values=settings.values(),
        chip=die,
        settings=settings.rows(),
        contradictions=tuple(settings.contradictions),
    )


def _rank(profile: Profile, rank: int | None, progress: Progress) -> RankProfile:
    if rank is not None:
        if rank not in profile.ranks:
            raise InputError(
                "the profile has no rank {}",
                rank,
                path=profile.path,
                remedy=Sentence("it has {}", (", ".join(map(str, list(profile.ranks)[:10])),)),
            )
        return profile.rank(rank)
    ranks = [profile.rank(number) for number in profile.ranks]
    return next((item for item in ranks if _shaped(item, progress) is not None), ranks[0])


def _shaped(rank: RankProfile, progress: Progress) -> Kernels | None:
    """The kernels of `rank` where they have shapes, which the lowest level of profiling leaves out."""
    kernels = rank.kernels(progress)
    if kernels is None:
        return None
    shapes = dictionary_encoded(kernels.input_shapes).values
    return kernels if any(operand_shapes(text) for text in shapes) else None


def _kernels(profile: Profile, chosen: RankProfile, progress: Progress) -> tuple[Kernels | None, RankProfile]:
    """Kernels of the rank, with shapes or without, or of another rank of the same run where it has none."""
    own = chosen.kernels(progress)
    if own is not None:
        return own, chosen
    for item in (profile.rank(number) for number in profile.ranks if number != chosen.rank):
        found = _shaped(item, progress)
        if found is not None:
            return found, item
    return None, chosen


def _phase(step: KernelSteps | None, rank: RankProfile, settings: LikeSettings, progress: Progress) -> str:
    if step is not None and step.count(lambda kind: bool(_TRAINS & set(kind.families))):
        names = sorted({kind.type for kind, _ in step.counted() if kind.family in _TRAINS})[:3]
        found, evidence, certainty = "train", f"kernels such as {', '.join(names)}", Certainty.FOLLOWS
    elif step is None:
        reduced = any("reduce" in link.op for link in rank.links(progress))
        found, evidence = "train", "gradients are exchanged" if reduced else "nothing in the profile tells it"
        certainty = Certainty.LIKELY if reduced else Certainty.ASSUMED
    else:
        found, evidence, certainty = "serve", "no kernel of a way back", Certainty.FOLLOWS
    if found == "serve":
        return str(settings.take("phase") or found)
    return str(settings.put("phase", found, evidence, certainty))


def _from_sibling(model: ModelConfig, step: KernelSteps, whose: RankProfile, settings: LikeSettings) -> None:
    """What all ranks of a run have alike, from one whose kernels are known."""
    shared = LikeSettings({})
    told_ranks(whose.groups, shared)
    training_like(model, training_shapes(model, step), (), whose.groups, whose.rank, shared)
    for name in ("tp", "pp", "dp", "cp", "ep", "micro_batch", "context", "micro_batches", "sharding", "schedule",
                 "sequence_parallel", "recompute_layers", "recompute_cheap", "precision", "optimizer"):  # fmt: skip
        if name in shared and name not in settings:
            settings.put(
                name,
                shared.get(name),
                f"rank {whose.rank} of the same run: {shared.evidence(name)}",
                shared.certainty(name),
            )
