"""
What L2 serves: reuse distances over the order of ops, and advice on prefetching and bypassing.

L2 is a cache that hardware fills: nothing is placed in it. A read is served by it when fewer bytes than it holds were
touched since the tensor was touched last (Mattson's stack distance, for LRU). A real L2 is neither fully associative
nor exactly LRU, so what it holds fades out between half of its size and all of it.

Rows of a profile tell shapes and no addresses. An operand is taken for the newest result of its shape, type and layout;
that it is in L2 still is said only while no more was moved since than what L2 holds for certain (`rows_held`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from memplan.core.units import format_bytes, format_duration
from memplan.cost.deviations import L2State
from memplan.cost.kernel import Kernel, Operand, kernel_of_op, of_tokens_alone
from memplan.cost.kernel_time import REREAD_KINDS, KernelCost, kernel_cost
from memplan.cost.machine import Machine, shared_constants
from memplan.graph import Graph, TensorKind

_NAMED = 5


@dataclass(frozen=True, slots=True)
class L2Access:
    """What one op touches: `(key, bytes)` of each storage it reads, and of each it writes."""

    reads: tuple[tuple[Hashable, int], ...]
    writes: tuple[tuple[Hashable, int], ...]


def held_share(distance: float, l2_bytes: int) -> float:
    """The share of a tensor still in L2 after `distance` bytes (its own included) were touched since."""
    shared = shared_constants()
    whole, none = shared["l2_held_whole"], shared["l2_held_none"]
    return min(1.0, max(0.0, (none - distance / l2_bytes) / (none - whole)))


class ReuseStack:
    """Tensors by how recently they were touched, as far back as L2 can remember."""

    def __init__(self, l2_bytes: int) -> None:
        self._l2 = l2_bytes
        self._recent: dict[Hashable, int] = {}
        self._held = 0

    def touch(self, key: Hashable, size: int) -> None:
        """Move `key` to the top and forget what lies deeper than L2 can hold."""
        self._held += size - self._recent.pop(key, 0)
        self._recent[key] = size
        while self._held > shared_constants()["l2_held_none"] * self._l2 and len(self._recent) > 1:
            oldest = next(iter(self._recent))
            self._held -= self._recent.pop(oldest)

    def held(self, key: Hashable, size: int) -> float:
        """The share of `key` that L2 still holds."""
        if key not in self._recent:
            return 0.0
        distance = 0
        for other in reversed(self._recent):
            if other == key:
                break
            distance += self._recent[other]
        share = held_share(distance + max(size, self._recent[key]), self._l2)
        # Of a storage last touched in part (a cache that a few tokens were written into) only that part is there.
        return share * min(1.0, self._recent[key] / size) if size else share


def hot_shares(accesses: Sequence[L2Access], l2_bytes: int) -> list[float]:
    """For each op the share of its read bytes that L2 serves, ops in order and L2 cold at first."""
    stack = ReuseStack(l2_bytes)
    shares = []
    for access in accesses:
        total = sum(size for _, size in access.reads)
        hot = sum(size * stack.held(key, size) for key, size in access.reads)
        shares.append(hot / total if total else 0.0)
        for key, size in (*access.reads, *access.writes):
            stack.touch(key, size)
    return shares


class WrittenStack:
    """Tensors in L2 by how recently they were touched, and what of each was written and has not reached HBM yet."""

    def __init__(self, l2_bytes: int) -> None:
        self._l2 = l2_bytes
        self._held: dict[Hashable, tuple[float, float]] = {}
        self._total = 0.0

    def touch(self, key: Hashable, size: int, *, writes: bool) -> float:
        """Move `key` to the top; the bytes written before that this pushes out to HBM."""
        before, written = self._held.pop(key, (0.0, 0.0))
        whole = float(min(max(before, size), self._l2))
        if not whole:
            return 0.0
        self._held[key] = whole, min(max(written, size) if writes else written, whole)
        self._total += whole - before
        pushed = 0.0
        while self._total > self._l2:
            oldest = next(iter(self._held))
            held, written = self._held[oldest]
            gone = min(held, self._total - self._l2)
            self._total -= gone
            pushed += written * gone / held
            if gone >= held:
                del self._held[oldest]
            else:
                self._held[oldest] = held - gone, written * (1 - gone / held)
        return pushed


def pushed_shares(accesses: Sequence[L2Access], l2_bytes: int) -> list[float]:
    """
    For each op the bytes of results before it that its reads push out of L2 to HBM, as a share (0 to 1) of those it
    reads; ops in order and L2 empty at first. What its own results push out is not counted: `through_ns` tells it.
    """
    stack = WrittenStack(l2_bytes)
    shares = []
    for access in accesses:
        total = sum(size for _, size in access.reads)
        pushed = sum(stack.touch(key, size, writes=False) for key, size in access.reads)
        shares.append(min(pushed / total, 1.0) if total else 0.0)
        for key, size in access.writes:
            stack.touch(key, size, writes=True)
    return shares


def graph_accesses(graph: Graph) -> list[L2Access]:
    """Accesses of every op of `graph` in order; ops that launch nothing touch nothing."""
    tensors = graph.tensors
    return [
        L2Access(
            reads=tuple({tensors[i].storage: tensors[i].nbytes for i in op.inputs}.items()) if op.launches else (),
            writes=tuple({tensors[i].storage: tensors[i].nbytes for i in op.outputs}.items()) if op.launches else (),
        )
        for op in graph.ops
    ]


def kernel_accesses(kernels: Sequence[Kernel], *, reused: bool = False) -> list[L2Access]:
    """
    What a profile's kernels, in the order in which they ran, are likely to touch, right or wrong.

    It is a guess for what kernels are alike by (`Trait.hot`), where it need not be true of each. What is true of all
    but a few, and so may make a time shorter, is for `hot_shares_of_rows` to say: it finds less, and kernels told alike
    by it carry over less.

    A read is taken for the tensor last touched, read or written, that has as many elements of its type and was not read
    by another operand of the kernel; where there is none, for something that L2 does not hold. Weights that a step back
    reads again so count as held, as they do in a graph. A result is a storage of its own, or with `reused` the one last
    touched that is like it and not read meanwhile.
    """
    touched: dict[tuple[int, str], list[int]] = {}
    found, made = [], 0
    for kernel in kernels:
        reads: list[tuple[Hashable, int]] = []
        taken: list[tuple[tuple[int, str], int]] = []
        for operand in kernel.present:
            alike = touched.get((operand.count, operand.dtype))
            if not alike:
                made += 1
            taken.append(((operand.count, operand.dtype), alike.pop() if alike else made))
            reads.append((taken[-1][1], operand.nbytes))
        # What was touched first is the last to be found again.
        for key, storage in taken:
            touched.setdefault(key, []).append(storage)
        writes = []
        read = {key for key, _ in reads}
        for operand in kernel.outputs:
            alike = touched.setdefault((operand.count, operand.dtype), [])
            free = next((each for each in reversed(alike) if each not in read), None) if reused else None
            if free is None:
                made += 1
            else:
                alike.remove(free)
            alike.append(made if free is None else free)
            writes.append((alike[-1], operand.nbytes))
        found.append(L2Access(tuple(reads), tuple(writes)))
    return found


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


def graph_costs(graph: Graph, machine: Machine, states: Sequence[L2State] | None = None) -> list[KernelCost | None]:
    """
    Cost of every op of `graph` in order with L2 as the ops before left it; `None` for ops that launch nothing.

    `states` are the `asked_states` of its accesses, for who has them already.
    """
    if states is None:
        states = asked_states(graph_accesses(graph), machine)
    return [
        kernel_cost(kernel_of_op(op, graph), machine, state) if op.launches else None
        for op, state in zip(graph.ops, states, strict=True)
    ]


def asked_states(accesses: Sequence[L2Access], machine: Machine) -> list[L2State]:
    """What each op meets in L2, as far as `machine` asks: only a calibration does for what reads push out."""
    if machine.calibration is None:
        return [L2State(share) for share in hot_shares(accesses, machine.l2)]
    return l2_states(accesses, machine.l2)


def l2_states(accesses: Sequence[L2Access], l2_bytes: int) -> list[L2State]:
    """What each op meets in L2 of so many bytes: its `hot_shares` and `pushed_shares`."""
    return list(map(L2State, hot_shares(accesses, l2_bytes), pushed_shares(accesses, l2_bytes)))


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


def costs_in_order(kernels: Sequence[Kernel], machine: Machine, *, pushing: bool = True) -> list[KernelCost]:
    """
    The cost of each of a profile's `kernels`, in order of start, with L2 and the code in vector cores as those before
    it left them; the operands of products and attention count as cold.

    With `pushing` products wait for what their reads push out of L2 (`pushed_shares`, which a calibration asks itself).
    """
    costs = []
    last: object = None
    pushed: Iterable[tuple[float, float]] = repeat((1.0, 0.0), len(kernels))
    if pushing and machine["product_reads_push"]:
        accesses = kernel_accesses(list(map(of_tokens_alone, kernels)), reused=True)
        pushed = zip(hot_shares(accesses, machine.l2), pushed_shares(accesses, machine.l2), strict=True)
    held = hot_shares_of_rows(kernels, machine["rows_held"] * machine.l2)
    for kernel, share, (found, out) in zip(kernels, held, pushed, strict=True):
        alone = kernel_cost(kernel, machine)
        if alone.kind in REREAD_KINDS:
            costs.append(_pushing(kernel, alone, 1.0 - found, out, machine) if alone.kind == "matmul" else alone)
            continue
        code = kernel.type, tuple((operand.dtype, operand.layout) for operand in kernel.operands)
        costs.append(kernel_cost(kernel, machine, L2State(share), cold_code=code != last))
        last = code
    return costs


def _pushing(kernel: Kernel, alone: KernelCost, cold: float, out: float, machine: Machine) -> KernelCost:
    """
    A product that takes no less than HBM does for the share `cold` of its reads that comes from there and the share
    `out` that is pushed out for them. Only thin products are bound by that: others compute longer.
    """
    if out <= machine["mixed_traffic_from"] * (cold + out):
        return alone
    read = max(alone.hbm_bytes - kernel.written_bytes, 0)
    least = round(read * (cold + out) / (machine.hbm_bytes_per_second * machine["hbm_mixed_share"]) * 1e9)
    return replace(alone, duration_ns=max(alone.duration_ns, least))


def hot_shares_of_rows(kernels: Sequence[Kernel], room: float) -> Iterator[float]:
    """For each kernel the share of its read bytes that L2 holds, which is cold at first and keeps `room` bytes."""
    written: dict[Operand, float] = {}
    moved = 0.0
    for kernel in kernels:
        reads = [operand for operand in kernel.present if operand.count > 1]
        total = sum(operand.nbytes for operand in reads)
        hot = 0.0
        for operand in dict.fromkeys(reads):
            start = written.get(operand)
            if start is None or moved - start > room:
                continue
            hot += operand.nbytes
            written[operand] = moved
        moved += total
        for operand in kernel.outputs:
            written[operand] = moved
            moved += operand.nbytes
        yield hot / total if total else 0.0
