"""The roofline of an op is the slowest of its cube work, its vector work, its HBM traffic and the kernel floor."""

from __future__ import annotations

import pytest

from memplan.cost import OpCost, Rates, rates, roofline
from memplan.graph import Graph, Op, Tensor, TensorKind, dense_bytes
from memplan.hardware import chip

B3 = rates(chip("910B3"))


def cost(
    kind: str,
    inputs: list[tuple[int, ...]],
    outputs: list[tuple[int, ...]],
    dtype: str = "float16",
    *,
    launches: bool = True,
    on: Rates = B3,
    **attrs: object,
) -> OpCost:
    tensors = tuple(
        Tensor(
            index=i,
            name=f"t{i}",
            shape=shape,
            dtype=dtype,
            nbytes=dense_bytes(shape, dtype),
            kind=TensorKind.ACTIVATION,
            storage=i,
        )
        for i, shape in enumerate([*inputs, *outputs])
    )
    op = Op(
        index=0,
        name="op",
        type=kind,
        inputs=tuple(range(len(inputs))),
        outputs=tuple(range(len(inputs), len(tensors))),
        launches=launches,
        attrs=attrs,
    )
    return roofline(op, Graph("g", (op,), tensors, (), (), "test", "test"), on)


def test_a_large_matmul_runs_at_the_cube_rate() -> None:
    found = cost("MatMul", [(8192, 8192), (8192, 8192)], [(8192, 8192)])
    assert found.flops == 2 * 8192**3
    assert found.bound == "cube"
    # 20 cores x 16 x 16 x 16 x 2 x 1.8 GHz = 294.912 TFLOP/s
    assert found.duration_ns == pytest.approx(2 * 8192**3 / 294.912e12 * 1e9, abs=1)


def test_transposes_name_the_reduced_dimension() -> None:
    assert cost("MatMul", [(64, 8), (64, 32)], [(8, 32)], transpose_a=True).flops == 2 * 8 * 32 * 64
    assert cost("BatchMatMul", [(5, 8, 64), (64, 32)], [(5, 8, 32)]).flops == 2 * 5 * 8 * 32 * 64


def test_a_thin_matmul_waits_for_its_weights() -> None:
    found = cost("MatMul", [(1, 7168), (7168, 18432)], [(1, 18432)])
    assert found.bound == "hbm"
    assert found.duration_ns == pytest.approx(found.gm_bytes / 1.6e12 * 1e9, abs=1)


def test_convolutions_count_every_filter_tap() -> None:
    forward = cost("Conv2D", [(32, 3, 224, 224), (64, 3, 11, 11)], [(32, 64, 55, 55)])
    assert forward.flops == 2 * 32 * 55 * 55 * 64 * 3 * 11 * 11
    back = cost("Conv2DBackpropInput", [(32, 64, 55, 55), (64, 3, 11, 11)], [(32, 3, 224, 224)])
    filters = cost("Conv2DBackpropFilter", [(32, 64, 55, 55), (32, 3, 224, 224)], [(64, 3, 11, 11)])
    assert back.flops == filters.flops == forward.flops


def test_attention_is_two_matmuls_of_every_query_with_every_key() -> None:
    found = cost("FlashAttentionScore", [(2, 16, 1024, 128)] + [(2, 16, 4096, 128)] * 2, [(2, 16, 1024, 128)])
    assert found.flops == 4 * 2 * 16 * 1024 * 4096 * 128


def test_small_kernels_take_the_floor_and_views_nothing() -> None:
    assert cost("Add", [(8,), (8,)], [(8,)]).duration_ns == B3.kernel_floor_ns
    assert cost("Add", [(8,), (8,)], [(8,)]).bound == "launch"
    assert cost("Reshape", [(8, 8)], [(64,)], launches=False) == OpCost(0, "none", 0, 0)


def test_float32_matmul_is_slower_where_the_cube_takes_two_passes() -> None:
    half = cost("MatMul", [(4096, 4096), (4096, 4096)], [(4096, 4096)])
    full = cost("MatMul", [(4096, 4096), (4096, 4096)], [(4096, 4096)], "float32")
    assert full.duration_ns == pytest.approx(4 * half.duration_ns, abs=4)


def test_what_the_cube_lacks_runs_on_the_vector_units() -> None:
    found = cost("MatMul", [(512, 512), (512, 512)], [(512, 512)], "float64")
    assert found.bound == "vector"


def test_every_rate_has_a_source() -> None:
    assert all(source.value and source.note for source in B3.sources)
