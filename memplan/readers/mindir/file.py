"""MindIR files (`.mindir`), read from the protobuf without MindSpore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.graph.model import Graph
from memplan.readers.mindir.op_table import Target
from memplan.readers.mindir.program import decode
from memplan.readers.mindir.program_graph import program_graph
from memplan.readers.mindir.schema import model_class
from memplan.readers.protobuf import parse

_REMEDY = "export it again with mindspore.export(..., file_format='MINDIR') and without encryption"


def read_mindir(
    data: bytes,
    path: str | Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    target: Target = Target.ASCEND,
    progress: Progress = silent,
    layers: int | None = None,
) -> Graph:
    """
    The graph in the MindIR bytes `data`, in the order in which the file lists its nodes.

    `path` is named in errors and kept as the graph's origin. `shapes` binds open dimensions of inputs by name. Weight
    data is not needed: a `*_graph.mindir` beside its data files is enough. `target` says whose kernels will run it.
    `layers` extends its equal layers to so many. Raises `InputError`.
    """
    model = parse(model_class(), data, path=path, what=Sentence("a MindIR file"), remedy=_REMEDY)
    if not model.graph.name or not (model.graph.node or model.graph.output):
        raise InputError("this holds no graph, is cut off or encrypted", path=path, remedy=_REMEDY)
    try:
        program = decode(model, progress)
        del model
        return program_graph(program, origin=str(path), shapes=shapes, target=target, progress=progress, layers=layers)
    except InputError as error:
        raise error.of(path) from None
    except UnicodeDecodeError:
        raise InputError("a name is not UTF-8: the file is damaged", path=path, remedy=_REMEDY) from None
