"""A MindIR program run symbolically, so that calls, tuples and side-effect plumbing become one list of ops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from memplan.errors import InputError
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import TensorKind, dense_bytes
from memplan.progress import Progress
from memplan.readers.mindir_decode import (
    ClosureType,
    Function,
    FunctionConstant,
    Literal,
    MonadType,
    Node,
    SequenceType,
    TensorConstant,
    TensorType,
    ValueType,
)
from memplan.readers.mindir_program import Program
from memplan.readers.mindspore_ops import OpTable, Target, op_table
from memplan.readers.roles import Roles

MAX_OPS = 1_000_000
"""Ops a file may unfold to; functions that call each other can otherwise multiply without bound."""


class Monad(NamedTuple):
    """The state of side effects after op `after` (`None`: before any)."""

    after: int | None


class Closure(NamedTuple):
    """A function with its first arguments bound."""

    graph: str
    bound: tuple[Any, ...] = ()


Value = Any
"""A tensor index (`int`), `Literal`, `Monad`, `Closure`, or a tuple of values."""


@dataclass(slots=True)
class _Frame:
    """One call under way: the function, what its names stand for, the next node."""

    function: Function
    values: dict[str, Value]
    position: int = 0
    results: list[Value] = field(default_factory=list)


def tensors_of(value: Value) -> Iterator[int]:
    """Indices of all tensors in `value`, in order."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is int:
            yield item
        elif type(item) is tuple:
            stack.extend(reversed(item))
        elif type(item) is Closure:
            stack.extend(reversed(item.bound))


class Flattener:
    """
    Runs `program` on symbols and appends what it does to `builder`.

    After `run`, `inputs` and `outputs` are the tensors that enter and leave the graph.
    """

    def __init__(self, program: Program, builder: GraphBuilder, progress: Progress, target: Target) -> None:
        self.program = program
        self.target = target
        self.builder = builder
        self.progress = progress
        self.table: OpTable = op_table()
        self.roles = Roles(self.table)
        self.constants: dict[str, Value] = {}
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def run(self) -> None:
        """Flatten the whole program."""
        values: dict[str, Value] = {}
        for parameter in self.program.parameters:
            index = self._tensor(parameter.label, parameter.type, TensorKind.WEIGHT, f"parameter {parameter.label}")
            values[parameter.name] = index
            self.roles.parameter(index, parameter.label)
        for name, kind in self.program.root.inputs:
            if name not in values:
                values[name] = self._input(name, kind)
        result = self._execute(_Frame(self.program.root, values))
        self.outputs.extend(dict.fromkeys(tensors_of(result)))
        self.roles.classify(self.builder)

    def _input(self, name: str, kind: ValueType) -> Value:
        label = name.split(":", 1)[-1]
        value = self._symbol(label, kind, TensorKind.INPUT, f"input {label}")
        self.inputs.extend(tensors_of(value))
        return value

    def _execute(self, root: _Frame) -> Value:
        stack = [root]
        total = len(root.function.nodes)
        while True:
            frame = stack[-1]
            nodes = frame.function.nodes
            if frame.position == len(nodes):
                result = self._result(frame)
                stack.pop()
                if not stack:
                    return result
                caller = stack[-1]
                caller.values[caller.function.nodes[caller.position].name] = result
                caller.position += 1
                continue
            node = nodes[frame.position]
            arguments = tuple(self._value(frame, name) for name in node.inputs)
            if node.primitive:
                frame.values[node.name] = self._apply(node, arguments)
                frame.position += 1
                if len(stack) == 1 and frame.position % 1024 == 0:
                    self.progress(frame.position, total, "nodes flattened")
            else:
                stack.append(self._enter(node, arguments, stack))

    def _enter(self, node: Node, arguments: tuple[Value, ...], stack: list[_Frame]) -> _Frame:
        function = self.program.functions.get(node.target)
        if function is None:
            raise InputError(f"control flow through {node.target!r:.80} is not supported", place=node.name)
        if any(outer.function is function for outer in stack):
            raise InputError(f"recursive function {function.name!r:.80}", place=node.name)
        if len(arguments) != len(function.inputs):
            raise InputError(
                f"{len(arguments)} arguments for the {len(function.inputs)} of {function.name!r:.80}", place=node.name
            )
        return _Frame(function, dict(zip((name for name, _ in function.inputs), arguments, strict=True)))

    def _result(self, frame: _Frame) -> Value:
        outputs = [self._value(frame, name) for name in frame.function.outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _value(self, frame: _Frame, name: str) -> Value:
        value = frame.values.get(name)
        if value is not None:
            return value
        value = self.constants.get(name)
        if value is None:
            value = self.constants[name] = self._constant(name, frame)
        return value

    def _constant(self, name: str, frame: _Frame) -> Value:
        if name in self.program.constants:
            return self._materialise(self.program.constants[name])
        if name in self.program.functions:
            return Closure(name)
        raise InputError(f"input {name!r:.120} is defined nowhere", place=frame.function.name)

    def _materialise(self, constant: Any) -> Value:
        """A constant as a value; a constant tensor gets its bytes on first use."""
        if isinstance(constant, TensorConstant):
            return self._tensor(constant.name, constant.type, TensorKind.CONSTANT, constant.name)
        if isinstance(constant, FunctionConstant):
            return Closure(constant.graph)
        if isinstance(constant, MonadType):
            return Monad(None)
        if isinstance(constant, Literal):
            return constant
        return tuple(self._materialise(item) for item in constant)

    def _tensor(self, name: str, kind: TensorType, role: TensorKind, place: str) -> int:
        return self.builder.tensor(name, kind.shape, kind.dtype, self._nbytes(kind, place), role)

    def _nbytes(self, kind: TensorType, place: str) -> int:
        if any(dim < 0 for dim in kind.shape):
            raise InputError(
                f"shape {kind.shape} has an open dimension", place=place, remedy="bind it with --shape NAME=DIM,DIM,..."
            )
        return dense_bytes(kind.shape, kind.dtype)

    def _symbol(self, name: str, kind: ValueType, role: TensorKind, place: str) -> Value:
        """A new value of type `kind` with its own tensors."""
        if isinstance(kind, TensorType):
            return self._tensor(name, kind, role, place)
        if isinstance(kind, SequenceType):
            return tuple(
                self._symbol(f"{name}.{position}", item, role, place) for position, item in enumerate(kind.items)
            )
        if isinstance(kind, MonadType):
            return Monad(None)
        if isinstance(kind, ClosureType):
            raise InputError("a function without a body", place=place)
        return Literal(None)

    def _apply(self, node: Node, arguments: tuple[Value, ...]) -> Value:
        plumbing = _PLUMBING.get(node.target)
        if plumbing is not None:
            return plumbing(node, arguments)
        if len(self.builder.ops) >= MAX_OPS:
            raise InputError(f"the graph unfolds to more than {MAX_OPS:,} ops", place=node.name)
        if node.target == "UpdateState":
            return Monad(self._plain_op(node, (), (), _after(self.builder, arguments)))
        if node.target in _PASS:
            return self._pass_through(node, arguments)
        return self._kernel(node, arguments)

    def _pass_through(self, node: Node, arguments: tuple[Value, ...]) -> Value:
        """`Load`, `Depend` and the like: the first argument under another name, ordered after the others."""
        if not arguments:
            raise InputError(f"{node.target} without input", place=node.name)
        after = _after(self.builder, arguments[1:])
        value = arguments[0]
        if type(value) is not int:
            op = self._plain_op(node, (), (), after)
            return Monad(op) if isinstance(value, Monad) else value
        builder = self.builder
        alias = builder.tensor(
            node.scope or node.name,
            builder.shapes[value],
            builder.dtypes[value],
            builder.nbytes[value],
            builder.kinds[value],
            storage=value,
        )
        self._plain_op(node, (value,), (alias,), after)
        return alias

    def _plain_op(self, node: Node, inputs: tuple[int, ...], outputs: tuple[int, ...], after: tuple[int, ...]) -> int:
        return self.builder.op(
            node.scope or node.name,
            node.target,
            inputs,
            outputs,
            launches=False,
            attrs={"after": after} if after else None,
        )

    def _kernel(self, node: Node, arguments: tuple[Value, ...]) -> Value:
        attrs = dict(node.attrs)
        inputs: list[int] = []
        named: dict[str, int] = {}
        after: tuple[int, ...] = ()
        for position, argument in enumerate(arguments):
            if type(argument) is int:
                inputs.append(argument)
                named[self.table.argument(node.target, position)] = argument
            elif isinstance(argument, Literal):
                attrs[self.table.argument(node.target, position)] = argument.value
            elif isinstance(argument, Monad):
                after += () if argument.after is None else (argument.after,)
            else:
                inputs.extend(tensors_of(argument))
                literals = _literals(argument)
                if literals:
                    attrs[self.table.argument(node.target, position)] = literals
        if after:
            attrs["after"] = after
        launches = node.target not in self.table.views
        result = self._symbol(node.scope or node.name, node.type, TensorKind.ACTIVATION, node.name)
        outputs = tuple(tensors_of(result))
        self._share(node, inputs, named, outputs)
        op = self.builder.op(
            node.scope or node.name,
            node.target,
            inputs,
            outputs,
            workspace_bytes=self._workspace(node, outputs),
            launches=launches,
            attrs=attrs,
        )
        self.roles.op(node.target, node.scope, launches, inputs, named)
        if isinstance(node.type, MonadType):
            return Monad(op)
        return result

    def _workspace(self, node: Node, outputs: tuple[int, ...]) -> int:
        if self.target is not Target.CPU or not outputs:
            return 0
        return self.table.cpu_workspace_outputs.get(node.target, 0) * self.builder.nbytes[outputs[0]]

    def _share(self, node: Node, inputs: list[int], named: Mapping[str, int], outputs: tuple[int, ...]) -> None:
        """Let views and in-place results occupy the bytes of their argument."""
        builder = self.builder
        if node.target in self.table.views:
            if inputs and outputs and builder.nbytes[outputs[0]] <= builder.nbytes[inputs[0]]:
                builder.share(inputs[0], outputs[0])
            return
        entry = self.table.in_place.get(node.target)
        if entry is None or (self.target is Target.CPU and node.target in self.table.cpu_own_outputs):
            return
        for output, argument in zip(outputs, entry.outputs, strict=False):
            written = named.get(argument)
            if written is not None and builder.nbytes[written] == builder.nbytes[output]:
                builder.share(written, output)


def _literals(value: Value) -> tuple[object, ...]:
    return tuple(item.value for item in value if isinstance(item, Literal)) if type(value) is tuple else ()


def _after(builder: GraphBuilder, values: tuple[Value, ...]) -> tuple[int, ...]:
    """The ops that must have run before something that is ordered after `values`."""
    found: dict[int, None] = {}
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, Monad):
            if value.after is not None:
                found[value.after] = None
        elif type(value) is tuple:
            stack.extend(value)
        elif type(value) is int:
            producer = builder.producers[value]
            if producer is not None:
                found[producer] = None
    return tuple(sorted(found))


def _make_tuple(_node: Node, arguments: tuple[Value, ...]) -> Value:
    return arguments


def _get_item(node: Node, arguments: tuple[Value, ...]) -> Value:
    if len(arguments) != 2 or type(arguments[0]) is not tuple or not isinstance(arguments[1], Literal):
        raise InputError(f"{node.target} of something that is no tuple", place=node.name)
    sequence, index = arguments[0], arguments[1].value
    if not isinstance(index, int) or not -len(sequence) <= index < len(sequence):
        raise InputError(f"element {index!r:.20} of a tuple of {len(sequence)}", place=node.name)
    return sequence[index]


_PLUMBING = {
    "MakeTuple": _make_tuple,
    "make_tuple": _make_tuple,
    "RealMakeTuple": _make_tuple,
    "MakeList": _make_tuple,
    "make_list": _make_tuple,
    "TupleGetItem": _get_item,
    "tuple_getitem": _get_item,
    "RealTupleGetItem": _get_item,
    "ListGetItem": _get_item,
    "list_getitem": _get_item,
}
_PASS = frozenset({"Load", "Depend", "StopGradient", "stop_gradient", "identity", "Return", "return"})
