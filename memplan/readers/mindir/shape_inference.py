"""
Dimensions that a file leaves open (-1), once the inputs' shapes are bound.

MindSpore has inferred everything else; only the open dimensions are filled in here. What no rule covers is an error,
never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod

from memplan.core.errors import InputError
from memplan.readers.mindir.shape_rules import RESULT_RULES, Shape, int_tuple

OPEN_RANK = -2
_RESHAPES = re.compile(
    r"Pad|MaskedSelect|Crop|Resize|Upsample|Interpolate|Repeat|Pool|Conv|[Ff]old|SelectExt|SelectView|Im2Col|Col2Im|FFT|Shuffle|Space|Stack|Slice|Split|"
    r"Chunk|Gather|Index|Range|Unique|NonZero|Sort|Extract|Grid|Roi|ROI|NMS|Suppression|Diag|Trace|Dist|Outer|Kron|Einsum|"
    r"Hist|Bincount|Embedding|OneHot|Tri[ul]Indices|Segment|Sparse|Topk|TopK|Unbatch|LinSpace|Permute|Swap|Mla|Moe|Grouped"
)
"""Names of ops whose results are unlike their operands; without a rule of its own, no shape is made up for one."""


def infer(
    op: str, declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object], place: str, *, result: int = 0
) -> Shape:
    """
    The full shape of result number `result` of `op` that is `declared` with open dimensions.

    `inputs` are the full shapes of its tensor arguments, `attrs` its constant arguments by name. Raises `InputError`
    at `place` when the open dimensions don't follow.
    """
    if all(dim >= 0 for dim in declared):
        return declared
    special, rule = RESULT_RULES.get(op), _RULES.get(op)
    if special is not None:
        found = special(declared, inputs, attrs, result)
    elif rule is not None:
        found = rule(declared, inputs, attrs)
    else:
        found = None if _RESHAPES.search(op) else _broadcast(declared, inputs, attrs)
    if found is None or any(dim < 0 for dim in found):
        raise InputError(
            "the open dimensions of {} {} don't follow from its inputs {}",
            op,
            declared,
            list(inputs)[:4],
            place=place,
            remedy="export the model with fixed shapes",
        )
    if OPEN_RANK not in declared:
        clash = len(found) != len(declared) or any(
            want not in (-1, have) for want, have in zip(declared, found, strict=True)
        )
        if clash:
            raise InputError(
                "the shapes given make {} yield {} where the file says {}",
                op,
                found,
                declared,
                place=place,
                remedy="give shapes that agree with the exported model",
            )
    return found


def _broadcast(declared: Shape, inputs: Sequence[Shape], _attrs: Mapping[str, object]) -> Shape | None:
    """Element-wise and everything that keeps positions: each open dimension is the largest at its place."""
    if OPEN_RANK in declared:
        return _stretched(inputs)
    rank = len(declared)
    same = [shape for shape in inputs if len(shape) == rank and _stretches(shape, declared)]
    shapes = same or [shape for shape in inputs if len(shape) < rank]
    full = []
    for place, dim in enumerate(declared):
        if dim >= 0:
            full.append(dim)
            continue
        sizes = [shape[place - rank] for shape in shapes if len(shape) >= rank - place]
        if not sizes:
            return None
        full.append(max(sizes))
    return tuple(full)


def _stretched(inputs: Sequence[Shape]) -> Shape | None:
    """The common shape of all operands, if they can be broadcast to one."""
    rank = max((len(shape) for shape in inputs), default=0)
    wide = [(1,) * (rank - len(shape)) + shape for shape in inputs]
    sizes = [{size for size in column if size != 1} for column in zip(*wide, strict=True)]
    return tuple(max(size, default=1) for size in sizes) if inputs and all(len(size) < 2 for size in sizes) else None


def _stretches(shape: Shape, declared: Shape) -> bool:
    """Whether `shape` can be broadcast to `declared` where that is known."""
    return all(have == want or have == 1 or want < 0 for have, want in zip(shape, declared, strict=True))


def _in_place(declared: Shape, inputs: Sequence[Shape], _attrs: Mapping[str, object]) -> Shape | None:
    """Open dimensions stay where they are in the first input; closed ones may shrink (norms, splits, the largest k)."""
    if OPEN_RANK in declared or not inputs or len(inputs[0]) != len(declared):
        return None
    return tuple(have if want < 0 else want for want, have in zip(declared, inputs[0], strict=True))


def _reshape(declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    if not inputs:
        return None
    wanted = int_tuple(attrs.get("shape")) or (declared if OPEN_RANK not in declared else None)
    if wanted is None:
        return None
    count = prod(inputs[0])
    if sum(1 for dim in wanted if dim < 0) > 1:
        # The file's own dimensions may know what the argument leaves open.
        if len(declared) != len(wanted):
            return None
        wanted = tuple(have if have >= 0 else want for want, have in zip(wanted, declared, strict=True))
    open_places = [place for place, dim in enumerate(wanted) if dim < 0]
    if len(open_places) > 1:
        return None
    if not open_places:
        return wanted if prod(wanted) == count else None
    rest = prod(dim for dim in wanted if dim >= 0)
    if rest == 0 or count % rest:
        return None
    return tuple(count // rest if dim < 0 else dim for dim in wanted)


def _matmul(declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    if len(inputs) < 2 or min(len(inputs[0]), len(inputs[1])) < 2:
        return _broadcast(declared, inputs, attrs)
    a, b = inputs[0], inputs[1]
    rows = a[-1] if attrs.get("transpose_a") else a[-2]
    columns = b[-2] if attrs.get("transpose_b") else b[-1]
    batch = []
    for place in range(1, max(len(a), len(b)) - 1):
        sizes = [shape[-2 - place] for shape in (a, b) if len(shape) > place + 1]
        batch.append(max(sizes))
    return (*reversed(batch), rows, columns)


def _dense(_declared: Shape, inputs: Sequence[Shape], _attrs: Mapping[str, object]) -> Shape | None:
    return (*inputs[0][:-1], inputs[1][0]) if len(inputs) > 1 and inputs[0] and inputs[1] else None


def _axes(value: object, rank: int) -> tuple[int, ...] | None:
    axes = int_tuple(value)
    if axes is None:
        return tuple(range(rank)) if value in (None, ()) else None
    return tuple(axis % rank for axis in axes) if rank else ()


def _reduce(_declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    if not inputs:
        return None
    shape = inputs[0]
    axes = _axes(attrs.get("axis", attrs.get("dim")), len(shape))
    if axes is None:
        return None
    if not axes:
        axes = tuple(range(len(shape)))
    if attrs.get("keep_dims") or attrs.get("keepdim"):
        return tuple(1 if place in axes else dim for place, dim in enumerate(shape))
    return tuple(dim for place, dim in enumerate(shape) if place not in axes)


def _transpose(_declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    order = int_tuple(attrs.get("dims", attrs.get("input_perm", attrs.get("perm"))))
    if not inputs or order is None or len(order) != len(inputs[0]):
        return None
    return tuple(inputs[0][axis] for axis in order)


def _concat(_declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    axis = attrs.get("axis", attrs.get("dim"))
    if not inputs or not isinstance(axis, int) or not inputs[0]:
        return None
    axis %= len(inputs[0])
    if any(len(shape) != len(inputs[0]) for shape in inputs):
        return None
    return tuple(sum(shape[place] for shape in inputs) if place == axis else dim for place, dim in enumerate(inputs[0]))


def _expand(_declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    axis = attrs.get("axis", attrs.get("dim"))
    if not inputs or not isinstance(axis, int):
        return None
    shape = list(inputs[0])
    shape.insert(axis % (len(shape) + 1), 1)
    return tuple(shape)


def _squeeze(_declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    if not inputs:
        return None
    axes = _axes(attrs.get("axis"), len(inputs[0]))
    if axes is None:
        return None
    return tuple(dim for place, dim in enumerate(inputs[0]) if not (place in axes and dim == 1))


def _flatten(_declared: Shape, inputs: Sequence[Shape], _attrs: Mapping[str, object]) -> Shape | None:
    return (inputs[0][0], prod(inputs[0][1:])) if inputs and inputs[0] else None


def _gather(_declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    axis = attrs.get("axis", 0)
    if len(inputs) < 2 or not isinstance(axis, int) or not inputs[0]:
        return None
    axis %= len(inputs[0])
    return (*inputs[0][:axis], *inputs[1], *inputs[0][axis + 1 :])


def _tile(_declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    counts = int_tuple(attrs.get("dims", attrs.get("multiples", attrs.get("input1"))))
    if not inputs or counts is None:
        return None
    rank = max(len(counts), len(inputs[0]))
    shape = (1,) * (rank - len(inputs[0])) + inputs[0]
    counts = (1,) * (rank - len(counts)) + counts
    return tuple(dim * count for dim, count in zip(shape, counts, strict=True))


def _strided_slice(declared: Shape, inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    begin, end, strides = (int_tuple(attrs.get(name)) for name in ("begin", "end", "strides"))
    masks = [attrs.get(f"{name}_mask", 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")]
    if not inputs or begin is None or end is None or strides is None or not len(begin) == len(end) == len(strides):
        return None
    begin_mask, end_mask, ellipsis, new_axis, shrink = (mask if isinstance(mask, int) else 0 for mask in masks)
    if ellipsis or new_axis or len(begin) > len(inputs[0]) or 0 in strides:
        return _broadcast(declared, inputs, attrs) if len(declared) == len(inputs[0]) else None
    shape = []
    for place, dim in enumerate(inputs[0]):
        if place >= len(begin):
            shape.append(dim)
            continue
        if shrink >> place & 1:
            continue
        start = None if begin_mask >> place & 1 else begin[place]
        stop = None if end_mask >> place & 1 else end[place]
        shape.append(len(range(*slice(start, stop, strides[place]).indices(dim))))
    return tuple(shape)


def _target_shape(_declared: Shape, _inputs: Sequence[Shape], attrs: Mapping[str, object]) -> Shape | None:
    return int_tuple(attrs.get("shape", attrs.get("size")))


InferenceRule = Callable[[Shape, Sequence[Shape], Mapping[str, object]], Shape | None]

_RULES: Mapping[str, InferenceRule] = {
    **dict.fromkeys(("Reshape", "ReshapeExt", "View"), _reshape),
    **dict.fromkeys(("MatMul", "BatchMatMul", "MatMulExt", "BatchMatMulExt", "Mm"), _matmul),
    "Dense": _dense,
    **dict.fromkeys(
        ("LayerNorm", "LayerNormExt", "LayerNormV3", "RmsNorm", "TopK", "TopkExt", "Sort", "SortExt", "Split",
         "SplitTensor", "SplitWithSize", "MoeGatingTopKSoftmax"), _in_place
    ),
    **dict.fromkeys(
        ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceAll", "ReduceAny", "SumExt",
         "MeanExt", "ProdExt", "Argmax", "ArgMaxExt", "Argmin"), _reduce
    ),
    **dict.fromkeys(("Transpose", "TransposeView"), _transpose),
    "Concat": _concat,
    **dict.fromkeys(("ExpandDims", "ExpandDimsView"), _expand),
    "Squeeze": _squeeze,
    "Flatten": _flatten,
    "Gather": _gather,
    "Tile": _tile,
    "StridedSlice": _strided_slice,
    **dict.fromkeys(("FillV2", "Zeros", "Ones", "Fill"), _target_shape),
}  # fmt: skip
