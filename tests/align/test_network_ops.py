"""Ops of networks that are no language models: convolutions, types that no table knows, lists, gradients of slices."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

import memplan
from memplan.align import align
from memplan.align.classes.op_families import direction_of, families_of, family_table, unknown_type
from memplan.align.planned.planned_sequence import planned_sequence
from memplan.core.resources import table
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import TensorKind, dense_bytes
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from memplan.traces.readers.host_ops import host_kernels

Shape = tuple[int, ...]
OpMade = tuple[str, Sequence[Shape], Sequence[Shape]]
Ran = tuple[str, Sequence[Shape]]
"""The type of an op, or of a kernel, with the shapes of what it reads, and makes."""


def plan_of(ops: Sequence[OpMade]) -> Plan:
    builder = GraphBuilder()

    def tensor(shape: Shape, kind: TensorKind = TensorKind.ACTIVATION) -> int:
        return builder.tensor(f"t{len(builder.names)}", shape, "float32", dense_bytes(shape, "float32"), kind)

    inputs: list[int] = []
    for number, (type_, read, made) in enumerate(ops):
        used = [tensor(shape, TensorKind.INPUT) for shape in read]
        inputs += used
        builder.op(f"{type_}-op{number}", type_, used, [tensor(shape) for shape in made])
    return memplan.plan(builder.finish("made", inputs, [], origin="made", producer="test"), chip="910B2")


def kernels_of(ran: Sequence[Ran]) -> Kernels:
    """Kernels of PyTorch on a CPU, one behind the other, without names of ops."""
    count, types = len(ran), [type_ for type_, _ in ran]
    shapes = [";".join(",".join(map(str, shape)) for shape in read) for _, read in ran]
    starts = [1000 * place for place in range(count)]
    return host_kernels(starts, [900] * count, [0] * count, [""] * count, types, shapes, ["N/A"] * count)


def ran_by(ops: Sequence[OpMade], ran: Sequence[Ran]) -> list[int]:
    found = align(plan_of(ops), kernels_of(ran))
    likeliest = [-1] * len(ran)
    pairs = found.likeliest()
    for op, kernel in zip(pairs.op[::-1].tolist(), pairs.kernel[::-1].tolist(), strict=True):
        likeliest[kernel] = op
    return likeliest


def test_a_convolution_is_one_however_a_framework_calls_it_and_no_part_of_other_words() -> None:
    names = family_table().names
    for type_ in ("Conv", "ConvTranspose", "aten::mkldnn_convolution", "aten::slow_conv_transpose2d", "Conv2D"):
        assert names[families_of(type_)[0]] == "convolution", type_
    assert names[families_of("aclnnConvertWeightToINT4Pack")[0]] != "convolution"


def test_ops_that_no_table_knows_are_run_by_what_is_called_like_them() -> None:
    assert unknown_type("aten::my_wavelet") == unknown_type("MyWavelet") != ""
    assert unknown_type("MatMulV3") == unknown_type("N/A") == ""
    ops: list[OpMade] = [
        ("Mm", [(64, 32), (32, 16)], [(64, 16)]),
        ("MyWavelet", [(64, 16)], [(64, 16)]),
        ("MyOtherWavelet", [(64, 16)], [(64, 16)]),
        ("Mm", [(64, 16), (16, 48)], [(64, 48)]),
    ]
    ran: list[Ran] = [
        ("aten::mm", [(64, 32), (32, 16)]),
        ("mine::my_wavelet", [(64, 16)]),
        ("mine::my_other_wavelet", [(64, 16)]),
        ("aten::mm", [(64, 16), (16, 48)]),
    ]
    assert ran_by(ops, ran) == [0, 1, 2, 3]
    assert ran_by(ops, [ran[0], ran[3]]) == [0, 3]


def test_an_op_over_lists_runs_tensor_by_tensor() -> None:
    sizes: list[Shape] = [(24, 16), (24,), (40, 24), (40,), (8, 40), (8,)]
    ops: list[OpMade] = [
        ("Lerp", [*sizes, *sizes], []),
        ("Addcmul", [*sizes, *sizes, *sizes], []),
        ("Sqrt", sizes, sizes),
    ]
    ran: list[Ran] = [("aten::lerp_", [size, size]) for size in sizes]
    ran += [("aten::addcmul_", [size, size, size]) for size in sizes]
    ran += [("aten::sqrt", [size]) for size in sizes]
    assert ran_by(ops, ran) == [0] * 6 + [1] * 6 + [2] * 6


@pytest.mark.parametrize("kernel", ["aten::select_backward", "aten::slice_backward", "aten::constant_pad_nd"])
def test_the_gradient_of_a_slice_pads_it(kernel: str) -> None:
    ops: list[OpMade] = [
        ("Mm", [(64, 32), (32, 16)], [(64, 16)]),
        ("Pad", [(64, 16)], [(8, 64, 16)]),
        ("Mm", [(64, 16), (16, 48)], [(64, 48)]),
    ]
    products: list[Ran] = [("aten::mm", [(64, 32), (32, 16)]), ("aten::mm", [(64, 16), (16, 48)])]
    assert ran_by(ops, [products[0], (kernel, [(64, 16)]), products[1]]) == [0, 1, 2]
    parts: list[Ran] = [("aten::zero_", [(8, 64, 16)]), ("aten::copy_", [(64, 16), (64, 16)])]
    assert ran_by(ops, [products[0], *parts, products[1]]) == [0, 1, 1, 2]


def test_a_convolutions_gradient_whose_operands_another_op_has_whole_is_not_a_piece_of_the_op_before() -> None:
    first: OpMade = ("Conv2DBackpropFilter", [(4, 32, 16, 16), (4, 64, 16, 16), (32, 64, 1, 1)], [(4, 64, 16, 16)])
    second: OpMade = ("Conv2DBackpropFilter", [(4, 32, 16, 16), (4, 32, 16, 16), (32, 32, 3, 3)], [(4, 32, 16, 16)])
    ran: list[Ran] = [("aten::sum", [(4, 32, 16, 16)]), ("aten::convolution_backward", second[1])]
    assert ran_by([first, second], ran)[-1] == 1


def test_gradients_of_a_convolution_are_told_apart_by_their_types() -> None:
    """Both may read things of the same sizes, and the run may have the other first."""
    image, weight = (4, 12, 8, 8), (12, 12, 3, 3)
    filters: OpMade = ("Conv2DBackpropFilter", [image, image], [weight])
    inputs: OpMade = ("Conv2DBackpropInput", [image, weight], [image])
    relu: OpMade = ("ReluGrad", [image, image], [image])
    ran: list[Ran] = [(type_, [*read, (4,)]) for type_, read, _ in (filters, inputs)]
    assert ran_by([inputs, filters, relu], [*ran, ("ReluGrad", [image, image])]) == [1, 0, 2]


def test_a_gradient_of_a_convolution_is_one_kernel_where_its_type_tells_which() -> None:
    """Went wrong once: two equal layers of a block were taken for one, whose gradients ran twice."""
    image, weight = (16, 48, 1, 208), (48, 48, 1, 3)
    types = ("Conv2DBackpropFilter", "Conv2DBackpropInput", "aten::convolution_backward")
    plan = plan_of([(type_, [image, image], [weight]) for type_ in types])
    sequence = planned_sequence(plan, range(len(types)))
    rows = zip(sequence.op, sequence.token, strict=True)
    repeats = {plan.ops[op].type: sequence.rules[token].repeats for op, token in rows if op >= 0}
    assert [repeats[type_] for type_ in types] == [False, False, True]


def test_every_gradient_of_a_convolution_that_tells_its_side_has_a_direction() -> None:
    """Went wrong once: those of three axes, and of depthwise convolutions of MindSpore, were taken for convolutions."""
    listed = [
        *table("memplan.align", "families.json")["families"]["convolution_grad"],
        "Conv3DBackpropInputV2", "Conv3DGradFilter", "DepthwiseConv2dNativeBackpropFilter",
        "DepthwiseConv2dNativeBackpropInput",
    ]  # fmt: skip
    for type_ in listed:
        assert families_of(type_)[0] == family_table().number("convolution_grad"), type_
        side = {"input": 1, "filter": -1}.get(re.sub(r".*(input|filter).*|.*", r"\1", type_.lower()), 0)
        assert direction_of(type_) == side, type_
