"""
ONNX models as graphs: ops in file order, shapes and weights.

Field numbers and data types are those of `onnx.proto` (ONNX 1.23, IR version 14 and before). Weights inside or
beside the file are not read. A model that holds the shape of every value is taken at its word, without the `onnx`
package; for all others `onnx_shapes` infers them from those of the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, UnboundShapeError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import DTYPE_BITS, Graph, TensorKind, dense_bytes
from memplan.readers.onnx_shapes import dim_name, dim_size, open_shape, refuse_unknown_names, with_shapes
from memplan.readers.protobuf import message_class, parse

_TABLE = {
    "ModelProto": "1 ir_version int64, 2 producer_name string, 3 producer_version string, 7 graph GraphProto,"
    "8 opset_import *OperatorSet, 25 functions *Opaque",
    "GraphProto": "1 node *NodeProto, 2 name string, 5 initializer *TensorProto, 11 input *ValueInfoProto,"
    "12 output *ValueInfoProto, 13 value_info *ValueInfoProto, 15 sparse_initializer *SparseTensorProto",
    "NodeProto": "1 input *string, 2 output *string, 3 name string, 4 op_type string, 5 attribute *AttributeProto,"
    "7 domain string",
    "AttributeProto": "1 name string, 2 f float, 3 i int64, 4 s bytes, 5 t TensorProto, 6 g GraphProto,"
    "7 floats *float,"
    "8 ints *int64, 9 strings *bytes, 11 graphs *GraphProto, 20 type int32",
    "TensorProto": "1 dims *int64, 2 data_type int32, 8 name string",
    "SparseTensorProto": "1 values TensorProto, 2 indices TensorProto, 3 dims *int64",
    "ValueInfoProto": "1 name string, 2 type TypeProto",
    "TypeProto": "1 tensor_type TensorType, 4 sequence_type Opaque, 5 map_type Opaque, 7 opaque_type Opaque,"
    "8 sparse_tensor_type Opaque, 9 optional_type Opaque",
    "TensorType": "1 elem_type int32, 2 shape ShapeProto",
    "ShapeProto": "1 dim *Dimension",
    "Dimension": "1 dim_value ?int64, 2 dim_param string",
    "OperatorSet": "1 domain string, 2 version int64",
    "Opaque": "1000 none int32",
}
_DTYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3",
    18: "float8_e4m3", 19: "float8_e5m2", 20: "float8_e5m2", 21: "int4", 22: "int4", 23: "float4_e2m1",
    24: "float8_e8m0", 25: "int2", 26: "int2", 27: "float6_e2m3", 28: "float6_e3m2",
}  # fmt: skip
_FIRST_VERSION = 3
"""ONNX was first released with this IR version."""

_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
_STRINGS = 8
_NO_TENSORS = {
    "sequence_type": "sequences", "map_type": "maps", "optional_type": "optional values",
    "opaque_type": "opaque values", "sparse_tensor_type": "sparse tensors",
}  # fmt: skip
_NESTED = {
    "If": "which branch runs is decided while it runs", "Loop": "how often its body runs is decided while it runs",
    "Scan": "its body runs once for each slice", "FlexAttention": "it calls a graph of its own for every score",
}  # fmt: skip
_NAMES = {
    "kernel_shape": "kernel_size", "strides": "stride", "pads": "pad_list", "dilations": "dilation", "perm": "dims",
    "q_num_heads": "head_num",
    "transA": "transpose_a", "transB": "transpose_b", "keepdims": "keep_dims", "axes": "axis",
}  # fmt: skip
"""Attribute names as MindSpore has them, which the cost model reads."""


@cache
def _model_class() -> Any:
    return message_class("memplan.onnx", _TABLE, "ModelProto")


def read_onnx(
    data: bytes,
    path: str | Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    progress: Progress = silent,
) -> Graph:
    """
    The graph in the ONNX bytes `data`, in the order in which the file lists its nodes.

    `shapes` binds open dimensions: those of inputs, or of a value whose size depends on data. Raises `InputError` for
    models whose shapes don't follow from those of their inputs, with control flow that data decides, or with values
    that are no tensors.
    """
    model = parse(_model_class(), data, path=path, what=Sentence("an ONNX model"), remedy="export it again")
    if model.ir_version < _FIRST_VERSION:
        raise InputError(
            "this is no ONNX model; it may be a .pb dump of MindSpore, which says no more than the text beside it",
            path=path,
            remedy="name the .ir of the same dump",
        )
    if not model.graph.node:
        raise InputError("this ONNX model holds no graph", path=path, remedy="export it again")
    try:
        _refuse_open_inputs(model, shapes or {})
        if shapes or not _complete(model):
            model = with_shapes(data, shapes or {})
        return _Reader(model, str(path)).graph(progress)
    except InputError as error:
        raise error.of(path) from None


def _refuse_open_inputs(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise for an input whose shape is open and not among `shapes`, and name the dimensions to give."""
    weights = {item.name for item in model.graph.initializer}
    sizes = {
        dim_name(dim): size
        for item in model.graph.input
        for dim, size in zip(item.type.tensor_type.shape.dim, shapes.get(item.name, ()), strict=False)
        if dim_name(dim)
    }
    values = {item.name for item in model.graph.input} | {name for node in model.graph.node for name in node.output}
    for item in model.graph.input:
        if item.name in weights or item.name in shapes:
            continue
        _refuse_no_tensor(item)
        if not item.type.tensor_type.HasField("shape"):
            refuse_unknown_names(model, shapes, values)
            raise UnboundShapeError("its shape is open", place=item.name, suggestion=f"{item.name}=DIM,DIM,...")
        dims = item.type.tensor_type.shape.dim
        if any(dim_size(dim) is None and dim_name(dim) not in sizes for dim in dims):
            refuse_unknown_names(model, shapes, values)
            raise open_shape(item.name, dims)


def _refuse_no_tensor(info: Any) -> None:
    for field, what in _NO_TENSORS.items():
        if info.type.HasField(field):
            raise InputError("{} can't be planned: their sizes are not in the model", what, place=info.name)
    if info.type.tensor_type.elem_type == _STRINGS:
        raise InputError("strings can't be planned: their sizes are not in the model", place=info.name)


def _complete(model: Any) -> bool:
    """Whether the file itself says how large every value is and calls no functions of its own."""
    graph = model.graph
    known = {
        item.name
        for item in (*graph.value_info, *graph.output, *graph.input)
        if item.type.tensor_type.HasField("shape")
        and all(dim_size(dim) is not None for dim in item.type.tensor_type.shape.dim)
    }
    made = {name for node in graph.node if node.op_type != "Constant" for name in node.output}
    return not model.functions and made & _read_values(graph) <= known


def _read_values(graph: Any) -> set[str]:
    """Names of all that a node or the caller reads."""
    read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    return read - {""}


class _Reader:
    def __init__(self, model: Any, path: str) -> None:
        self.model = model
        self.path = path
        self.builder = GraphBuilder()
        self.weights = {item.name for item in model.graph.initializer}
        self.types = {info.name: info for info in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
        self.read = _read_values(model.graph)
        self.tensors: dict[str, int] = {}

    def _shape(self, name: str, op: str = "") -> tuple[tuple[int, ...], str]:
        info = self.types.get(name)
        if info is not None:
            _refuse_no_tensor(info)
        if "Sequence" in op and (info is None or not info.type.tensor_type.elem_type):
            raise InputError("sequences can't be planned: their sizes are not in the model", place=name)
        if info is None or not info.type.tensor_type.elem_type:
            raise InputError(
                "the type of this value is not known: there is no rule for {}",
                op or "it",
                place=name,
                remedy="save the model with the value's type and shape in value_info",
            )
        tensor = info.type.tensor_type
        if not tensor.HasField("shape"):
            raise UnboundShapeError(
                "the shape of this value is not known: it depends on data, or there is no rule for {}",
                op or "it",
                place=name,
                suggestion=f"{name}=DIM,DIM,...",
            )
        sizes = tuple(dim_size(dim) for dim in tensor.shape.dim)
        shape = tuple(size for size in sizes if size is not None)
        if len(shape) < len(sizes):
            raise open_shape(name, tensor.shape.dim)
        return shape, self._dtype(tensor.elem_type, name)

    @staticmethod
    def _dtype(number: int, place: str) -> str:
        if number == _STRINGS:
            raise InputError("strings can't be planned: their sizes are not in the model", place=place)
        dtype = _DTYPES.get(number)
        if dtype is None or dtype not in DTYPE_BITS:
            raise InputError("element type {} is unknown", number, place=place)
        return dtype

    def graph(self, progress: Progress) -> Graph:
        """The whole graph."""
        source = self.model.graph
        if source.sparse_initializer:
            raise InputError("sparse weights have no known size", place=source.sparse_initializer[0].values.name)
        for item in source.initializer:
            shape = tuple(item.dims)
            if any(dim < 0 for dim in shape):
                raise InputError("shape {}", shape, place=item.name)
            dtype = self._dtype(item.data_type, item.name)
            self.tensors[item.name] = self.builder.tensor(
                item.name, shape, dtype, dense_bytes(shape, dtype), TensorKind.WEIGHT
            )
        inputs = [self._value(item.name, TensorKind.INPUT) for item in source.input if item.name not in self.weights]
        total = len(source.node)
        for done, node in enumerate(source.node):
            if done % 1024 == 0:
                progress(done, total, "nodes read")
            self._node(node, f"node {done}")
        outputs = [self._used(item.name, "output") for item in source.output]
        version = " ".join(filter(None, (self.model.producer_name, self.model.producer_version)))
        return self.builder.finish(
            source.name or "onnx", inputs, dict.fromkeys(outputs), origin=self.path, producer=version or "ONNX"
        )

    def _value(self, name: str, kind: TensorKind, op: str = "") -> int:
        if name in self.tensors:
            raise InputError("two values have this name", place=name)
        shape, dtype = self._shape(name, op)
        self.tensors[name] = self.builder.tensor(name, shape, dtype, dense_bytes(shape, dtype), kind)
        return self.tensors[name]

    def _kept(self, name: str) -> bool:
        """Whether a result takes part: what nobody reads and no rule sizes (a mask of `Dropout`) costs nothing."""
        if name in self.read:
            return True
        info = self.types.get(name)
        if not name or info is None or not info.type.tensor_type.HasField("shape"):
            return False
        return all(dim_size(dim) is not None for dim in info.type.tensor_type.shape.dim)

    def _used(self, name: str, place: str) -> int:
        if name not in self.tensors:
            raise InputError("{!r:.100} is used before anything makes it", name, place=place)
        return self.tensors[name]

    def _node(self, node: Any, place: str) -> None:
        label = node.name or next(filter(None, node.output), f"{node.op_type}:{place}")
        attrs: dict[str, object] = {}
        for item in node.attribute:
            if item.graphs or item.g.node:
                why = _NESTED.get(node.op_type, "what they do is not known")
                raise InputError(
                    "{} holds graphs of its own, and {}",
                    node.op_type,
                    Sentence(why),
                    place=label,
                    remedy="export the model without control flow",
                )
            attrs[_NAMES.get(item.name, item.name)] = _plain(item)
        if node.op_type == "Constant":
            self._constant(node, label)
            return
        inputs = [self._used(name, label) for name in node.input if name]
        outputs = [self._value(name, TensorKind.ACTIVATION, node.op_type) for name in node.output if self._kept(name)]
        if node.op_type == "Attention" and inputs and not node.domain:
            attrs["input_layout"] = "BNSD" if len(self.builder.shapes[inputs[0]]) == 4 else "BSH"
        launches = node.op_type not in _VIEWS
        if not launches and inputs and outputs:
            if self.builder.nbytes[inputs[0]] == self.builder.nbytes[outputs[0]]:
                self.builder.share(inputs[0], outputs[0])
            else:
                launches = True
        self.builder.op(label, node.op_type, inputs, outputs, launches=launches, attrs=attrs)

    def _constant(self, node: Any, label: str) -> None:
        """A constant node is a tensor that exists from the start."""
        name = node.output[0] if node.output else label
        value = next((item.t for item in node.attribute if item.name == "value"), None)
        if value is not None:
            shape, dtype = tuple(value.dims), self._dtype(value.data_type, label)
        else:
            shape, dtype = self._shape(name)
        if any(dim < 0 for dim in shape) or name in self.tensors:
            raise InputError("a constant that can't be placed", place=label)
        self.tensors[name] = self.builder.tensor(name, shape, dtype, dense_bytes(shape, dtype), TensorKind.CONSTANT)


def _plain(item: Any) -> object:
    """An attribute as a Python value, by its declared type."""
    sequences: Mapping[int, Sequence[Any]] = {6: item.floats, 7: item.ints}
    if item.type in sequences:
        return tuple(sequences[item.type])
    if item.type == 1:
        return float(item.f)
    if item.type == 2:
        return int(item.i)
    if item.type == 3:
        return item.s.decode("utf-8", "replace")
    return None
