"""What kernels of a profile find in L2, and in the instruction caches, of those that ran before them."""

from __future__ import annotations

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.deviations import L2State
from memplan.cost.ordered_costs import costs_in_order, hot_shares_of_rows
from memplan.hardware import chip

B1 = machine(chip("910B1"))
X, Y = Operand((4096, 1024), "bfloat16"), Operand((4096, 1024), "float32")
WIDE = Operand((B1.l2,), "int8")
RELU, CAST = Kernel("Relu", (X,), (X,)), Kernel("Cast", (X,), (Y,))


def test_a_result_is_read_from_l2_by_the_next_kernels_and_none_is_by_the_first() -> None:
    assert list(hot_shares_of_rows([CAST, Kernel("Relu", (Y,), (Y,)), RELU], B1.l2 / 2)) == [0.0, 1.0, 0.0]


def test_of_two_operands_that_look_alike_one_is_the_result() -> None:
    assert list(hot_shares_of_rows([RELU, Kernel("Add", (X, X), (X,))], B1.l2 / 2)) == [0.0, 0.5]


def test_a_result_is_gone_when_more_was_moved_than_l2_certainly_holds() -> None:
    stream = Kernel("Relu", (WIDE,), (WIDE,))
    assert list(hot_shares_of_rows([RELU, stream, RELU], B1.l2 / 2))[-1] == 0.0


def test_another_layout_or_type_is_another_tensor() -> None:
    other = Kernel("Relu", (Operand((4096, 1024), "bfloat16", "NZ"),), (X,))
    assert list(hot_shares_of_rows([RELU, other], B1.l2 / 2)) == [0.0, 0.0]


def test_code_is_fetched_but_where_the_same_ran_just_before() -> None:
    first, again, other = costs_in_order([RELU, RELU, CAST], B1)
    alone = kernel_cost(RELU, B1)
    fetch = round(B1["code_fetch_ns_per_vector_core"] * B1.vectors)
    assert first.duration_ns - alone.duration_ns == fetch
    assert again.duration_ns < alone.duration_ns
    assert other.duration_ns == kernel_cost(CAST, B1, L2State(1.0), cold_code=True).duration_ns


def test_products_take_their_operands_for_cold_and_leave_the_code_of_vector_cores() -> None:
    product = Kernel("MatMul", (X, Operand((1024, 1024), "bfloat16")), (X,))
    _, between, again = costs_in_order([RELU, product, RELU], B1)
    assert between == kernel_cost(product, B1)
    assert again == kernel_cost(RELU, B1, L2State(1.0))


def test_a_thin_product_waits_for_what_its_weights_push_out() -> None:
    """No product waits longer that computes longer, and none behind nothing that was written."""
    weights, rows = Operand((4096, 8192), "float32"), Operand((16, 4096), "float32")
    thin = Kernel("MatMul", (rows, weights), (Operand((16, 8192), "float32"),))
    wide = Kernel("MatMul", (Operand((8192, 4096), "float32"), weights), (Operand((8192, 8192), "float32"),))
    fill = Kernel("ZerosLike", (), (WIDE,))
    for product, waits in ((thin, True), (wide, False)):
        first, behind = costs_in_order([product], B1)[0], costs_in_order([fill, product], B1)[1]
        assert first == kernel_cost(product, B1)
        assert (behind.duration_ns > first.duration_ns) == waits
        assert costs_in_order([fill, product], B1, pushing=False)[1] == first


def test_a_cache_that_tokens_are_written_into_pushes_out_no_more_than_these() -> None:
    """Went wrong once: a step of decode had its weights wait for the whole cache to reach HBM."""
    weights, rows = Operand((4096, 8192), "float32"), Operand((16, 4096), "float32")
    thin = Kernel("MatMul", (rows, weights), (Operand((16, 8192), "float32"),))
    tokens, cache = Operand((16, 8, 128), "float16"), Operand((2048, 128, 8, 128), "float16")
    places = Operand((16,), "int32")
    write = Kernel("ReshapeAndCache", (tokens, tokens, cache, cache, places), (cache, cache))
    assert cache.nbytes > B1.l2
    assert costs_in_order([write, thin], B1)[1] == kernel_cost(thin, B1)
