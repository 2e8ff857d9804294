"""Open dimensions: bound by the user, followed through the graph, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.errors import InputError
from memplan.readers import read_graph
from memplan.readers.mindir.shape_inference import infer

OPEN = Path(__file__).with_name("data") / "dynamic_batch.mindir"


@given(batch=st.integers(1, 1000))
def test_a_bound_batch_reaches_every_op(batch: int) -> None:
    graph = read_graph(OPEN, shapes={"x": (batch, 64)})
    made = [graph.tensors[tensor] for op in graph.ops if op.launches for tensor in op.outputs]
    assert [tensor.shape for tensor in made] == [(batch, 256)] * 3 + [(batch, 10)] * 2
    assert all(tensor.nbytes == 4 * batch * tensor.shape[1] for tensor in made)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({}, "--shape x=DIM,64"),
        ({"y": (1, 64)}, "no input 'y'; inputs are x"),
        ({"x": (1, 65)}, "doesn't fit"),
        ({"x": (1,)}, "doesn't fit"),
        ({"x": (-1, 64)}, "doesn't fit"),
    ],
)
def test_what_is_not_bound_is_named_with_its_remedy(shapes: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(InputError, match=r"input|doesn't") as caught:
        read_graph(OPEN, shapes=shapes)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("op", "declared", "inputs", "attrs", "expected"),
    [
        ("Add", (-1, 4), [(3, 4), (4,)], {}, (3, 4)),
        ("Add", (-1, 4), [(1, 4), (7, 4)], {}, (7, 4)),
        ("MatMul", (-1, 8), [(3, 4), (8, 4)], {"transpose_b": True}, (3, 8)),
        ("BatchMatMul", (-1, 2, -1, 5), [(3, 2, 7, 4), (3, 2, 4, 5)], {}, (3, 2, 7, 5)),
        ("Reshape", (-1, 6), [(4, 2, 3)], {"shape": (-1, 6)}, (4, 6)),
        ("Reshape", (-1, 12), [(4, 2, 3)], {"shape": (-1, -1)}, (2, 12)),
        ("ReduceSum", (-1,), [(5, 6)], {"axis": (1,), "keep_dims": False}, (5,)),
        ("ReduceMean", (-1, 1), [(5, 6)], {"axis": -1, "keep_dims": True}, (5, 1)),
        ("Transpose", (4, -1), [(5, 4)], {"dims": (1, 0)}, (4, 5)),
        ("Concat", (-1, 4), [(5, 4), (2, 4)], {"axis": 0}, (7, 4)),
        ("ExpandDims", (-1, 1, 4), [(5, 4)], {"axis": 1}, (5, 1, 4)),
        ("Squeeze", (-1, 4), [(5, 1, 4)], {"axis": (1,)}, (5, 4)),
        ("Gather", (-1, 8), [(100, 8), (5,)], {"axis": 0}, (5, 8)),
        ("Tile", (-1, 8), [(5, 4)], {"dims": (1, 2)}, (5, 8)),
        (
            "StridedSlice",
            (-1, 2),
            [(6, 4)],
            {"begin": (0, 0), "end": (0, 2), "strides": (2, 1), "begin_mask": 1, "end_mask": 1},
            (3, 2),
        ),
        ("LayerNorm", (-1, -1, 1), [(2, 5, 16), (16,), (16,)], {}, (2, 5, 1)),
        ("TopkExt", (-1, 2), [(7, 9)], {}, (7, 2)),
        ("Conv2D", (-1, 16, 8, 8), [(5, 3, 8, 8), (16, 3, 3, 3)], {}, (5, 16, 8, 8)),
    ],
)
def test_open_dimensions_follow_from_the_inputs(
    op: str,
    declared: tuple[int, ...],
    inputs: list[tuple[int, ...]],
    attrs: dict[str, object],
    expected: tuple[int, ...],
) -> None:
    assert infer(op, declared, inputs, attrs, "here") == expected


def test_a_dimension_no_rule_covers_is_refused() -> None:
    with pytest.raises(InputError, match="don't follow"):
        infer("Unique", (-1,), [], {}, "here")


def test_shapes_that_contradict_the_file_are_refused() -> None:
    with pytest.raises(InputError, match="agree"):
        infer("MatMul", (-1, 9), [(3, 4), (4, 8)], {}, "here")
