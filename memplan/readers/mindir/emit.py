"""One MindIR node at a time becomes an op of the graph, an alias, or a value known at compile time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence

from memplan.core.errors import InputError
from memplan.graph.builder import GraphBuilder
from memplan.graph.layout import DENSE, stored_bytes
from memplan.graph.model import TensorKind, dense_bytes
from memplan.readers.mindir.decode import (
    ClosureType,
    Literal,
    MonadType,
    Node,
    SequenceType,
    TensorType,
    ValueType,
)
from memplan.readers.mindir.op_table import Target, op_table
from memplan.readers.mindir.roles import Roles
from memplan.readers.mindir.shape_functors import shape_calc
from memplan.readers.mindir.shape_inference import infer
from memplan.readers.mindir.shape_rules import DATA_SIZED
from memplan.readers.mindir.values import (
    NO_VALUE,
    Closure,
    ClosureChoice,
    GraphValue,
    Monad,
    as_plain,
    leaves,
    tensors_of,
)

CONDITIONS = frozenset({"Switch", "switch", "SwitchLayer", "switch_layer"})
"""Ops that pick one of several functions at run time."""

BIND_REMEDY = "bind it with --shape NAME=DIM,DIM,..."


class OpEmitter:
    """Appends what nodes do to `builder`, for the kernels of `target`, and at most `most_ops` ops."""

    def __init__(self, builder: GraphBuilder, target: Target, most_ops: int) -> None:
        self.builder = builder
        self.most_ops = most_ops
        self.target = target
        self.table = op_table()
        self.roles = Roles(self.table)

    def tensor(self, name: str, kind: TensorType, role: TensorKind, place: str) -> int:
        """A new tensor with bytes of its own."""
        shape = kind.shape
        if any(dim < 0 for dim in shape):
            if len(kind.max_shape) != len(shape) or any(dim < 0 for dim in kind.max_shape):
                raise InputError("shape {} has an open dimension", shape, place=place, remedy=BIND_REMEDY)
            shape = kind.max_shape
        return self.builder.tensor(name, shape, kind.dtype, dense_bytes(shape, kind.dtype), role)

    def symbol(self, name: str, kind: ValueType, role: TensorKind, place: str) -> GraphValue:
        """A new value of type `kind` with its own tensors."""
        if isinstance(kind, TensorType):
            return self.tensor(name, kind, role, place)
        if isinstance(kind, SequenceType):
            return tuple(
                self.symbol(f"{name}.{position}", item, role, place) for position, item in enumerate(kind.items)
            )
        if isinstance(kind, MonadType):
            return Monad(None)
        if isinstance(kind, ClosureType):
            raise InputError("a function without a body", place=place)
        return Literal(None)

    def apply(self, node: Node, arguments: tuple[GraphValue, ...]) -> tuple[GraphValue, int | None]:
        """What `node` yields, and the op it became (`None`: no op)."""
        plumbing = _PLUMBING.get(node.target)
        if plumbing is not None:
            return plumbing(node, arguments), None
        if len(self.builder.ops) >= self.most_ops:
            raise InputError("the graph unfolds to more than {:,} ops", self.most_ops, place=node.name)
        if node.target == "UpdateState":
            op = self._inert(node, (), (), self._after(arguments))
            return Monad(op), op
        if node.target in _PASS:
            return self._pass_through(node, arguments)
        if node.target in ("Switch", "switch"):
            return self._switch(node, arguments)
        if node.target in ("SwitchLayer", "switch_layer"):
            return self._switch(node, (*arguments[:1], *(arguments[1] if len(arguments) > 1 else ())))
        known = self._known(node, arguments)
        if known is not None:
            return known, None
        return self._kernel(node, arguments)

    def _switch(self, node: Node, arguments: tuple[GraphValue, ...]) -> tuple[GraphValue, int | None]:
        closures: list[Closure] = []
        for argument in arguments[1:]:
            if isinstance(argument, ClosureChoice):
                closures.extend(argument.closures)
            elif isinstance(argument, Closure):
                closures.append(argument)
            else:
                raise InputError("{} between things that are no functions", node.target, place=node.name)
        if not closures:
            raise InputError("{} without functions", node.target, place=node.name)
        op = self._inert(node, tuple(tensors_of(arguments[0])), (), ())
        return ClosureChoice(tuple(closures)), op

    def _known(self, node: Node, arguments: tuple[GraphValue, ...]) -> GraphValue | None:
        """The result, if it is a number that follows at compile time."""
        if node.target == "Shape" and arguments and type(arguments[0]) is int:
            return tuple(Literal(dim) for dim in self.builder.shapes[arguments[0]])
        if node.target == "Rank" and arguments and type(arguments[0]) is int:
            return Literal(len(self.builder.shapes[arguments[0]]))
        if node.target == "ShapeCalc":
            return self._shape_calc(node, arguments)
        if node.target in _HOST_TUPLES and all(as_plain(argument) is not None for argument in arguments[:1]):
            return arguments[0]
        if (
            node.target == "ReduceSum"
            and len(arguments) > 3
            and arguments[3] == Literal(True)
            and not _axes_of(arguments)
        ):
            return arguments[0]  # nothing was stretched, so nothing is summed: a static export leaves it out
        compute = _SCALAR.get(node.target)
        if compute is None or len(arguments) != 2:
            return None
        numbers = [argument.value for argument in arguments if isinstance(argument, Literal)]
        if len(numbers) != 2 or not all(isinstance(number, int) for number in numbers):
            return None
        if compute in (operator.floordiv, operator.mod) and numbers[1] == 0:
            raise InputError("division by zero", place=node.name)
        return Literal(compute(numbers[0], numbers[1]))

    def _shape_calc(self, node: Node, arguments: tuple[GraphValue, ...]) -> GraphValue | None:
        """The sizes that a `ShapeCalc` yields, as numbers; `None` for a function that is not known."""
        functor = node.attrs.get("functor")
        if not isinstance(functor, tuple) or not functor:
            return None
        shapes: list[tuple[int, ...]] = []
        for argument in arguments:
            plain = as_plain(argument)
            if type(argument) is tuple and plain is None:
                shapes += [self.builder.shapes[tensor] for tensor in tensors_of(argument)]
            elif type(argument) is int:
                shapes.append(self.builder.shapes[argument])
            else:
                values = plain if isinstance(plain, tuple) else () if plain is None else (plain,)
                shapes.append(tuple(item for item in values if isinstance(item, int)))
        found = shape_calc(str(functor[0]), shapes, functor[1:])
        if found is None:
            return None
        vectors = [tuple(Literal(size) for size in vector) for vector in found]
        return vectors[0] if len(vectors) == 1 else tuple(vectors)

    def _pass_through(self, node: Node, arguments: tuple[GraphValue, ...]) -> tuple[GraphValue, int | None]:
        """`Load`, `Depend` and the like: the first argument under another name, ordered after the others."""
        if not arguments:
            raise InputError("{} without input", node.target, place=node.name)
        after = self._after(arguments[1:])
        value = arguments[0]
        if type(value) is not int:
            op = self._inert(node, (), (), after)
            return (Monad(op) if isinstance(value, Monad) else value), op
        alias = self.builder.alias(node.scope or node.name, value)
        return alias, self._inert(node, (value,), (alias,), after)

    def _inert(self, node: Node, inputs: tuple[int, ...], outputs: tuple[int, ...], after: tuple[int, ...]) -> int:
        return self.builder.op(
            node.scope or node.name,
            node.target,
            inputs,
            outputs,
            launches=False,
            attrs={"after": after} if after else None,
            source=node.source,
        )

    def _kernel(self, node: Node, arguments: tuple[GraphValue, ...]) -> tuple[GraphValue, int]:
        builder, table = self.builder, self.table
        attrs = {**node.attrs, "listed": len(builder.ops)}
        inputs: list[int] = []
        named: dict[str, int] = {}
        groups: dict[str, tuple[int, ...]] = {}
        after: list[int] = []
        for position, argument in enumerate(arguments):
            if type(argument) is int:
                inputs.append(argument)
                named[table.argument(node.target, position)] = argument
                groups[table.argument(node.target, position)] = (argument,)
            elif isinstance(argument, Literal):
                attrs[table.argument(node.target, position)] = argument.value
            elif isinstance(argument, Monad):
                if argument.after is not None:
                    after.append(argument.after)
            elif any(item is NO_VALUE for item in leaves(argument)):
                raise InputError("the result of a recursive call is used", place=node.name, remedy=_RECURSION)
            else:
                inputs.extend(tensors_of(argument))
                groups[table.argument(node.target, position)] = tuple(tensors_of(argument))
                plain = as_plain(argument)
                if plain is not None:
                    attrs[table.argument(node.target, position)] = plain
        if after:
            attrs["after"] = tuple(after)
        kind = self._closed(node, node.type, inputs, attrs)
        result = self.symbol(node.scope or node.name, kind, TensorKind.ACTIVATION, node.name)
        outputs = tuple(tensors_of(result))
        self._lay_out(node, outputs)
        self._share(node, inputs, named, outputs)
        if node.target == "MoveTo" and str(attrs.get("to", "")).upper() == "CPU":
            builder.on_host.update(outputs)
        launches = node.target not in table.views
        stream = attrs.pop("stream_id", 0)
        op = builder.op(
            node.scope or node.name,
            node.target,
            inputs,
            outputs,
            workspace_bytes=self._workspace(node, inputs),
            stream=stream if isinstance(stream, int) and stream >= 0 else 0,
            launches=launches,
            attrs=attrs,
            source=node.source,
            writes=self._written(node.target, attrs, groups),
        )
        self.roles.op(node.target, node.scope, launches, inputs, named)
        return (Monad(op) if isinstance(kind, MonadType) else result), op

    def _closed(
        self, node: Node, kind: ValueType, inputs: Sequence[int], attrs: Mapping[str, object], index: int = 0
    ) -> ValueType:
        """The node's type with its open dimensions filled in."""
        if isinstance(kind, SequenceType):
            items = enumerate(kind.items)
            return SequenceType(tuple(self._closed(node, item, inputs, attrs, index) for index, item in items))
        if not isinstance(kind, TensorType) or all(dim >= 0 for dim in kind.shape):
            return kind
        shapes = [self.builder.shapes[tensor] for tensor in inputs]
        place = node.scope or node.name
        shape = infer(node.target, kind.shape, shapes, attrs, place, result=index)
        if node.target in DATA_SIZED:
            self.builder.notes.append(f"{place}: how large its result is depends on data; planned at its most, {shape}")
        return TensorType(shape, kind.dtype)

    def _lay_out(self, node: Node, outputs: tuple[int, ...]) -> None:
        """Give the outputs the layouts and stored sizes that the backend chose."""
        builder = self.builder
        for tensor, layout in zip(outputs, node.layouts, strict=False):
            if layout in DENSE:
                continue
            size = stored_bytes(builder.shapes[tensor], builder.dtypes[tensor], layout)
            if size is None:
                raise InputError("the bytes of layout {!r:.40} are unknown", layout, place=node.scope or node.name)
            builder.layouts[tensor], builder.nbytes[tensor] = layout, size

    def _workspace(self, node: Node, inputs: Sequence[int]) -> int:
        if self.target is not Target.CPU:
            return 0
        largest = max((self.builder.nbytes[tensor] for tensor in inputs), default=0)
        return self.table.cpu_workspace_operands.get(node.target, 0) * largest

    def operand_copies(self, node: Node, arguments: tuple[GraphValue, ...]) -> Iterator[tuple[Node, int]]:
        """
        Nodes that copy operands of `node` for each matrix of a batch, as MindSpore's CPU build does, by position.

        They are kernels of their own there: a weight's copies are made as soon as the weight is read.
        """
        if self.target is not Target.CPU or node.target not in self.table.cpu_broadcast_operands:
            return
        operands = [argument for argument in arguments[:2] if type(argument) is int]
        shapes = [self.builder.shapes[operand] for operand in operands]
        if len(shapes) < 2 or any(len(shape) < 2 for shape in shapes):
            return
        batch = max((shape[:-2] for shape in shapes), key=len)
        for position, (operand, shape) in enumerate(zip(operands, shapes, strict=True)):
            if len(shape) - 2 < len(batch):
                kind = TensorType((*batch, *shape[-2:]), self.builder.dtypes[operand])
                scope = f"{node.scope or node.name}/BroadcastTo{position}"
                yield Node(scope, "BroadcastTo", True, (node.inputs[position],), kind, scope, {}), position

    def early_part(self, node: Node, arguments: tuple[GraphValue, ...]) -> tuple[Node, int] | None:
        """
        What MindSpore's CPU build makes a kernel of its own of `node`, and the position of the argument that it reads.

        A part of a gradient that reads the forward pass alone is made as soon as that is there.
        """
        part = self.table.cpu_early_parts.get(node.target) if self.target is Target.CPU else None
        for position, argument in enumerate(arguments if part is not None else ()):
            if part is not None and type(argument) is int and self.table.argument(node.target, position) == part[1]:
                kind = TensorType(self.builder.shapes[argument], self.builder.dtypes[argument])
                scope = f"{node.scope or node.name}/{part[0]}"
                return Node(scope, part[0], True, (node.inputs[position],), kind, scope, {}), position
        return None

    def _written(
        self, type_: str, attrs: Mapping[str, object], groups: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, ...]:
        """The tensors among the arguments that the op changes."""
        entry = self.table.in_place.get(type_)
        if entry is None or (entry.where is not None and not attrs.get(entry.where, True)):
            return ()
        return tuple(tensor for name in entry.writes for tensor in groups.get(name, ()))

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

    def _after(self, values: tuple[GraphValue, ...]) -> tuple[int, ...]:
        """The ops that must have run before something that is ordered after `values`."""
        found: dict[int, None] = {}
        for value in leaves(values):
            step = value.after if isinstance(value, Monad) else None
            if type(value) is int:
                step = self.builder.producers[value]
            if step is not None:
                found[step] = None
        return tuple(sorted(found))


_RECURSION = "only loops can be planned: let the function return what it calls itself for"


def _make_tuple(_node: Node, arguments: tuple[GraphValue, ...]) -> GraphValue:
    return arguments


def _get_item(node: Node, arguments: tuple[GraphValue, ...]) -> GraphValue:
    if len(arguments) != 2 or not isinstance(arguments[1], Literal):
        raise InputError("{} of something that is no tuple", node.target, place=node.name)
    sequence, index = arguments[0], arguments[1].value
    if sequence is NO_VALUE:
        return NO_VALUE
    if isinstance(sequence, Literal) and type(sequence.value) is tuple:
        sequence = tuple(Literal(item) for item in sequence.value)
    if type(sequence) is not tuple:
        raise InputError("{} of something that is no tuple", node.target, place=node.name)
    if not isinstance(index, int) or not -len(sequence) <= index < len(sequence):
        raise InputError("element {!r:.20} of a tuple of {}", index, len(sequence), place=node.name)
    return sequence[index]


def _partial(node: Node, arguments: tuple[GraphValue, ...]) -> GraphValue:
    if not arguments or not isinstance(arguments[0], (Closure, ClosureChoice)):
        raise InputError("Partial of something that is no function", place=node.name)
    head = arguments[0]
    if isinstance(head, Closure):
        return Closure(head.graph, (*head.bound, *arguments[1:]), head.steps)
    return ClosureChoice(
        tuple(Closure(item.graph, (*item.bound, *arguments[1:]), item.steps) for item in head.closures)
    )


_PLUMBING: Mapping[str, Callable[[Node, tuple[GraphValue, ...]], GraphValue]] = {
    **dict.fromkeys(("MakeTuple", "make_tuple", "RealMakeTuple", "MakeList", "make_list"), _make_tuple),
    **dict.fromkeys(("TupleGetItem", "tuple_getitem", "RealTupleGetItem", "ListGetItem", "list_getitem"), _get_item),
    "Partial": _partial,
}


def _axes_of(arguments: tuple[GraphValue, ...]) -> object:
    """The axes that a reduction is given, as plain numbers; something true where they are not known."""
    axes = as_plain(arguments[1])
    return True if axes is None and arguments[1] != () else axes


_HOST_TUPLES = frozenset({"RealMakeTuple", "TensorToTuple", "TupleToList", "ListToTuple", "tuple_to_list"})
"""What only changes how numbers on the host are held."""
_PASS = frozenset({"Load", "Depend", "StopGradient", "stop_gradient", "identity", "Return", "return"})
_SCALAR: Mapping[str, Callable[[int, int], int]] = {
    **dict.fromkeys(("ScalarAdd", "scalar_add"), operator.add),
    **dict.fromkeys(("ScalarSub", "scalar_sub"), operator.sub),
    **dict.fromkeys(("ScalarMul", "scalar_mul"), operator.mul),
    **dict.fromkeys(("ScalarFloorDiv", "scalar_floordiv"), operator.floordiv),
    **dict.fromkeys(("ScalarMod", "scalar_mod"), operator.mod),
}
