"""Vector kernels stream what they must, no faster than HBM lets them, and compute what their definition needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.cost import CLEARED_L2, KernelCost, kernel_cost, kernel_of_row, machine
from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.kernels.token_operands import of_tokens_alone
from memplan.cost.machine import Machine
from memplan.cost.transfer import Copy, copy_time, dirty_in_l2
from memplan.cost.vector import VectorWork, vector_time, vector_work
from memplan.cost.vector.windows import Windows, windows_of
from memplan.hardware import chip

B1 = machine(chip("910B1"))


def cost(op_type: str, shapes: str, dtypes: str, out: str, out_dtype: str, core: str = "") -> KernelCost:
    return kernel_cost(kernel_of_row(op_type, shapes, dtypes, out, out_dtype, core=core), B1)


def test_large_elementwise_kernels_run_at_the_rate_of_hbm() -> None:
    found = cost("Mul", "220233216;", "FLOAT;FLOAT", "220233216", "FLOAT")
    assert found.bound == "hbm"
    assert found.gm_bytes == pytest.approx(2 * 4 * 220233216, rel=1e-6)
    assert found.duration_ns == pytest.approx(found.gm_bytes / (1.6e12 * B1["hbm_mixed_share"]) * 1e9, rel=0.03)


def test_tiny_kernels_cost_their_launch() -> None:
    found = cost("Add", ";", "FLOAT;FLOAT", "", "FLOAT")
    assert found.bound == "launch"
    assert 1000 < found.duration_ns < 2000


def test_zeros_are_only_written_and_gathers_read_only_their_rows() -> None:
    assert cost("ZerosLike", "1048576", "FLOAT", "1048576", "FLOAT").gm_bytes == 4 * 1048576
    table = cost("GatherV2", "151936,1024;4096;1", "DT_BF16;INT64;INT64", "4096,1024", "DT_BF16")
    assert table.gm_bytes < 3 * 4096 * 1024 * 2
    part = cost("Slice", "4096,8,512;3;3", "DT_BF16;INT64;INT64", "4096,8,128", "DT_BF16")
    assert part.gm_bytes == 2 * 4096 * 8 * 128 * 2


def test_an_optimiser_without_outputs_updates_all_but_the_gradient() -> None:
    rows = "1048576;1048576;1048576;1048576;1"
    found = cost("ApplyAdamWV2", rows, "FLOAT;FLOAT;FLOAT;FLOAT;INT64", "N/A", "N/A")
    assert found.gm_bytes == pytest.approx(7 * 4 * 1048576, rel=1e-5)


def test_slow_functions_take_longer_than_adding() -> None:
    shape = "4096,4096"
    add, exp, sine = (cost(kind, shape, "FLOAT", shape, "FLOAT").pipes["vector"] for kind in ("Abs", "Exp", "Sin"))
    assert add < exp < sine


def test_a_kernel_without_shapes_is_only_a_launch_and_says_so() -> None:
    found = cost("MemSet", "N/A", "N/A", "N/A", "N/A")
    assert not found.known
    assert found.bound == "launch"


def test_an_ai_cpu_op_takes_tens_of_microseconds() -> None:
    assert cost("Cast", "", "INT32", "", "INT64", core="AI_CPU").duration_ns > 20_000


def test_an_unknown_type_is_costed_and_says_so() -> None:
    assert "not in the table" in cost("Zwiebel", "4096", "FLOAT", "4096", "FLOAT").assumed


@given(st.integers(1, 1 << 30), st.floats(0, 1), st.floats(0, 1))
def test_what_l2_holds_is_never_slower(read: int, hot: float, kept: float) -> None:
    cold = copy_time(Copy(read=read, written=read), B1, B1.vectors)
    warm = copy_time(Copy(read=read, written=read, hot=hot * read, kept=kept * read), B1, B1.vectors)
    assert warm.together_ns <= cold.together_ns * (1 + 1e-9)


def test_small_instructions_and_odd_rows_lose_rate() -> None:
    whole = copy_time(Copy(read=3e8, instruction=131072), B1, 48).read_ns
    assert copy_time(Copy(read=3e8, instruction=8192), B1, 48).read_ns > 1.05 * whole
    assert copy_time(Copy(read=3e8, instruction=128), B1, 48).read_ns > 2 * whole
    assert copy_time(Copy(read=3e8, instruction=131072, stride=24574), B1, 48).read_ns > 1.2 * whole


def test_a_run_alone_leaves_its_last_bytes_in_l2() -> None:
    assert dirty_in_l2(100, 50, 1000) == 50
    assert dirty_in_l2(2000, 2000, 1000) == 500
    assert dirty_in_l2(2000, 2000, 1000, bypass=True) == 1000


def test_pieces_fit_the_ub() -> None:
    operand = Operand((1 << 24,), "float32")
    kernel = Kernel("Add", (operand, operand), (operand,))
    work = vector_work(kernel, op_class("Add"), B1)
    assert 2 * 3 * work.piece <= B1.ub
    assert work.cores == B1.vectors
    small = Operand((1024,), "float32")
    assert vector_work(Kernel("Add", (small, small), (small,)), op_class("Add"), B1).cores == 1


def image(channels: int, side: int, dtype: str = "float32") -> Operand:
    return Operand((32, channels // 16, side, side, 16), dtype, "NC1HWC0")


def pooled(channels: int, side: int, taps: int = 9) -> Kernel:
    mask = Operand((32, channels // 16, taps, side * side // 16 + 1, 16), "uint16", "NC1HWC0")
    return Kernel("MaxPoolWithArgmaxV1", (image(channels, 2 * side),), (image(channels, side), mask))


def test_windows_are_walked_row_by_row_where_cores_cannot_unfold_them() -> None:
    """Halving an image's sides leaves a quarter of its pixels, but half of its rows and the blocks as they are."""
    whole, half = (kernel_cost(pooled(256, side), B1).pipes["vector"] for side in (8, 4))
    assert half == pytest.approx(whole / 2)
    unfolding = machine(chip("910A"))
    whole, half = (kernel_cost(pooled(256, side), unfolding).pipes["vector"] for side in (8, 4))
    assert half == pytest.approx(whole / 4)


def test_windows_are_those_of_the_smaller_image_and_of_the_mask() -> None:
    way = pooled(64, 28, taps=4)
    back = Kernel("MaxPoolGradWithArgmaxV1", (*way.inputs, *way.outputs), way.inputs)
    assert windows_of(way) == windows_of(back) == Windows(32 * 4, 28, 4, 32 * 64 * 28 * 28)
    plain = Kernel("MaxPool", (Operand((2, 20, 8, 8), "float16"),), (Operand((2, 20, 4, 4), "float16"),))
    assert windows_of(plain) == Windows(2 * 2, 4, 9, 2 * 20 * 4 * 4)
    assert windows_of(Kernel("MaxPool", (Operand((64,), "float16"),), ())) is None


def _top_k(rows: int, length: int, kept: int) -> Kernel:
    outputs = (Operand((rows, kept), "float32"), Operand((rows, kept), "int64"))
    return Kernel("TopKV2", (Operand((rows, length), "float32"),), outputs)


@pytest.mark.parametrize(("rows", "length", "stages"), [(64, 8192, 0), (16, 65536, 1), (4, 131072, 2), (1, 65536, 3)])
def test_pieces_of_a_row_are_merged_four_at_a_time(rows: int, length: int, stages: int) -> None:
    """On 40 vector cores a row has pieces of its own where there are fewer rows."""
    core = machine(chip("910B3"))
    kernel = _top_k(rows, length, 64)
    assert vector_work(kernel, op_class("TopKV2"), core).stages == stages


def test_more_kept_of_a_row_takes_longer_to_merge() -> None:
    core = machine(chip("910B3"))
    times = [kernel_cost(_top_k(4, 131072, kept), core).duration_ns for kept in (64, 512, 4096)]
    assert times == sorted(times)
    assert times[2] > 1.2 * times[0]
    few, many = (vector_work(_top_k(2, 131072, kept), op_class("TopKV2"), core).merged for kept in (64, 128))
    assert many == 2 * few


@pytest.mark.parametrize(("op_type", "row", "chip_name", "alone"), [
    ("RmsNorm", 128, "910B1", False), ("RmsNorm", 128, "Ascend910_9392", True), ("RmsNorm", 4096, "910B1", True),
    ("AddRmsNorm", 128, "Ascend910_9392", False), ("RmsNormGrad", 512, "910B1", False),
    ("RmsNormGrad", 1024, "910B1", True),
])  # fmt: skip
def test_norms_work_on_rows_one_by_one_by_length_and_chip(op_type: str, row: int, chip_name: str, alone: bool) -> None:
    """Went wrong once: short rows of a few tokens were put on one core, which works on many at a time."""
    core = machine(chip(chip_name))
    rows = Operand((16, 4, row), "bfloat16")
    kernel = Kernel(op_type, (rows, rows, Operand((row,), "bfloat16")), (rows,))
    work = vector_work(kernel, op_class(op_type), core)
    assert (work.row_starts > 1) == alone
    if alone:
        assert work.cores == 32


def test_a_table_of_angles_is_read_a_row_a_token() -> None:
    """Went wrong once: a table of 81,920 positions counted as a whole for 16 tokens."""
    heads, keys = Operand((16, 4, 128), "bfloat16"), Operand((16, 1, 128), "bfloat16")

    def moved(positions: int) -> int:
        angles = Operand((positions, 128), "bfloat16")
        return kernel_cost(Kernel("_triton_rope", (heads, keys, angles), ()), B1).gm_bytes

    assert moved(81_920) == moved(16)
    assert moved(16) == 2 * (heads.nbytes + keys.nbytes) + 16 * 128 * 2


def test_tokens_are_copied_into_caches_one_behind_the_other() -> None:
    """Went wrong once: what 3,072 tokens write into paged caches was one long copy."""
    cache = Operand((1000, 128, 1, 128), "bfloat16")

    def work(tokens: int) -> tuple[int, float]:
        token = Operand((tokens, 1, 128), "bfloat16")
        inputs = (token, token, cache, cache, Operand((tokens,), "int32"))
        moved = of_tokens_alone(Kernel("ReshapeAndCacheNdKernel", inputs, (cache, cache)))
        found = vector_work(moved, op_class(moved.type), B1)
        return found.cores, found.issued_ns

    assert work(11) == (11, 4 * B1["instruction_start_ns"])
    assert work(3072) == (48, 64 * 4 * B1["instruction_start_ns"])


def test_an_instruction_takes_its_time_besides_its_bytes() -> None:
    many, one = (copy_time(Copy(2**20, hot=2**20, instruction=size), B1, 1).read_ns for size in (128, 2**20))
    issued = 2**20 / 128 * B1["mte2_instruction_cycles"] / B1.vector_clock_hz * 1e9
    assert many > one + 0.99 * issued


@pytest.mark.parametrize(("op_type", "rows", "cores"), [("SoftmaxV2", 11, 11), ("ArgMaxV2", 11, 2), ("ArgMaxV2", 1, 1)])
def test_rows_stay_whole(op_type: str, rows: int, cores: int) -> None:
    out = f"{rows},151936" if op_type == "SoftmaxV2" else f"{rows}"
    kernel = kernel_of_row(op_type, f"{rows},151936", "FLOAT", out, "FLOAT" if op_type == "SoftmaxV2" else "INT32")
    assert vector_work(kernel, op_class(op_type), B1).cores == cores


def _searched(op_type: str, shape: tuple[int, ...], made: tuple[int, ...], core: Machine, dtype: str) -> VectorWork:
    kernel = Kernel(op_type, (Operand(shape, dtype),), (Operand(made, "int32"),))
    return vector_work(kernel, op_class(op_type), core)


@pytest.mark.parametrize(("shape", "made", "dtype", "steps"), [
    ((8, 8192), (8,), "float32", 8 * 6), ((8, 8193), (8, 1), "float32", 8 * 2 * 6),
    ((8, 8192), (8,), "bfloat16", 8 * 7),
    ((16, 64, 512), (16, 512), "float32", 64 * 3), ((1, 64, 16384), (1, 16384), "float32", 64 * 3),
    ((128, 128), (1,), "float32", 0),
])  # fmt: skip
def test_where_the_largest_is_takes_steps_in_turn(
    shape: tuple[int, ...], made: tuple[int, ...], dtype: str, steps: int
) -> None:
    """Went wrong once: eleven rows of a vocabulary came out four times too fast, as if scalars were asked nothing."""
    assert _searched("ArgMaxV2", shape, made, B1, dtype).issued_ns == steps * B1["instruction_start_ns"]


def test_950_divides_rows_that_it_searches() -> None:
    found = _searched("ArgMaxV2", (1, 151936), (1,), machine(chip("Ascend950PR_9589")), "float32")
    assert found.cores > 1
    assert found.issued_ns == 0


def test_tokens_go_into_blocks_of_caches_a_line_each() -> None:
    """Went wrong once: pages in blocks of 32 bytes counted as if each token's row were together."""
    tokens = Operand((512, 8, 128), "float16")

    def read(cache: Operand) -> float:
        inputs = (tokens, tokens, Operand((512,), "int32"), cache, cache)
        moved = of_tokens_alone(Kernel("ScatterPaKvCache", inputs, (cache, cache)))
        return vector_work(moved, op_class(moved.type), B1).read

    rows, blocks = Operand((64, 128, 8, 128), "float16"), Operand((64, 64, 128, 16), "float16")
    lines = 2 * tokens.nbytes / 32 * B1["alignment"]
    assert read(blocks) == read(rows) + lines


def test_rows_that_are_normed_go_into_caches_one_behind_the_other() -> None:
    rows, gain, angles = (
        Operand((480, 1, 1, 576), "float16"),
        Operand((512,), "float16"),
        Operand((480, 1, 1, 64), "float16"),
    )
    caches = Operand((64, 128, 1, 64), "float16"), Operand((64, 128, 1, 512), "float16")
    kernel = Kernel("KvRmsNormRopeCache", (rows, gain, angles, angles, Operand((480,), "int64"), *caches), caches)
    moved = of_tokens_alone(kernel)
    chips = [machine(chip(name)) for name in ("910B1", "Ascend950PR_9589")]
    issued = [vector_work(moved, op_class(moved.type), core).issued_ns for core in chips]
    assert issued == [10 * 2 * B1["instruction_start_ns"], 0]


@pytest.mark.parametrize(("name", "counts", "scaled", "cores", "copies"), [
    ("910B1", (8, 64), True, 8, 64 * 3), ("910B1", (64, 8), False, 32, 2 * 8 * 2),
    ("Ascend950PR_9589", (8, 64), True, 8, 64 * 3), ("Ascend950PR_9589", (4, 8), True, 32, 3),
])  # fmt: skip
def test_cores_get_whole_ranks_of_tokens(
    name: str, counts: tuple[int, int], scaled: bool, cores: int, copies: int
) -> None:
    """Went wrong once: tokens of eight ranks were put in order by all cores, at twice the speed."""
    tokens, numbers, scales = Operand((4096, 512), "float16"), Operand(counts, "int32"), Operand((4096,), "float32")
    kernel = Kernel("MoeReRouting", (tokens, numbers, scales)[: 2 + scaled], (tokens,))
    core = machine(chip(name))
    found = vector_work(kernel, op_class(kernel.type), core)
    assert (found.cores, found.issued_ns) == (cores, copies * core["instruction_start_ns"])


def test_rows_that_the_buffer_does_not_hold_are_read_again() -> None:
    def again(op_type: str, row: int) -> float:
        kernel = kernel_of_row(op_type, f"64,{row}", "FLOAT", f"64,{row}", "FLOAT")
        return vector_work(kernel, op_class(op_type), B1).again / kernel.read_bytes

    assert [again("SoftmaxV2", row) for row in (8192, 65536)] == [0, 2]
    assert [again("RmsNorm", row) for row in (8192, 65536)] == [0, 1]


def _stream(megabytes: int) -> Kernel:
    operand = Operand((megabytes, 2**19), "float16")
    return Kernel("Relu", (operand,), (operand,))


@pytest.mark.parametrize("name", ["910B2", "Ascend950PR_9589"])
def test_what_an_emptied_l2_takes_last_need_not_be_written_back(name: str) -> None:
    """Among others their results have to make room, which costs as much: then all of a long stream goes on to HBM."""
    core = machine(chip(name))
    long, short = _stream(400), _stream(20)
    moved = long.read_bytes + long.written_bytes
    assert kernel_cost(long, core).hbm_bytes == moved
    assert kernel_cost(long, core, CLEARED_L2).hbm_bytes == pytest.approx(moved - core.l2 / 2, abs=2)
    assert kernel_cost(short, core, CLEARED_L2).hbm_bytes == short.read_bytes


def test_what_an_optimiser_writes_over_takes_no_room_of_its_own() -> None:
    core = machine(chip("910B2"))
    state = Operand((400, 2**19), "float16")
    adam = Kernel("ApplyAdamW", (state,) * 4, (state,) * 3)
    found = kernel_cost(adam, core, CLEARED_L2)
    assert found.hbm_bytes == pytest.approx(7 * state.nbytes - 0.75 * core.l2, abs=2)


def test_registers_keep_rows_while_others_come_and_go() -> None:
    """On 950 a norm of long rows takes hardly longer than what it moves, on 910B instructions wait for each row."""
    x, gain = Operand((4096, 4096), "bfloat16"), Operand((4096,), "bfloat16")
    norm, plain = Kernel("RmsNorm", (x, gain), (x,)), Kernel("Relu", (x,), (x,))
    longer = {
        name: kernel_cost(norm, core, CLEARED_L2).duration_ns / kernel_cost(plain, core, CLEARED_L2).duration_ns
        for name, core in ((name, machine(chip(name))) for name in ("910B2", "Ascend950PR_9589"))
    }
    assert longer["Ascend950PR_9589"] < 1.25
    assert longer["910B2"] > 1.7


def test_the_next_row_comes_in_behind_the_sum_of_the_one_before() -> None:
    """Not earlier, so that a norm of many long rows takes longer than either, and not as long as both."""
    x, gain = Operand((4096, 8192), "float32"), Operand((8192,), "float32")
    found = kernel_cost(Kernel("RmsNorm", (x, gain), (x,)), machine(chip("910B2")), CLEARED_L2)
    pipes = found.pipes
    assert max(pipes["mte2"], pipes["vector"]) < found.duration_ns
    assert found.duration_ns < pipes["mte2"] + pipes["vector"] + pipes["mte3"]


def test_small_pieces_start_their_instructions_more_often() -> None:
    """An optimiser's state leaves little room for each operand: the same elements take longer in more pieces."""
    core, state = machine(chip("910B2")), Operand((64, 2**19), "bfloat16")
    adam = Kernel("ApplyAdamW", (state,) * 4, (state,) * 3)
    work = vector_work(adam, op_class("ApplyAdamW"), core)
    fewer = replace(work, pieces=work.pieces / 2)
    assert vector_time(work, core).vector > 1.2 * vector_time(fewer, core).vector
