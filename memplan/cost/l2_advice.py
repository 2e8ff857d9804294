"""Advice on L2: weights to prefetch, tensors to read past it, and what costs took for granted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from memplan.core.units import format_bytes, format_duration
from memplan.cost.l2 import ReuseStack, graph_accesses
from memplan.cost.limits import KernelCost
from memplan.cost.machine import Machine
from memplan.graph import Graph, TensorKind

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Prefetch:
    """
    Advice: while step `during` runs, bring `size` bytes of tensor `tensor` into L2 (`npu_prefetch`, `aclrtCmoAsync`).

    Step `before` then reads them from there; `gain_ns` is what that saves.
    """

    tensor: int
    size: int
    during: int
    before: int
    gain_ns: int


@dataclass(frozen=True, slots=True)
class Bypass:
    """Advice: step `step` should read tensor `tensor` past L2 (`SetL2CacheHint`), as nothing reads it again soon."""

    tensor: int
    size: int
    step: int


def prefetches(graph: Graph, costs: Sequence[KernelCost | None], machine: Machine) -> list[Prefetch]:
    """
    Weights worth prefetching: read from HBM by a step that waits for memory, right after one that leaves HBM idle.

    A prefetch may use what the step before leaves of HBM's rate, and of L2 no more than a share.
    """
    accesses = graph_accesses(graph)
    rate = machine.hbm_bytes_per_second * machine["hbm_read_share"] * 1e-9
    saved_per_byte = 1 / rate - 1e9 / machine.l2_read_per_second
    stack = ReuseStack(machine.l2)
    found = []
    previous: tuple[int, KernelCost] | None = None
    for op, access, cost in zip(graph.ops, accesses, costs, strict=True):
        if cost is None:
            continue
        if previous is not None and cost.bound == "hbm" and saved_per_byte > 0:
            during, before = previous
            idle = max(before.duration_ns - before.hbm_bytes / rate, 0) * rate
            room = min(idle, machine["l2_prefetch_share"] * machine.l2)
            for index in dict.fromkeys(op.inputs):
                tensor = graph.tensors[index]
                if tensor.kind is not TensorKind.WEIGHT or room <= 0:
                    continue
                cold = tensor.nbytes * (1 - stack.held(tensor.storage, tensor.nbytes))
                size = int(min(cold, room))
                gain = round(size * saved_per_byte)
                if gain >= machine["prefetch_least_gain_ns"]:
                    found.append(Prefetch(tensor.index, size, during, op.index, gain))
                    room -= size
        for key, size in (*access.reads, *access.writes):
            stack.touch(key, size)
        previous = op.index, cost
    return found


def bypasses(graph: Graph, machine: Machine) -> list[Bypass]:
    """Large tensors whose next touch lies further away than L2 remembers, at each step that reads them."""
    accesses = graph_accesses(graph)
    stack = ReuseStack(machine.l2)
    last_read: dict[Hashable, tuple[int, int]] = {}
    reused: set[tuple[Hashable, int]] = set()
    for step, access in enumerate(accesses):
        for key, size in (*access.reads, *access.writes):
            if key in last_read and stack.held(key, size) > 0:
                reused.add((key, last_read[key][0]))
        for key, size in access.reads:
            last_read[key] = step, size
        for key, size in (*access.reads, *access.writes):
            stack.touch(key, size)
    return [
        Bypass(int(str(key)), size, step)
        for step, access in enumerate(accesses)
        for key, size in access.reads
        if size >= machine["bypass_least_bytes"] and (key, step) not in reused
    ]


def advice(graph: Graph, costs: Sequence[KernelCost | None], machine: Machine) -> list[str]:
    """What a user should know of L2 and of what the costs took for granted, one line each."""
    lines = []
    found = prefetches(graph, costs, machine)
    if found:
        top = max(found, key=lambda item: item.gain_ns)
        lines.append(
            f"L2: {len(found)} prefetches of {format_bytes(sum(item.size for item in found))} of weights would save "
            f"{format_duration(sum(item.gain_ns for item in found))}; most of all {format_bytes(top.size)} of "
            f"{graph.tensors[top.tensor].name} while step {top.during} runs (npu_prefetch, aclrtCmoAsync)"
        )
    streamed = bypasses(graph, machine)
    if streamed:
        lines.append(
            f"L2: {format_bytes(sum(item.size for item in streamed))} that {len(streamed)} reads bring in are not read "
            "again while L2 holds them: bypassing it (SetL2CacheHint) keeps them from pushing out the rest"
        )
    assumed: dict[str, list[str]] = {}
    for op, cost in zip(graph.ops, costs, strict=True):
        if cost is not None and cost.assumed:
            assumed.setdefault(cost.assumed, []).append(op.type)
    for text, types in sorted(assumed.items()):
        names = ", ".join(sorted(set(types))[:_NAMED]) + (", ..." if len(set(types)) > _NAMED else "")
        lines.append(f"time of {len(types)} ops ({names}): {text}")
    return lines
