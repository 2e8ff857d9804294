"""Results of recomputed cells that the way back through them reads, which PyNative mode makes anew as well."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from memplan.graph.model import Graph, Op, Tensor
from memplan.readers.mindir.roles import cell_scope, is_of_gradients
from memplan.readers.mindspore.kept_outputs import first_runs

_AGAIN = ":again"


def with_rerun_results(graph: Graph, recomputed: Collection[str]) -> Graph:
    """
    `graph` with gradients inside the `recomputed` cells taken of what the cells make anew, all of it.

    Where a cell's last op saves its own result, as a `ReLU` does, the compiler lets its gradient read what the cell
    returned, which others keep alive. PyNative mode runs the cell again up to the last tensor that it had saved
    (MindSpore 2.10, `common/recompute.py`), that result included.
    """
    first = first_runs(graph)
    again = {forward: rerun for rerun, forward in first.items()}
    tensors, ops = list(graph.tensors), list(graph.ops)
    for cell in recomputed:
        _rerun(cell, again, tensors, ops)
    return graph if len(ops) == len(graph.ops) else replace(graph, ops=tuple(ops), tensors=tuple(tensors))


def _rerun(cell: str, again: dict[int, int], tensors: list[Tensor], ops: list[Op]) -> None:
    """Append to `ops` what of `cell` runs again though the compiler doesn't, and have its gradients read that."""
    scope = cell_scope(cell)
    rerun = set(again.values())
    made = {
        tensor: op
        for op in ops
        if scope.search(op.name) and not is_of_gradients(op.name) and rerun.isdisjoint(op.outputs)
        for tensor in op.outputs
    }
    gradients = [op for op in ops if scope.search(op.name) and is_of_gradients(op.name)]
    behind = {op.index for op in gradients}
    for op in ops:
        if not behind.isdisjoint(_needed(op, tensors)):
            behind.add(op.index)
    arrives = {
        producer
        for op in gradients
        for producer in _needed(op, tensors) - behind
        if is_of_gradients(ops[producer].name)
    }
    new: dict[int, int] = {}
    if not arrives:
        return

    def anew(tensor: int) -> int:
        """What the second run makes in place of `tensor`: itself where it is from outside."""
        if tensor not in made or tensor in again or tensor in new:
            return new.get(tensor, again.get(tensor, tensor))
        op = made[tensor]
        inputs = tuple(anew(given) for given in op.inputs)
        outputs = tuple(range(len(tensors), len(tensors) + len(op.outputs)))
        new.update(zip(op.outputs, outputs, strict=True))
        for output in op.outputs:
            old = tensors[output]
            root = new.get(old.storage, again.get(old.storage, old.storage))
            tensors.append(replace(old, index=new[output], name=f"{old.name}{_AGAIN}", storage=root, producer=len(ops)))
        attrs = {**op.attrs, "after": tuple(sorted(arrives))}
        ops.append(replace(op, index=len(ops), name=f"{op.name}{_AGAIN}", inputs=inputs, outputs=outputs, attrs=attrs))
        return new[tensor]

    before = len(tensors), list(ops)
    for op in gradients:
        given = tuple(anew(tensor) for tensor in op.inputs)
        if any(_waits(tensor, op.index, tensors, ops) for tensor in {*given} - {*op.inputs}):
            # The compiler has the second run wait for this gradient: the cell stays as it is.
            del tensors[before[0] :]
            ops[:] = before[1]
            return
        if given != op.inputs:
            ops[op.index] = replace(op, inputs=given)


def _needed(op: Op, tensors: Sequence[Tensor]) -> set[int]:
    """The ops that make what `op` reads or that it is told to wait for."""
    after = op.attrs.get("after")
    found = {producer for tensor in op.inputs if (producer := tensors[tensor].producer) is not None}
    return found | {*(after if isinstance(after, tuple) else ())}


def _waits(tensor: int, index: int, tensors: Sequence[Tensor], ops: Sequence[Op]) -> bool:
    """Whether `tensor` is there only after op `index`."""
    seen: set[int] = set()
    stack = [producer for producer in [tensors[tensor].producer] if producer is not None]
    while stack:
        step = stack.pop()
        if step == index:
            return True
        if step not in seen:
            seen.add(step)
            stack.extend(_needed(ops[step], tensors))
    return False


def is_in_order(graph: Graph) -> bool:
    """Whether every op of `graph` comes behind those that make what it reads."""
    return all(
        (producer := graph.tensors[tensor].producer) is None or producer <= op.index
        for op in graph.ops
        for tensor in op.inputs
    )
