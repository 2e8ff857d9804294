"""What the time of a step is made of besides the kernels that a plan holds: one figure wherever a step is shown."""

from __future__ import annotations

from dataclasses import replace

from memplan.cost import machine, op_costs
from memplan.engines import DEFAULT_ENGINE
from memplan.graph import Graph
from memplan.hardware import Chip
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import ServedStep, training_graph
from memplan.models.training.memory import training_spans
from memplan.models.training.pipeline_order import PipelinePass, pass_before, pipeline_order
from memplan.models.training.recipe_choices import Schedule
from memplan.models.training.step_recipe import Recipe
from memplan.schema import StepPart, StepPartName
from memplan.serving.constants import constants
from memplan.serving.steptime import StepTime, step_time, waits_for_busiest

FORWARD_PHASES = frozenset({"embedding", "forward", "loss"})
BACKWARD_PHASES = frozenset({"backward", "recompute"})


def served_parts(result: StepTime, stage: int | None = None, *, makespan_ns: int | None = None) -> tuple[StepPart, ...]:
    """
    The parts of a prefill or decode step, the kernels of `stage` first (of all stages by default).

    They add up to `result.duration_ns`, and to what a plan's own `makespan_ns` has beyond its kernels: waits for
    transfers to and from the host.
    """
    own = list(result.stages) if stage is None else [result.stages[stage]]
    others = [item for number, item in enumerate(result.stages) if stage is not None and number != stage]
    table = constants()
    kernels = sum(item.kernels_ns for item in own)
    running = sum(item.running_ns for item in own)
    gaps = sum(item.duration_ns - item.running_ns for item in own)
    launches = sum(item.launches for item in own)
    ops = kernels if makespan_ns is None else makespan_ns
    parts = [
        StepPart(StepPartName.OPS.value, ops, "kernels one after the other"),
        StepPart(
            StepPartName.RUNNING.value, running - kernels,
            f"products reach {table.product_share:.1%} of their rate alone, fused ops need no launch, side streams run "
            "beside, collectives between dies by measured constants",
        ),
        StepPart(StepPartName.GAPS.value, gaps, f"before {launches:,} kernels on the main chain and beside it"),
        StepPart(StepPartName.OTHER_STAGES.value, sum(item.duration_ns for item in others), "one after the other"),
    ]  # fmt: skip
    known = sum(item.duration_ns for item in result.stages)
    runs = 1 + result.step.speculative
    launch = result.hidden_host_ns - known
    parts.append(StepPart(StepPartName.LAUNCH.value, launch, f"the host, {runs} run(s) of the model"))
    parts.append(
        StepPart(StepPartName.HOST.value, result.host_ns, f"{result.engine}: scheduler, inputs, sampling, launches")
    )
    return tuple(part for part in parts if part.duration_ns or part.name == StepPartName.OPS)


def training_parts(
    model: ModelConfig, layout: Layout, recipe: Recipe, chip: Chip, *, stage: int, graph: Graph, makespan_ns: int
) -> tuple[StepPart, ...]:
    """
    The parts of a training step: the ops of `stage`, whose plan takes `makespan_ns`, and its wait for other stages.

    That wait is what 1F1B (interleaved or not) or GPipe leaves between a stage's own micro-batches, for stages that
    take turns without a gap. Time of the host and waiting for other replicas are in no part.
    """
    parts = [
        StepPart(
            StepPartName.OPS.value, makespan_ns, f"all {recipe.micro_batches} micro-batches, exchange and optimiser"
        )
    ]
    if layout.pipeline > 1:
        times = _stage_times(model, layout, recipe, chip, stage, graph)
        span = pipeline_span_ns(times, layout, recipe)
        wait = span - recipe.micro_batches * sum(times[stage])
        slowest = max(range(layout.pipeline), key=lambda number: sum(times[number]))
        order = f"{recipe.schedule.value} of {recipe.micro_batches} micro-batches on {layout.pipeline} stages"
        note = f"{order}; stage {slowest} is the slowest"
        parts.append(StepPart(StepPartName.WAITING.value, max(0, wait), note))
    return tuple(parts)


def _stage_times(
    model: ModelConfig, layout: Layout, recipe: Recipe, chip: Chip, stage: int, graph: Graph
) -> list[tuple[int, int]]:
    """Nanoseconds of one micro-batch forward and backward on every stage; stages of equal layers are costed once."""
    one = replace(recipe, micro_batches=1)
    known: dict[object, tuple[int, int]] = {}
    found = []
    for number in range(layout.pipeline):
        ends = number == 0, number == layout.pipeline - 1
        spans = training_spans(model, layout, recipe, number)
        layers = [layer for span in spans for layer in model.layers[span.start : span.stop]]
        key = (ends, tuple((layer.mixer, layer.ffn) for layer in layers))
        if key not in known:
            own = number == stage
            other = graph if own else training_graph(model, layout, one, stage=number)
            known[key] = _both_ways(other, chip, recipe.micro_batches if own else 1)
        found.append(known[key])
    return found


def _both_ways(graph: Graph, chip: Chip, micro_batches: int) -> tuple[int, int]:
    forward = backward = 0
    for op, cost in zip(graph.ops, op_costs(graph, machine(chip)), strict=True):
        phase = "" if op.scope is None else op.scope.phase
        if phase in FORWARD_PHASES:
            forward += cost.duration_ns
        elif phase in BACKWARD_PHASES:
            backward += cost.duration_ns
    return forward // micro_batches, backward // micro_batches


def pipeline_span_ns(times: list[tuple[int, int]], layout: Layout, recipe: Recipe) -> int:
    """
    From the first micro-batch's way forward to the last one's way back, every stage in its order.

    `times` are nanoseconds of one micro-batch forward and backward on each stage, all its runs of layers together.
    """
    orders = [list(pipeline_order(layout, recipe, stage)) for stage in range(layout.pipeline)]
    stages, chunks = layout.pipeline, recipe.chunks if recipe.schedule is Schedule.INTERLEAVED else 1
    done: dict[tuple[int, PipelinePass], int] = {}
    free, place = [0] * stages, [0] * stages
    while any(place[stage] < len(orders[stage]) for stage in range(stages)):
        for stage in range(stages):
            while place[stage] < len(orders[stage]):
                item = orders[stage][place[stage]]
                needed = pass_before(item, stage, stages, chunks)
                if needed is not None and needed not in done:
                    break
                start = max(free[stage], 0 if needed is None else done[needed])
                free[stage] = done[stage, item] = start + times[stage][0 if item.forward else 1] // chunks
                place[stage] += 1
    return max(free)


def model_step_parts(
    model: ModelConfig,
    layout: Layout,
    recipe: Recipe | ServedStep,
    chip: Chip,
    *,
    stage: int,
    graph: Graph,
    makespan_ns: int,
    engine: str = DEFAULT_ENGINE,
) -> tuple[StepPart, ...]:
    """
    The parts of the step that `graph` is stage `stage` of, when its plan takes `makespan_ns`; a served one has the host
    of `engine`.
    """
    if isinstance(recipe, Recipe):
        return training_parts(model, layout, recipe, chip, stage=stage, graph=graph, makespan_ns=makespan_ns)
    even = step_time(model, layout, replace(recipe, even_routing=True), chip, engine=engine)
    parts = served_parts(even, stage, makespan_ns=makespan_ns)
    if not waits_for_busiest(model, layout, even=recipe.even_routing):
        return parts
    more = step_time(model, layout, recipe, chip, engine=engine).duration_ns - even.duration_ns
    note = "ranks wait for that with most rows; where tokens are few, fewer experts get any, which may save more"
    return (*parts, StepPart(StepPartName.ROUTING.value, more, note)) if more else parts
