"""
`ShapeCalc`: sizes that a graph with open dimensions works out on the host, once its tensors' shapes are known.

MindSpore names the function that each of them runs; what it computes is that of MindSpore 2.10
(`mindspore/ccsrc/frontend/expander/grad/*.cc`, `mindspore/core/ops`): mostly what a gradient is reduced over, tiled to
or reshaped to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

IntVector = tuple[int, ...]
ShapeFunctor = Callable[[Sequence[IntVector], tuple[object, ...]], list[IntVector] | None]


def shape_calc(name: str, arguments: Sequence[IntVector], values: tuple[object, ...]) -> list[IntVector] | None:
    """
    What the functor `name` (`ShapeCalc_ReduceShape`) yields for the shapes or integers `arguments`.

    `values` are what it was made with. `None` for functors that are not known here and arguments they don't take.
    """
    functor = _FUNCTORS.get(name.removeprefix("ShapeCalc_"))
    if functor is None:
        return None
    try:
        return functor(arguments, values)
    except (IndexError, ValueError, ZeroDivisionError):
        return None


def _reduced(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    """The shape with what is summed over as 1, and how often each dimension of that is repeated."""
    shape, axes = arguments[0], arguments[1] if len(arguments) > 1 else ()
    places = {axis % len(shape) for axis in axes} if axes and shape else set(range(len(shape)))
    kept = tuple(1 if place in places else dim for place, dim in enumerate(shape))
    return [kept, tuple(dim // max(one, 1) for dim, one in zip(shape, kept, strict=True))]


def broadcast_axes(a: IntVector, b: IntVector) -> list[IntVector]:
    """Axes over which the gradients of two operands are summed, because they were stretched to a common shape."""
    rank = max(len(a), len(b))
    wide_a, wide_b = ((1,) * (rank - len(shape)) + shape for shape in (a, b))
    return [
        tuple(
            place
            for place, (own, other) in enumerate(zip(mine, theirs, strict=True))
            if own == 1 and (other != 1 or place < rank - len(shape))
        )
        for mine, theirs, shape in ((wide_a, wide_b, a), (wide_b, wide_a, b))
    ]


def _broadcast_gradient(arguments: Sequence[IntVector], values: tuple[object, ...]) -> list[IntVector]:
    shift = values[0] if values and isinstance(values[0], int) else 0
    a, b = (shape[: len(shape) - shift] if shift else shape for shape in arguments[:2])
    return broadcast_axes(a, b)


def _matmul_gradient(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    """Shapes that a product's operands and its result's gradient take for the products of the way back."""
    x, w = (_without_leading_ones(shape) if len(shape) > 2 else shape for shape in arguments[:2])
    out = arguments[2]
    order = list(range(len(out)))
    if len(w) == 1:
        w, out = (*w, 1), (*out, 1)
    if len(x) == 1:
        x, out = (1, *x), (*out[:-1], 1, out[-1])
    flat_x, flat_w, out_for_x, out_for_w = x, (*w[:-2], w[-1], w[-2]), out, out
    if len(x) == 2 < len(w):
        flat_w = (prod(flat_w[:-1]), flat_w[-1])
        out_for_x = (out[-2], out[-1] * prod(out[:-2]))
        order.insert(0, order.pop(len(arguments[2]) - 2))
    if len(w) == 2 < len(x):
        flat_x = (prod(x[:-1]), x[-1])
        out_for_w = (prod(out[:-1]), out[-1])
    return [w, flat_x, flat_w, out_for_x, out_for_w, tuple(order)]


def _without_leading_ones(shape: IntVector) -> IntVector:
    first = next((place for place, dim in enumerate(shape) if dim != 1), len(shape))
    return shape[first:]


def _matmul_axes(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    x, w, dx, dw = arguments[:4]
    return [(), ()] if min(len(dx), len(dw)) <= 2 else broadcast_axes(x[:-2], w[:-2])


def _matrix_transposed(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    order = list(range(len(arguments[0])))
    if len(order) > 1:
        order[-2:] = order[:-3:-1]
    return [tuple(order)]


def _concat_offsets(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    """Where each operand of a concatenation begins in the result; the last argument is the axis."""
    *shapes, (axis,) = arguments
    axis %= len(shapes[0])
    found, start = [], 0
    for shape in shapes:
        found.append(tuple(start if place == axis else 0 for place in range(len(shape))))
        start += shape[axis]
    return found


def _inverse(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    order = [axis % len(arguments[0]) for axis in arguments[0]]
    return [tuple(order.index(place) for place in range(len(order)))]


def _tiled(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    """The result of a `Tile` with each repetition as an axis of its own, and those axes."""
    shape, counts = arguments[:2]
    rank = max(len(shape), len(counts))
    shape, counts = ((1,) * (rank - len(part)) + part for part in (shape, counts))
    pairs = tuple(size for pair in zip(counts, shape, strict=True) for size in pair)
    return [pairs, tuple(range(0, 2 * rank, 2))]


def _dense(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    x, w, out = arguments[:3]
    return [(-1, x[-1]), (-1, w[-1]) if len(w) > 1 else (1, w[-1]), (-1, out[-1]) if len(w) > 1 else (-1, 1)]


def _size(arguments: Sequence[IntVector], _values: tuple[object, ...]) -> list[IntVector]:
    return [(prod(arguments[0]),)]


def _batch_gather(arguments: Sequence[IntVector], values: tuple[object, ...]) -> list[IntVector] | None:
    axis, batch_dims = values[:2]
    if not isinstance(axis, int) or not isinstance(batch_dims, int):
        return None
    shape = arguments[0]
    return [(shape[axis],), (prod(shape[:batch_dims]) * shape[axis],)]


_FUNCTORS: Mapping[str, ShapeFunctor] = {
    "ReduceShape": _reduced,
    "BroadcastGradientArgs": _broadcast_gradient,
    "g_matmul_ext_bprop_shapecalc": _matmul_gradient,
    "g_matmul_ext_bprop_bc_shapecalc": _matmul_axes,
    "g_matmul_ext_transpose_perm_shapecalc": _matrix_transposed,
    "g_concat": _concat_offsets,
    "g_transpose": _inverse,
    "g_tile": _tiled,
    "g_dense_shapecalc0": _dense,
    "g_dyn_size": _size,
    "g_dyn_size_2": _size,
    "CalBatchGather": _batch_gather,
}
