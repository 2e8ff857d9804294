"""`step_time`: how long one step takes on one rank, what it is spent on, and the tokens it yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from memplan.core.errors import InputError
from memplan.cost import Machine, machine
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.limits import KernelCost
from memplan.cost.ordered_costs import graph_costs
from memplan.graph import Graph, Op, TensorKind, live_curve
from memplan.hardware import Chip
from memplan.hardware import chip as find_chip
from memplan.models.architecture import ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.compressed_attention import WindowedLatent
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph
from memplan.schema import Source
from memplan.serving.collective_time import collective_ns
from memplan.serving.constants import (
    CAPTURED,
    Constants,
    HostWork,
    accepted,
    attention_type,
    constants,
    engine_host,
    hidden_host_notes,
    host_interval,
    sources,
    step_interval,
)

_LIBRARY_ATTENTION = "FusedInferAttentionScore"
"""The operator of attention over keys in pages that graphs have."""
_UNFUSED = LatentAttention, WindowedLatent
_HEAD = "lm_head"
"""The part of a model that makes logits, by the scope of its op."""


@dataclass(frozen=True, slots=True)
class OpTime:
    """One op of the step: when it starts and how long it takes, nanoseconds; what limits it; its class."""

    op: Op
    start_ns: int
    duration_ns: int
    bound: str
    kind: str
    flops: int


@dataclass(frozen=True, slots=True)
class StepShare:
    """What one class of ops, or one limit, takes of a step: kernels launched and nanoseconds, overlaps not deducted."""

    name: str
    launches: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class StageTime:
    """
    One pipeline stage: its graph and ops, the time from its first op to its last, and its bytes on one rank.

    `kernels_ns` is what its kernels take one after the other as a plan has them, `running_ns` the time from the first
    to the last in a running model, without the gaps before the `launches` kernels. `activation_bytes` is the most
    that is alive at once beside weights and caches.
    """

    graph: Graph
    ops: tuple[OpTime, ...]
    duration_ns: int
    kernels_ns: int
    running_ns: int
    launches: int
    weight_bytes: int
    cache_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """Weights, caches and activations; buffers of collectives and workspaces come on top."""
        return self.weight_bytes + self.cache_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True)
class StepTime:
    """
    Time of a step of a model in a layout.

    `duration_ns` is that of all stages in turn with the host's overhead. A decode step yields `tokens_per_sequence`
    (one, and the draft tokens accepted on average); `tpot_ns` is the time per token of one sequence,
    `tokens_per_second` what all ranks yield together and `tokens_per_second_per_die` one of them; a prefill's tokens
    are those it reads, and its duration is the time to the first token. `rests_on` names where rates come from,
    `constants` what a step costs beyond its kernels, `notes` what was left out. `host_ns` of the duration is what
    `engine` takes beyond the captured graph for `work`, `host_factor` times as long as other machines' hosts if that
    was told.
    """

    model: str
    chip: str
    layout: Layout
    step: ServedStep
    duration_ns: int
    tokens_per_sequence: float
    tpot_ns: int | None
    tokens_per_second: float
    tokens_per_second_per_die: float
    by_class: tuple[StepShare, ...]
    by_bound: tuple[StepShare, ...]
    stages: tuple[StageTime, ...]
    rests_on: tuple[Source, ...]
    constants: tuple[Source, ...]
    notes: tuple[str, ...]
    engine: str
    host_ns: int
    work: HostWork
    host_factor: float | None

    @property
    def sequences(self) -> int:
        """Sequences of one rank."""
        return self.work.sequences

    @property
    def interval_ns(self) -> tuple[int, int]:
        """
        Between which the steps of four of five public rows lie that are predicted the same duration.

        Where the host is that of the machine, how hosts differ is in none.
        """
        share = self.host_ns / self.duration_ns if self.duration_ns and self.host_factor is None else 0.0
        low, high = step_interval(self.engine, share, duration_ns=self.duration_ns)
        return round(self.duration_ns * low), round(self.duration_ns * high)


def step_time(
    model: ModelConfig,
    layout: Layout,
    step: ServedStep,
    chip: str | Chip,
    *,
    acceptance: float | None = None,
    fixed: Constants | None = None,
    engine: str = CAPTURED,
    eager_drafts: bool = False,
    host_factor: float | None = None,
) -> StepTime:
    """
    Time of `step` of `model` on the ranks of `layout`, each one die of `chip`, served by `engine`.

    With `eager_drafts` the host launches the kernels of each draft one by one, as engines do that capture the model
    alone. `host_factor` is how many times as long the machine's own host takes as those of public runs
    (`found_host_factor` says it of a measured step).

    `acceptance` is how many of the draft tokens of a step are accepted on average, by default what public tables
    state, for an engine what services report. Raises `InputError` for a layout or a chip that can't be used.
    """
    die = chip if isinstance(chip, Chip) else find_chip(chip)
    core, table = machine(die), fixed or constants()
    notes: list[str] = []
    host = engine_host(engine, alone=layout.ranks == 1).slower(1.0 if host_factor is None else host_factor)
    if eager_drafts and engine == CAPTURED:
        raise InputError("drafts that are launched one by one are of an engine", remedy="name it with --engine")
    if engine == CAPTURED:
        notes.append("the host's work is taken to be hidden, as reference stacks have it: --engine names a served one")
    else:
        notes.append("other requests' prompts in the same step are left out")
    notes.extend(routing_notes(model, even=step.even_routing))
    by = attention_type(engine)
    stages = tuple(
        _stage(model, layout, step, die, core, table, number, notes, by) for number in range(layout.pipeline)
    )
    launch = round((1 + step.speculative) * table.step_overhead_ns)
    captured = sum(stage.duration_ns for stage in stages) + launch
    reads = step.phase is Phase.PREFILL
    sequences = -(-step.batch // layout.data)
    work = HostWork(
        layers=step_layers(model, step),
        unfused=unfused_layers(model, step),
        recurrent=recurrent_layers(model, step),
        kernels=sum(stage.launches for stage in stages),
        drafted=_drafted(stages[-1].ops, len(model.layers)),
        sequences=sequences,
        tokens=sequences * (step.context - step.cached if reads else 1 + step.speculative),
    )
    duration = host.step(captured, work, reads=reads, eager_drafts=eager_drafts)
    if host_factor is None:
        notes.extend(_host_notes(duration - captured, duration))
        notes.extend(hidden_host_notes(engine))
    # With all stages busy on batches of their own, the slowest of them sets the pace; the last one runs drafts.
    launched = (*[(table.step_overhead_ns, False)] * (layout.pipeline - 1), (launch, eager_drafts))
    pace = max(
        host.step(stage.duration_ns + graphs, work.staged(layout.pipeline), reads=reads, eager_drafts=own)
        for stage, (graphs, own) in zip(stages, launched, strict=True)
    )
    if step.phase is Phase.DECODE:
        yielded = 1 + (accepted(step.speculative, engine) if acceptance is None else acceptance)
        tpot: int | None = round(duration / yielded)
    else:
        yielded, tpot = float(step.context - step.cached), None
    total = step.batch * yielded / pace * 1e9
    ops = [item for stage in stages for item in stage.ops]
    return StepTime(
        model=model.name,
        chip=die.name,
        layout=layout,
        step=step,
        duration_ns=duration,
        tokens_per_sequence=yielded,
        tpot_ns=tpot,
        tokens_per_second=total,
        tokens_per_second_per_die=total / layout.ranks,
        by_class=_shares([(item.kind, item) for item in ops]),
        by_bound=_shares([(item.bound, item) for item in ops]),
        stages=stages,
        rests_on=(
            *core.sources,
            Source("constants of the serving model", "memplan/serving/constants.json gives the source of each"),
        ),
        constants=sources(),
        notes=tuple(dict.fromkeys((*stages[0].graph.notes, *notes))),
        engine=engine,
        host_ns=duration - captured,
        work=work,
        host_factor=host_factor,
    )


def _host_notes(host_ns: int, duration_ns: int) -> list[str]:
    hosts = host_interval()
    if host_ns < hosts.at_least * duration_ns:
        return []
    return [
        f"the host sets this step: {host_ns / 1e6:.1f} of {duration_ns / 1e6:.1f} ms are its own; four of five public "
        f"hosts take {hosts.low:g} to {hosts.high:g} times as long as predicted, in containers with few processors "
        f"{hosts.contained_low:g} to {hosts.contained_high:g} times; --measured-step finds out how long this machine's "
        "takes"
    ]


def _stage(
    model: ModelConfig,
    layout: Layout,
    step: ServedStep,
    chip: Chip,
    core: Machine,
    table: Constants,
    number: int,
    notes: list[str],
    attention: str,
) -> StageTime:
    graph = _with_attention(_halves(step_graph(model, layout, step, stage=number), core, notes), attention)
    costs = graph_costs(graph, core)
    durations, gaps, bounds, flops = _durations(graph, costs, chip, core, table, notes)
    ops = _run(graph, [time + gap for time, gap in zip(durations, gaps, strict=True)], bounds, flops)
    size = {TensorKind.WEIGHT: 0, TensorKind.INPUT: 0}
    for tensor in graph.tensors:
        if tensor.storage == tensor.index and tensor.kind in size:
            size[tensor.kind] += tensor.nbytes
    activations = live_curve(graph, kinds=(TensorKind.ACTIVATION,), workspace=False)
    return StageTime(
        graph=graph,
        ops=ops,
        duration_ns=_end(ops),
        kernels_ns=sum(cost.duration_ns for cost in costs if cost is not None),
        running_ns=_end(_run(graph, durations, bounds, flops)),
        launches=sum(gap > 0 for gap in gaps),
        weight_bytes=size[TensorKind.WEIGHT],
        cache_bytes=size[TensorKind.INPUT],
        activation_bytes=int(np.max(activations, initial=0)),
    )


def _with_attention(graph: Graph, operator: str) -> Graph:
    """`graph` with attention over keys in pages by the `operator` of an engine."""
    if operator == _LIBRARY_ATTENTION:
        return graph
    return replace(
        graph, ops=tuple(replace(op, type=operator) if op.type == _LIBRARY_ATTENTION else op for op in graph.ops)
    )


def _halves(graph: Graph, core: Machine, notes: list[str]) -> Graph:
    """`graph` with float16 in place of bfloat16 where the cube of `core` lacks that."""
    if core.mac_rate("bfloat16") is not None or core.mac_rate("float16") is None:
        return graph
    note = "the cube of this chip has no bfloat16: 16-bit values are float16, as engines have them there"
    if note not in notes:
        notes.append(note)
    tensors = (replace(tensor, dtype="float16") if tensor.dtype == "bfloat16" else tensor for tensor in graph.tensors)
    return replace(graph, tensors=tuple(tensors))


def step_layers(model: ModelConfig, step: ServedStep) -> int:
    """Layers that `step` runs, one for each draft with them."""
    return len(model.layers) + step.speculative


def routing_notes(model: ModelConfig, *, even: bool) -> tuple[str, ...]:
    """What to say of a mixture's time where its experts aren't `even`."""
    if even or not any(isinstance(layer.ffn, MoeFfn) for layer in model.layers):
        return ()
    return (
        "nobody balanced the experts: ranks wait for that with most rows, and fewer experts get any where tokens are "
        "few; --even-routing balances them",
    )


def unfused_layers(model: ModelConfig, step: ServedStep) -> int:
    """Those of `step_layers` whose tokens are mixed by latent or compressed attention."""
    return sum(isinstance(mixer, _UNFUSED) for mixer in _mixers(model, step))


def recurrent_layers(model: ModelConfig, step: ServedStep) -> int:
    """Those of `step_layers` whose tokens are mixed by a recurrence, alone or beside attention."""
    others = (*_UNFUSED, GroupedAttention)
    return sum(mixer is not None and not isinstance(mixer, others) for mixer in _mixers(model, step))


def _mixers(model: ModelConfig, step: ServedStep) -> list[TokenMixer | None]:
    drafts = [model.mtp_layers[min(number, len(model.mtp_layers) - 1)] for number in range(step.speculative)]
    return [layer.mixer for layer in (*model.layers, *drafts)]


def _drafted(ops: Sequence[OpTime], layers: int) -> int:
    """Kernels of `ops` from the first of a draft's layer on, which stands behind the `layers` of the model."""
    kernels = [item.op for item in ops if item.duration_ns and launches(item.op)]
    places = (place for place, op in enumerate(kernels) if op.scope is not None and (op.scope.layer or 0) >= layers)
    return len(kernels) - next(places, len(kernels))


def _end(ops: Sequence[OpTime]) -> int:
    return max((item.start_ns + item.duration_ns for item in ops), default=0)


def _durations(
    graph: Graph, costs: Sequence[KernelCost | None], chip: Chip, core: Machine, table: Constants, notes: list[str]
) -> tuple[list[int], list[int], list[str], list[int]]:
    """
    Nanoseconds of every op's kernel and of the gap before it, its limit and its FLOPs.

    An op fused into the kernel before it pays neither launch nor gap, only its slowest pipe. Matrix products reach a
    share of the rate that they have alone.
    """
    durations, gaps, bounds, flops = [], [], [], []
    for op, cost in zip(graph.ops, costs, strict=True):
        if cost is None:
            durations.append(0)
            gaps.append(0)
            bounds.append("none")
            flops.append(0)
            continue
        bound, time = cost.bound, float(cost.duration_ns)
        if op.attrs.get("group") is not None:
            found = collective_ns(op, graph, chip, table)
            if found is None:
                notes.append(f"no rate of the links between dies of {chip.name} is known: collectives cost a launch")
            else:
                bound, time = "link", found
        if op_class(op.type).rule == "hyper_connection_read":
            time = _mixing_ns(op, graph, core, table)
        elif op.attrs.get("fused"):
            time = max(cost.pipes.values(), default=0.0)
        if cost.kind == "matmul":
            time /= table.product_share
        if op.attrs.get("within"):
            # What was measured for the whole kernel has it.
            time = 0.0
        durations.append(round(time))
        gaps.append(round(table.kernel_gap_ns) if launches(op) else 0)
        bounds.append(bound)
        flops.append(cost.flops)
    return durations, gaps, bounds, flops


def _mixing_ns(op: Op, graph: Graph, core: Machine, table: Constants) -> float:
    """Reading hyper-connections: twenty rounds of normalising small matrices that depend on each other, then a sum."""
    elements = prod(graph.tensors[op.inputs[0]].shape)
    share = table.mixing_vector_hz / (core.vectors * core.vector_clock_hz)
    time = table.mixing_base_ns + elements * table.mixing_element_ns * share
    return time * table.mixing_direct_share if core.direct else time


def _run(graph: Graph, durations: Sequence[int], bounds: Sequence[str], flops: Sequence[int]) -> tuple[OpTime, ...]:
    """Ops in order on their streams, each after what it reads was written."""
    tensors = graph.tensors
    written: dict[int, int] = {}
    free: dict[int, int] = {}
    found = []
    for op, duration, bound, count in zip(graph.ops, durations, bounds, flops, strict=True):
        ready = max((written.get(tensors[index].storage, 0) for index in op.inputs), default=0)
        start = max(free.get(op.stream, 0), ready)
        free[op.stream] = end = start + duration
        for index in op.outputs:
            written[tensors[index].storage] = end
        found.append(OpTime(op, start, duration, bound, _kind(op), count))
    return tuple(found)


def _kind(op: Op) -> str:
    """The class of an op as the time of a step is listed by."""
    group = op.attrs.get("group")
    if group == "ep":
        return "expert dispatch and combine"
    if group is not None:
        return "collectives"
    rule = op_class(op.type)
    if rule.rule == "indexer":
        return "indexer"
    if rule.kind == "attention":
        return "attention"
    if rule.kind == "grouped_matmul":
        return "expert products"
    if op.scope is not None and op.scope.part == _HEAD:
        return "head"
    if rule.kind == "matmul":
        return "matrix products"
    return "vector"


def launches(op: Op) -> bool:
    """Whether an op is a kernel of its own."""
    return not op.attrs.get("fused") and not op.attrs.get("within")


def _shares(items: Sequence[tuple[str, OpTime]]) -> tuple[StepShare, ...]:
    found: dict[str, tuple[int, int]] = {}
    for name, item in items:
        count, time = found.get(name, (0, 0))
        found[name] = count + launches(item.op), time + item.duration_ns
    ordered = sorted(found.items(), key=lambda pair: -pair[1][1])
    return tuple(StepShare(name, count, time) for name, (count, time) in ordered)
