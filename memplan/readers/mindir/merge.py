"""What a condition yields when each of its branches may have returned something else."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.core.errors import InputError
from memplan.graph.builder import Companions, GraphBuilder
from memplan.readers.mindir.decode import Literal
from memplan.readers.mindir.values import NO_VALUE, Closure, ClosureChoice, GraphValue, Monad


def merge(builder: GraphBuilder, results: Sequence[tuple[GraphValue, int, int]], name: str) -> GraphValue:
    """
    One value for the `results` of branches, each with the op counts at which its branch began and ended.

    Tensors that a branch made itself share their bytes with those of the other branches, because only one branch
    runs. Where a branch may hand on what existed before, all candidates are kept for as long as the result is used.
    """
    branches = [result for result in results if result[0] is not NO_VALUE]
    if not branches:
        return NO_VALUE
    if len(branches) == 1:
        return branches[0][0]
    return _merge(builder, branches, name, set())


def _merge(
    builder: GraphBuilder, branches: list[tuple[GraphValue, int, int]], name: str, shared: set[int]
) -> GraphValue:
    first = branches[0][0]
    if type(first) is int:
        return _merge_tensors(builder, branches, name, shared)
    if isinstance(first, Literal):
        same = all(value == first for value, _, _ in branches)
        return first if same else Literal(None)
    if isinstance(first, Monad):
        ends = [value.after for value, _, _ in branches if isinstance(value, Monad) and value.after is not None]
        return Monad(max(ends, default=None))
    if isinstance(first, (Closure, ClosureChoice)):
        closures: dict[Closure, None] = {}
        for value, _, _ in branches:
            for item in value.closures if isinstance(value, ClosureChoice) else (value,):
                if not isinstance(item, Closure):
                    raise InputError("branches return different kinds of things", place=name)
                closures[item] = None
        return ClosureChoice(tuple(closures)) if len(closures) > 1 else next(iter(closures))
    if type(first) is tuple:
        if any(type(value) is not tuple or len(value) != len(first) for value, _, _ in branches):
            raise InputError("branches return different kinds of things", place=name)
        return tuple(
            _merge(builder, [(value[place], start, end) for value, start, end in branches], f"{name}.{place}", shared)
            for place in range(len(first))
        )
    raise InputError("branches return different kinds of things", place=name)


def _merge_tensors(
    builder: GraphBuilder, branches: list[tuple[GraphValue, int, int]], name: str, shared: set[int]
) -> GraphValue:
    tensors = [value for value, _, _ in branches]
    if any(type(tensor) is not int for tensor in tensors):
        raise InputError("branches return different kinds of things", place=name)
    roots = [builder.storage(tensor) for tensor in tensors]
    if len(set(roots)) == 1:
        return tensors[0]
    largest = max(tensors, key=lambda tensor: builder.nbytes[tensor])
    own = len(set(roots)) == len(roots) and not shared.intersection(roots)
    for root, (_, start, end) in zip(roots, branches, strict=True):
        producer = builder.producers[root]
        own = own and producer is not None and start <= producer < end and not builder.has_companions(root)
    result = builder.alias(name, largest)
    if own:
        shared.update(roots)
        for tensor in tensors[1:]:
            builder.share(tensors[0], tensor)
        return result
    builder.accompany(result, Companions(tensors))
    return result
