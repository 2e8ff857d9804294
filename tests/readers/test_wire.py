"""Large files are read without their weights, with memory bounded by the graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.readers import content, read_graph
from memplan.readers.mindir.schema import model_class
from memplan.readers.wire import without_weights


def heavy(sample: Path, target: Path, nbytes: int) -> Path:
    """`sample` with `nbytes` of weight data in its first parameter."""
    model = model_class(lossless=True).FromString(sample.read_bytes())
    model.graph.parameter[0].raw_data = b"\1" * nbytes
    target.write_bytes(model.SerializeToString())
    return target


def test_leaving_out_weights_leaves_everything_else(sample: Callable[[str], Path], tmp_path: Path) -> None:
    light = sample("cnn")
    path = heavy(light, tmp_path / "heavy.mindir", 100_000)
    model = model_class(lossless=True)
    assert model.FromString(without_weights(path)) == model.FromString(light.read_bytes())


def test_a_file_with_many_weights_reads_like_one_without(
    sample: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "LARGE_BYTES", 50_000)
    path = heavy(sample("cnn"), tmp_path / "heavy.mindir", 100_000)
    seen: list[int] = []

    def counted(file: Path) -> bytes:
        seen.append(1)
        return without_weights(file)

    monkeypatch.setattr(content, "without_weights", counted)
    graph, light = read_graph(path), read_graph(sample("cnn"))
    assert seen
    assert (graph.ops, graph.tensors) == (light.ops, light.tensors)


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_large_file_cut_off_is_refused(
    keep: float, sample: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "LARGE_BYTES", 10)
    path = heavy(sample("cnn"), tmp_path / "heavy.mindir", 100_000)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match="cut off"):
        read_graph(path)
