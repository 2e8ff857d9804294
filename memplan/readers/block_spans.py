"""Plans known only as rows of (name, bytes, first step, last step, address): what logs and tables of planners hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memplan.core.errors import InputError
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import Graph, TensorKind

MAX_STEPS = 200_000
"""More steps than any compiled graph has; each costs an op."""


@dataclass(frozen=True, slots=True)
class BlockSpan:
    """
    One block of memory: `nbytes` that `name` needs from step `start` to step `end` (both inclusive).

    `end` `None` means to the end. `offset` is its address (`None`: not said), `size` the bytes taken there.
    """

    name: str
    type: str
    nbytes: int
    start: int
    end: int | None
    offset: int | None
    size: int
    stream: int = 0
    workspace: bool = False


@dataclass(frozen=True, slots=True)
class SpanGraph:
    """
    The rows as a graph, with the storage that each row became and how many were taken to be written over another.

    `unnamed` are the steps at which no row begins: what runs there is not known.
    """

    graph: Graph
    storages: tuple[int, ...]
    written_over: int
    unnamed: frozenset[int]


def span_graph(rows: Sequence[BlockSpan], *, name: str, origin: str, producer: str) -> SpanGraph:
    """
    A graph of as many steps as the rows speak of, in which each row is used at its first and its last step.

    A step is named after the first row that begins there; edges between ops are not known. A row that begins in the
    step in which another of its address and size ends is that one written over (SOMAS calls the two a union, GE an
    in-place output): they become one storage. Any other two that share bytes at a time are left as they are. Raises
    `InputError` for rows without steps or with more than `MAX_STEPS`.
    """
    if not rows:
        raise InputError("there are no rows of tensors")
    last = max(row.start if row.end is None else row.end for row in rows)
    if last >= MAX_STEPS:
        raise InputError("step {:,} is more than a graph has", last)
    builder = GraphBuilder()
    starts: dict[int, BlockSpan] = {}
    reads: dict[int, list[int]] = {}
    writes: dict[int, list[int]] = {}
    storages: list[int] = []
    ends: dict[tuple[int | None, int, int], int] = {}
    written_over = 0
    for row in rows:
        kind = TensorKind.WORKSPACE if row.workspace else TensorKind.ACTIVATION
        tensor = builder.tensor(row.name, (row.nbytes,), "uint8", row.nbytes, kind)
        storages.append(tensor)
        starts.setdefault(row.start, row)
        writes.setdefault(row.start, []).append(tensor)
        end = last if row.end is None else row.end
        if end < row.start:
            raise InputError("{!r:.60} ends at step {}, before it begins at {}", row.name, end, row.start)
        if end > row.start:
            reads.setdefault(end, []).append(tensor)
    for tensor, row in sorted(zip(storages, rows, strict=True), key=lambda pair: pair[1].start):
        if row.offset is None or not row.size or row.workspace:
            continue
        before = ends.pop((row.offset, row.size, row.start), None)
        if before is not None:
            builder.share(before, tensor)
            written_over += 1
        end = last if row.end is None else row.end
        if end > row.start:
            ends[row.offset, row.size, end] = tensor
    for step in range(last + 1):
        first = starts.get(step)
        builder.op(
            first.name if first else f"step {step}",
            first.type if first else "unknown",
            reads.get(step, ()),
            writes.get(step, ()),
            stream=first.stream if first else 0,
        )
    graph = builder.finish(name, (), (), origin=origin, producer=producer)
    return SpanGraph(
        graph,
        tuple(graph.tensors[tensor].storage for tensor in storages),
        written_over,
        frozenset(range(last + 1)) - starts.keys(),
    )
