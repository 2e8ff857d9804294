"""`training_time`: how long a training step takes, and on each stage for what: compute, exchanges, bubble, host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.units import format_rate
from memplan.cost import Machine, machine
from memplan.cost.ordered_costs import graph_costs
from memplan.engines import CAPTURED
from memplan.graph import Op
from memplan.hardware import Chip
from memplan.hardware.host import host_tier
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.memory import training_spans
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.states import hosted_bytes
from memplan.models.training.step_recipe import Recipe, option_of
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
from memplan.serving.training_exchanges import exchanges_of_weights, exposed_exchanges
from memplan.serving.training_steps import OneByOne
from memplan.serving.unpriced_words import unpriced_words

MEGATRON, PYTORCH = "megatron", "pytorch"
"""Engines that train where none is named, one kernel at a time, launched by the host: `pytorch` with `fully_shard`."""
_UNTIMED = "float32", "compiled_layers"
"""Words of a recipe by which most kernels of a step are others than those that are priced."""
_EXCHANGED = "gradients and weights are exchanged when all micro-batches are done: what overlaps is left out"
_GATHERED = "weights are gathered a layer ahead and gradients spread behind a layer, both beside other layers"
_ADAPTERS = (
    "adapters: the one public step of theirs takes two thirds of its prediction, which is below the interval; "
    "why, nobody has found"
)
_CAPTURED_EXPERTS = (
    "experts on captured graphs: of four public steps two take two and four times as long as predicted, which is above "
    "the interval; why, nobody has found"
)


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
    all before it. An exchange with `beside` runs beside what comes behind it; one that has the number in its `reads`
    starts when it is done.
    """

    duration_ns: float
    launch_ns: float
    exchange: bool
    waits: bool = False
    beside: int | None = None
    reads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Span:
    """Nanoseconds from the host's first work to the end of the last item, and those that items waited for exchanges."""

    duration_ns: float
    exposed_ns: float


@dataclass(frozen=True, slots=True)
class _StageRun:
    """What a stage runs for one micro-batch, forward and back, and at the end; nanoseconds of its receptions."""

    forward: tuple[_Item, ...]
    backward: tuple[_Item, ...]
    tail: tuple[_Item, ...]
    received_ns: tuple[float, float]


def usual_engine(recipe: Recipe) -> str:
    """What trains `recipe` where no engine is named: `fully_shard` is PyTorch's, all else Megatron's."""
    return PYTORCH if recipe.sharding is Sharding.FSDP2 else MEGATRON


def training_time(
    model: ModelConfig, layout: Layout, recipe: Recipe, chip: Chip, *, engine: str | None = None
) -> TrainingTime:
    """
    Time of a step of `recipe` on the ranks of `layout`, each one die of `chip`, as `engine` runs it: by default
    `pytorch` where weights are `fully_shard`'s, else `megatron`.

    The device runs kernels one after the other, none before the host launched it; what passes between stages makes the
    host wait for the device (Megatron's `batch_p2p_sync`). Exchanges of tensor-parallel ranks run beside or within
    products as `exposed_exchanges` says, keys and values of a ring beside attention, weights that are gathered layer by
    layer and gradients that are spread so beside other layers; other exchanges of gradients and weights overlap with
    nothing. What `recipe` has no fused kernels for is launched one by one.
    Raises `InputError` for a layout, a recipe or an engine that can't be used.
    """
    for name in _UNTIMED:
        if getattr(recipe, name):
            raise InputError(
                "the time of a step with {} is not modelled",
                option_of(name),
                remedy="memplan train-memory counts its memory",
            )
    engine, unpriced = engine or usual_engine(recipe), unpriced_words(recipe)
    core, host, model = machine(chip), eager_host(engine), trained_model(model, recipe)
    runs = _stage_runs(model, layout, recipe, core, engine, host)
    count, last = recipe.micro_batches, layout.pipeline - 1
    ways = [_ways(run, together=number == last) for number, run in enumerate(runs)]
    if layout.pipeline > 1:
        span = pipeline_span_ns([(round(way.forth_ns), round(way.back_ns)) for way in ways], layout, recipe)
    else:
        # No stage waits for another: the host runs ahead from one micro-batch to the next.
        found = _elapsed((*runs[0].forward, *runs[0].backward) * count)
        span = round(found.duration_ns)
        ways = [_Ways(span / count, 0.0, found.exposed_ns / count)]
    swaps = [_swap_ns(model, layout, recipe, chip, stage) for stage in range(layout.pipeline)]
    tails = [_elapsed(run.tail).duration_ns + swap for run, swap in zip(runs, swaps, strict=True)]
    step = span + round(max(tails)) + round(host.report_ns)
    stages = []
    for run, way, tail, swap in zip(runs, ways, tails, swaps, strict=True):
        batch = run.forward + run.backward
        compute = count * _computed_ns(batch) + _computed_ns(run.tail)
        alone = count * _exchanged_ns(batch) + _exchanged_ns(run.tail)
        exchanged = alone + count * (sum(run.received_ns) + way.exposed_ns) + swap
        waited = count * (way.forth_ns + way.back_ns) + tail + host.report_ns - compute - exchanged
        parts = round(compute), round(exchanged), round(waited)
        launches = count * len(batch) + len(run.tail)
        stages.append(StageParts(parts[0], parts[1], step - sum(parts), parts[2], launches))
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
            _GATHERED if recipe.sharding.gathers else _EXCHANGED,
            "loading of samples, checkpoints and replicas that wait for each other are left out",
            *((_ADAPTERS,) if recipe.lora_rank else ()),
            *((_CAPTURED_EXPERTS,) if engine == CAPTURED and model.experts is not None else ()),
            *((f"{', '.join(unpriced)}: what this changes is not priced",) if unpriced else ()),
        ),
    )


def _computed_ns(items: Iterable[_Item]) -> float:
    return sum(item.duration_ns for item in items if not item.exchange)


def _exchanged_ns(items: Iterable[_Item]) -> float:
    """Nanoseconds of exchanges that run beside nothing."""
    return sum(item.duration_ns for item in items if item.exchange and item.beside is None)


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
    behind = exchanges_of_weights(graph, beside)
    steps = OneByOne(engine, model, graph, recipe, core)
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
        if place in behind.numbers and beside is not None:
            number, reads = behind.numbers[place], behind.reads.get(place, ())
            items.append(_Item(own * beside.growth, launch, True, beside=number, reads=reads))
            continue
        alone = steps.kernels(op)
        if alone is not None:
            items.extend(_Item(item.cost.duration_ns, launch, False, item.waits) for item in alone)
            continue
        for item in eager_costs(engine, op, graph, cost, core):
            first = item is cost
            launched = 0.0 if first and place in exposed.within else launch
            items.append(
                _Item(
                    own if first else item.duration_ns,
                    launched,
                    first and _exchanges(op),
                    first and waits,
                    reads=behind.reads.get(place, ()) if first else (),
                )
            )
        if place in exposed.repeated:
            items.append(_Item(exposed.repeated[place], launch, True))
    return _StageRun(tuple(forward), tuple(backward), tuple(tail), (received[0], received[1]))


def _exchanges(op: Op) -> bool:
    return op.attrs.get("group") is not None


@dataclass(frozen=True, slots=True)
class _Ways:
    """Nanoseconds of a micro-batch forward and back on a stage, and those of both in which it waits for exchanges."""

    forth_ns: float
    back_ns: float
    exposed_ns: float


def _ways(run: _StageRun, *, together: bool) -> _Ways:
    """The ways of a micro-batch; `together` where nothing is sent between, so that the host runs ahead."""
    forth = _elapsed(run.forward)
    if together:
        both = _elapsed((*run.forward, *run.backward))
        back, exposed = both.duration_ns - forth.duration_ns, both.exposed_ns
    else:
        alone = _elapsed(run.backward)
        back, exposed = alone.duration_ns, forth.exposed_ns + alone.exposed_ns
    return _Ways(forth.duration_ns + run.received_ns[0], back + run.received_ns[1], exposed)


def _elapsed(items: Iterable[_Item]) -> _Span:
    """
    From the host's first work on `items` to the end of the last of them.

    Exchanges that run beside others begin, one after the other, when what was launched before them is done.
    """
    launched = done = link = exposed = 0.0
    ends: dict[int, float] = {}
    for item in items:
        launched = max(launched, max(done, link) if item.waits else 0.0) + item.launch_ns
        ready = max(done, launched)
        if item.beside is not None:
            link = max(link, ready, *(ends.get(place, 0.0) for place in item.reads)) + item.duration_ns
            ends[item.beside] = link
            continue
        start = max(ready, *(ends.get(place, 0.0) for place in item.reads)) if item.reads else ready
        exposed += start - ready
        done = start + item.duration_ns
    return _Span(max(done, link), exposed + max(0.0, link - done))
