"""Which parallel layouts of a number of dies hold a model, which is best, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.kv.budget_parts import KvBudget
from memplan.models import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.memory import TrainingMemory

MOST_DIES = 384
"""Dies up to which a search goes where nobody says how many there are."""


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

    @property
    def nearest(self) -> Candidate | None:
        """Of the layouts to serve with that were tried and hold too little the one that lacks least."""
        short = (item for item in self.rejected if item.budget is not None)
        return min(short, key=_lacks, default=None)


def _lacks(item: Candidate) -> int:
    return 0 if item.budget is None else item.budget.missing_bytes


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def layouts(model: ModelConfig, dies: int, *, training: bool = False) -> Iterator[Layout]:
    """
    Every division of `dies` into TP x PP x DP, with experts split by TP or shared.

    Serving engines share experts among all ranks of a stage (TP x DP) or not at all; training may share them among
    any part of those, each expert whole on its rank.
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
                whole = 1 if training and expert > 1 else None
                yield Layout(tensor=tensor, pipeline=pipeline, data=data, expert=expert, expert_tensor=whole)


def check_experts(model: ModelConfig, layout: Layout) -> None:
    """Raise `InputError` where the ranks that share experts can't have as many each."""
    ffn = model.experts
    if ffn is not None and ffn.experts % layout.expert:
        raise InputError("{} experts can't be divided evenly among {} ranks", ffn.experts, layout.expert)


def sorted_fit(candidates: list[Candidate], order: str, *, training: bool = False) -> LayoutSearch:
    """Sort `candidates`: those that fit by `order`, then the others."""

    def rank(item: Candidate) -> tuple[int, ...]:
        layout = item.layout
        cost = (layout.tensor, layout.pipeline, layout.expert)
        context = 0 if item.budget is None else item.budget.context
        return (*cost[:2], -item.capacity, cost[2]) if training else (-context, -item.capacity, *cost)

    fitting = sorted((item for item in candidates if not item.rejected), key=rank)
    rejected = sorted((item for item in candidates if item.rejected), key=lambda item: rank(item)[-3:])
    return LayoutSearch(tuple(fitting), tuple(rejected), order)
