"""Kernels that move or add rows: what they touch, whose rows they go along, and what they read ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.cost import Kernel, KernelCost, Operand, kernel_cost, machine
from memplan.cost.attention import AttentionProblem, attention_time
from memplan.cost.kernels.op_classes import (
    one_row_at_a_time,
    op_class,
    reduced_row,
    row_steps,
    rows_overlap,
    takes_all_cores,
    takes_turns,
    writes_cache,
)
from memplan.cost.product_costs import matmul_cost
from memplan.cost.products.convolution import convolution_of
from memplan.cost.vector.rank_runs import bytes_of_a_run
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


@pytest.mark.parametrize(("name", "steps"), [("910B2", 1.5), ("950PR_9589", 2)])
def test_rows_that_are_added_up_wait_for_their_places(name: str, steps: float) -> None:
    """Two rows at a time take three steps on A2; on 950 each waits for its place and for its expert."""
    core = machine(chip(name))
    tokens, experts = 1024 * core.vectors, 4
    places = Operand((tokens * experts,), "int32")
    told = (Operand((tokens * experts, 32), "float16"), places, Operand((tokens, 32), "float16"), None)
    bias = (Operand((16, 32), "float16"), Operand((tokens, experts), "float16"), Operand((tokens, experts), "int32"))
    found = kernel_cost(Kernel("MoeFinalizeRoutingV2", (*told, *bias), (told[2],)), core)
    assert found.duration_ns == pytest.approx(1024 * experts * steps * core["instruction_start_ns"], rel=0.1)


def test_rows_that_are_quantised_are_worked_on_together_where_they_are_whole_blocks() -> None:
    """A2 takes others one by one, and such of which UB holds one; all of them are read ahead."""
    assert [one_row_at_a_time("DynamicQuant", row, B3.family) for row in (512, 511, 4001, 16384)] == [
        False,
        True,
        True,
        True,
    ]
    whole, others = (Operand((8192, row), "float16") for row in (512, 511))
    times = [_cost("DynamicQuant", (each,), (replace(each, dtype="int8"),)).duration_ns for each in (whole, others)]
    assert times[1] > 2 * times[0]
    assert rows_overlap("DynamicQuant", 4096, "float16")


def test_a_row_of_scores_is_sampled_by_one_core() -> None:
    """Went wrong once: one row of 32,000 took an eighth of what it does, as sixteen cores shared it."""
    times = []
    for rows in (1, B3.vectors):
        scores = Operand((rows, 32000), "float16")
        times.append(_cost("TopKTopPSampleV2", (scores,), (Operand((rows,), "int64"), scores)).duration_ns)
    assert times[0] > 0.8 * times[1]


def test_tokens_of_a_rank_and_an_expert_are_copied_together() -> None:
    """Went wrong once: each token was a copy of its own, three times what 32,768 of 512 bytes take on 950."""
    tokens, counts = Operand((32768, 256), "bfloat16"), Operand((8, 64), "int32")
    kernel = Kernel("MoeReRouting", (tokens, counts), (tokens, Operand((32768,), "int32")))
    assert bytes_of_a_run(kernel) == 64 * 512
    assert bytes_of_a_run(Kernel("MoeInitRouting", (tokens, counts), (tokens,))) == 0


def test_each_core_adds_up_the_counts_of_all_ranks_on_its_own() -> None:
    """A line of the scalar unit's at a time: more counts of as many tokens take so much longer."""
    tokens, places = Operand((4096, 64), "bfloat16"), Operand((4096,), "int32")
    few, many = (Operand((32, experts), "int64") for experts in (8, 64))
    found = [_cost("MoeReRouting", (tokens, each), (tokens, places)).duration_ns for each in (few, many)]
    lines = (many.nbytes - few.nbytes) / 64
    steps = 2 * (64 - 8) * B3["instruction_start_ns"]
    assert found[1] - found[0] == pytest.approx(lines * B3["scalar_line_ns"] + steps, rel=0.1)


def test_groups_of_channels_stay_on_a_core_and_are_read_twice() -> None:
    """Went wrong once: a channel was a row, so that sixteen groups were worked on by all cores."""
    image, gains = Operand((16, 257, 32, 31), "float16"), Operand((257,), "float16")
    means = Operand((16, 1), "float16")
    kernel = Kernel("GroupNormSilu", (image, gains, gains), (image, means, means))
    assert reduced_row(kernel, image) == 257 * 32 * 31
    few, many = kernel_cost(kernel, B3), _cost("GroupNormSilu", (image, gains, gains), (image,))
    assert few.duration_ns > 1.5 * many.duration_ns
    assert few.pipes["mte2"] > image.nbytes / B3.hbm_bytes_per_second * 1e9


def test_lists_of_tensors_wait_for_what_the_host_tells_them() -> None:
    """Each core copies the places of 256 tensors before it starts, however little there is to do; not on 950."""
    one = Operand((1024,), "float32")
    plain, listed = (_cost(kind, (one, one), (one,)).duration_ns for kind in ("Add", "ForeachAddList"))
    assert listed == _cost("aclnnForeachAddList", (one, one), (one,)).duration_ns
    assert listed - plain == pytest.approx(3056 / 64 * B3["scalar_line_ns"], rel=0.05)
    new = machine(chip("950PR_9589"))
    alike = [kernel_cost(Kernel(kind, (one, one), (one,)), new).duration_ns for kind in ("Add", "ForeachAddList")]
    assert alike[0] == alike[1]


def test_a_table_costs_what_is_put_into_it() -> None:
    """Went wrong once: instructions of every row of a vocabulary for the few that change."""
    rows, places = Operand((512, 4096), "float16"), Operand((512,), "int64")
    small, large = (Operand((words, 4096), "float16") for words in (4096, 152064))
    times = [_cost("IndexPutV2", (table, rows, places), (table,)).duration_ns for table in (small, large)]
    assert times[0] == times[1]


def test_rows_that_are_added_take_turns() -> None:
    """Each goes through five steps that wait for each other, an index of an inner axis for all that lies outside."""
    table, places = Operand((128, 2000, 64), "float32"), Operand((1000,), "int64")
    inner = _cost("InplaceIndexAdd", (table, places, Operand((128, 1000, 64), "float32")), (table,))
    outer = _cost("InplaceIndexAdd", (table, Operand((128,), "int64"), table), (table,))
    step = B3["instruction_start_ns"]
    assert inner.duration_ns > 128 * 1000 / B3.vectors * 5 * step
    assert outer.duration_ns < inner.duration_ns / 2


@pytest.mark.parametrize("kind", ["InplaceIndexAddWithSorted", "MoeInplaceIndexAddWithSorted", "IndexPutWithSort"])
def test_rows_of_sorted_indices_take_turns(kind: str) -> None:
    """Went wrong once: sorting spares none of them their way through one buffer."""
    table, places = Operand((100000, 16), "float32"), Operand((65536,), "int32")
    operands = (Operand((65536, 16), "float32"), places, places)
    found = _cost(kind, (table, *operands), (table,))
    assert found.duration_ns > 65536 / B3.vectors * 2 * B3["instruction_start_ns"]


def test_tables_know_a_type_by_the_name_of_its_class() -> None:
    """Went wrong once: classes dropped versions and prefixes, one table took any spelling, all others one alone."""
    for name in ("InplaceIndexAdd", "inplaceindexadd", "aclnnInplaceIndexAdd", "InplaceIndexAddV7"):
        assert row_steps(name, B3.npu_arch, long=False) == row_steps("InplaceIndexAdd", B3.npu_arch, long=False) > 0
    assert rows_overlap("AddRmsNormV9", 4096, "float16")
    assert one_row_at_a_time("RMSNORM", 4096, "Ascend910B")
    assert takes_turns("TensorMoveV2")
    assert writes_cache("ReshapeAndCacheV2")
    # What has a class of its own is no other type's.
    assert takes_all_cores("Transpose")
    assert not takes_all_cores("TransposeD")


def test_the_newest_generation_takes_no_turns() -> None:
    """Its kernels of these types are others."""
    new = machine(chip("Ascend950PR_9589"))
    rows, places = Operand((65536, 16), "float32"), Operand((65536,), "int64")
    kernel = Kernel("InplaceIndexAdd", (rows, places, rows), (rows,))
    assert kernel_cost(kernel, new).duration_ns < kernel_cost(kernel, B3).duration_ns / 10


def test_indexing_deals_out_tasks_of_many_rows() -> None:
    """A core takes 128 elements, or 32 rows of a table, however many cores are left without."""
    scores, sizes = Operand((4096, 6400), "float32"), (Operand((2,), "int64"), Operand((1,), "int64"))
    few, many = (
        _cost("Index", (scores, *sizes, *2 * (Operand((count,), "int64"),)), (Operand((count,), "float32"),))
        for count in (128, 40 * 128)
    )
    assert few.duration_ns > 128 * 2 * B3["instruction_start_ns"]
    assert many.duration_ns < 1.5 * few.duration_ns


@pytest.mark.parametrize("words", [32000, 151936])
def test_losses_pick_an_element_of_a_long_row(words: int) -> None:
    """Went wrong once: all scores of a vocabulary were read for one of each row, and again for zeros."""
    scores, weights = Operand((4096, words), "float32"), Operand((words,), "float32")
    places, one = Operand((4096,), "int64"), Operand((), "float32")
    read = scores.nbytes / B3.hbm_bytes_per_second * 1e9
    assert _cost("NLLLoss", (scores, places, weights), (one, one)).duration_ns < read / 4
    back = _cost("NLLLossGrad", (scores, one, places, weights, one), (scores,))
    assert back.gm_bytes < 1.01 * scores.nbytes


def test_losses_read_short_rows_whole() -> None:
    """UB holds them, and elements are picked there."""
    scores, places = Operand((65536, 1000), "float32"), Operand((65536,), "int64")
    found = _cost("NLLLoss", (scores, places, Operand((1000,), "float32")), (Operand((), "float32"),))
    assert found.gm_bytes >= scores.nbytes


@pytest.mark.parametrize("kind", ["SparseApplyFtrl", "FusedSparseLazyAdam"])
def test_sparse_optimisers_move_the_rows_that_change(kind: str) -> None:
    """Went wrong once: tables of ten million rows were read and written for 128 of them."""
    rows, places = Operand((4096, 16), "float32"), Operand((4096,), "int32")
    small, large = (3 * (Operand((words, 16), "float32"),) for words in (10_000, 10_000_000))
    times = [_cost(kind, (*tables, rows, places), tables).duration_ns for tables in (small, large)]
    assert times[0] == times[1]


def test_batch_norms_with_sums_do_not_go_along_rows() -> None:
    """Went wrong once: each row of seven pixels started the instructions of a norm."""
    gain = Operand((2048,), "float32")
    for kind in ("BNTrainingUpdate", "BNInfer", "BNTrainingUpdateGrad"):
        narrow, wide = (Operand((64, 2048, *size), "float32") for size in ((7, 7), (1, 49)))
        times = [_cost(kind, (image, image, gain, gain), (image, gain)).duration_ns for image in (narrow, wide)]
        assert times[0] == times[1]


@pytest.mark.parametrize("name", ["910B2", "Ascend310P3", "Ascend910A", "Ascend950PR_9589"])
@pytest.mark.parametrize(("channels", "each", "taps"), [(96, 1, 3), (64, 64, 3), (256, 256, 1)])
def test_windows_far_apart_load_whole_rows(name: str, channels: int, each: int, taps: int) -> None:
    """Went wrong once: of an image that windows use a part of no more was read than that part, faster than HBM."""
    core = machine(chip(name))
    image, result = (Operand((256, channels, size, size), "float16") for size in (112, 56))
    filters = Operand((channels, each, taps, taps), "float16")
    loaded = image.nbytes / (2 if taps == 1 else 1)
    least = loaded / core.hbm_bytes_per_second / max(core["hbm_read_share"], core["hbm_nd2nz_share"]) * 1e9
    for kind, operands in (("Conv2D", (image, filters, result)), ("Conv2DBackpropFilter", (image, result, filters))):
        assert kernel_cost(Kernel(kind, operands[:2], operands[2:]), core).duration_ns > least, kind


def test_flat_windows_load_the_rows_of_pixels_that_they_meet() -> None:
    """Of two rows of pixels a filter of one row meets one, and one of three rows both."""
    image, result = (Operand((256, 64, size, size), "float16") for size in (112, 56))
    flat, tall = (
        _cost("Conv2D", (image, Operand((64, 64, *taps), "float16")), (result,)).gm_bytes for taps in ((1, 3), (3, 1))
    )
    assert tall > flat + image.nbytes // 8


def test_of_volumes_planes_are_stepped_over_as_rows_are() -> None:
    """Went wrong once: steps were counted along one axis, so that patches met planes between theirs, and lines less."""
    image, result = Operand((2, 64, 32, 56, 56), "float16"), Operand((2, 128, 16, 28, 28), "float16")
    found = _cost("Conv3D", (image, Operand((128, 64, 1, 1, 1), "float16")), (result,))
    assert found.gm_bytes < image.nbytes / 3 + result.nbytes
    line, made = Operand((8, 64, 3000), "float16"), Operand((8, 128, 1500), "float16")
    assert _cost("Conv1D", (line, Operand((128, 64, 1), "float16")), (made,)).gm_bytes > line.nbytes + made.nbytes


def test_experts_without_rows_are_not_read() -> None:
    """Went wrong once: eight rows read the weights of 128 experts."""
    weights, rows, made = (Operand(shape, "float16") for shape in ((128, 2048, 768), (8, 2048), (8, 768)))
    found = _cost("GroupedMatmul", (rows, weights, Operand((128,), "int64")), (made,))
    assert found.gm_bytes < 1.2 * weights.nbytes * 8 / 128


def test_the_first_block_of_prompts_waits() -> None:
    """As that of decode steps does: scores, probabilities and sums pass GM one behind the other."""
    short = AttentionProblem(1, 4, 4, 128, 128, causal=False)
    rate = B3.product_rate("float16")
    assert rate is not None
    start, launched = B3["attention_block_ns"], B3.head_ns(4, 8)
    assert start + launched < attention_time(short, B3, rate).duration < 2 * start + launched
    back = replace(short, gradient=True)
    assert attention_time(back, B3, rate).duration < start + launched


@pytest.mark.parametrize(("name", "by_cube"), [("Ascend310P3", True), ("Ascend310B1", True), ("Ascend910A", False)])
def test_products_that_a_cube_lacks_are_halves_where_libraries_make_them(name: str, by_cube: bool) -> None:
    """Went wrong once: float32 on 310P, which no library multiplies as such, took five hundred times as long."""
    core = machine(chip(name))
    times = {}
    for dtype in ("float16", "float32", "bfloat16"):
        square = Operand((1024, 1024), dtype)
        times[dtype] = kernel_cost(Kernel("MatMulV2", (square, square), (square,)), core).duration_ns
    assert times["bfloat16"] == times["float16"]
    assert (times["float32"] < 2 * times["float16"]) == by_cube


def test_norms_of_images_go_along_pixels() -> None:
    """Went wrong once: each row of seven pixels started instructions of its own."""
    image, gain = Operand((64, 2048, 7, 7), "float32"), Operand((2048,), "float32")
    assert reduced_row(Kernel("BatchNorm", (image,), (image,)), image) == 49
    assert reduced_row(Kernel("LayerNorm", (image,), (image,)), image) == 7
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
