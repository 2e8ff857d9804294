"""
Open dimensions of windows, attention, indices and whatever else has a result unlike its operands.

Each rule gives the full shape of result `index` of an op, or `None` where it doesn't follow. Attributes are those of
MindSpore 2.10's primitives, by name or, where `op_table.json` has no names, by position (`input1`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

Shape = tuple[int, ...]
Attributes = Mapping[str, object]
ResultRule = Callable[[Shape, Sequence[Shape], Attributes, int], Shape | None]

DATA_SIZED = frozenset({"NonZero", "Unique", "MaskedSelect"})
"""Ops whose result's size depends on the data; the rule gives its bound."""


def int_tuple(value: object) -> Shape | None:
    """`value` as integers: one, or a tuple of them; `None` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        return value
    return None


def _first_of(attrs: Attributes, *names: str) -> object:
    return next((attrs[name] for name in names if attrs.get(name) is not None), None)


def _last(value: object, count: int, default: int) -> Shape:
    """The last `count` of an attribute that may be one number for all, `(1, 1, h, w)` or `(h, w)`."""
    numbers = int_tuple(value)
    if not numbers:
        return (default,) * count
    return numbers * count if len(numbers) == 1 else numbers[-count:]


_PAD, _SAME, _VALID = "PAD", "SAME", "VALID"
_MODES = {0: _PAD, 1: _SAME, 2: _VALID}
"""MindSpore's enumeration of padding."""


def _mode(attrs: Attributes) -> str:
    mode = attrs.get("pad_mode")
    return _MODES.get(mode, _PAD) if isinstance(mode, int) else str(mode or _PAD).upper()


def _windowed(declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    """Convolutions and pooling: channels are those of the filters, if there are any; pixels follow from the window."""
    if not inputs or len(inputs[0]) < 3 or attrs.get("format", "NCHW") not in ("NCHW", "NCDHW"):
        return None
    image = inputs[0]
    rank = len(image) - 2
    filters = inputs[1] if len(inputs) > 1 and len(inputs[1]) == len(image) else None
    kernel = filters[2:] if filters else _last(attrs.get("kernel_size"), rank, 1)
    steps = _last(_first_of(attrs, "strides", "stride"), rank, 1)
    spread = _last(attrs.get("dilation"), rank, 1) if filters else (1,) * rank
    pads = int_tuple(_first_of(attrs, "pad_list", "pad", "padding")) or (0,)
    pads = (
        pads * (2 * rank) if len(pads) == 1 else tuple(p for p in pads for _ in (0, 1)) if len(pads) == rank else pads
    )
    mode, pixels = _mode(attrs), []
    unknown = not attrs.keys() & {"pad_mode", "pad_list", "pad", "padding"}
    for place, size in enumerate(image[2:]):
        if unknown:
            pixels.append(declared[place + 2])
            continue
        reach, step = spread[place] * (kernel[place] - 1) + 1, steps[place]
        if mode == _SAME:
            pixels.append(-(-size // step))
            continue
        size += sum(pads[2 * place : 2 * place + 2]) if mode == _PAD else 0
        round_up = (step - 1) if attrs.get("ceil_mode") else 0
        pixels.append((size - reach + round_up) // step + 1)
    return (image[0], filters[0] if filters else image[1], *pixels) if min(pixels) > 0 else None


def _given_size(*names: str) -> ResultRule:
    """Results whose whole shape is an argument."""

    def rule(declared: Shape, _inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
        size = int_tuple(_first_of(attrs, *names))
        return size if size is not None and len(size) == len(declared) and min(size, default=0) >= 0 else None

    return rule


def _like(*positions: int) -> ResultRule:
    """Each result has the shape of one operand: the first that of operand `positions[0]`, and so on."""

    def rule(_declared: Shape, inputs: Sequence[Shape], _attrs: Attributes, index: int) -> Shape | None:
        place = positions[min(index, len(positions) - 1)]
        return inputs[place] if place < len(inputs) else None

    return rule


def _axis(attrs: Attributes, rank: int, *names: str, default: int | None = None) -> int | None:
    value = _first_of(attrs, *names)
    value = default if value is None else value
    return value % rank if isinstance(value, int) and rank else None


def _unstacked(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    axis = _axis(attrs, len(inputs[0]), "axis", "dim", "input1", default=0) if inputs else None
    return None if axis is None else (*inputs[0][:axis], *inputs[0][axis + 1 :])


def _stacked(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    axis = _axis(attrs, len(inputs[0]) + 1, "axis", "dim", "input1", default=0) if inputs else None
    return None if axis is None else (*inputs[0][:axis], len(inputs), *inputs[0][axis:])


def _one_hot(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    depth = _first_of(attrs, "depth", "num_classes", "input1")
    if not inputs or not isinstance(depth, int) or depth < 0:
        return None
    axis = _axis(attrs, len(inputs[0]) + 1, "axis", default=-1)
    return None if axis is None else (*inputs[0][:axis], depth, *inputs[0][axis:])


def _group_norm(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, index: int) -> Shape | None:
    groups = _first_of(attrs, "num_groups", "input1")
    if not inputs or not index:
        return inputs[0] if inputs else None
    return (inputs[0][0], groups) if isinstance(groups, int) else None


def _fourier(of_size: Callable[[int], int]) -> ResultRule:
    """A transform along one axis of `n` points, that of the operand unless given."""

    def rule(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
        axis = _axis(attrs, len(inputs[0]), "dim", "input2", default=-1) if inputs else None
        if axis is None:
            return None
        points = _first_of(attrs, "n", "input1")
        size = of_size(inputs[0][axis]) if not isinstance(points, int) else points
        if isinstance(points, int) and of_size is _real_half:
            size = _real_half(points)
        return (*inputs[0][:axis], size, *inputs[0][axis + 1 :])

    return rule


def _real_half(points: int) -> int:
    return points // 2 + 1


def _halved(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    axis = _axis(attrs, len(inputs[0]), "dim", "input1", default=-1) if inputs else None
    return None if axis is None else (*inputs[0][:axis], inputs[0][axis] // 2, *inputs[0][axis + 1 :])


_BSH, _BNSD, _SBH, _BSND, _TND = range(5)
"""MindSpore's enumeration of attention layouts."""


def _flash_attention(declared: Shape, inputs: Sequence[Shape], attrs: Attributes, index: int) -> Shape | None:
    """Attention, and the maximum and sum of each row of scores, eight times over as the kernel keeps them."""
    heads, layout = attrs.get("head_num"), attrs.get("input_layout", _BSH)
    layout = ("BSH", "BNSD", "SBH", "BSND", "TND").index(layout) if isinstance(layout, str) else layout
    if not inputs:
        return None
    query = inputs[0]
    if index == 3:
        return query
    if index == 2 or not isinstance(heads, int):
        return declared if all(dim >= 0 for dim in declared) else None
    if layout == _TND:
        return (query[0], heads, 8)
    batch, length = {
        _BSH: (query[0], query[1]), _SBH: (query[1], query[0]), _BNSD: (query[0], query[2 % len(query)]),
        _BSND: (query[0], query[1]),
    }.get(layout if isinstance(layout, int) else -1, (-1, -1))  # fmt: skip
    return (batch, heads, length, 8)


def _broadcast_to(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    wanted = int_tuple(_first_of(attrs, "shape", "size", "input1"))
    if wanted is None or (-1 in wanted and not inputs):
        return None
    own = (1,) * (len(wanted) - len(inputs[0])) + inputs[0] if inputs else wanted
    return tuple(have if want == -1 else want for want, have in zip(wanted, own, strict=True))


def _padded(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    pads = int_tuple(_first_of(attrs, "paddings", "padding", "input1"))
    if not inputs or pads is None or len(pads) % 2 or len(pads) > 2 * len(inputs[0]):
        return None
    if attrs.get("paddings_contiguous") is False:
        half = len(pads) // 2
        pads = tuple(part for pair in zip(pads[:half], pads[half:], strict=True) for part in pair)
    shape = list(inputs[0])
    for place in range(len(pads) // 2):
        shape[-1 - place] += pads[2 * place] + pads[2 * place + 1]
    return tuple(shape)


def _sliced(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    begin, size = (int_tuple(attrs.get(name)) for name in ("begin", "size"))
    if not inputs or size is None or len(size) != len(inputs[0]):
        return None
    starts = begin if begin is not None else (0,) * len(size)
    return tuple(dim - start if want == -1 else want for want, dim, start in zip(size, inputs[0], starts, strict=True))


def _narrowed(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    axis = _axis(attrs, len(inputs[0]), "dim") if inputs else None
    start, end, length, step = (attrs.get(name) for name in ("start", "end", "length", "step"))
    if axis is None or not isinstance(start, int):
        return None
    stop = start + length if isinstance(length, int) else end
    if not isinstance(stop, int):
        return None
    size = len(range(*slice(start, stop, step if isinstance(step, int) else 1).indices(inputs[0][axis])))
    return (*inputs[0][:axis], size, *inputs[0][axis + 1 :])


def _repeated(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    axis = _axis(attrs, len(inputs[0]), "axis", "dim", "input2", default=0) if inputs else None
    times = _first_of(attrs, "repeats", "input1")
    if axis is None or not isinstance(times, int):
        return None
    return (*inputs[0][:axis], inputs[0][axis] * times, *inputs[0][axis + 1 :])


def _selected(_declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    axis = _axis(attrs, len(inputs[0]), "dim", "axis") if inputs else None
    if axis is None or len(inputs) < 2:
        return None
    return (*inputs[0][:axis], *inputs[1], *inputs[0][axis + 1 :])


def _gather_nd(_declared: Shape, inputs: Sequence[Shape], _attrs: Attributes, _index: int) -> Shape | None:
    if len(inputs) < 2 or not inputs[1]:
        return None
    return (*inputs[1][:-1], *inputs[0][inputs[1][-1] :])


def _resized(declared: Shape, inputs: Sequence[Shape], attrs: Attributes, _index: int) -> Shape | None:
    size = int_tuple(_first_of(attrs, "size", "output_size", "input1"))
    if not inputs or len(inputs[0]) < 3:
        return None
    if size is None or len(size) != len(inputs[0]) - 2:
        pixels = declared[2:]
        return (*inputs[0][:2], *pixels) if len(declared) > 2 and min(pixels) >= 0 else None
    return (*inputs[0][:2], *size)


def _most(_declared: Shape, inputs: Sequence[Shape], _attrs: Attributes, index: int) -> Shape | None:
    """The bound of an op that picks elements: all of them."""
    if not inputs:
        return None
    return inputs[0] if index else (max(prod(shape) for shape in inputs),)


def _most_places(_declared: Shape, inputs: Sequence[Shape], _attrs: Attributes, _index: int) -> Shape | None:
    return (prod(inputs[0]), len(inputs[0])) if inputs else None


RESULT_RULES: Mapping[str, ResultRule] = {
    **dict.fromkeys(
        ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "AvgPool2D",
         "MaxPoolWithArgmax", "MaxPoolWithIndices", "MaxPoolWithMask", "Conv2DExt"), _windowed
    ),
    **dict.fromkeys(("Conv2DTranspose", "Conv3DTranspose", "Conv2DBackpropInput", "Conv3DBackpropInput"),
                    _given_size("input_sizes", "input_size", "input2")),
    **dict.fromkeys(("Conv2DBackpropFilter", "Conv3DBackpropFilter"),
                    _given_size("filter_sizes", "filter_size", "input2")),
    **dict.fromkeys(("MaxPoolGrad", "AvgPoolGrad", "MaxPoolGradGrad", "GatherDGradV2", "SliceGrad"), _like(0)),
    **dict.fromkeys(("FlashAttentionScoreGrad",), _like(0, 1, 2)),
    **dict.fromkeys(("PagedAttention", "IncreFlashAttention", "PromptFlashAttention", "RmsNormGrad"), _like(0)),
    "ApplyRotaryPosEmb": _like(0, 1),
    "FlashAttentionScore": _flash_attention,
    **dict.fromkeys(("Unstack", "Unpack", "UnstackExtView"), _unstacked),
    **dict.fromkeys(("Stack", "Pack", "StackExt"), _stacked),
    **dict.fromkeys(("OneHot", "OneHotExt"), _one_hot),
    "GroupNorm": _group_norm,
    "RFFT": _fourier(_real_half),
    **dict.fromkeys(("FFT", "IFFT"), _fourier(lambda points: points)),
    "IRFFT": _fourier(lambda points: 2 * (points - 1)),
    **dict.fromkeys(("Swiglu", "GLU"), _halved),
    **dict.fromkeys(("BroadcastTo", "BroadcastToView"), _broadcast_to),
    **dict.fromkeys(("PadV3", "ConstantPadND", "ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D",
                     "ReplicationPad1D", "ReplicationPad2D", "ReplicationPad3D"), _padded),
    "Slice": _sliced,
    **dict.fromkeys(("SliceExt", "SliceExtView", "Narrow", "NarrowView"), _narrowed),
    "RepeatInterleaveInt": _repeated,
    **dict.fromkeys(("IndexSelect",), _selected),
    **dict.fromkeys(
        ("ResizeNearestNeighbor", "ResizeNearestNeighborV2", "ResizeBilinearV2", "UpsampleNearest1D",
         "UpsampleNearest2D", "UpsampleNearest3D", "UpsampleBilinear2D", "UpsampleLinear1D", "UpsampleBicubic2D",
         "AdaptiveAvgPool2D", "AdaptiveAvgPool1D", "AdaptiveAvgPool2DExt", "AdaptiveMaxPool2D"), _resized
    ),
    **dict.fromkeys(("Unique", "MaskedSelect"), _most),
    "NonZero": _most_places,
    **dict.fromkeys(("GatherD", "GatherElements"), _like(1)),
    "GatherNd": _gather_nd,
}  # fmt: skip
