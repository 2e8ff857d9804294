"""
Exports the sample models as MindIR: `python -m memplan.models.samples.mindir_export DIR [NAME ...]`.

The files come out without the bytes of the weights, because a planner needs their shapes only: it makes them small
and leaves everything else as MindSpore wrote it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.models.samples.decoder import DecoderShape, decoder, train_step
from memplan.models.samples.small import alexnet, branching, classifier_step, convolutional, perceptron


@dataclass(frozen=True, slots=True)
class Sample:
    """A cell ready to be compiled and the inputs to compile it with."""

    cell: Any
    inputs: tuple[Any, ...]


def _tokens(shape: DecoderShape) -> Any:
    import mindspore as ms
    import numpy as np

    return ms.Tensor(np.zeros((shape.batch, shape.sequence), dtype=np.int32))


def _zeros(*dims: int) -> Any:
    import mindspore as ms
    import numpy as np

    return ms.Tensor(np.zeros(dims, dtype=np.float32))


def _llama_infer() -> Sample:
    shape = DecoderShape()
    return Sample(decoder(shape).set_train(False), (_tokens(shape),))


def _llama_train(lazy_inline: bool = False, adapt: Callable[[Any], object] | None = None) -> Sample:
    shape = DecoderShape()
    network = decoder(shape, lazy_inline=lazy_inline)
    if adapt is not None:
        for block in network.layers:
            adapt(block)
    step = train_step(network, shape.vocabulary).set_train()
    return Sample(step, (_tokens(shape), _tokens(shape)))


def _labels(count: int) -> Any:
    import mindspore as ms
    import numpy as np

    return ms.Tensor(np.zeros((count,), dtype=np.int32))


def _dynamic_batch() -> Sample:
    import mindspore as ms

    return Sample(perceptron().set_train(False), (ms.Tensor(shape=(None, 64), dtype=ms.float32),))


def _branching() -> Sample:
    import mindspore as ms

    return Sample(branching().set_train(False), (_zeros(64, 64), ms.Tensor(3, ms.int32)))


SAMPLES: Mapping[str, Callable[[], Sample]] = {
    "llama_infer": _llama_infer,
    "llama_train": _llama_train,
    "cnn": lambda: Sample(convolutional().set_train(False), (_zeros(8, 3, 32, 32),)),
    "mlp": lambda: Sample(perceptron().set_train(False), (_zeros(32, 64),)),
    "mlp_train": lambda: Sample(classifier_step(perceptron()).set_train(), (_zeros(32, 64), _labels(32))),
    "cnn_train": lambda: Sample(classifier_step(convolutional()).set_train(), (_zeros(8, 3, 32, 32), _labels(8))),
    "alexnet_train": lambda: Sample(
        classifier_step(alexnet(), momentum=0.9).set_train(), (_zeros(32, 3, 224, 224), _labels(32))
    ),
    "control_flow": _branching,
    "dynamic_batch": _dynamic_batch,
    "llama_recompute": lambda: _llama_train(adapt=lambda block: block.recompute()),
    "llama_lazy_inline": lambda: _llama_train(lazy_inline=True),
    "llama_lazy_recompute": lambda: _llama_train(lazy_inline=True, adapt=lambda block: block.recompute()),
    "llama_offload": lambda: _llama_train(lazy_inline=True, adapt=lambda block: block.offload(2)),
}
"""What can be exported, by name."""

BUNDLED = ("llama_infer", "llama_train", "cnn")
"""The samples shipped with memplan."""


def without_values(data: bytes) -> bytes:
    """MindIR bytes `data` without the values of its parameters; shapes and everything else stay."""
    from memplan.readers.mindir.schema import model_class

    model = model_class(lossless=True).FromString(data)
    for parameter in model.graph.parameter:
        parameter.ClearField("raw_data")
    return bytes(model.SerializeToString(deterministic=True))


def export_sample(name: str, folder: Path) -> Path:
    """Compile sample `name` with MindSpore and write `folder/name.mindir`; returns that path."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    sample = SAMPLES[name]()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / f"{name}.mindir"
        ms.export(sample.cell, *sample.inputs, file_name=str(written.with_suffix("")), file_format="MINDIR")
        target = folder / written.name
        target.write_bytes(without_values(written.read_bytes()))
    return target


def export_samples(arguments: Sequence[str] | None = None) -> None:
    """Command line: export the named samples (those that are bundled, by default) into a folder."""
    parser = argparse.ArgumentParser(prog="python -m memplan.models.samples.mindir_export", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SAMPLES)}")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in SAMPLES]
    if unknown:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(SAMPLES)}")
    for name in options.names or BUNDLED:
        path = export_sample(name, options.folder)
        print(f"{path} {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    export_samples()
