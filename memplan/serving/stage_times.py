"""How long one pipeline stage of a step takes on one rank, op by op, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from memplan.cost import Machine
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.limits import KernelCost
from memplan.cost.ordered_costs import graph_costs
from memplan.graph import Graph, Op, TensorKind, live_curve
from memplan.hardware import Chip
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import ServedStep, step_graph
from memplan.serving.collective_time import collective_ns
from memplan.serving.constants import Constants

_LIBRARY_ATTENTION = "FusedInferAttentionScore"
"""The operator of attention over keys in pages that graphs have."""
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


def stage_time(
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
