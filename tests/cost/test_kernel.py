"""Kernels come from graphs, profile rows and options alike; equal ones are equal objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.resources import table
from memplan.cost import Kernel, KernelCost, Operand, kernel_cost, kernel_of_op, kernel_of_row, machine
from memplan.cost.attention.attention_operands import attention_of
from memplan.cost.kernel_problem import problem_of
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.products.convolution import convolution_of, images_dealt
from memplan.cost.products.kernel_products import matmul_of
from memplan.graph import Graph, Op, Tensor, TensorKind
from memplan.hardware import chip

B3 = machine(chip("910B3"))


def test_a_profile_row_becomes_operands() -> None:
    kernel = kernel_of_row("MatMulV3", "4096,1024;1024,2048", "DT_BF16;DT_BF16", "4096,2048", "DT_BF16")
    assert kernel.inputs == (Operand((4096, 1024), "bfloat16"), Operand((1024, 2048), "bfloat16"))
    assert kernel.read_bytes == 2 * (4096 * 1024 + 1024 * 2048)
    assert kernel.written_bytes == 2 * 4096 * 2048
    assert kernel == kernel_of_row("MatMulV3", '"4096,1024;1024,2048"', "DT_BF16;DT_BF16", '"4096,2048"', "DT_BF16")


def test_scalars_have_no_dimensions_and_absent_operands_are_none() -> None:
    kernel = kernel_of_row("Mul", "128;", "FLOAT;FLOAT", "128", "FLOAT")
    assert kernel.inputs == (Operand((128,), "float32"), Operand((), "float32"))
    assert kernel_of_row("Rope", "8;4", "FLOAT;DT_UNDEFINED", "8", "FLOAT").inputs[1] is None
    assert kernel_of_row("MemSet", "N/A", "N/A", "N/A", "N/A").operands == ()


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_text_in_a_profile_is_too_strange(op_type: str, shapes: str, dtypes: str) -> None:
    kernel = kernel_of_row(op_type, shapes, dtypes, shapes, dtypes)
    assert kernel.read_bytes >= 0


@pytest.mark.parametrize(
    ("op_type", "rule"),
    [
        ("MatMulV3", "matmul"),
        ("BatchMatMulExt", "matmul"),
        ("FlashAttentionScoreGrad", "attention_gradient"),
        ("ApplyAdamWV2", "adam"),
        ("ReduceSumD", "reduction"),
        ("LayerNormV3", "layer_norm"),
        ("hcom_allReduce_", "all_reduce"),
        ("AddExt", "one pass"),
        ("MaxPoolGradWithArgmaxV1", "max_pooling_gradient"),
        ("MaxPool", "max_pooling"),
        ("GroupedMatmulV4", "grouped_matmul"),
        ("SomethingNobodyKnows", "unknown"),
    ],
)
def test_types_are_known_by_every_framework_s_spelling(op_type: str, rule: str) -> None:
    assert op_class(op_type).rule == rule


@pytest.mark.parametrize("op_type", ["ReshapeAndCacheNdKernel", "ScatterPaKvCache", "KvRmsNormRopeCache"])
@pytest.mark.parametrize("printed", [True, False])
def test_a_cache_that_tokens_are_written_into_is_not_moved(op_type: str, printed: bool) -> None:
    """Whatever its size, and whether or not a profile gives it as a result, too."""
    tokens, slots = Operand((64, 1, 128), "bfloat16"), Operand((64,), "int32")

    def time(pages: int) -> int:
        caches = (Operand((pages, 128, 1, 128), "bfloat16"),) * 2
        kernel = Kernel(op_type, (tokens, tokens, *caches, slots), caches if printed else ())
        return kernel_cost(kernel, B3).duration_ns

    assert time(12_000) == time(100)
    assert time(12_000) == kernel_cost(Kernel(op_type, (tokens, tokens, slots), (tokens, tokens)), B3).duration_ns


def test_the_mask_of_a_pooling_is_as_large_as_it_is_made() -> None:
    """Profiles print it for the way back with channels and blocks of channels both, many times too large."""
    made = kernel_of_row("MaxPoolWithArgmaxV1", "", "", "32,4,9,47,16", "UINT16", output_formats="NC1HWC0:1")
    used = kernel_of_row("MaxPoolGradWithArgmaxV1", "32,64,9,9,47,16", "UINT16", "", "", input_formats="NC1HWC0")
    assert used.present == made.outputs


def test_ops_of_a_graph_keep_their_stored_bytes() -> None:
    tensors = tuple(
        Tensor(i, f"t{i}", (16, 16), "float16", 600 + i, TensorKind.ACTIVATION, i, layout="NZ") for i in range(2)
    )
    op = Op(0, "op", "ReLU", (0,), (1,), attrs={"axis": 1, "list": [1]})
    kernel = kernel_of_op(op, Graph("g", (op,), tensors, (), (), "", ""))
    assert (kernel.read_bytes, kernel.written_bytes) == (600, 601)
    assert kernel.attributes == (("axis", 1),)


@pytest.mark.parametrize(
    ("first", "second", "result", "runs"),
    [
        ((64, 32), (32, 48), (64, 48), ("k", "n")),
        ((64, 32), (48, 32), (64, 48), ("k", "k")),
        ((32, 64), (32, 48), (64, 48), ("m", "n")),
        ((32, 64), (48, 32), (64, 48), ("m", "k")),
    ],
)
def test_transposes_show_in_the_shapes(
    first: tuple[int, int], second: tuple[int, int], result: tuple[int, int], runs: tuple[str, str]
) -> None:
    kernel = Kernel("MatMulV2", (Operand(first, "float16"), Operand(second, "float16")), (Operand(result, "float16"),))
    problem = matmul_of(kernel, B3).matmul
    assert problem is not None
    assert (problem.m, problem.n, problem.k) == (64, 48, 32)
    assert (problem.a_run, problem.b_run) == runs


def test_nz_weights_are_folded_back() -> None:
    weight = Operand((224, 1024, 16, 32), "int8", "NZ")
    kernel = Kernel("QuantBatchMatmulV3", (Operand((8, 16384), "int8"), weight), (Operand((8, 7168), "float16"),))
    problem = matmul_of(kernel, B3).matmul
    assert problem is not None
    assert (problem.m, problem.n, problem.k, problem.b_run) == (8, 7168, 16384, "nz")


def _scaled(out: str, *scales: Operand) -> KernelCost:
    weight = Operand((112, 128, 16, 32), "int8", "NZ")
    inputs = (Operand((16, 2048), "int8"), weight, *scales)
    return kernel_cost(Kernel("QuantBatchMatmulV3", inputs, (Operand((16, 3584), out),)), B3)


def test_vector_cores_that_scale_sums_are_started_as_well() -> None:
    by_fixpipe = _scaled("float16", Operand((3584,), "uint64"))
    by_vector = _scaled("bfloat16", Operand((3584,), "float32"), Operand((16,), "float32"))
    assert "vector" not in by_fixpipe.pipes
    assert by_vector.pipes["vector"] > 0
    started = B3["head_ns_per_vector_core"] * 0.8 * B3.vectors
    assert by_vector.duration_ns - by_fixpipe.duration_ns >= started + B3["core_start_ns"]
    assert "vector" not in _scaled("int32").pipes
    assert "vector" not in _scaled("float16", Operand((1,), "uint64")).pipes


def test_ends_of_groups_are_no_scales() -> None:
    inputs = (Operand((512, 1024), "int8"), Operand((8, 1024, 2048), "int8"), Operand((8, 2048), "float32"))
    out = (Operand((512, 2048), "bfloat16"),)
    ends = Operand((8,), "int64")
    alone, with_ends = (
        problem_of(Kernel("QuantGroupedMatmulDequant", operands, out), B3) for operands in (inputs, (*inputs, ends))
    )
    assert alone.matmul is not None
    assert alone.passes == with_ends.passes > 0


def test_scales_of_square_weights_turn_nothing() -> None:
    for kind, told, last in (("int8", "uint64", False), ("float16", "float16", True)):
        inputs = (Operand((256, 4096), kind), Operand((4096, 4096), kind), Operand((4096,), told))
        out = (Operand((256, 4096), "float16"),)
        untold, turned = (
            matmul_of(Kernel("QuantBatchMatmulV3", inputs, out, attributes), B3).matmul
            for attributes in ((), (("transpose_x2", True),))
        )
        assert untold is not None
        assert turned is not None
        assert (untold == turned) is last


def test_vector_cores_beside_the_cube_cost_no_start_where_both_share_a_buffer() -> None:
    core = machine(chip("Ascend950PR_9589"))
    inputs = (Operand((16, 2048), "int8"), Operand((2048, 3584), "int8"), Operand((3584,), "float32"))
    scaled = kernel_cost(Kernel("QuantBatchMatmulV3", inputs, (Operand((16, 3584), "bfloat16"),)), core)
    plain = kernel_cost(Kernel("MatMulV3", inputs[:2], (Operand((16, 3584), "bfloat16"),)), core)
    assert scaled.duration_ns - plain.duration_ns < core["core_start_ns"]


def test_experts_share_the_rows() -> None:
    kernel = Kernel(
        "GroupedMatmul",
        (Operand((4096, 512), "bfloat16"), Operand((8, 512, 1024), "bfloat16")),
        (Operand((4096, 1024), "bfloat16"),),
    )
    problem = matmul_of(kernel, B3, grouped=True).matmul
    assert problem is not None
    assert (problem.batch, problem.m, problem.flops) == (8, 512, 2 * 4096 * 512 * 1024)
    assert problem.b_total == 8 * 512 * 1024 * 2


def test_experts_may_be_operands_of_their_own() -> None:
    weights = (Operand((512, 1024), "bfloat16"),) * 8
    kernel = Kernel("GroupedMatmul", (Operand((4096, 512), "bfloat16"), *weights), (Operand((4096, 1024), "bfloat16"),))
    problem = matmul_of(kernel, B3, grouped=True).matmul
    assert problem is not None
    assert (problem.batch, problem.m, problem.b_total) == (8, 512, 8 * 512 * 1024 * 2)


def test_one_weight_for_all_batches_is_one_product() -> None:
    kernel = Kernel(
        "BatchMatMul",
        (Operand((4, 128, 64), "float16"), Operand((64, 32), "float16")),
        (Operand((4, 128, 32), "float16"),),
    )
    problem = matmul_of(kernel, B3).matmul
    assert problem is not None
    assert (problem.batch, problem.m, problem.n, problem.k) == (1, 512, 32, 64)


def test_convolutions_are_products_over_filter_taps() -> None:
    image, filters, result = (
        Operand((32, 3, 224, 224), "float16"),
        Operand((64, 3, 11, 11), "float16"),
        (32, 64, 55, 55),
    )
    kernel = Kernel("Conv2D", (image, filters), (Operand(result, "float16"),))
    problem = convolution_of(kernel, B3, "convolution")
    assert problem is not None
    assert problem.flops == 2 * 32 * 55 * 55 * 64 * 3 * 11 * 11


def _half(*shape: int, layout: str = "ND") -> Operand:
    return Operand(shape, "float16", layout)


@pytest.mark.parametrize(("images", "cores"), [(32, 16), (20, 20), (64, 16), (2, 0)])
def test_the_pixels_of_a_convolution_pass_gm_once_and_whole_images_are_dealt_out(images: int, cores: int) -> None:
    image, filters = Operand((images, 3, 224, 224), "float16"), Operand((64, 3, 11, 11), "float16")
    kernel = Kernel("Conv2D", (image, filters), (Operand((images, 64, 55, 55), "float16"),))
    problem = convolution_of(kernel, B3, "convolution")
    assert problem is not None
    assert problem.a_total == pytest.approx(image.nbytes)
    assert problem.stride == 4
    assert problem.flops == 2 * images * 55 * 55 * 64 * 3 * 11 * 11
    assert images_dealt(kernel, B3) == cores


@pytest.mark.parametrize(
    ("image", "filters", "gradient"),
    [
        (_half(2, 48, 31, 31), _half(80, 48, 3, 3), _half(2, 80, 29, 29)),
        (_half(2, 64, 9, 9), _half(64, 64, 3, 3), _half(2, 64, 9, 9)),
        (
            _half(2, 3, 31, 31, 16, layout="NC1HWC0"),
            _half(27, 5, 16, 16, layout="FRACTAL_Z"),
            _half(2, 5, 29, 29, 16, layout="NC1HWC0"),
        ),
        (_half(1, 3, 8, 40, 40), _half(32, 3, 3, 3, 3), _half(1, 32, 6, 38, 38)),
    ],
)
def test_gradients_of_a_convolution_take_their_operands_in_any_order(
    image: Operand, filters: Operand, gradient: Operand
) -> None:
    """Went wrong once: MindSpore gives the result's gradient first, and 11 us were predicted as 3,773."""
    forward = convolution_of(Kernel("Conv2D", (image, filters), (gradient,)), B3, "convolution")
    assert forward is not None
    for kind, told, made in (
        ("convolution_input_gradient", (filters, gradient), image),
        ("convolution_filter_gradient", (image, gradient), filters),
    ):
        for operands in (told, told[::-1]):
            found = convolution_of(Kernel("Conv2D", operands, (made,)), B3, kind)
            assert found is not None
            assert found.flops == forward.flops
    both = Kernel("Conv2DBackpropFilter", (gradient, image, filters), (image, filters))
    found = convolution_of(both, B3, "convolution_filter_gradient")
    assert found is not None
    assert found.flops == 2 * forward.flops


def test_a_factor_told_by_the_shape_before_its_view_is_a_matrix() -> None:
    """Went wrong once: a product of two rows took 69 ms, as one for each of 256 channels."""
    inputs = Operand((2, 4096), "float16"), Operand((2, 256, 6, 6), "float16")
    problem = matmul_of(Kernel("MatMul", inputs, (Operand((4096, 9216), "float16"),)), B3).matmul
    assert problem is not None
    assert (problem.batch, problem.m, problem.n, problem.k) == (1, 4096, 9216, 2)
    rows = Operand((4, 128, 64), "float16"), Operand((64, 32), "float16")
    problem = matmul_of(Kernel("MatMul", rows, (Operand((512, 32), "float16"),)), B3).matmul
    assert problem is not None
    assert (problem.batch, problem.m, problem.n, problem.k) == (1, 512, 32, 64)


def test_a_product_that_the_cube_does_not_take_deals_out_rows_and_reads_weights_again_for_each() -> None:
    core = machine(chip("910A"))
    weights = Operand((4096, 4096), "float32")

    def product(rows: int, cores: int = 0) -> KernelCost:
        tensor = Operand((rows, 4096), "float32")
        return kernel_cost(Kernel("MatMul", (tensor, weights), (tensor,), (), cores), core)

    few, many = product(2), product(64)
    assert few == product(2, 1)
    assert few.duration_ns > 10 * product(2, 32).duration_ns
    assert few.gm_bytes == 2 * weights.nbytes + 4 * 4096 * 4
    assert many == product(64, 32)
    bias = Operand((4096,), "float32")
    layer = Kernel("MatMul", (Operand((2, 4096), "float32"), weights, bias), (Operand((2, 4096), "float32"),))
    assert kernel_cost(layer, core).duration_ns > 1.9 * few.duration_ns


def test_attention_in_a_profile_is_read_from_its_softmax_statistics() -> None:
    kernel = kernel_of_row(
        "FlashAttentionScore",
        "4096,1,2048;4096,1,1024;4096,1,1024;;;;2048,2048",
        "DT_BF16;DT_BF16;DT_BF16;DT_BF16;UINT8;DT_BF16;BOOL",
        "1,16,4096,8;1,16,4096,8;;4096,1,2048",
        "FLOAT;FLOAT;DT_BF16;DT_BF16",
    )
    shaped = attention_of(kernel, gradient=False)
    problem = shaped.attention
    assert problem is not None
    assert (problem.batch, problem.heads, problem.kv_heads) == (1, 16, 8)
    assert (problem.q_len, problem.kv_len, problem.d_qk, problem.causal) == (4096, 4096, 128, True)
    assert shaped.assumed


@pytest.mark.parametrize("dtype", ["BOOL", "INT8", "UINT8"])
def test_a_mask_may_be_of_any_type_of_one_byte(dtype: str) -> None:
    """Went wrong once: attention with a mask of int8, as vllm-ascend gives it, counted all pairs."""
    row = ("4096,16,128;4096,8,128;4096,8,128;2048,2048", f"DT_BF16;DT_BF16;DT_BF16;{dtype}", "4096,16,128", "DT_BF16")
    problem = attention_of(kernel_of_row("FusedInferAttentionScore", *row), gradient=False).attention
    assert problem is not None
    assert problem.causal


@pytest.mark.parametrize(
    ("pool", "table", "known"),
    [("12235,128,512", "16,512", False), ("4,2048,512", "", True)],
)
def test_pages_of_keys_do_not_tell_how_long_sequences_are(pool: str, table: str, known: bool) -> None:
    """Went wrong once: a decode step read the whole pool of pages, or as much of it as the layout made of its shape."""
    shapes = ";".join(["16,1,512" if table else "4,1,512", pool, pool, table])
    kernel = kernel_of_row("FusedInferAttentionScore", shapes, "DT_BF16;DT_BF16;DT_BF16;INT32", "16,1,512", "DT_BF16")
    cost = kernel_cost(kernel, B3)
    assert cost.known is known
    assert ("lengths" in cost.assumed) is not known


TND = "4096,16,128;4096,8,128;4096,8,128"


@pytest.mark.parametrize(
    ("shapes", "dtypes", "output", "problem"),
    [
        (f"{TND};2048,2048", "DT_BF16;DT_BF16;DT_BF16;BOOL", "4096,16,8;4096,16,128", (1, 16, 8, 4096)),
        (f"{TND};4;4", "DT_BF16;DT_BF16;DT_BF16;INT64;INT64", "4096,16,8;4096,16,128", (4, 16, 8, 1024)),
        ("4096,2048;4096,1024;4096,1024;2048,2048", "DT_BF16;DT_BF16;DT_BF16;BOOL", "4096,2048", (1, 16, 8, 4096)),
        ("600,640;600,640;600,640;3", "DT_BF16;DT_BF16;DT_BF16;INT32", "600,640", (3, 5, 5, 200)),
    ],
)  # fmt: skip
def test_attention_over_sequences_behind_each_other(
    shapes: str, dtypes: str, output: str, problem: tuple[int, ...]
) -> None:
    """Went wrong once: tokens in rows of all heads were priced as moved and not computed with."""
    outputs = "FLOAT;DT_BF16" if ";" in output else "DT_BF16"
    shaped = attention_of(kernel_of_row("FlashAttentionScore", shapes, dtypes, output, outputs), gradient=False)
    found = shaped.attention
    assert found is not None
    assert (found.batch, found.heads, found.kv_heads, found.q_len) == problem
    assert (found.d_qk, found.kv_len) == (128, found.q_len)
    assert found.causal == ("BOOL" in dtypes)
    assert shaped.assumed.startswith("sequences" if found.batch > 1 else "one sequence")


def test_what_the_cube_lacks_runs_on_the_vector_units() -> None:
    a = Operand((512, 512), "float64")
    cost = kernel_cost(Kernel("MatMul", (a, a), (a,)), B3)
    assert cost.bound == "vector"
    assert cost.flops == 2 * 512**3
    assert "vector units" in cost.assumed


_BLOCKED, _PLAIN = Operand((32, 8, 56, 56, 16), "float16", "NC1HWC0"), Operand((32, 128, 56, 56), "float16")


@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "DepthwiseConv2DBackpropInput", "DepthwiseConv2DBackpropFilter"])
def test_filters_of_single_channels_cost_the_same_however_they_lie(kind: str) -> None:
    """Plain filters were multiplied without the zeros of their blocks, blocked ones made one block of results."""
    spread = Operand((72, 1, 16, 16), "float16", "FRACTAL_Z")
    found = set()
    for image, filters in (
        (_PLAIN, Operand((128, 1, 3, 3), "float16")), (_PLAIN, Operand((1, 128, 3, 3), "float16")), (_BLOCKED, spread),
    ):  # fmt: skip
        made = filters if kind.endswith("Filter") else image
        inputs = (image, image) if kind.endswith("Filter") else (image, filters)
        problem = convolution_of(Kernel(kind, inputs, (made,)), B3, op_class(kind).kind)
        assert problem is not None
        found.add(tuple(sorted((problem.m, problem.n, problem.k))))
    assert found == {(128, 144, 32 * 56 * 56)}


def test_an_image_told_flat_has_unknown_channels() -> None:
    """Went wrong once: an `IndexError` where the gradient of an image has one dimension."""
    flat, filters = Operand((_PLAIN.count,), "float16"), Operand((128, 4, 3, 3), "float16")
    kernel = Kernel("Conv2DBackpropInput", (_PLAIN, filters), (flat,))
    problem = convolution_of(kernel, B3, "convolution_input_gradient")
    assert problem is not None
    assert min(problem.m, problem.n, problem.k) > 0


def test_groups_of_channels_are_multiplied_as_many_at_once_as_fill_a_block() -> None:
    """Groups of 4 channels by fours, those of 24 in pairs (by lines of 16), all of them where there is but one."""
    for channels, each, taps in ((128, 4, 16 * 9), (96, 24, 48 * 9), (128, 128, 128 * 9)):
        image = Operand((32, channels, 56, 56), "float16")
        kernel = Kernel("Conv2D", (image, Operand((channels, each, 3, 3), "float16")), (image,))
        problem = convolution_of(kernel, B3, "convolution")
        assert problem is not None
        assert (problem.n, problem.k) == (channels, taps)


@pytest.mark.parametrize(
    ("op_type", "kind"),
    [
        ("BNTrainingReduce", "vector"),
        ("BNTrainingReduceGrad", "vector"),
        ("BNTrainingUpdateGrad", "vector"),
        ("BNTrainingUpdate", "vector"),
        ("DepthwiseConv2DBackpropInputD", "convolution_input_gradient"),
        ("DepthwiseConv2dNativeBackpropFilterD", "convolution_filter_gradient"),
        ("ConfusionSoftmaxGrad", "rows"),
        ("LambApplyOptimizerAssign", "optimizer"),
        ("AdamApplyOneWithDecayAssign", "optimizer"),
        ("AtomicAddrClean", "fill"),
        ("SigmoidCrossEntropyWithLogitsGrad", "vector"),
        ("ForeachAddcdivScalarList", "vector"),
        ("SquareSumAll", "reduction"),
    ],
)
def test_kernels_of_training_on_old_libraries_have_a_class(op_type: str, kind: str) -> None:
    """Batch norms, gradients of depthwise convolutions and optimisers in parts fell to one pass over an operand."""
    rule = op_class(op_type)
    assert (rule.kind, rule.rule != "unknown") == (kind, True)


def test_a_type_has_one_class() -> None:
    """Of two the later one counted, and nobody saw that."""
    classes = table("memplan.cost", "kernels.json")["classes"]
    told = {(op_type.casefold(), name) for name, entry in classes.items() for op_type in entry["types"]}
    assert len(told) == len({op_type for op_type, _ in told})


@pytest.mark.parametrize(
    ("fused", "plain"),
    [
        ("GemmaRmsNorm", "RmsNorm"),
        ("AddRmsNormDynamicQuantV2", "AddRmsNormDynamicQuant"),
        ("SwiGluDynamicQuant", "SwiGlu"),
        ("DynamicMxQuant", "DynamicQuant"),
        ("InplacePartialRotaryMul", "RotaryMul"),
        ("TransposeQuantBatchMatmul", "QuantBatchMatmulV3"),
        ("ScatterPaKvCache", "ReshapeAndCache"),
    ],
)
def test_what_libraries_fuse_has_the_class_of_its_main_part(fused: str, plain: str) -> None:
    assert op_class(fused).rule == op_class(plain).rule != "unknown"
