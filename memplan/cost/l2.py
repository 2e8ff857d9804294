"""
What L2 serves, by reuse distances over the order of ops.

L2 is a cache that hardware fills: nothing is placed in it. A read is served by it when fewer bytes than it holds were
touched since the tensor was touched last (Mattson's stack distance, for LRU). A real L2 is neither fully associative
nor exactly LRU, so what it holds fades out between half of its size and all of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from memplan.cost.deviations import L2State
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.machine import shared_constants
from memplan.graph import Graph


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


def l2_states(accesses: Sequence[L2Access], l2_bytes: int) -> list[L2State]:
    """What each op meets in L2 of so many bytes: its `hot_shares` and `pushed_shares`."""
    return list(map(L2State, hot_shares(accesses, l2_bytes), pushed_shares(accesses, l2_bytes)))
