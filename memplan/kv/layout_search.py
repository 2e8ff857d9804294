"""Which parallel layouts of a number of dies hold a model, which is best, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.hardware import Chip
from memplan.kv.budget import BudgetPart, KvBudget, Memory, budget
from memplan.kv.engine import Engine
from memplan.kv.stage_pools import ServingOptions
from memplan.models import ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout
from memplan.models.training.recipes import largest_micro_batch, tightest_stage
from memplan.models.training.memory import Recipe, TrainingMemory
from memplan.core.progress import Progress, silent
from memplan.core.units import format_bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    One layout and what came of it.

    `budget` is set for serving, `training` for training; `capacity` is sequences of the context in all, or samples of
    a micro-batch on one rank. `rejected` says why it is out, and is empty where it fits.
    """

    layout: Layout
    budget: KvBudget | None
    training: TrainingMemory | None
    capacity: int
    rejected: str


@dataclass(frozen=True, slots=True)
class LayoutSearch:
    """All layouts tried: those that fit, best first, then the rejected ones with their reasons."""

    fitting: tuple[Candidate, ...]
    rejected: tuple[Candidate, ...]
    order: str

    @property
    def best(self) -> Candidate | None:
        """The first choice."""
        return self.fitting[0] if self.fitting else None


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def layouts(model: ModelConfig, dies: int, *, training: bool = False) -> Iterator[Layout]:
    """
    Every division of `dies` into TP x PP x DP, with experts split by TP or shared.

    Serving engines share experts among all ranks of a stage (TP x DP) or not at all; training may share them among
    any part of those.
    """
    has_experts = model.experts is not None
    for tensor in _divisors(dies):
        for pipeline in _divisors(dies // tensor):
            data = dies // tensor // pipeline
            stage_ranks = tensor * data
            sharing = {1}
            if has_experts and stage_ranks > 1:
                sharing |= set(_divisors(stage_ranks)) if training else {stage_ranks}
            for expert in sorted(sharing):
                yield Layout(tensor=tensor, pipeline=pipeline, data=data, expert=expert)


def _check_experts(model: ModelConfig, layout: Layout) -> None:
    ffn = model.experts
    if ffn is not None and ffn.experts % layout.expert:
        raise InputError(f"{ffn.experts} experts can't be divided evenly among {layout.expert} ranks")


def fit_serving(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    options: ServingOptions,
    dies: int,
    memory: Memory | None = None,
    progress: Progress = silent,
) -> LayoutSearch:
    """
    Serving layouts of `dies` dies, most sequences of the context in all first.

    Among equals the one with fewer tensor-parallel ranks goes first, then with fewer stages: both cost traffic in
    every layer or bubbles.
    """
    if dies < 1:
        raise InputError(f"{dies} dies can't hold a model")
    candidates = []
    tried = list(layouts(model, dies))
    for number, layout in enumerate(tried):
        progress(number, len(tried), "layouts")
        candidates.append(_serve(model, chip, engine, options, layout, memory))
    return _sorted(candidates, "most sequences of the context in all, then fewest TP ranks, then fewest stages")


def _serve(
    model: ModelConfig, chip: Chip, engine: Engine, options: ServingOptions, layout: Layout, memory: Memory | None
) -> Candidate:
    try:
        _check_experts(model, layout)
        result = budget(model, chip, engine, options, layout, memory)
    except InputError as error:
        return Candidate(layout, None, None, 0, str(error))
    if result.fits:
        return Candidate(layout, result, None, result.sequences * layout.data, "")
    held = sum(item.nbytes or 0 for item in result.items if item.part is BudgetPart.WEIGHTS)
    reason = (
        f"{format_bytes(result.missing_bytes)} missing for one sequence of {options.length:,} tokens "
        f"(weights {format_bytes(held)}, left for KV {format_bytes(result.available_bytes)})"
    )
    if result.refusal is not None and result.refusal.needed_bytes:
        reason = f"the engine refuses to start: {result.refusal.message}"
    return Candidate(layout, result, None, 0, reason)


def fit_training(
    model: ModelConfig,
    capacity: int,
    recipe: Recipe,
    dies: int,
    global_batch: int,
    progress: Progress = silent,
) -> LayoutSearch:
    """
    Training layouts of `dies` dies of `capacity` bytes each for `global_batch` samples a step.

    Fewest tensor-parallel ranks go first, then fewest stages, then the larger micro-batch that fits.
    """
    if dies < 1:
        raise InputError(f"{dies} dies can't hold a model")
    candidates = []
    tried = list(layouts(model, dies, training=True))
    for number, layout in enumerate(tried):
        progress(number, len(tried), "layouts")
        candidates.append(_train(model, capacity, recipe, layout, global_batch))
    return _sorted(candidates, "fewest TP ranks, then fewest stages, then largest micro-batch", training=True)


def _train(model: ModelConfig, capacity: int, recipe: Recipe, layout: Layout, global_batch: int) -> Candidate:
    try:
        _check_experts(model, layout)
        share, rest = divmod(global_batch, layout.data * recipe.micro_batch)
        if rest or not share:
            raise InputError(
                f"{global_batch} samples a step can't be divided among {layout.data} data-parallel ranks in "
                f"micro-batches of {recipe.micro_batch}"
            )
        asked = replace(recipe, micro_batches=share)
        memory = tightest_stage(model, layout, asked)
    except InputError as error:
        return Candidate(layout, None, None, 0, str(error))
    if memory.peak_bytes <= capacity:
        return Candidate(layout, None, memory, largest_micro_batch(model, layout, asked, capacity), "")
    over = format_bytes(memory.peak_bytes - capacity)
    largest = max(memory.parts, key=lambda part: part.nbytes)
    reason = f"{over} over on stage {memory.stage} ({largest.name} {format_bytes(largest.nbytes)})"
    return Candidate(layout, None, memory, 0, reason)


def _sorted(candidates: list[Candidate], order: str, *, training: bool = False) -> LayoutSearch:
    def rank(item: Candidate) -> tuple[int, ...]:
        layout = item.layout
        cost = (layout.tensor, layout.pipeline, layout.expert)
        return (*cost[:2], -item.capacity, cost[2]) if training else (-item.capacity, *cost)

    fitting = sorted((item for item in candidates if not item.rejected), key=rank)
    rejected = sorted((item for item in candidates if item.rejected), key=lambda item: rank(item)[-3:])
    return LayoutSearch(tuple(fitting), tuple(rejected), order)
