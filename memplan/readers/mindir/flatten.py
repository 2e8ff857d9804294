"""
A MindIR program run symbolically, so that calls, branches, loops and tuples become one list of ops.

A called function is unfolded where it is called. The branches of a condition are laid out one after the other; what
either may return stays for as long as the result is used. A loop is laid out once, between `LoopBegin` and `LoopEnd`:
what the loop uses from outside and what it carries round stays in memory until its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memplan.core.errors import InputError
from memplan.core.progress import Progress
from memplan.core.units import format_bytes
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import TensorKind
from memplan.readers.mindir.decode import Function, FunctionConstant, MonadType, Node, TensorConstant
from memplan.readers.mindir.emit import CONDITIONS, OpEmitter
from memplan.readers.mindir.loops import Loop, LoopFinder
from memplan.readers.mindir.merge import merge
from memplan.readers.mindir.op_table import Target
from memplan.readers.mindir.program import Program, bound_inputs, in_execution_order
from memplan.readers.mindir.schedule_trace import ScheduleTrace
from memplan.readers.mindir.values import NO_VALUE, Closure, ClosureChoice, GraphValue, Monad, tensors_of

MAX_DEPTH = 10_000
"""Calls within calls; more is a damaged file."""

UNFOLDED = 200_000
"""Ops that calls may add to those in the file; functions that call each other could multiply without bound."""


_RECURRENT = frozenset({"LSTM", "GRUV2"})
_KEPT_RESULTS = (6, 16)
"""
What a recurrent op keeps for the way back, in sizes of its result: `i`, `j`, `f`, `o`, `tanhc` and the cell states that
DynamicRNN of CANN yields; on the CPU as measured (MindSpore 2.10, 20 steps of 16 sequences of 48, 962,560 bytes).
"""


@dataclass(slots=True)
class _Frame:
    """
    One call under way: the function, what its names stand for, the next node.

    `pending` are the closures of a condition still to be laid out at the current node, `results` what the others
    returned, with the op counts at which each began (`branch_began` for the one under way) and ended. `loop` is set
    in the frame that is a loop's head. `steps` are the traced nodes behind the names.
    """

    function: Function
    nodes: tuple[Node, ...]
    values: dict[str, GraphValue]
    steps: dict[str, int] = field(default_factory=dict)
    position: int = 0
    pending: list[Closure] = field(default_factory=list)
    results: list[tuple[GraphValue, int, int]] = field(default_factory=list)
    branch_began: int = 0
    loop: Loop | None = None


class Flattener:
    """
    Runs `program` on symbols and appends what it does to `builder`.

    After `run`, `inputs` and `outputs` are the tensors that enter and leave the graph, `trace` the nodes that were
    visited (`None` for a program with conditions, which is not ordered as a whole) and `result` those it returns.
    """

    def __init__(self, program: Program, builder: GraphBuilder, progress: Progress, target: Target) -> None:
        self.program = program
        self.builder = builder
        self.progress = progress
        listed = sum(len(function.nodes) for function in program.functions.values())
        self.most_nodes = 2 * (UNFOLDED + listed)
        self.emitter = OpEmitter(builder, target, UNFOLDED + listed)
        self.finder = LoopFinder({name: function.calls for name, function in program.functions.items()})
        self.constants: dict[str, GraphValue] = {}
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._stack: list[_Frame] = []
        self._ordered: dict[str, tuple[Node, ...]] = {}
        self._branches = 0
        self._loops = 0
        self._visited = 0
        # Conditions cut a program into kernel graphs, each with an order of its own; without them it is ordered whole.
        conditional = any(
            node.target in CONDITIONS for function in program.functions.values() for node in function.nodes
        )
        self.trace = None if conditional or self.finder.recursive else ScheduleTrace()
        self.result: list[int] = []

    def run(self, shapes: Mapping[str, tuple[int, ...]], *, ordered: bool = True) -> None:
        """
        Flatten the whole program, with the open dimensions of its inputs bound by `shapes`.

        The ops are left as the file lists them where `ordered` is false and the program has a trace.
        """
        values: dict[str, GraphValue] = {}
        for parameter in self.program.parameters:
            index = self.emitter.tensor(
                parameter.label, parameter.type, TensorKind.WEIGHT, f"parameter {parameter.label}"
            )
            values[parameter.name] = index
            self.emitter.roles.parameter(index, parameter.label)
        for name, label, kind in bound_inputs(self.program, shapes):
            values[name] = self.emitter.symbol(label, kind, TensorKind.INPUT, f"input {label}")
            self.inputs.extend(tensors_of(values[name]))
        root = self.program.root
        result, self.result = self._execute(_Frame(root, self._nodes(root), values))
        if self.trace is not None and ordered:
            try:
                self.builder.reorder(self.trace.order(self.result))
            except ValueError as error:
                raise InputError(str(error), place=root.name) from None
        self.outputs.extend(dict.fromkeys(tensors_of(result)))
        self.emitter.roles.classify(self.builder)
        self._take_notes()

    def _note_reserves(self) -> None:
        """Say where recurrent ops leave open how much they keep of each time step for the way back."""
        builder = self.builder
        kept = [
            builder.nbytes[op.outputs[0]]
            for op in builder.ops
            if op.type in _RECURRENT and any(builder.shapes[tensor] == (1, 1) for tensor in op.outputs[3:])
        ]
        if kept:
            least, most = _KEPT_RESULTS
            self.builder.notes.append(
                f"LSTM: the reserve space of {len(kept)} op(s) is unknown in this file (exported for CPU or GPU, which "
                f"find it out when they run) and is not planned: gates and cell states of every time step, from "
                f"{format_bytes(least * max(kept))} on Ascend, where DynamicRNN has them as results, to about "
                f"{format_bytes(most * max(kept))} on the CPU for the largest"
            )

    def _take_notes(self) -> None:
        self._note_reserves()
        if self._branches:
            self.builder.notes.append(
                f"{self._branches} conditions depend on data: their branches are laid out one after the other"
            )
        if self._loops:
            self.builder.notes.append(
                f"{self._loops} loops run an unknown number of times: each is laid out once and its time counts once"
            )

    def _nodes(self, function: Function) -> tuple[Node, ...]:
        if self.trace is not None:
            return function.nodes
        if function.name not in self._ordered:
            self._ordered[function.name] = in_execution_order(function)
        return self._ordered[function.name]

    def _execute(self, root: _Frame) -> tuple[GraphValue, list[int]]:
        stack = self._stack = [root]
        total = len(root.nodes)
        while True:
            frame = stack[-1]
            if frame.position == len(frame.nodes):
                result, steps = self._result(frame)
                if frame.loop is not None:
                    frame.loop.close(self.builder)
                stack.pop()
                if not stack:
                    return result, steps
                self._return(stack[-1], result, steps)
                continue
            self._visited += 1
            if self._visited > self.most_nodes:
                raise InputError(
                    "the program unfolds to more than {:,} nodes", self.most_nodes, place=frame.function.name
                )
            node = frame.nodes[frame.position]
            arguments = tuple([self._value(frame, name) for name in node.inputs])
            if node.primitive:
                self._primitive(frame, node, arguments)
                frame.position += 1
                if len(stack) == 1 and frame.position % 1024 == 0:
                    self.progress(frame.position, total, "nodes flattened")
            else:
                self._call(frame, node, arguments)

    def _primitive(self, frame: _Frame, node: Node, arguments: tuple[GraphValue, ...]) -> None:
        sources = [frame.steps.get(name, -1) for name in node.inputs]
        for copy, position in self.emitter.operand_copies(node, arguments):
            copied, op = self.emitter.apply(copy, (arguments[position],))
            arguments = (*arguments[:position], copied, *arguments[position + 1 :])
            if self.trace is not None:
                sources[position] = self.trace.add(copy.target, [sources[position]], op)
        early = self.emitter.early_part(node, arguments)
        if early is not None:
            part, position = early
            made, op = self.emitter.apply(part, (arguments[position],))
            arguments = (*arguments, made)
            if self.trace is not None:
                sources.append(self.trace.add(part.target, [sources[position]], op))
        value, op = self.emitter.apply(node, arguments)
        if self.trace is not None:
            if isinstance(value, Closure) and node.target == "Partial":
                value = value._replace(steps=(*value.steps, *sources[1:]))
            frame.steps[node.name] = self.trace.add(node.target, sources, op)
        frame.values[node.name] = value

    def _call(self, frame: _Frame, node: Node, arguments: tuple[GraphValue, ...]) -> None:
        if node.target in self.program.functions:
            callee: GraphValue = Closure(node.target)
        else:
            callee = self._value(frame, node.target)
        steps = tuple(frame.steps.get(name, -1) for name in node.inputs) if self.trace is not None else ()
        if callee is NO_VALUE:
            frame.values[node.name] = NO_VALUE
            frame.position += 1
        elif isinstance(callee, Closure):
            frame.pending = [Closure(callee.graph, (*callee.bound, *arguments), (*self._padded(callee), *steps))]
            self._next_branch(frame, node)
        elif isinstance(callee, ClosureChoice):
            self._branches += len(callee.closures) > 1
            loop = frame.loop
            inside = [item for item in callee.closures if loop is not None and item.graph in loop.functions]
            rest = [item for item in callee.closures if item not in inside]
            frame.pending = [Closure(item.graph, (*item.bound, *arguments)) for item in (*inside, *rest)]
            if loop is not None:
                loop.branches_left = len(inside)
            self._next_branch(frame, node)
        else:
            raise InputError("{!r:.80} is called but is no function", node.target, place=node.name)

    def _padded(self, closure: Closure) -> tuple[int, ...]:
        """The steps behind a closure's arguments; -1 where they are constants."""
        return (*closure.steps, *(-1 for _ in range(len(closure.bound) - len(closure.steps))))

    def _next_branch(self, frame: _Frame, node: Node) -> None:
        """Start the next closure that is pending at `node`, or settle the node's value."""
        while frame.pending:
            closure = frame.pending.pop(0)
            frame.branch_began = len(self.builder.ops)
            entered = self._enter(closure, node)
            if entered is not None:
                self._stack.append(entered)
                return
            self._branch_done(frame, NO_VALUE)
        frame.values[node.name] = merge(self.builder, frame.results, node.scope or node.name)
        frame.results = []
        frame.position += 1

    def _branch_done(self, frame: _Frame, result: GraphValue) -> None:
        frame.results.append((result, frame.branch_began, len(self.builder.ops)))
        loop = frame.loop
        if loop is not None and loop.branches_left:
            loop.branches_left -= 1
            if not loop.branches_left:
                loop.close(self.builder)

    def _return(self, caller: _Frame, result: GraphValue, steps: list[int]) -> None:
        node = caller.nodes[caller.position]
        if self.trace is not None:
            # A tuple of results that the callee lists one by one is made where it returns.
            caller.steps[node.name] = steps[0] if len(steps) == 1 else self.trace.add("MakeTuple", steps, None)
        self._branch_done(caller, result)
        self._next_branch(caller, node)

    def _enter(self, closure: Closure, node: Node) -> _Frame | None:
        """A frame for the call, or `None` when it goes back to the head of a loop."""
        function = self.program.functions.get(closure.graph)
        if function is None:
            raise InputError("function {!r:.80} is not in the file", closure.graph, place=node.name)
        if len(closure.bound) != len(function.inputs):
            raise InputError(
                "{} arguments for the {} of {!r:.80}",
                len(closure.bound),
                len(function.inputs),
                function.name,
                place=node.name,
            )
        for outer in reversed(self._stack):
            if outer.function is function:
                if outer.loop is None:
                    raise InputError("function {!r:.80} calls itself", function.name, place=node.name)
                outer.loop.back(closure.bound)
                return None
        if len(self._stack) >= MAX_DEPTH:
            raise InputError("calls nest deeper than {:,}", MAX_DEPTH, place=node.name)
        names = [name for name, _ in function.inputs]
        arguments = closure.bound
        heads = frozenset(frame.function.name for frame in self._stack if frame.loop is not None)
        inside = self.finder.loop_of(function.name, heads)
        loop = None
        if inside:
            self._loops += 1
            around = max((frame.loop.begin for frame in self._stack if frame.loop is not None), default=-1)
            loop = Loop(inside, arguments, around)
            arguments = loop.open(self.builder, names)
        frame = _Frame(
            function,
            self._nodes(function),
            dict(zip(names, arguments, strict=True)),
            loop=loop,
        )
        if self.trace is not None:
            frame.steps = {name: step for name, step in zip(names, self._padded(closure), strict=True) if step >= 0}
        return frame

    def _result(self, frame: _Frame) -> tuple[GraphValue, list[int]]:
        outputs = [self._value(frame, name) for name in frame.function.outputs]
        steps = [frame.steps.get(name, -1) for name in frame.function.outputs]
        return (outputs[0] if len(outputs) == 1 else tuple(outputs)), steps

    def _value(self, frame: _Frame, name: str) -> GraphValue:
        value = frame.values.get(name)
        if value is None:
            value = self.constants.get(name)
        if value is None:
            value = self._free(name, frame)
        return value

    def _free(self, name: str, frame: _Frame) -> GraphValue:
        """What `name` stands for when the function itself doesn't say: a constant, a function, a caller's value."""
        if name in self.program.constants:
            value = self.constants[name] = self._materialise(self.program.constants[name])
            return value
        if name in self.program.functions:
            return Closure(name)
        for outer in reversed(self._stack):
            if name in outer.values:
                return outer.values[name]
        raise InputError("input {!r:.120} is defined nowhere", name, place=frame.function.name)

    def _materialise(self, constant: object) -> GraphValue:
        """A constant as a value; a constant tensor gets its bytes on first use."""
        if isinstance(constant, TensorConstant):
            return self.emitter.tensor(constant.name, constant.type, TensorKind.CONSTANT, constant.name)
        if isinstance(constant, FunctionConstant):
            return Closure(constant.graph)
        if isinstance(constant, MonadType):
            return Monad(None)
        if type(constant) is tuple:
            return tuple(self._materialise(item) for item in constant)
        return constant
