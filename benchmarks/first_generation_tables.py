"""
Kernels of a first-generation Ascend 910 of which MindSpore's documentation shows what all of a type take in a step.

Its pictures tell types, how many kernels and their time; shapes follow from the network. What is held against them is
the total of a type, in which kernels that are too fast and too slow make up for each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.aicore import roofline_ns
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.ordered_costs import costs_in_order
from memplan.hardware import chip

TABLES = Path(__file__).with_suffix(".json")
_IMAGES, _BLOCK = 32, 16
_STAGES = ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7))
"""Blocks, channels within them and pixels of a side of the four stages of ResNet-50."""
_DECAYED, _DECAYED_FUSED = 55, 54
"""Parameters that decay, as many as the tables have multiplications; those of 2021 leave out the last bias."""


@dataclass(frozen=True, slots=True)
class TypeTotal:
    """
    Microseconds of all kernels of a type in a step: as measured, by the model, by a roofline, and by the model before
    anything had been held against the tables.
    """

    table: str
    type: str
    count: int
    measured: float
    predicted: float
    roofline: float
    first_seen: float


@dataclass(frozen=True, slots=True)
class _Unit:
    """A convolution of `taps` x `taps` and its batch norm: channels, and pixels of a side, before and behind."""

    before: int
    behind: int
    taps: int
    wide: int
    side: int


def type_totals(*, left_out: bool = False) -> Iterator[TypeTotal]:
    """
    Every type of the tables of which it is known what its kernels are; with `left_out` by constants to which the
    table's own network gave nothing.
    """
    document = json.loads(TABLES.read_text("utf-8"))
    for table in document["tables"]:
        core = machine(chip(document["chip"]))
        if left_out:
            core = replace(core, constants={**core.constants, **table["left_out"]})
        kernels = _NETWORKS[table["network"]]()
        ordered = costs_in_order(kernels, core) if table["in_order"] else [kernel_cost(one, core) for one in kernels]
        for row in table["rows"]:
            own = [place for place, kernel in enumerate(kernels) if kernel.type == row["type"]]
            scale = row["count"] / len(own) / 1e3
            yield TypeTotal(
                table["name"], row["type"], row["count"], row["us"],
                sum(ordered[place].duration_ns for place in own) * scale,
                sum(roofline_ns(kernels[place], core) for place in own) * scale,
                row["first_seen"],
            )  # fmt: skip


def table_totals(*, left_out: bool = False) -> dict[str, tuple[int, float, float, float]]:
    """By table: its kernels, the share of its time that the model misses by types, a roofline's, and the bias."""
    found = {}
    rows = list(type_totals(left_out=left_out))
    for name in dict.fromkeys(row.table for row in rows):
        own = [row for row in rows if row.table == name]
        spent = sum(row.measured for row in own)
        missed = sum(abs(row.predicted - row.measured) for row in own) / spent
        plain = sum(abs(row.roofline - row.measured) for row in own) / spent
        found[name] = sum(row.count for row in own), missed, plain, sum(row.predicted for row in own) / spent - 1
    return found


def _operand(shape: Sequence[int], dtype: str, layout: str = "ND") -> Operand:
    return Operand(tuple(shape), dtype, layout)


def _image(channels: int, side: int, dtype: str) -> Operand:
    return _operand((_IMAGES, -(-channels // _BLOCK), side, side, _BLOCK), dtype, "NC1HWC0")


def _sums(channels: int) -> Operand:
    return _operand((1, channels // _BLOCK, 1, 1, _BLOCK), "float32", "NC1HWC0")


def _mask(channels: int, side: int) -> Operand:
    return _operand((_IMAGES, channels // _BLOCK, side, side, 2), "uint8")


def _filters(unit: _Unit, dtype: str) -> Operand:
    rows = -(-unit.before // _BLOCK) * unit.taps**2
    return _operand((rows, unit.behind // _BLOCK, _BLOCK, _BLOCK), dtype, "FRACTAL_Z")


def _plain_filters(unit: _Unit, dtype: str) -> Operand:
    return _operand((unit.behind, unit.before, unit.taps, unit.taps), dtype)


def _units() -> tuple[_Unit, tuple[tuple[_Unit, ...], ...]]:
    """The first convolution, and of each block three and that of its shortcut, if it has one."""
    blocks = []
    before, wide = 64, 56
    for count, channels, side in _STAGES:
        for place in range(count):
            block = [
                _Unit(before, channels, 1, wide, wide),
                _Unit(channels, channels, 3, wide, side),
                _Unit(channels, 4 * channels, 1, side, side),
            ]
            if not place:
                block.append(_Unit(before, 4 * channels, 1, wide, side))
            blocks.append(tuple(block))
            before, wide = 4 * channels, side
    return _Unit(3, 64, 7, 224, 112), tuple(blocks)


def _update(name: str, unit: _Unit, dtype: str, *others: Operand) -> Kernel:
    channels, image = unit.behind, _image(unit.behind, unit.side, dtype)
    masks = (_mask(channels, unit.side),) if "ReLU" in name else ()
    return Kernel(name, (image, *(_sums(channels),) * 6, *others), (image, *masks, *(_sums(channels),) * 4))


def _norm_gradients(unit: _Unit, dtype: str) -> Iterator[Kernel]:
    image, sums = _image(unit.behind, unit.side, dtype), _sums(unit.behind)
    yield Kernel("BNTrainingUpdateGrad", (image, image, sums, sums), (sums, sums))
    yield Kernel("BNTrainingReduceGrad", (image, image, *(sums,) * 5), (image,))


def _parameters() -> tuple[tuple[int, ...], ...]:
    """Shapes of what ResNet-50 of ten classes learns, those that decay first."""
    first, blocks = _units()
    every = [first, *(unit for block in blocks for unit in block)]
    decaying = [(unit.behind, unit.before, unit.taps, unit.taps) for unit in every]
    return (*decaying, (10, 2048), (10,), *((unit.behind,) for unit in every for _ in range(2)))


def _resnet_in_float32() -> list[Kernel]:
    """ResNet-50 of 2022 in float32 but for what the cube multiplies, and maxima: a cast before and behind each."""
    first, blocks = _units()
    half, full = "float16", "float32"
    made: list[Kernel] = []

    def cast(image: Operand, dtype: str) -> Operand:
        made.append(Kernel("Cast", (image,), (replace(image, dtype=dtype),)))
        return replace(image, dtype=dtype)

    def forward(unit: _Unit, *, shared: bool = False) -> None:
        plain = _plain_filters(unit, full)
        cast(plain, half)
        made.append(Kernel("TransData", (replace(plain, dtype=half),), (_filters(unit, half),)))
        if not shared:
            cast(_image(unit.before, unit.wide, full), half)
        result = _image(unit.behind, unit.side, half)
        made.append(Kernel("Conv2D", (_image(unit.before, unit.wide, half), _filters(unit, half)), (result,)))
        image, sums = cast(result, full), _sums(unit.behind)
        made.append(Kernel("BNTrainingReduce", (image,), (sums, sums)))
        made.append(_update("BNTrainingUpdate", unit, full))

    def relu(unit: _Unit) -> None:
        image = _image(unit.behind, unit.side, full)
        made.append(Kernel("ReLUV2", (image,), (image, _mask(unit.behind, unit.side))))

    def relu_gradient(unit: _Unit) -> None:
        image = _image(unit.behind, unit.side, full)
        made.append(Kernel("ReluGradV2", (image, _mask(unit.behind, unit.side)), (image,)))

    def backward(unit: _Unit, *, input_too: bool = True) -> None:
        made.extend(_norm_gradients(unit, full))
        gradient = cast(_image(unit.behind, unit.side, full), half)
        source = _image(unit.before, unit.wide, half)
        if input_too:
            made.append(Kernel("Conv2DBackpropInput", (gradient, _filters(unit, half)), (source,)))
            cast(source, full)
        made.append(Kernel("Conv2DBackpropFilter", (gradient, source), (_filters(unit, full),)))
        made.append(Kernel("TransData", (_filters(unit, full),), (_plain_filters(unit, full),)))

    picture = _operand((_IMAGES, 3, 224, 224), full)
    made.append(Kernel("TransData", (picture,), (_image(3, 224, full),)))
    forward(first)
    relu(first)
    plain, padded = _operand((_IMAGES, 64, 112, 112), full), _operand((_IMAGES, 64, 114, 114), full)
    made.append(Kernel("TransData", (_image(64, 112, full),), (plain,)))
    made.append(Kernel("Pad", (plain,), (padded,)))
    made.append(Kernel("TransData", (padded,), (_image(64, 114, full),)))
    wide, narrow = cast(_image(64, 114, full), half), _image(64, 56, half)
    marks = _operand((_IMAGES, 4, 9, 197, _BLOCK), "uint16", "NC1HWC0")
    made.append(Kernel("MaxPoolWithArgmax", (wide,), (narrow, marks)))
    cast(narrow, full)
    for block in blocks:
        for place, unit in enumerate(block[:3]):
            forward(unit)
            if place < 2:
                relu(unit)
        if len(block) > 3:
            forward(block[3], shared=True)
        image = _image(block[2].behind, block[2].side, full)
        made.append(Kernel("Add", (image, image), (image,)))
        relu(block[2])
    for block in reversed(blocks):
        relu_gradient(block[2])
        if len(block) > 3:
            backward(block[3])
        backward(block[2])
        for unit in (block[1], block[0]):
            relu_gradient(unit)
            backward(unit)
        image = _image(block[0].before, block[0].wide, full)
        made.append(Kernel("AddN", (image, image), (image,)))
    made.append(Kernel("MaxPoolGradWithArgmax", (wide, cast(_image(64, 56, full), half), marks), (wide,)))
    cast(wide, full)
    made.append(Kernel("TransData", (_image(64, 114, full),), (padded,)))
    made.append(Kernel("Slice", (padded,), (plain,)))
    made.append(Kernel("TransData", (plain,), (_image(64, 112, full),)))
    relu_gradient(first)
    backward(first, input_too=False)
    features, words, scores = (_operand(shape, full) for shape in ((_IMAGES, 2048), (10, 2048), (_IMAGES, 10)))
    made.append(Kernel("MatMul", (features, words), (scores,), (("transpose_b", True),)))
    made.append(Kernel("MatMul", (scores, words), (features,)))
    made.append(Kernel("MatMul", (scores, features), (words,), (("transpose_a", True),)))
    one = _operand((1,), full)
    for place, shape in enumerate(_parameters()):
        own = _operand(shape, full)
        if place < _DECAYED:
            made.append(Kernel("Mul", (own, one), (own,)))
            made.append(Kernel("AddN", (own, own), (own,)))
        made.append(Kernel("Adam", (own, own, own, *(one,) * 6, own), (own, own, own)))
    return made


def _resnet_fused() -> list[Kernel]:
    """ResNet-50 of 2021 in float16, whose graph engine fused neighbours."""
    first, blocks = _units()
    half, full = "float16", "float32"
    made: list[Kernel] = []

    def forward(unit: _Unit) -> None:
        sums = _sums(unit.behind)
        result = _image(unit.behind, unit.side, half)
        source = _image(unit.before, unit.wide, half)
        made.append(Kernel("FusionOp_Conv2D_BNTrainingReduce", (source, _filters(unit, half)), (result, sums, sums)))

    def backward(unit: _Unit, name: str, *others: Operand) -> None:
        made.extend(_norm_gradients(unit, half))
        gradient, source = _image(unit.behind, unit.side, half), _image(unit.before, unit.wide, half)
        if name:
            made.append(Kernel(name, (gradient, _filters(unit, half), *others), (source,)))
        made.append(Kernel("Conv2DBackpropFilter", (gradient, source), (_filters(unit, full),)))

    forward(first)
    made.append(_update("FusionOp_BNTrainingUpdate_ReLUV2", first, half))
    wide, narrow = _image(64, 112, half), _image(64, 56, half)
    marks = _operand((_IMAGES, 4, 9, 197, _BLOCK), "uint16", "NC1HWC0")
    made.append(Kernel("MaxPoolWithArgmax", (wide,), (narrow, marks)))
    for block in blocks:
        for unit in block[:2]:
            forward(unit)
            made.append(_update("FusionOp_BNTrainingUpdate_ReLUV2", unit, half))
        if len(block) > 3:
            forward(block[3])
            made.append(_update("BNTrainingUpdate", block[3], half))
        forward(block[2])
        image = _image(block[2].behind, block[2].side, half)
        made.append(_update("FusionOp_BNTrainingUpdate_TensorAdd_ReLUV2", block[2], half, image))
    last = blocks[-1][2]
    image = _image(last.behind, last.side, half)
    made.append(Kernel("ReluGradV2", (image, _mask(last.behind, last.side)), (image,)))
    masked, added = "FusionOp_Conv2DBackpropInput_ReluGradV2", "FusionOp_Conv2DBackpropInput_AddN_ReluGradV2"
    for block in reversed(blocks):
        if len(block) > 3:
            backward(block[3], "Conv2DBackpropInput")
        backward(block[2], masked, _mask(block[1].behind, block[1].side))
        backward(block[1], masked, _mask(block[0].behind, block[0].wide))
        if block is blocks[0]:
            backward(block[0], "Conv2DBackpropInput")
        else:
            before = block[0].before, block[0].wide
            backward(block[0], added, _image(*before, half), _mask(*before))
    made.append(Kernel("MaxPoolGradWithArgmax", (wide, narrow, marks), (wide,)))
    made.append(Kernel("ReluGradV2", (wide, _mask(64, 112)), (wide,)))
    backward(first, "")
    one = _operand((1,), full)
    for place, shape in enumerate(_parameters()):
        own = _operand(shape, full)
        if place < _DECAYED_FUSED:
            made.append(Kernel("FusedMulAddN", (own, one, own), (own,)))
        made.append(Kernel("FusedMulApplyMomentum", (own, own, one, own, one, one), (own, own)))
    return made


_TOKENS, _WIDTH, _INNER, _HEADS, _SEQUENCE, _WORDS, _MASKED = 32768, 768, 3072, 12, 128, 21128, 5120


def _bert() -> list[Kernel]:
    """Kernels of BERT base (256 sequences of 128, of which 20 words each are asked for), as often as they run."""
    half, full, layers = "float16", "float32", 12
    tokens = _operand((_TOKENS, _WIDTH), half)
    inner = _operand((_TOKENS, _INNER), half)
    per_head = _WIDTH // _HEADS
    batches = _TOKENS // _SEQUENCE * _HEADS
    states = _operand((batches, _SEQUENCE, per_head), half)
    scores = _operand((batches, _SEQUENCE, _SEQUENCE), half)
    asked = _operand((_MASKED, _WIDTH), half)
    stats = _operand((_TOKENS, 1), full)
    gains = _operand((_WIDTH,), full)

    def bits(operand: Operand) -> Operand:
        return _operand((operand.count // 8,), "uint8")

    words = _nz(_MASKED, _WORDS), _nz(_MASKED, _WIDTH)
    made = [Kernel("MatMul", words, (_nz(_WORDS, _WIDTH, full),), (("transpose_a", True),))]
    wide = (_operand((_WIDTH, _INNER), half), _operand((_INNER,), half))
    for _ in range(layers):
        made.append(Kernel("FusionOp_MatMul_Gelu", (tokens, *wide), (inner, inner)))
        made.append(Kernel("FusionOp_MatMul_GeluGrad", (tokens, wide[0], inner, inner), (inner,)))
        made.extend([Kernel("BatchMatMul", (states, states), (scores,), (("transpose_b", True),))] * 2)
        made.extend([Kernel("BatchMatMul", (scores, states), (states,))] * 2)
        made.extend([Kernel("BatchMatMul", (scores, states), (states,), (("transpose_a", True),))] * 2)
        made.append(Kernel("SoftmaxV2", (scores,), (scores,)))
        made.append(Kernel("SoftmaxGradExt", (scores, scores, scores), (scores,)))
        made.extend([Kernel("DropOutDoMask", (scores, bits(scores), _operand((1,), half)), (scores,))] * 2)
        made.append(Kernel("DropoutGenMask", (_operand((1,), half),), (bits(scores),)))
        split = _nz(_TOKENS, _WIDTH)
        parts = per_head // _BLOCK, _SEQUENCE // _BLOCK, _BLOCK, _BLOCK
        heads = _operand((_TOKENS // _SEQUENCE, _HEADS, *parts), half, "NZ")
        made.extend([Kernel("ConfusionTransposeD", (split,), (heads,))] * 4)
        made.extend([Kernel("ConfusionTransposeD", (heads,), (split,))] * 4)
        made.extend([Kernel("BiasAddGrad", (tokens,), (_operand((_WIDTH,), full),))] * 5)
        made.append(Kernel("BiasAddGrad", (inner,), (_operand((_INNER,), full),)))
        made.append(Kernel("Add", (_operand((256, 1, _SEQUENCE, _SEQUENCE), half), scores), (scores,)))
        made.extend([Kernel("Add", (tokens, tokens), (tokens,))] * 2)
    for image, count in ((tokens, 2 * layers + 1), (asked, 1)):
        own = replace(stats, shape=(image.shape[0], 1))
        made.extend([Kernel("LayerNorm", (image, gains, gains), (image, own, own))] * count)
        wider = replace(image, dtype=full)
        made.extend([Kernel("LayerNormXBackpropV2", (image, image, own, own, gains), (image, wider))] * count)
        made.extend([Kernel("LayerNormBetaGammaBackpropV2", (image, wider), (gains, gains))] * count)
    made.extend([Kernel("DropOutDoMask", (tokens, bits(tokens), _operand((1,), half)), (tokens,))] * (4 * layers + 2))
    made.extend([Kernel("DropoutGenMask", (_operand((1,), half),), (bits(tokens),))] * (2 * layers + 1))
    return made


def _nz(rows: int, columns: int, dtype: str = "float16") -> Operand:
    """A matrix in blocks, columns of blocks outermost."""
    return _operand((-(-columns // _BLOCK), -(-rows // _BLOCK), _BLOCK, _BLOCK), dtype, "NZ")


_NETWORKS: Mapping[str, Callable[[], list[Kernel]]] = {
    "resnet in float32": _resnet_in_float32,
    "resnet fused": _resnet_fused,
    "bert": _bert,
}
