"""`training_time`: how long a training step takes, and on each stage for what: compute, exchanges, bubble, host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from memplan.core.units import format_rate
from memplan.cost import Machine, machine
from memplan.cost.l2 import graph_costs
from memplan.graph import Op
from memplan.hardware import Chip
from memplan.hardware.host import host_tier
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.memory import training_spans
from memplan.models.training.states import hosted_bytes
from memplan.models.training.step_recipe import Recipe
from memplan.models.training.trained_model import trained_model
from memplan.schema import Source
from memplan.serving.eager_kernels import (
    EagerHost,
    beside_products,
    eager_costs,
    eager_host,
    host_waits,
    op_phase,
    trained_interval,
)
from memplan.serving.step_parts import BACKWARD_PHASES, FORWARD_PHASES, pipeline_span_ns
from memplan.serving.training_context import context_items
from memplan.serving.training_exchanges import exposed_exchanges

MEGATRON = "megatron"
"""The engine that trains where none is named: one kernel at a time, launched by the host."""


@dataclass(frozen=True, slots=True)
class StageParts:
    """
    Nanoseconds of a step on one pipeline stage: they add up to the step.

    Compute and exchanges are those that its dies do, with each other and with the host where that keeps the optimiser's
    states, of exchanges that run beside products what these don't hide; `bubble_ns` is waiting for other stages,
    `host_ns` waiting for kernels to be launched. `launches` are the kernels of a step.
    """

    compute_ns: int
    communication_ns: int
    bubble_ns: int
    host_ns: int
    launches: int


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """
    Time of a training step of `model` in `layout` by `engine`, with its parts on every stage.

    `interval` is measured over predicted time of about four of five public steps of its kind.
    """

    model: str
    chip: str
    layout: Layout
    recipe: Recipe
    engine: str
    duration_ns: int
    interval: tuple[float, float]
    stages: tuple[StageParts, ...]
    rests_on: tuple[Source, ...]
    notes: tuple[str, ...]

    @property
    def interval_ns(self) -> tuple[int, int]:
        """Between which four of five steps of this kind with this prediction are taken to lie."""
        low, high = self.interval
        return round(self.duration_ns * low), round(self.duration_ns * high)

    @property
    def tokens_per_second(self) -> float:
        """Tokens that all ranks together train on."""
        recipe = self.recipe
        samples = recipe.micro_batch * recipe.micro_batches * self.layout.data
        return samples * recipe.sequence / self.duration_ns * 1e9


@dataclass(frozen=True, slots=True)
class _Item:
    """
    One launch: nanoseconds of the device and of the host, whether dies exchange in it, and whether the host waits for
    all before it.
    """

    duration_ns: float
    launch_ns: float
    exchange: bool
    waits: bool = False


@dataclass(frozen=True, slots=True)
class _StageRun:
    """What a stage runs for one micro-batch, forward and back, and at the end; nanoseconds of its receptions."""

    forward: tuple[_Item, ...]
    backward: tuple[_Item, ...]
    tail: tuple[_Item, ...]
    received_ns: tuple[float, float]


def training_time(
    model: ModelConfig, layout: Layout, recipe: Recipe, chip: Chip, *, engine: str = MEGATRON
) -> TrainingTime:
    """
    Time of a step of `recipe` on the ranks of `layout`, each one die of `chip`.

    The device runs kernels one after the other, none before the host launched it; what passes between stages makes the
    host wait for the device (Megatron's `batch_p2p_sync`). Exchanges of tensor-parallel ranks run beside or within
    products as `exposed_exchanges` says, keys and values of a ring beside attention; those of gradients and weights
    overlap with nothing.
    Raises `InputError` for a layout, a recipe or an engine that can't be used.
    """
    core, host, model = machine(chip), eager_host(engine), trained_model(model, recipe)
    runs = _stage_runs(model, layout, recipe, core, engine, host)
    count, last = recipe.micro_batches, layout.pipeline - 1
    ways = [_ways(run, together=number == last) for number, run in enumerate(runs)]
    if layout.pipeline > 1:
        span = pipeline_span_ns([(round(forth), round(back)) for forth, back in ways], layout, recipe)
    else:
        # No stage waits for another: the host runs ahead from one micro-batch to the next.
        span = round(_elapsed((*runs[0].forward, *runs[0].backward) * count))
        ways = [(span / count, 0.0)]
    swaps = [_swap_ns(model, layout, recipe, chip, stage) for stage in range(layout.pipeline)]
    tails = [_elapsed(run.tail) + swap for run, swap in zip(runs, swaps, strict=True)]
    step = span + round(max(tails)) + round(host.report_ns)
    stages = []
    for run, (forth, back), tail, swap in zip(runs, ways, tails, swaps, strict=True):
        items = (*(run.forward + run.backward) * count, *run.tail)
        compute = sum(item.duration_ns for item in items if not item.exchange)
        exchanged = sum(item.duration_ns for item in items if item.exchange) + count * sum(run.received_ns) + swap
        waited = count * (forth + back) + tail + host.report_ns - compute - exchanged
        parts = round(compute), round(exchanged), round(waited)
        stages.append(StageParts(parts[0], parts[1], step - sum(parts), parts[2], len(items)))
    return TrainingTime(
        model=model.name,
        chip=chip.name,
        layout=layout,
        recipe=recipe,
        engine=engine,
        duration_ns=step,
        interval=trained_interval(engine, model, layout),
        stages=tuple(stages),
        rests_on=(*core.sources, *host.sources, *_swap_sources(recipe, chip)),
        notes=(
            "gradients and weights are exchanged when all micro-batches are done: what overlaps is left out",
            "loading of samples, checkpoints and replicas that wait for each other are left out",
        ),
    )


def _swap_ns(model: ModelConfig, layout: Layout, recipe: Recipe, chip: Chip, stage: int) -> float:
    """
    Nanoseconds in which states kept on the host come in and go out again, both ways at once, piece by piece.

    The update itself, far shorter, is counted beside that. 0 where the chip's way to the host has no known rate.
    """
    if not recipe.swap_optimizer:
        return 0.0
    away = hosted_bytes(model, layout, recipe, training_spans(model, layout, recipe, stage))
    host = host_tier(chip)
    rates = (host.out_link.bytes_per_second, host.in_link.bytes_per_second)
    known = [rate for rate in rates if rate is not None]
    return away / min(known) * 1e9 if known else 0.0


def _swap_sources(recipe: Recipe, chip: Chip) -> tuple[Source, ...]:
    if not recipe.swap_optimizer:
        return ()
    host = host_tier(chip)
    return tuple(
        Source(f"{link.name}: {format_rate(link.bytes_per_second)}", link.source)
        for link in (host.out_link, host.in_link)
        if link.bytes_per_second is not None
    )


def _stage_runs(
    model: ModelConfig, layout: Layout, recipe: Recipe, core: Machine, engine: str, host: EagerHost
) -> list[_StageRun]:
    """What every stage runs; stages of equal layers are costed once."""
    one = replace(recipe, micro_batches=1)
    known: dict[object, _StageRun] = {}
    found = []
    for number in range(layout.pipeline):
        spans = training_spans(model, layout, recipe, number)
        layers = [layer for span in spans for layer in model.layers[span.start : span.stop]]
        key = (number == 0, number == layout.pipeline - 1, tuple((layer.mixer, layer.ffn) for layer in layers))
        if key not in known:
            known[key] = _stage_run(model, layout, one, core, engine, host, number)
        found.append(known[key])
    return found


def _stage_run(
    model: ModelConfig, layout: Layout, recipe: Recipe, core: Machine, engine: str, host: EagerHost, stage: int
) -> _StageRun:
    graph = training_graph(model, layout, recipe, stage=stage)
    forward: list[_Item] = []
    backward: list[_Item] = []
    tail: list[_Item] = []
    received = [0.0, 0.0]
    costs = graph_costs(graph, core)
    beside = beside_products(engine)
    exposed = exposed_exchanges(graph, costs, recipe, core, beside)
    contexts = context_items(engine, graph, costs, layout, recipe, core, beside)
    for place, (op, cost) in enumerate(zip(graph.ops, costs, strict=True)):
        if cost is None:
            continue
        phase = op_phase(op)
        if phase == "pipeline":
            if op.type == "Receive":
                received["gradient" in op.name] += cost.duration_ns
            continue
        forth, back, waits = phase in FORWARD_PHASES, phase in BACKWARD_PHASES, host_waits(engine, op)
        launch = host.forward_launch_ns if forth else host.backward_launch_ns if back else host.update_launch_ns
        items = forward if forth else backward if back else tail
        if place in contexts:
            items.extend(_Item(item.duration_ns, launch, item.exchange) for item in contexts[place])
            continue
        own = exposed.durations.get(place, float(cost.duration_ns))
        for item in eager_costs(engine, op, graph, cost, core):
            first = item is cost
            launched = 0.0 if first and place in exposed.within else launch
            items.append(_Item(own if first else item.duration_ns, launched, first and _exchanges(op), first and waits))
        if place in exposed.repeated:
            items.append(_Item(exposed.repeated[place], launch, True))
    return _StageRun(tuple(forward), tuple(backward), tuple(tail), (received[0], received[1]))


def _exchanges(op: Op) -> bool:
    return op.attrs.get("group") is not None


def _ways(run: _StageRun, *, together: bool) -> tuple[float, float]:
    """Nanoseconds forward and back; `together` where nothing is sent between, so that the host runs ahead."""
    forth = _elapsed(run.forward)
    back = _elapsed((*run.forward, *run.backward)) - forth if together else _elapsed(run.backward)
    return forth + run.received_ns[0], back + run.received_ns[1]


def _elapsed(items: Iterable[_Item]) -> float:
    """Nanoseconds from the host's first work on `items` to the end of the last of them."""
    launched = done = 0.0
    for item in items:
        launched = max(launched, done if item.waits else 0.0) + item.launch_ns
        done = max(done, launched) + item.duration_ns
    return done
