"""The graph in a file, whatever MindSpore or another tool left it in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.graph.model import Graph
from memplan.readers.content import FileContent, read_content
from memplan.readers.mindir.file import read_mindir
from memplan.readers.mindir.op_table import Target
from memplan.readers.mindir.program_graph import program_graph
from memplan.readers.mindspore import actor_set, kernel_ir, somas
from memplan.readers.onnx import read_onnx
from memplan.readers.pytorch.exported import read_torch_export
from memplan.readers.replicate import replicate_layers
from memplan.readers.sniff import ContentKind


def read_graph(
    path: str | Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: Target = Target.ASCEND,
    progress: Progress = silent,
    layers: int | None = None,
) -> Graph:
    """
    The compiled graph in the file `path`: MindIR, ONNX, PyTorch, text IR, an actor set or a SOMAS dump, told apart by
    content.

    `shapes` binds open dimensions: input name -> full shape. `target` says whose kernels will run the graph. With
    `layers`, a graph with fewer equal layers is extended to that many. Raises `InputError` for what is no graph or
    can't be planned, `CancelledError` when `progress` asks to stop.
    """
    source = read_content(path)
    if source.kind is ContentKind.MINDIR:
        return read_mindir(source.data, path, shapes=shapes, target=target, progress=progress, layers=layers)
    if source.kind is ContentKind.KERNEL_IR:
        return _kernel_ir(source.text, path, shapes, target, progress, layers)
    graph = _listed_graph(source, path, shapes, progress)
    if layers is None:
        return graph
    try:
        return replicate_layers(graph, layers)
    except InputError as error:
        raise error.of(path) from None


def _listed_graph(
    source: FileContent, path: str | Path, shapes: Mapping[str, tuple[int, ...]] | None, progress: Progress
) -> Graph:
    """A graph that runs in the order in which its file lists it."""
    if source.kind is ContentKind.ONNX:
        return read_onnx(source.data, path, shapes=shapes, progress=progress)
    if source.kind is ContentKind.TORCH_EXPORT:
        return read_torch_export(path, shapes=shapes, progress=progress)
    if shapes:
        raise InputError("this kind of file has no open dimensions to bind", path=path)
    if source.kind in (ContentKind.ACTOR_SET, ContentKind.PLACED_ACTOR_SET):
        return actor_set.actor_graph(actor_set.parse_actor_set(source.text, path)).graph
    if source.kind is ContentKind.SOMAS:
        return somas.somas_graph(somas.parse_somas(source.text, path))
    raise InputError(
        "this holds no graph: it is {}",
        Sentence(source.kind.value),
        path=path,
        remedy="name a .mindir, .onnx or .pt2, a graph_build_*.ir, an actor_set/*.ir or a *_somas_tensor_offset_*.ir",
    )


def _kernel_ir(
    text: str,
    path: str | Path,
    shapes: Mapping[str, tuple[int, ...]] | None,
    target: Target,
    progress: Progress,
    layers: int | None,
) -> Graph:
    try:
        program = kernel_ir.parse_kernel_ir(text, path)
        return program_graph(program, origin=str(path), shapes=shapes, target=target, progress=progress, layers=layers)
    except InputError as error:
        raise error.of(path) from None
    except ValueError as error:
        raise InputError(str(error), path=path) from None
