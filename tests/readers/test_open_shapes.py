"""Windows, attention, indices and gradients with open dimensions have the sizes of an export with the shapes fixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memplan.core.errors import InputError
from memplan.graph import live_curve
from memplan.readers import read_graph
from memplan.readers.mindir.shape_functors import broadcast_axes, shape_calc
from memplan.readers.mindir.shape_inference import infer

OPEN = Path(__file__).with_name("data") / "open"
Shape = tuple[int, ...]
FLASH = "FlashAttentionScore"
dims = st.integers(1, 7)


@pytest.mark.parametrize(
    ("name", "shapes", "kernels", "transient"),
    [
        ("unet", [(4, 3, 32, 32)], 12, 524_288),
        ("conv1d", [(4, 8, 128)], 1, 32_768),
        ("conv_transposed", [(2, 8, 9, 9)], 1, 9_248),
        ("max_pool", [(2, 8, 17, 16)], 1, 3_584),
        ("average_pool", [(2, 8, 17, 16)], 1, 4_608),
        ("group_norm", [(4, 16, 32, 32)], 1, 262_272),
        ("unstack", [(64, 3, 16)], 3, 16_384),
        ("one_hot", [(64,)], 3, 12_288),
        ("fft", [(16, 256)], 2, 33_024),
        ("swiglu", [(16, 1024)], 2, 65_536),
        ("flash", [(2, 256, 128)] * 3, 2, 524_288),
        ("gates", [(64, 8)], 2, 2_048),
        ("padded", [(16, 64)], 2, 8_576),
    ],
)
def test_sizes_are_those_of_the_static_export(name: str, shapes: list[Shape], kernels: int, transient: int) -> None:
    path = OPEN / f"{name}.mindir"
    names = [f"inputs{place}" for place in range(len(shapes))] if len(shapes) > 1 else [only_input(path)]
    graph = read_graph(path, shapes=dict(zip(names, shapes, strict=True)))
    assert sum(op.launches for op in graph.ops) == kernels
    assert int(live_curve(graph, persistent=False).max()) == transient


def only_input(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_graph(path)
    return str(caught.value).split("--shape ")[1].split("=")[0]


def test_a_training_step_with_an_open_batch_is_planned() -> None:
    # Exported with the batch fixed at 16: 74 kernels, 32,772 bytes; left open, a Tile of the loss's gradient stays.
    graph = read_graph(OPEN / "mlp_Momentum.mindir", shapes={"inputs0": (16, 64), "inputs1": (16,)})
    assert sum(op.launches for op in graph.ops) == 75
    assert int(live_curve(graph, persistent=False).max()) == 32_772
    larger = read_graph(OPEN / "mlp_Momentum.mindir", shapes={"inputs0": (1600, 64), "inputs1": (1600,)})
    assert len(larger.ops) == len(graph.ops)
    assert live_curve(larger, persistent=False).max() > 900_000


def test_a_size_that_depends_on_data_is_planned_at_its_most_and_said() -> None:
    graph = read_graph(OPEN / "nonzero.mindir", shapes={"inputs0": (8, 16)})
    assert [graph.tensors[op.outputs[0]].shape for op in graph.ops if op.type == "NonZero"] == [(8 * 16, 2)]
    assert any("depends on data" in note for note in graph.notes)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3),
       st.sampled_from(["same", "valid", "pad"]), st.integers(0, 3))  # fmt: skip
def test_a_window_stands_at_as_many_places_as_it_can(
    pixels: list[int], kernel: int, stride: int, spread: int, mode: str, pad: int
) -> None:
    rank, reach = len(pixels), spread * (kernel - 1) + 1
    margin = 2 * pad if mode == "pad" else 0
    assume(mode == "same" or all(size + margin >= reach for size in pixels))
    image, filters = (2, 3, *pixels), (5, 3, *[kernel] * rank)
    attrs = {"pad_mode": mode, "stride": (1, 1, *[stride] * rank), "dilation": (1, 1, *[spread] * rank),
             "pad_list": (pad,) * (2 * rank)}  # fmt: skip
    found = infer("Conv3D", (-1, 5, *[-1] * rank), [image, filters], attrs, "here")
    for size, places in zip(pixels, found[2:], strict=True):
        room = range(0, size, stride) if mode == "same" else range(0, size + margin - reach + 1, stride)
        assert places == len(room)


def test_a_window_larger_than_its_picture_is_refused() -> None:
    with pytest.raises(InputError, match="don't follow"):
        infer("Conv2D", (-1, 4, -1, -1), [(1, 3, 2, 2), (4, 3, 5, 5)], {"pad_mode": "valid"}, "here")


@pytest.mark.parametrize("op", ["PadV9", "SomeResize", "MyUnfold", "Repeat", "Conv9DTranspose"])
def test_no_shape_is_made_up_for_an_op_that_changes_shapes(op: str) -> None:
    with pytest.raises(InputError, match="don't follow"):
        infer(op, (-1, 8), [(4, 8)], {}, "here")


@pytest.mark.parametrize(
    ("op", "declared", "inputs", "attrs", "result", "expected"),
    [
        (FLASH, (-1, 4, -1, 8), [(2, 32, 64)] * 3, {"head_num": 4, "input_layout": 0}, 0, (2, 4, 32, 8)),
        (FLASH, (-1, 4, -1, 8), [(32, 2, 64)] * 3, {"head_num": 4, "input_layout": 2}, 1, (2, 4, 32, 8)),
        (FLASH, (-1, 4, -1, 8), [(2, 4, 32, 16)] * 3, {"head_num": 4, "input_layout": 1}, 0, (2, 4, 32, 8)),
        (FLASH, (-1, 4, 8), [(64, 4, 16)] * 3, {"head_num": 4, "input_layout": 4}, 0, (64, 4, 8)),
        (FLASH, (-1, -1, 64), [(2, 32, 64)] * 3, {"head_num": 4}, 3, (2, 32, 64)),
        ("FlashAttentionScoreGrad", (-1, -1, 64), [(2, 32, 64), (2, 16, 64), (2, 16, 64)], {}, 1, (2, 16, 64)),
        ("OneHot", (-1, 10, -1), [(4, 6)], {"depth": 10, "axis": 1}, 0, (4, 10, 6)),
        ("Unstack", (-1, 16), [(4, 3, 16)], {"num": 3, "axis": -2}, 2, (4, 16)),
        ("Stack", (-1, 2, 16), [(4, 16), (4, 16)], {"axis": 1}, 0, (4, 2, 16)),
        ("GroupNorm", (-1, 4), [(8, 16, 5, 5), (16,), (16,)], {"num_groups": 4}, 1, (8, 4)),
        ("RFFT", (-1, -1), [(3, 11)], {"dim": -1}, 0, (3, 6)),
        ("RFFT", (-1, -1), [(3, 11)], {"dim": -1, "n": 8}, 0, (3, 5)),
        ("IRFFT", (-1, -1), [(3, 6)], {"dim": -1}, 0, (3, 10)),
        ("Swiglu", (-1, -1), [(3, 64)], {"dim": -1}, 0, (3, 32)),
        ("BroadcastTo", (-1, 4, -1), [(4, 5)], {"shape": (3, -1, -1)}, 0, (3, 4, 5)),
        ("PadV3", (-1, -1), [(3, 5)], {"input1": (1, 2), "paddings_contiguous": True}, 0, (3, 8)),
        ("Slice", (-1, 3), [(6, 5)], {"begin": (2, 0), "size": (-1, 3)}, 0, (4, 3)),
        ("GatherD", (-1, 2), [(6, 5), (6, 2)], {"dim": 1}, 0, (6, 2)),
        ("GatherNd", (-1, 5), [(6, 4, 5), (9, 2)], {}, 0, (9, 5)),
        ("Conv2DTranspose", (-1, 4, -1, -1), [(2, 8, 9, 9), (8, 4, 3, 3)], {"input2": (2, 4, 7, 7)}, 0, (2, 4, 7, 7)),
        ("MaskedSelect", (-1,), [(6, 4), (6, 4)], {}, 0, (24,)),
        ("Add", (-2,), [(4, 1, 3), (5, 1)], {}, 0, (4, 5, 3)),
    ],
)  # fmt: skip
def test_results_unlike_their_operands(
    op: str, declared: Shape, inputs: list[Shape], attrs: dict[str, object], result: int, expected: Shape
) -> None:
    assert infer(op, declared, inputs, attrs, "here", result=result) == expected


shapes = st.lists(st.sampled_from([1, 2, 3]), max_size=4).map(tuple)


@given(shapes, shapes)
def test_gradients_are_summed_over_what_was_stretched(a: Shape, b: Shape) -> None:
    try:
        common = np.broadcast_shapes(a, b)
    except ValueError:
        assume(False)
    for own, axes in zip((a, b), broadcast_axes(a, b), strict=True):
        summed = np.zeros(common).sum(axes)
        assert summed.size == np.prod(own, dtype=int)
    assert shape_calc("ShapeCalc_BroadcastGradientArgs", [a, b], (0,)) == broadcast_axes(a, b)


@given(st.lists(dims, min_size=1, max_size=4).map(tuple), st.data())
def test_a_sum_is_tiled_back_to_what_was_summed(shape: Shape, data: st.DataObject) -> None:
    axes = data.draw(st.sets(st.integers(-len(shape), len(shape) - 1)).map(tuple))
    found = shape_calc("ShapeCalc_ReduceShape", [shape, axes], (False,))
    assert found is not None
    kept, counts = found
    summed = np.zeros(shape).sum(tuple({axis % len(shape) for axis in axes}) or None, keepdims=True)
    assert kept == summed.shape
    assert np.tile(summed, counts).shape == shape


@given(st.lists(dims, min_size=2, max_size=4).map(tuple), dims)
def test_the_way_back_of_a_product_multiplies_the_same_numbers(batch: Shape, columns: int) -> None:
    x, w = batch, (batch[-1], columns)
    out = (*x[:-1], columns)
    found = shape_calc("ShapeCalc_g_matmul_ext_bprop_shapecalc", [x, w, out], ())
    assert found is not None
    _, flat_x, flat_w, for_x, for_w, order = found
    assert np.prod(flat_x) == np.prod([dim for dim in x if dim != 1 or len(x) <= 2] or [1])
    assert np.prod(flat_w) == np.prod(w)
    assert (np.prod(for_x), np.prod(for_w)) == (np.prod(out), np.prod(out))
    assert sorted(order) == list(range(len(out)))


def test_unknown_functors_and_odd_arguments_yield_nothing() -> None:
    assert shape_calc("ShapeCalc_g_of_tomorrow", [(1, 2)], ()) is None
    assert shape_calc("ShapeCalc_g_concat", [()], ()) is None
