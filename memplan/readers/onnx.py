"""
ONNX models with inferred shapes, read without the onnx package.

Field numbers and data types are those of `onnx.proto` (ONNX 1.23, IR version 13 and before). Weights inside or
beside the file are not read. Shapes that a model leaves open can be bound by input; ops of fixed shape only follow
from them where the model already names every dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, UnboundShapeError
from memplan.core.progress import Progress, silent
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import DTYPE_BITS, Graph, TensorKind, dense_bytes
from memplan.readers.protobuf import message_class, parse

_TABLE = {
    "ModelProto": "1 ir_version int64, 2 producer_name string, 3 producer_version string, 7 graph GraphProto",
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
    "TypeProto": "1 tensor_type TensorType, 4 sequence_type Opaque, 5 map_type Opaque, 9 optional_type Opaque",
    "TensorType": "1 elem_type int32, 2 shape ShapeProto",
    "ShapeProto": "1 dim *Dimension",
    "Dimension": "1 dim_value int64, 2 dim_param string",
    "Opaque": "15 none int32",
}
_DTYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8_e4m3",
    18: "float8_e4m3", 19: "float8_e5m2", 20: "float8_e5m2", 21: "int4", 22: "int4", 23: "float4_e2m1",
    24: "float8_e8m0",
}  # fmt: skip
_FIRST_VERSION = 3
"""ONNX was first released with this IR version."""

_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
_REMEDY = "run onnx.shape_inference.infer_shapes on the model and save it again"
_NAMES = {
    "kernel_shape": "kernel_size", "strides": "stride", "pads": "pad_list", "dilations": "dilation", "perm": "dims",
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

    `shapes` binds the named dimensions of inputs. Raises `InputError` for models without inferred shapes, with
    control flow or with values that are no tensors.
    """
    model = parse(_model_class(), data, path=path, what="an ONNX model", remedy="export it again")
    if model.ir_version < _FIRST_VERSION:
        raise InputError(
            "this is no ONNX model; it may be a .pb dump of MindSpore, which says no more than the text beside it",
            path=path,
            remedy="name the .ir of the same dump",
        )
    if not model.graph.node:
        raise InputError("this ONNX model holds no graph", path=path, remedy="export it again")
    try:
        return _Reader(model, str(path), shapes or {}).graph(progress)
    except InputError as error:
        raise error.of(path) from None


class _Reader:
    def __init__(self, model: Any, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.model = model
        self.path = path
        self.builder = GraphBuilder()
        self.weights = {item.name for item in model.graph.initializer}
        self.types = {info.name: info for info in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
        self.sizes = self._bind(shapes)
        self.tensors: dict[str, int] = {}

    def _bind(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Values of the named dimensions, from the shapes given for inputs."""
        inputs = {item.name: item for item in self.model.graph.input if item.name not in self.weights}
        sizes: dict[str, int] = {}
        for name, shape in shapes.items():
            if name not in inputs:
                known = ", ".join(inputs) or "none"
                raise InputError(f"there is no input {name!r:.60}", remedy=f"inputs are {known}")
            dims = inputs[name].type.tensor_type.shape.dim
            if len(dims) != len(shape):
                raise InputError(f"shape {shape} has not {len(dims)} dimensions", place=f"input {name}")
            for dim, size in zip(dims, shape, strict=True):
                fixed = dim.dim_value if not dim.dim_param else sizes.setdefault(dim.dim_param, size)
                if fixed not in (0, size) or size < 0:
                    raise InputError(f"shape {shape} disagrees with the model", place=f"input {name}")
        return sizes

    def _shape(self, name: str) -> tuple[tuple[int, ...], str]:
        info = self.types.get(name)
        if info is None or not info.type.tensor_type.elem_type:
            raise InputError("the type of this value is not known", place=name, remedy=_REMEDY)
        dtype = self._dtype(info.type.tensor_type.elem_type, name)
        shape = []
        for dim in info.type.tensor_type.shape.dim:
            size = self.sizes.get(dim.dim_param, 0) if dim.dim_param else dim.dim_value
            if dim.dim_param and dim.dim_param not in self.sizes:
                raise UnboundShapeError(
                    f"dimension {dim.dim_param!r:.40} is open", place=name, suggestion=self._binding(dim.dim_param)
                )
            if size < 0:
                raise InputError(f"dimension {size}", place=name)
            shape.append(size)
        return tuple(shape), dtype

    def _binding(self, dimension: str) -> str:
        """How the named dimension would be bound: by the shape of the first input that has it."""
        for item in self.model.graph.input:
            dims = item.type.tensor_type.shape.dim
            if item.name not in self.weights and any(dim.dim_param == dimension for dim in dims):
                sizes = (self.sizes.get(dim.dim_param, 0) if dim.dim_param else dim.dim_value for dim in dims)
                return f"{item.name}={','.join(str(size) if size else 'DIM' for size in sizes)}"
        return "NAME=DIM,DIM,..."

    @staticmethod
    def _dtype(number: int, place: str) -> str:
        dtype = _DTYPES.get(number)
        if dtype is None or dtype not in DTYPE_BITS:
            raise InputError(f"element type {number} is unknown", place=place)
        return dtype

    def graph(self, progress: Progress) -> Graph:
        """The whole graph."""
        source = self.model.graph
        if source.sparse_initializer:
            raise InputError("sparse weights have no known size", place=source.sparse_initializer[0].values.name)
        for item in source.initializer:
            shape = tuple(item.dims)
            if any(dim < 0 for dim in shape):
                raise InputError(f"shape {shape}", place=item.name)
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

    def _value(self, name: str, kind: TensorKind) -> int:
        if name in self.tensors:
            raise InputError("two values have this name", place=name)
        shape, dtype = self._shape(name)
        self.tensors[name] = self.builder.tensor(name, shape, dtype, dense_bytes(shape, dtype), kind)
        return self.tensors[name]

    def _used(self, name: str, place: str) -> int:
        if name not in self.tensors:
            raise InputError(f"{name!r:.100} is used before anything makes it", place=place)
        return self.tensors[name]

    def _node(self, node: Any, place: str) -> None:
        label = node.name or f"{node.op_type}:{place}"
        attrs: dict[str, object] = {}
        for item in node.attribute:
            if item.graphs or item.g.node:
                raise InputError(f"{node.op_type} holds graphs of its own", place=label, remedy="export it without")
            attrs[_NAMES.get(item.name, item.name)] = _plain(item)
        if node.op_type == "Constant":
            self._constant(node, label)
            return
        inputs = [self._used(name, label) for name in node.input if name]
        outputs = [self._value(name, TensorKind.ACTIVATION) for name in node.output if name]
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
