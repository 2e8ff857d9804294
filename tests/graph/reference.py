"""
Slow and obvious: programs run on buffers, one event at a time, to see which bytes a run really needs.

Shares nothing with the readers but the records that describe a program and the order of each function's nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from memplan.readers.mindir.decode import Function, Literal, TensorType
from memplan.readers.mindir.program import Program, in_execution_order


@dataclass(eq=False)
class Buffer:
    """Bytes that one value occupies; `kept` when they exist before and after the run."""

    nbytes: int
    kept: bool = False


@dataclass(eq=False)
class Bound:
    """A function with its first arguments."""

    function: Function
    arguments: tuple[Any, ...]


@dataclass
class Run:
    """What happened: for each event the scope that caused it and the buffers it touched; and what came out."""

    events: list[tuple[str, list[Buffer]]] = field(default_factory=list)
    result: list[Buffer] = field(default_factory=list)

    def live_bytes(self) -> list[int]:
        """Bytes needed at each event: a buffer from its first to its last use, results to the end."""
        first: dict[Buffer, int] = {}
        last: dict[Buffer, int] = {}
        for step, (_, touched) in enumerate(self.events):
            for buffer in touched:
                first.setdefault(buffer, step)
                last[buffer] = step
        for buffer in self.result:
            if buffer in first:
                last[buffer] = len(self.events)
        return [
            sum(b.nbytes for b in first if not b.kept and first[b] <= step <= last[b])
            for step in range(len(self.events))
        ]


def execute(program: Program, decisions: Iterator[bool]) -> Run:
    """Run `program`; each condition takes the next decision, and leaves its loop when there are none left."""
    run = Run()
    frame: dict[str, Any] = {
        parameter.name: Buffer(size_of(parameter.type), kept=True) for parameter in program.parameters
    }
    for name, kind in program.root.inputs:
        assert isinstance(kind, TensorType)
        frame.setdefault(name, Buffer(size_of(kind), kept=True))
    constants: dict[str, Any] = {}
    result = _call(program, program.root, frame, decisions, run, constants)
    run.result = list(_buffers(result))
    return run


def size_of(kind: TensorType) -> int:
    """Bytes of a uint8 tensor."""
    total = 1
    for dim in kind.shape:
        total *= dim
    return total


def _buffers(value: Any) -> Iterator[Buffer]:
    if isinstance(value, Buffer):
        yield value
    elif type(value) is tuple:
        for item in value:
            yield from _buffers(item)


def _call(
    program: Program,
    function: Function,
    frame: dict[str, Any],
    decisions: Iterator[bool],
    run: Run,
    constants: dict[str, Any],
) -> Any:
    def value(name: str) -> Any:
        if name in frame:
            return frame[name]
        if name in program.functions:
            return Bound(program.functions[name], ())
        return program.constants[name]

    def apply(bound: Bound, arguments: tuple[Any, ...]) -> Any:
        given = (*bound.arguments, *arguments)
        names = [name for name, _ in bound.function.inputs]
        inner = dict(zip(names, given, strict=True))
        return _call(program, bound.function, inner, decisions, run, constants)

    for node in in_execution_order(function):
        arguments = tuple(value(name) for name in node.inputs)
        if not node.primitive:
            frame[node.name] = apply(value(node.target), arguments)
        elif node.target == "MakeTuple":
            frame[node.name] = arguments
        elif node.target == "TupleGetItem":
            assert isinstance(arguments[1], Literal)
            frame[node.name] = arguments[0][arguments[1].value]
        elif node.target == "Partial":
            frame[node.name] = Bound(arguments[0].function, (*arguments[0].arguments, *arguments[1:]))
        elif node.target == "Switch":
            run.events.append((node.scope, list(_buffers(arguments[0]))))
            frame[node.name] = arguments[1] if next(decisions, False) else arguments[2]
        elif node.target in ("Reshape", "Depend", "Load"):
            frame[node.name] = arguments[0]
            run.events.append((node.scope, [arguments[0]]))
        elif node.target == "Assign":
            frame[node.name] = arguments[0]
            run.events.append((node.scope, list(_buffers(arguments))))
        else:
            assert isinstance(node.type, TensorType)
            made = Buffer(size_of(node.type))
            frame[node.name] = made
            run.events.append((node.scope, [*_buffers(arguments), made]))
    results = tuple(value(name) for name in function.outputs)
    return results[0] if len(results) == 1 else results
