"""
ONNX's own backend tests, read as they are: what is read has the sizes that a run of the model has, to the byte.

The models are run node by node with ONNX's reference implementation on the inputs that come with them; from what that
makes, this file works out by itself what is alive at each node.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, reference

from memplan.core.errors import InputError
from memplan.graph import TensorKind, live_curve
from memplan.readers.onnx import read_onnx

BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "BOOL": 8, "FLOAT16": 16,
    "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16, "UINT4": 4,
    "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6,
}  # fmt: skip
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
CONTROL = ("If", "Loop", "Scan", "SequenceMap", "FlexAttention")

FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError, onnx.shape_inference.InferenceError, onnx.checker.ValidationError,
)  # fmt: skip

Case = tuple[str, Any, list[Any] | None]


def node_cases() -> Iterator[Case]:
    """Tests of single nodes: name, model and inputs; collecting them takes five seconds."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            yield case.name, case.model, list(case.data_sets[0][0]) if case.data_sets else None


def stored_cases() -> Iterator[Case]:
    """Tests that ONNX stores as files, whole networks among them; inputs are `None` where none come with them."""
    root = Path(onnx.__file__).parent / "backend/test/data"
    for path in sorted(root.rglob("*.onnx")):
        model = onnx.load(path)
        given = []
        for place, item in enumerate(model.graph.input):
            file = path.parent / "test_data_set_0" / f"input_{place}.pb"
            if not file.exists() or not item.type.HasField("tensor_type"):
                break
            given.append(numpy_helper.to_array(onnx.load_tensor(str(file))))
        yield f"{path.parent.name}/{path.name}", model, given or None


def bits_of(kind: int) -> int:
    name = onnx.TensorProto.DataType.Name(kind)
    return BITS.get(name, 8)


def inferred(model: Any, given: list[Any] | None) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Element types by ONNX's inference over the whole model, and shapes by running it, or by inference if it can't."""
    types = {}
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        whole = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except FAILURES:
        whole = model
    for item in (*whole.graph.value_info, *whole.graph.output, *whole.graph.input):
        tensor = item.type.tensor_type
        if tensor.elem_type:
            types[item.name] = tensor.elem_type
        dims = tensor.shape.dim
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[item.name] = tuple(dim.dim_value for dim in dims)
    names = [item.name for item in model.graph.input]
    if given is None or len(given) != len(names):
        return types, shapes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = reference.ReferenceEvaluator(model).run(None, dict(zip(names, given, strict=True)), intermediate=True)
    except FAILURES:
        return types, shapes
    assert isinstance(run, dict)
    shapes.update({name: value.shape for name, value in run.items() if isinstance(value, np.ndarray)})
    return types, shapes


def simulated(model: Any, types: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Most bytes alive beside inputs, weights and constants, views sharing what they show; `None` if a size is open."""
    graph = model.graph
    resident = {item.name for item in (*graph.input, *graph.initializer)}
    owner: dict[str, str] = {}
    size: dict[str, int] = {}
    read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}

    def root(name: str) -> str:
        while name in owner:
            name = owner[name]
        return name

    for item in graph.initializer:
        size[item.name] = -(-int(np.prod(item.dims, dtype=np.int64)) * bits_of(item.data_type) // 8)
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            resident.update(node.output)
            continue
        nodes.append(node)
    spans: dict[str, list[int]] = {}
    for name in resident & types.keys() & shapes.keys():
        size.setdefault(name, -(-int(np.prod(shapes[name], dtype=np.int64)) * bits_of(types[name]) // 8))
    for step, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name not in types or name not in shapes:
                if name in read:
                    return None
                continue
            size[name] = -(-int(np.prod(shapes[name], dtype=np.int64)) * bits_of(types[name]) // 8)
        shown = next(filter(None, node.input), None)
        if node.op_type in VIEWS and shown in size and size[shown] == size[node.output[0]]:
            owner[node.output[0]] = shown
        for name in (*node.input, *node.output):
            if name in size and root(name) not in resident:
                spans.setdefault(root(name), [step, step])[1] = step
    for item in graph.output:
        if root(item.name) in spans:
            spans[root(item.name)][1] = len(nodes) - 1
    alive = [sum(size[name] for name, (a, b) in spans.items() if a <= step <= b) for step in range(len(nodes))]
    return max(alive, default=0)


def rightly_refused(message: str, model: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the refusal says what is so of the model."""
    kinds = [node.op_type for node in model.graph.node]
    if "graphs of its own" in message:
        return any(kind in CONTROL for kind in kinds)
    if "sequences" in message or "optional values" in message:
        return any("Sequence" in kind or "Optional" in kind or kind in CONTROL for kind in kinds) or any(
            not item.type.HasField("tensor_type") for item in (*model.graph.input, *model.graph.output)
        )
    if "strings" in message:
        return any(
            item.type.tensor_type.elem_type == onnx.TensorProto.STRING
            for item in (*model.graph.input, *model.graph.output)
        ) or any(node.op_type.startswith(("String", "Label", "Tf")) for node in model.graph.node)
    if "is open" in message or "depends on data" in message:
        # ONNX's own inference over the whole model doesn't know either: the size is in the values of the inputs.
        whole = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known = [*whole.graph.value_info, *whole.graph.output, *whole.graph.input]
        return any(
            not item.type.tensor_type.HasField("shape")
            or any(not dim.HasField("dim_value") for dim in item.type.tensor_type.shape.dim)
            for item in known
        )
    return False


def judge(cases: Iterable[Case]) -> tuple[int, int, list[str]]:
    """Models read, models whose simulation was possible, and whatever is wrong."""
    read = compared = 0
    wrong = []
    for name, model, given in cases:
        types, shapes = inferred(model, given)
        try:
            graph = read_onnx(model.SerializeToString(), name)
        except InputError as error:
            if not rightly_refused(str(error), model, shapes):
                wrong.append(f"{error}")
            continue
        read += 1
        if model.functions or any(node.op_type == "If" for node in model.graph.node):
            continue
        want = simulated(model, types, shapes)
        if want is None:
            continue
        compared += 1
        kinds = [kind for kind in TensorKind if not kind.persistent]
        curve = live_curve(graph, kinds=kinds)
        if int(curve.max(initial=0)) != want:
            wrong.append(f"{name}: planned {curve.max(initial=0)}, simulated {want}")
    return read, compared, wrong


def test_stored_backend_models_have_the_sizes_of_their_runs() -> None:
    read, compared, wrong = judge(stored_cases())
    assert wrong == []
    assert read == compared > 130


@pytest.mark.slow
def test_backend_models_of_every_op_have_the_sizes_of_their_runs() -> None:
    read, compared, wrong = judge(node_cases())
    assert wrong == []
    assert read == compared > 1700
