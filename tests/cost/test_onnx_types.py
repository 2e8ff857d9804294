"""Every op type of the ONNX standard has a class of its own, and products count their multiplies and adds."""

from __future__ import annotations

from math import prod

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.core.resources import table
from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.uncertainty import interval_class
from memplan.hardware import chip

B3 = machine(chip("910B3"))
dims = st.integers(1, 9)


def flops(op_type: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], **attributes: str | int) -> int:
    operands = tuple(Operand(shape, "float32") for shape in inputs)
    kernel = Kernel(op_type, operands, (Operand(output, "float32"),), tuple(sorted(attributes.items())))
    return kernel_cost(kernel, B3).flops


def test_no_op_type_of_the_standard_is_unknown() -> None:
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert len(names) > 200
    assert [name for name in sorted(names) if op_class(name).rule == "unknown"] == []


@settings(max_examples=60)
@given(st.lists(dims, min_size=1, max_size=3), st.lists(dims, min_size=3, max_size=3), dims, dims, dims)
def test_a_convolution_counts_each_tap_of_each_result(
    pixels: list[int], taps: list[int], batch: int, channels: int, filters: int
) -> None:
    kernel = taps[: len(pixels)]
    image, weight = (batch, channels, *(p + k - 1 for p, k in zip(pixels, kernel, strict=True))), (channels, *kernel)
    result = (batch, filters, *pixels)
    assert flops("Conv", [image, (filters, *weight), (filters,)], result) == 2 * prod(result) * prod(weight)
    transposed = flops("ConvTranspose", [result, (filters, channels, *kernel)], image)
    assert transposed == 2 * prod(result) * channels * prod(kernel)


def test_quantised_and_grouped_convolutions_and_patches() -> None:
    image, weight, result = (1, 32, 14, 14), (64, 8, 3, 3), (1, 64, 14, 14)
    want = 2 * prod(result) * 8 * 9
    assert flops("Conv", [image, weight], result) == want
    assert flops("QLinearConv", [image, (), (), weight, (), (), (), ()], result) == want
    patches = Kernel(
        "Conv", (Operand((1, 3, 224, 224), "float16"), Operand((768, 3, 16, 16), "float16")),
        (Operand((1, 768, 14, 14), "float16"),),
    )  # fmt: skip
    assert kernel_cost(patches, B3).flops == 2 * 768 * 14 * 14 * 3 * 16 * 16


@settings(max_examples=40)
@given(dims, dims, dims, dims, st.sampled_from([1, 2]))
def test_a_recurrent_layer_counts_all_its_weights(time: int, batch: int, entries: int, state: int, ways: int) -> None:
    for op_type, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        weights = (ways, gates * state, entries), (ways, gates * state, state)
        shapes: list[tuple[int, ...]] = [(time, batch, entries), *weights]
        want = 2 * time * batch * ways * gates * state * (entries + state)
        assert abs(flops(op_type, shapes, (time, ways, batch, state)) - want) <= 2 * time * batch * (entries + state)


@pytest.mark.parametrize(("equation", "a", "b", "out", "want"), [
    ("bij,bjk->bik", (4, 8, 16), (4, 16, 32), (4, 8, 32), 2 * 4 * 8 * 16 * 32),
    ("bhqd,bhkd->bhqk", (2, 4, 8, 16), (2, 4, 32, 16), (2, 4, 8, 32), 2 * 8 * 8 * 32 * 16),
    ("ij,jk", (8, 16), (16, 4), (8, 4), 2 * 8 * 16 * 4),
    ("i,j->ij", (8,), (4,), (8, 4), 2 * 8 * 4),
])  # fmt: skip
def test_einsum_is_the_product_that_its_equation_says(
    equation: str, a: tuple[int, ...], b: tuple[int, ...], out: tuple[int, ...], want: int
) -> None:
    assert flops("Einsum", [a, b], out, equation=equation) == want


def test_attention_of_the_standard_knows_its_heads() -> None:
    shape = (2, 128, 8 * 64)
    found = flops("Attention", [shape, shape, shape], shape, head_num=8, input_layout="BSH")
    assert found == 4 * 2 * 8 * 128 * 128 * 64


def test_every_formula_decides_a_fused_kernel_before_what_fills() -> None:
    """A kind without a weight among those of fused kernels would come behind all others."""
    classes = table("memplan.cost", "kernels.json")["classes"].values()
    named = {entry["kind"]: name for entry in classes for name in entry["types"] if "_" not in name}
    assert set(named) == {entry["kind"] for entry in classes}
    decided = {kind: op_class(f"FusionOp_Fill_{name}").kind for kind, name in named.items()}
    assert {kind for kind, told in decided.items() if kind != told} == {"collective", "sort"}


def test_a_transposed_convolution_has_the_errors_of_convolutions() -> None:
    image, larger = (Operand((8, 64, size, size), "float16") for size in (128, 256))
    kernel = Kernel("ConvTranspose", (image, Operand((64, 64, 4, 4), "float16")), (larger,))
    assert interval_class(kernel, kernel_cost(kernel, B3)) == "convolutions"
