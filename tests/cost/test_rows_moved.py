"""Kernels that move or add rows: what they touch, whose rows they go along, and what they read ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.cost import Kernel, KernelCost, Operand, kernel_cost, machine
from memplan.cost.attention import AttentionProblem, attention_time
from memplan.cost.kernels.op_classes import op_class, reduced_row, rows_overlap
from memplan.cost.product_costs import matmul_cost
from memplan.cost.products.convolution import convolution_of
from memplan.hardware import chip

B3 = machine(chip("910B3"))


def _cost(kind: str, inputs: tuple[Operand, ...], outputs: tuple[Operand, ...]) -> KernelCost:
    return kernel_cost(Kernel(kind, inputs, outputs), B3)


@pytest.mark.parametrize("kind", ["MoeTokenUnpermute", "MoeTokenPermuteGrad", "MoeFinalizeRoutingV2"])
def test_rows_of_experts_are_read_one_by_one(kind: str) -> None:
    """Went wrong once: of eight rows a token one was counted, and the time came out a sixth."""
    tokens, rows = Operand((4096, 4096), "bfloat16"), Operand((8 * 4096, 4096), "bfloat16")
    found = _cost(kind, (rows, Operand((8 * 4096,), "int32")), (tokens,))
    assert found.gm_bytes >= rows.nbytes + tokens.nbytes
    assert found.duration_ns > rows.nbytes / B3.hbm_bytes_per_second * 1e9


def test_a_table_costs_what_is_put_into_it() -> None:
    """Went wrong once: instructions of every row of a vocabulary for the few that change."""
    rows, places = Operand((512, 4096), "float16"), Operand((512,), "int64")
    small, large = (Operand((words, 4096), "float16") for words in (4096, 152064))
    times = [_cost("IndexPutV2", (table, rows, places), (table,)).duration_ns for table in (small, large)]
    assert times[0] == times[1]


def test_norms_of_images_go_along_pixels() -> None:
    """Went wrong once: each row of seven pixels started instructions of its own."""
    image, gain = Operand((64, 2048, 7, 7), "float32"), Operand((2048,), "float32")
    assert reduced_row("BatchNorm", image) == 49
    assert reduced_row("LayerNorm", image) == 7
    moved = 2 * image.nbytes / B3.hbm_bytes_per_second * 1e9
    assert _cost("BatchNorm", (image, gain, gain), (image, gain, gain)).duration_ns < 3 * moved


def test_a_gradient_of_an_image_is_written_once() -> None:
    """Went wrong once: each element left the cube for every tap that it was used in."""
    image, filters = Operand((64, 64, 56, 56), "float16"), Operand((64, 64, 3, 3), "float16")
    forward = _cost("Conv2D", (image, filters), (image,))
    backward = _cost("Conv2DBackpropInput", (filters, image), (image,))
    assert backward.flops == forward.flops
    assert backward.duration_ns == pytest.approx(forward.duration_ns, rel=0.4)


def test_filters_of_words_are_turned_slowly() -> None:
    """MTE1 takes so many cycles for a fractal of 32-bit filters that lie turned for an image's gradient."""
    for dtype, slow in (("float32", True), ("float16", False)):
        image, filters = Operand((32, 256, 14, 14), dtype), Operand((256, 256, 3, 3), dtype)
        kernel = Kernel("Conv2DBackpropInput", (filters, image), (image,))
        problem = convolution_of(kernel, B3, "convolution_input_gradient")
        assert problem is not None
        assert (problem.turned_cycles > 0) == slow
        lying = matmul_cost(replace(problem, turned_cycles=0.0), B3).duration_ns
        assert (matmul_cost(problem, B3).duration_ns > lying) == slow


def test_rows_that_an_addition_frees_are_read_ahead() -> None:
    """By the buffers of ops-nn's kernels: of 16 bits, or short ones."""
    assert rows_overlap("AddRmsNorm", 4096, "float16")
    assert not rows_overlap("AddRmsNorm", 4096, "float32")
    assert rows_overlap("AddRmsNorm", 1024, "float32")
    assert not rows_overlap("RmsNorm", 1024, "float16")


def test_training_puts_picked_keys_together_for_each_query() -> None:
    """Forward and back, however long the sequence; prompts in pages keep the former rule."""
    rate = B3.product_rate("bfloat16")
    assert rate is not None
    latent = AttentionProblem(1, 32, 1, 4096, 4096, d_qk=576, d_v=512, shared_kv=True)
    times = {
        (top_k, page, gradient): attention_time(
            replace(latent, top_k=top_k, page=page, gradient=gradient), B3, rate
        ).duration
        for top_k, page, gradient in ((2048, 0, False), (2048, 128, False), (2048, 0, True), (0, 0, True))
    }
    assert times[2048, 0, False] > 2 * times[2048, 128, False]
    assert times[2048, 0, True] > times[0, 0, True]


@pytest.mark.parametrize(
    ("op_type", "rule"),
    [
        ("SoftmaxGrad", "softmax_gradient"),
        ("LayerNormV4", "norm"),
        ("LayerNormV3", "layer_norm"),
        ("SwishGrad", "sigmoid_gradient"),
        ("QuantBatchMatmulInplaceAdd", "quant_matmul"),
        ("MoeTokenUnpermuteWithRoutingMap", "token_sums"),
        ("ForeachLerpList", "two passes"),
    ],
)
def test_operators_of_public_libraries_have_a_class(op_type: str, rule: str) -> None:
    """Unknown ones count as one instruction on each element, products too."""
    assert op_class(op_type).rule == rule
