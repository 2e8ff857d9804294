"""MindIR files become graphs with the ops, tensors, kinds and aliases that MindSpore runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memplan.core.errors import CancelledError, InputError
from memplan.graph import Graph, TensorKind, bytes_by_kind, lifetimes
from memplan.readers import read_graph

Sample = Callable[[str], Path]


def tensor_named(graph: Graph, name: str) -> int:
    return next(tensor.index for tensor in graph.tensors if tensor.name == name)


def test_weights_are_counted_from_their_shapes(sample: Sample) -> None:
    graph = read_graph(sample("llama_infer"))
    hidden, intermediate, vocabulary, kv = 128, 256, 512, 64
    block = 2 * hidden + 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * intermediate
    expected = 4 * (2 * vocabulary * hidden + hidden + 2 * block)
    assert bytes_by_kind(graph)[TensorKind.WEIGHT] == expected


def test_adam_keeps_two_moments_per_weight_and_three_scalars(sample: Sample) -> None:
    kinds = bytes_by_kind(read_graph(sample("llama_train")))
    scalars = 4 * 4  # learning rate, two powers of beta, global step
    assert kinds[TensorKind.OPTIMIZER_STATE] == 2 * kinds[TensorKind.WEIGHT] + scalars


def test_gradients_have_the_bytes_of_the_weights(sample: Sample) -> None:
    kinds = bytes_by_kind(read_graph(sample("llama_train")))
    assert kinds[TensorKind.GRADIENT] == kinds[TensorKind.WEIGHT]


def test_adam_writes_its_weight_and_moments_in_place(sample: Sample) -> None:
    graph = read_graph(sample("llama_train"))
    adams = [op for op in graph.ops if op.type == "Adam"]
    assert len(adams) == 21
    for op in adams:
        assert len(op.outputs) == 3
        for output in op.outputs:
            assert graph.tensors[output].storage != output
            assert graph.tensors[output].kind in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE)


def test_reshapes_and_loads_cost_no_bytes_and_no_kernel(sample: Sample) -> None:
    graph = read_graph(sample("llama_infer"))
    views = [op for op in graph.ops if op.type in {"Reshape", "Load", "ExpandDims"}]
    assert views
    for op in views:
        assert not op.launches
        assert graph.tensors[op.outputs[0]].storage == graph.tensors[op.inputs[0]].storage


def test_constant_inputs_become_named_attributes(sample: Sample) -> None:
    graph = read_graph(sample("llama_infer"))
    q = next(
        op for op in graph.ops if op.name == "Default/layers-CellList/0-Block/attention-Attention/q-Dense/MatMul-op0"
    )
    assert (q.attrs["transpose_a"], q.attrs["transpose_b"]) == (False, True)
    assert [graph.tensors[tensor].shape for tensor in q.inputs] == [(64, 128), (128, 128)]
    softmax = next(op for op in graph.ops if op.type == "Softmax")
    assert softmax.attrs["axis"] == (-1,)


def test_convolutions_carry_their_geometry(sample: Sample) -> None:
    graph = read_graph(sample("cnn"))
    first, second = (op for op in graph.ops if op.type == "Conv2D")
    assert first.attrs["kernel_size"] == (3, 3)
    assert first.attrs["group"] == 1
    assert second.attrs["stride"] == (1, 1, 2, 2)


def test_every_op_uses_only_what_exists(sample: Sample) -> None:
    for name in ("llama_infer", "llama_train", "cnn"):
        graph = read_graph(sample(name))
        for op in graph.ops:
            for tensor in op.inputs:
                producer = graph.tensors[tensor].producer
                assert producer is None or producer < op.index


def test_a_storage_owns_itself_and_lives_from_its_first_to_its_last_use(sample: Sample) -> None:
    graph = read_graph(sample("llama_train"))
    for tensor in graph.tensors:
        assert graph.tensors[tensor.storage].storage == tensor.storage
    for span in lifetimes(graph):
        assert 0 <= span.start < span.end <= len(graph.ops)
        assert all(span.start <= step < span.end for step in span.uses)


def test_reading_twice_gives_the_same_graph(sample: Sample) -> None:
    assert read_graph(sample("llama_train")) == read_graph(sample("llama_train"))


def test_progress_can_stop_the_reading(sample: Sample) -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        read_graph(sample("llama_infer"), progress=stop)


def _no_file(path: Path, data: bytes) -> None:
    return


def _empty(path: Path, data: bytes) -> None:
    path.write_bytes(b"")


def _half(path: Path, data: bytes) -> None:
    path.write_bytes(data[: len(data) // 2])


def _noise(path: Path, data: bytes) -> None:
    path.write_bytes(bytes((value * 73 + 41) % 251 for value in range(5000)))


def _encrypted(path: Path, data: bytes) -> None:
    path.write_bytes(bytes(value ^ ((position * 167 + 13) % 256) for position, value in enumerate(data)))


def _text(path: Path, data: bytes) -> None:
    path.write_text("not a graph\n" * 100)


def _folder(path: Path, data: bytes) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [_no_file, _empty, _half, _noise, _encrypted, _text, _folder])
def test_unusable_files_give_one_clear_line(
    spoil: Callable[[Path, bytes], None], sample: Sample, tmp_path: Path
) -> None:
    path = tmp_path / "model.mindir"
    spoil(path, sample("cnn").read_bytes())
    with pytest.raises(InputError) as caught:
        read_graph(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 400


def test_the_reserve_space_of_recurrent_ops_is_said_to_be_unknown() -> None:
    graph = read_graph(Path(__file__).with_name("data") / "lstm.mindir")
    assert [op.type for op in graph.ops if op.launches].count("LSTM") == 1
    (note,) = graph.notes
    assert "reserve space of 1 op(s) is unknown in this file" in note
    assert "45.00 KiB on Ascend" in note  # 6 results of 4 x 10 x 48 float32
