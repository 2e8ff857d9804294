"""A MindIR file as a program: its functions, the constants they share, its parameters and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memplan.core.errors import InputError, UnboundShapeError
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.readers.mindir.decode import (
    Function,
    Node,
    TensorType,
    ValueType,
    attribute_value,
    attributes,
    constant,
    tensor_type,
    value_type,
)
from memplan.readers.mindir.execution_order import execution_order_by_name
from memplan.readers.mindir.shape_inference import OPEN_RANK

_REFERENCE = "REF::"
_CONSTANT = "Constant"


@dataclass(frozen=True, slots=True)
class Primitive:
    """An op type and the attributes that all nodes referring to it share."""

    type: str
    attrs: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight, optimiser state or other value kept between runs."""

    name: str
    label: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Program:
    """
    Everything a MindIR file says about its computation.

    `constants` is one table for all functions, because a constant written in one function may be used in another.
    `notes` say what the file leaves out.
    """

    root: Function
    functions: Mapping[str, Function]
    constants: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    producer: str
    notes: tuple[str, ...] = ()


def decode(model: Any, progress: Progress) -> Program:
    """The program in a `ModelProto`; raises `InputError` (without a path) naming the node that can't be used."""
    primitives = {
        entry.name: Primitive(entry.op_type or entry.name, attributes(entry.attribute)) for entry in model.primitives
    }
    graphs = [model.graph, *model.functions]
    names = frozenset(graph.name for graph in graphs)
    total = sum(len(graph.node) for graph in graphs)
    constants: dict[str, Any] = {}
    functions: dict[str, Function] = {}
    done = 0
    for graph in graphs:
        progress(done, total, "nodes decoded")
        function = _function(graph, primitives, names, constants)
        if functions.setdefault(function.name, function) is not function:
            raise InputError("two functions have this name", place=function.name)
        done += len(graph.node)
    version = f" {model.model_version}" if model.model_version else ""
    return Program(
        root=functions[model.graph.name],
        functions=functions,
        constants=constants,
        parameters=_parameters(model.graph),
        producer=f"{model.producer_name or 'MindSpore'}{version}",
    )


def _parameters(graph: Any) -> tuple[Parameter, ...]:
    found = [
        Parameter(entry.name, entry.ref_key or entry.name, tensor_type(entry, f"parameter {entry.name}"))
        for entry in graph.parameter
    ]
    for entry in graph.map_parameter:
        raise InputError("a hash-table parameter has no fixed size", place=entry.name)
    return tuple(found)


def _function(
    graph: Any, primitives: Mapping[str, Primitive], names: frozenset[str], constants: dict[str, Any]
) -> Function:
    nodes = []
    calls = set()
    for entry in graph.node:
        name = entry.output[0] if entry.output else entry.name
        if entry.op_type == _CONSTANT:
            value = next((item for item in entry.attribute if item.name == "value"), None)
            if value is None:
                raise InputError("a constant without value", place=name)
            constants[name] = constant(value, name)
            continue
        if not entry.op_type.startswith(_REFERENCE):
            raise InputError("node type {!r:.60} is unknown", entry.op_type, place=name)
        target = entry.op_type[len(_REFERENCE) :]
        primitive = primitives.get(target)
        if primitive is None and target in names:
            calls.add(target)
        calls.update(item for item in entry.input if item in names)
        shape = next((item for item in entry.attribute if item.name == "shape"), None)
        if shape is None:
            raise InputError("the node says neither shape nor type of its result", place=name)
        nodes.append(
            Node(
                name=name,
                target=primitive.type if primitive else target,
                primitive=primitive is not None,
                inputs=tuple(entry.input),
                type=value_type(shape, name),
                scope=entry.domain,
                attrs=_node_attrs(entry, primitive),
            )
        )
    outputs = tuple(entry.name for entry in graph.output)
    return Function(
        name=graph.name,
        inputs=tuple((entry.name, _input_type(entry)) for entry in graph.input),
        nodes=tuple(nodes),
        outputs=outputs,
        calls=frozenset(calls),
    )


def bound_inputs(program: Program, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, str, ValueType]]:
    """
    The inputs of the program as (name, name shown, type), their open dimensions bound by `shapes`.

    Raises `InputError` for a shape of no input and for one that disagrees with the file.
    """
    parameters = {parameter.name for parameter in program.parameters}
    inputs = [(name, name.split(":", 1)[-1], kind) for name, kind in program.root.inputs if name not in parameters]
    labels = [label for _, label, _ in inputs]
    for label in shapes:
        if label not in labels:
            raise InputError(
                "there is no input {!r}", label, remedy=Sentence("inputs are {}", (", ".join(labels) or "none",))
            )
    return [(name, label, _bound(label, kind, shapes.get(label))) for name, label, kind in inputs]


def _bound(label: str, kind: ValueType, shape: tuple[int, ...] | None) -> ValueType:
    if not isinstance(kind, TensorType):
        if shape is not None:
            raise InputError("only the shape of a tensor can be bound", place=Sentence("input {}", (label,)))
        return kind
    wanted = ",".join("DIM" if dim < 0 else str(dim) for dim in kind.shape)
    if shape is not None:
        fits = OPEN_RANK in kind.shape or (
            len(shape) == len(kind.shape)
            and all(have in (-1, want) for want, have in zip(shape, kind.shape, strict=True))
        )
        if not fits or any(dim < 0 for dim in shape):
            raise InputError(
                "shape {} doesn't fit {}",
                shape,
                kind.shape,
                place=Sentence("input {}", (label,)),
                remedy=Sentence(
                    "use --shape {}={}",
                    (label, wanted),
                ),
            )
        return TensorType(shape, kind.dtype)
    if any(dim < 0 for dim in kind.shape) and not kind.max_shape:
        raise UnboundShapeError(
            "shape {} has open dimensions",
            kind.shape,
            place=Sentence("input {}", (label,)),
            suggestion=f"{label}={wanted}",
        )
    return kind


def in_execution_order(function: Function) -> tuple[Node, ...]:
    """The nodes as MindSpore's runtime orders them; those that the result doesn't need are dropped."""
    nodes = function.nodes
    try:
        order = execution_order_by_name(
            [node.name for node in nodes],
            [node.target for node in nodes],
            [node.inputs if node.primitive else (node.target, *node.inputs) for node in nodes],
            function.outputs,
        )
    except ValueError as error:
        raise InputError(str(error), place=function.name) from None
    return tuple(nodes[position] for position in order)


def _input_type(entry: Any) -> ValueType:
    if entry.tensor:
        return tensor_type(entry.tensor[0], f"input {entry.name}")
    return value_type(entry.attr_info, f"input {entry.name}")


_KEPT_NODE_ATTRS = {
    "recompute": "recompute",
    "duplicated": "recomputed",
    "recompute_id": "recompute_id",
    "forward_unique_id": "forward_id",
    "unique_id": "unique_id",
    "forward_node_name": "forward_name",
}


def _node_attrs(entry: Any, primitive: Primitive | None) -> Mapping[str, object]:
    """The primitive's attributes, with the links between gradient and forward and the marks of recomputation."""
    shared: Mapping[str, object] = primitive.attrs if primitive else {}
    extra = {}
    for group in (entry.node_attr, entry.primal_attr):
        for item in group:
            label = _KEPT_NODE_ATTRS.get(item.name)
            if label is not None:
                extra[label] = attribute_value(item)
    return {**shared, **extra} if extra else shared
