"""The order in which a pipeline stage runs the ways of its micro-batches, forward and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.models.parallel import Layout
from memplan.models.training.recipe_choices import Schedule
from memplan.models.training.step_recipe import Recipe


@dataclass(frozen=True, slots=True)
class PipelinePass:
    """One micro-batch on its way through one run of a stage's layers (`chunk`, 0 where it holds a single one)."""

    forward: bool
    micro_batch: int
    chunk: int = 0


def pipeline_order(layout: Layout, recipe: Recipe, stage: int) -> Iterator[PipelinePass]:
    """
    What pipeline stage `stage` runs, in order.

    Interleaved stages take micro-batches in groups of g, as many as there are stages unless told, each group through
    all chunks, and go forward `2 (p - i - 1) + (v - 1) g` times before they alternate (Megatron-LM
    core/pipeline_parallel/schedules.py: get_schedule_table, get_pp_rank_microbatches). Raises `InputError` for a
    schedule whose order is not known.
    """
    if recipe.schedule not in (Schedule.ONE_F_ONE_B, Schedule.GPIPE, Schedule.INTERLEAVED):
        raise InputError("the order of the {} schedule is not modelled as a graph", recipe.schedule.value)
    chunks = recipe.chunks if recipe.schedule is Schedule.INTERLEAVED else 1
    if chunks > 1 and layout.pipeline == 1:
        raise InputError("layers are interleaved on several pipeline stages, and there is one", remedy="give --pp")
    group = recipe.group_of(layout.pipeline)
    ahead = list(_forward(group, recipe.micro_batches, chunks))
    back = [PipelinePass(False, item.micro_batch, chunks - 1 - item.chunk) for item in ahead]
    warm = layout.pipeline - stage - 1
    if recipe.schedule is Schedule.GPIPE:
        warm = len(ahead)
    elif chunks > 1:
        warm = 2 * warm + (chunks - 1) * group
    warm = min(warm, len(ahead))
    yield from ahead[:warm]
    for number, item in enumerate(ahead[warm:]):
        yield item
        yield back[number]
    yield from back[len(ahead) - warm :]


def _forward(group: int, micro_batches: int, chunks: int) -> Iterator[PipelinePass]:
    if chunks == 1:
        yield from (PipelinePass(True, number) for number in range(micro_batches))
        return
    for first in range(0, micro_batches, group):
        for chunk in range(chunks):
            for number in range(first, min(first + group, micro_batches)):
                yield PipelinePass(True, number, chunk)


def pass_before(item: PipelinePass, stage: int, stages: int, chunks: int) -> tuple[int, PipelinePass] | None:
    """The stage and the pass whose output a pass begins with; `None` for the embedding of tokens."""
    if item.forward:
        if stage:
            return stage - 1, item
        return None if not item.chunk else (stages - 1, PipelinePass(True, item.micro_batch, item.chunk - 1))
    if stage < stages - 1:
        return stage + 1, item
    if item.chunk < chunks - 1:
        return 0, PipelinePass(False, item.micro_batch, item.chunk + 1)
    return stage, PipelinePass(True, item.micro_batch, item.chunk)
