"""MindIR protobuf messages as plain Python values: functions, nodes, types, constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from memplan.core.errors import InputError
from memplan.readers.mindir.schema import TENSOR_DTYPES, AttributeType

_INTS = frozenset(
    {
        AttributeType.INT8, AttributeType.INT16, AttributeType.INT32, AttributeType.INT64,
        AttributeType.UINT8, AttributeType.UINT16, AttributeType.UINT32, AttributeType.UINT64,
    }
)  # fmt: skip
_FLOATS = frozenset({AttributeType.FLOAT, AttributeType.FLOAT16, AttributeType.BFLOAT16})
_SEQUENCES = frozenset({AttributeType.TUPLE, AttributeType.LIST})
_MONADS = frozenset({AttributeType.UMONAD, AttributeType.IOMONAD})
_CLOSURES = frozenset(
    {
        AttributeType.FUNCGRAPHCLOSURE, AttributeType.PARTIALCLOSURE, AttributeType.UNIONFUNCCLOSURE,
        AttributeType.PRIMITIVECLOSURE,
    }
)  # fmt: skip
_QUIET = frozenset({"checkpoint", "input_names", "output_names", "side_effect_mem", "side_effect_propagate", "shape"})
_MAX_DIMS = 64


class TensorType(NamedTuple):
    """Shape and dtype of a tensor; -1 is a dimension that the file leaves open, a shape of `(-2,)` an open rank."""

    shape: tuple[int, ...]
    dtype: str
    max_shape: tuple[int, ...] = ()


class SequenceType(NamedTuple):
    """Types of the elements of a tuple or list."""

    items: tuple[Any, ...]


class ScalarType(NamedTuple):
    """A number, string or None kept on the host: it occupies no device memory."""

    name: str


class MonadType(NamedTuple):
    """Order of side effects; no data."""


class ClosureType(NamedTuple):
    """A function with some of its arguments bound."""


MONAD, CLOSURE = MonadType(), ClosureType()
ValueType = TensorType | SequenceType | ScalarType | MonadType | ClosureType


class Literal(NamedTuple):
    """A constant that is no tensor."""

    value: Any


class TensorConstant(NamedTuple):
    """A constant tensor; its bytes are not kept."""

    name: str
    type: TensorType


class FunctionConstant(NamedTuple):
    """A function graph used as a value."""

    graph: str


@dataclass(frozen=True, slots=True)
class Node:
    """
    One node that is not a constant.

    `target` is an op type when `primitive`, else the name of a function or of the node whose result is called.
    `attrs` holds what is fixed at compile time; `scope` is the full scope name. `source` is the user's line of code and
    `layouts` the device layouts of the outputs, where the file says them.
    """

    name: str
    target: str
    primitive: bool
    inputs: tuple[str, ...]
    type: ValueType
    scope: str
    attrs: Mapping[str, object]
    source: str | None = None
    layouts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """One graph of the file: parameters in order of the call's arguments, nodes in topological order, the result."""

    name: str
    inputs: tuple[tuple[str, ValueType], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    calls: frozenset[str]


def tensor_type(tensor: Any, place: str) -> TensorType:
    """Shape and dtype of a `TensorProto`."""
    shape = tuple(tensor.dims)
    if len(shape) > _MAX_DIMS or any(dim < -2 for dim in shape):
        raise InputError("shape {} is not possible", shape[:8], place=place)
    dtype = TENSOR_DTYPES.get(tensor.data_type)
    if dtype is None:
        raise InputError("element type {} is unknown", tensor.data_type, place=place)
    return TensorType(shape, dtype, tuple(tensor.max_dims))


def value_type(attribute: Any, place: str) -> ValueType:
    """The type that an attribute named `shape` (or a parameter's `attr_info`) describes."""
    kind = attribute.type
    if kind in (AttributeType.TENSORS, AttributeType.TENSOR):
        if not attribute.tensors:
            raise InputError("a tensor without shape and element type", place=place)
        return tensor_type(attribute.tensors[0], place)
    if kind in _SEQUENCES:
        return SequenceType(tuple(value_type(item, place) for item in attribute.values))
    if kind in _MONADS:
        return MONAD
    if kind in _CLOSURES:
        return CLOSURE
    if kind in _INTS or kind in _FLOATS or kind in _HOST:
        return ScalarType(AttributeType(kind).name.lower())
    raise InputError("a value of type {} has no known size", _type_name(kind), place=place)


_HOST = frozenset(
    {
        AttributeType.BOOL, AttributeType.DOUBLE, AttributeType.STRING, AttributeType.NONE, AttributeType.TYPE_NULL,
        AttributeType.CLASS_TYPE, AttributeType.NAME_SPACE, AttributeType.SYMBOL, AttributeType.SCALAR,
        AttributeType.DICT,
    }
)  # fmt: skip


def _type_name(kind: int) -> str:
    try:
        return AttributeType(kind).name
    except ValueError:
        return str(kind)


def attribute_value(attribute: Any) -> object:
    """An attribute as a Python value: number, string, bool, None or nested tuple; functors as name and values."""
    kind = attribute.type
    if kind in _INTS:
        return tuple(attribute.ints) if attribute.ints else int(attribute.i)
    if kind == AttributeType.BOOL:
        return tuple(map(bool, attribute.ints)) if attribute.ints else bool(attribute.i)
    if kind in _FLOATS:
        return tuple(attribute.floats) if attribute.floats else float(attribute.f)
    if kind == AttributeType.DOUBLE:
        return tuple(attribute.doubles) if attribute.doubles else float(attribute.d)
    if kind == AttributeType.STRING:
        parts = tuple(item.decode("utf-8", "replace") for item in attribute.strings)
        return parts or attribute.s.decode("utf-8", "replace")
    if kind in _SEQUENCES:
        flat: list[object] = []
        for item in attribute.values:
            value = attribute_value(item)
            if isinstance(value, tuple) and item.type not in _SEQUENCES:
                flat.extend(value)
            else:
                flat.append(value)
        return tuple(flat)
    if kind == AttributeType.FUNCTOR:
        return (attribute.functor.name, *(attribute_value(item) for item in attribute.functor.values))
    return None


def constant(attribute: Any, name: str) -> Literal | TensorConstant | FunctionConstant | MonadType | tuple[Any, ...]:
    """The value of a `Constant` node."""
    kind = attribute.type
    if kind in (AttributeType.TENSORS, AttributeType.TENSOR):
        return TensorConstant(name, _as_tensor(attribute, name))
    if kind in _MONADS:
        return MONAD
    if kind == AttributeType.FUNCGRAPHCLOSURE:
        return FunctionConstant(attribute.s.decode("utf-8", "replace"))
    if kind in _SEQUENCES and any(item.type in _STRUCTURED for item in attribute.values):
        return tuple(constant(item, f"{name}[{position}]") for position, item in enumerate(attribute.values))
    return Literal(attribute_value(attribute))


_STRUCTURED = _SEQUENCES | _MONADS | {AttributeType.TENSORS, AttributeType.TENSOR, AttributeType.FUNCGRAPHCLOSURE}


def _as_tensor(attribute: Any, name: str) -> TensorType:
    if not attribute.tensors:
        raise InputError("a constant tensor without shape and element type", place=name)
    return tensor_type(attribute.tensors[0], name)


def attributes(entries: Any) -> dict[str, object]:
    """Attributes of a primitive or node as plain values, without what says nothing about memory or time."""
    return {entry.name: attribute_value(entry) for entry in entries if entry.name not in _QUIET}
