"""Whatever a graph or a profile holds is costed: in finite time, above nothing, the same each time."""

from __future__ import annotations

import json
from importlib import resources

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from memplan.cost import Kernel, Operand, kernel_cost, machine
from memplan.cost.deviations import L2State
from memplan.hardware import chip

TABLE = json.loads(resources.files("memplan.cost").joinpath("kernels.json").read_text("utf-8"))
TYPES = sorted({name for entry in TABLE["classes"].values() for name in entry["types"]})
DTYPES = sorted(set(TABLE["dtypes"].values()))
CORES = [machine(chip(name)) for name in ("910B3", "Ascend950PR_9589", "310P3")]

shapes = st.lists(st.sampled_from([0, 1, 3, 8, 16, 100, 128, 1000, 4096]), max_size=5).map(tuple)
operands = st.builds(Operand, shapes, st.sampled_from(DTYPES), st.sampled_from(["ND", "NZ"]))
words = st.sampled_from(["BSH", "TND", "SBH", "BSND", "ij,jk->ik", "Gelu", "AI_CPU", ""])
attributes = st.dictionaries(
    st.sampled_from(
        [
            *("transpose_a", "transpose_b", "input_layout", "head_num", "sparse_mode", "pre_tokens", "core"),
            *("activation", "equation", "groups", "chunks", "rows", "columns", "terms"),
            *("batch", "heads", "kv_heads", "q_len", "kv_len", "d_qk", "d_v", "window", "top_k"),
        ]
    ),
    st.one_of(st.booleans(), st.integers(-2, 100), words),
    max_size=9,
).map(lambda given: tuple(sorted(given.items())))
kernels = st.builds(
    Kernel,
    st.one_of(st.sampled_from(TYPES), st.text(max_size=12)),
    st.lists(st.one_of(operands, st.none()), max_size=8).map(tuple),
    st.lists(operands, max_size=3).map(tuple),
    attributes,
    st.integers(0, 64),
)


NO_FILTERS = Kernel(
    "Convolution",
    (Operand((0, 3, 0), "bfloat16"), Operand((0, 1, 0), "bfloat16")),
    (Operand((0, 0, 0), "bfloat16"),),
)


@settings(max_examples=300)
@example(NO_FILTERS, CORES[0], None)
@given(kernels, st.sampled_from(CORES), st.one_of(st.none(), st.floats(0, 1)))
def test_every_kernel_has_a_cost(kernel: Kernel, core: object, hot_share: float | None) -> None:
    assert isinstance(core, type(CORES[0]))
    assume(kernel.read_bytes + kernel.written_bytes < 1 << 40)
    cost = kernel_cost(kernel, core, L2State(hot_share))
    assert 0 < cost.duration_ns < 10**18
    assert all(0 <= time < 1e18 for time in cost.pipes.values())
    assert cost.bound in ("cube", "vector", "hbm", "link", "launch")
    assert cost.gm_bytes >= 0
    assert cost.hbm_bytes >= 0
    assert kernel_cost(kernel, core, L2State(hot_share)) is cost


@settings(max_examples=60)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 4000))
def test_a_matmul_is_never_faster_than_its_cube(m: int, n: int, k: int) -> None:
    a, b, c = Operand((m, k), "float16"), Operand((k, n), "float16"), Operand((m, n), "float16")
    for core in CORES:
        cost = kernel_cost(Kernel("MatMul", (a, b), (c,)), core)
        assert cost.flops == 2 * m * n * k
        assert cost.duration_ns >= cost.flops / 2 / (core.macs["float16"] * core.cubes * core.clock_hz) * 1e9
        assert cost.gm_bytes >= 2 * (m * k + k * n + m * n) - 1


@settings(max_examples=60)
@given(st.sampled_from(["MatMul", "FlashAttentionScore", "Add"]), st.integers(4, 12), st.floats(0, 1))
def test_what_l2_holds_makes_no_kernel_slower(op_type: str, power: int, hot_share: float) -> None:
    operand = (
        Operand((1, 4, 1 << power, 128), "float16") if "Flash" in op_type else Operand((1 << power,) * 2, "float16")
    )
    kernel = Kernel(op_type, (operand,) * (3 if "Flash" in op_type else 2), (operand,))
    for core in CORES:
        cold, warm = (kernel_cost(kernel, core, L2State(share)) for share in (0.0, hot_share))
        assert warm.duration_ns <= cold.duration_ns + 1
        assert warm.hbm_bytes <= cold.hbm_bytes


def test_equal_kernels_are_costed_once() -> None:
    a = Operand((777, 333), "float16")
    first, second = (Kernel("Add", (a, a), (a,)) for _ in range(2))
    assert kernel_cost(first, CORES[0]) is kernel_cost(second, CORES[0])


def test_weights_of_whole_numbers_are_made_factors_of_floats_by_vector_cores() -> None:
    """They come sooner from HBM, but take their time on vector cores, and a way to the cube where that is apart."""
    activations, result = Operand((16, 4096), "bfloat16"), Operand((16, 8192), "bfloat16")
    for name, apart in (("910B1", True), ("950PR_9589", False)):
        core = machine(chip(name))
        as_stored, widened = (
            kernel_cost(Kernel("MatMul", (activations, Operand((4096, 8192), dtype)), (result,)), core)
            for dtype in ("bfloat16", "int4")
        )
        assert "vector" not in as_stored.pipes
        assert widened.pipes["vector"] > 0
        assert widened.hbm_bytes < as_stored.hbm_bytes
        assert ("mte3" in widened.pipes) is apart
        if apart:
            assert widened.gm_bytes > as_stored.gm_bytes
    whole = Operand((16, 4096), "int8")
    both = Kernel("GroupedMatmul", (whole, Operand((8, 4096, 1024), "int4")), (Operand((16, 1024), "bfloat16"),))
    assert "vector" not in kernel_cost(both, CORES[0]).pipes


def test_of_grouped_weights_only_those_hit_are_read() -> None:
    """One as well as several, however many there are."""
    rows, result = Operand((16, 2048), "float16"), Operand((16, 1024), "float16")
    read = [
        kernel_cost(
            Kernel("GroupedMatmul", (rows, Operand((held, 2048, 1024), "float16")), (result,), (("groups", hit),)),
            CORES[0],
        ).hbm_bytes
        for held, hit in ((24, 1), (24, 2), (24, 8), (8, 8), (1, 1))
    ]
    assert read[0] == read[-1]
    assert read[0] < read[1] < read[2] == read[3]
