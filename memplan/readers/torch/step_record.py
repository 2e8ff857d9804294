"""What a step did: its ops with the storages that they read and write, and when each storage was there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.torch.op_names import op_type


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as an op saw it: the number of its storage, its shape and its type of data."""

    storage: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class RecordedOp:
    """One call of an operator; `phase` is `forward` or `backward`."""

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    written: frozenset[int]
    phase: str


@dataclass
class RecordedStorage:
    """
    Bytes of a storage and the tensor that they are, `shape` of `dtype`.

    `found` is whether the step found it there, `gone` the number of ops that had run when it went (`None`: it stayed).
    """

    nbytes: int
    shape: tuple[int, ...]
    dtype: str
    kind: TensorKind = TensorKind.ACTIVATION
    name: str = ""
    found: bool = False
    gone: int | None = None


@dataclass
class StepRecord:
    """Ops in the order of calls and storages by number."""

    ops: list[RecordedOp] = field(default_factory=list)
    storages: dict[int, RecordedStorage] = field(default_factory=dict)


def record_graph(record: StepRecord, name: str, producer: str) -> Graph:
    """
    The graph of a recorded step.

    Where Python or the backward pass held a storage longer than any op used it, an op that launches nothing stands
    where it went; so does one at the start for what was there only until a moment of the step.
    """
    builder = _Builder(record)
    return builder.graph(name, producer)


class _Builder:
    def __init__(self, record: StepRecord) -> None:
        self.record = record
        self.tensors: list[Tensor] = []
        self.roots: dict[int, int] = {}
        self.views: dict[tuple[int, tuple[int, ...], str], int] = {}
        self.ops: list[Op] = []
        self.names: dict[str, int] = {}

    def graph(self, name: str, producer: str) -> Graph:
        storages, steps = self.record.storages, self.record.ops
        for number, storage in storages.items():
            if storage.found and storage.gone is None:
                self._root(number, None)
        last = {operand.storage: step for step, op in enumerate(steps) for operand in (*op.inputs, *op.outputs)}
        early = [number for number, item in storages.items() if item.found and item.gone]
        if early:
            # What the step before left and this one lets go, such as gradients: for a plan it is made at the start.
            made = tuple(self._root(number, 0) for number in early)
            self.ops.append(Op(0, "held.from.before", "Held", (), made, launches=False))
        going: dict[int, list[int]] = {}
        for number, storage in storages.items():
            known = number in last or (storage.found and storage.gone)
            if storage.gone is not None and known and last.get(number, -1) < storage.gone - 1:
                going.setdefault(storage.gone, []).append(number)
        for step, op in enumerate(steps):
            self._hold(f"released.before.{step}", going.get(step, ()))
            self._op(op)
        self._hold("released.at.the.end", going.get(len(steps), ()))
        stay = [number for number, item in storages.items() if item.gone is None and number in self.roots]
        return Graph(
            name=name,
            ops=tuple(self.ops),
            tensors=tuple(self.tensors),
            inputs=tuple(self.roots[number] for number in stay if storages[number].found),
            outputs=tuple(self.roots[number] for number in stay if not storages[number].found),
            origin=name,
            producer=producer,
        )

    def _hold(self, name: str, numbers: Iterable[int]) -> None:
        held = tuple(self._root(number, None) for number in numbers)
        if held:
            self.ops.append(Op(len(self.ops), name, "Release", held, (), launches=False))

    def _root(self, number: int, producer: int | None) -> int:
        known = self.roots.get(number)
        if known is not None:
            return known
        storage = self.record.storages[number]
        index = len(self.tensors)
        self.roots[number] = index
        self.views[number, storage.shape, storage.dtype] = index
        name = storage.name or f"t{number}"
        self.tensors.append(
            Tensor(index, name, storage.shape, storage.dtype, storage.nbytes, storage.kind, index, producer)
        )
        return index

    def _tensor(self, operand: Operand, producer: int | None) -> int:
        key = operand.storage, operand.shape, operand.dtype
        if key in self.views:
            return self.views[key]
        if operand.storage not in self.roots:
            self._root(operand.storage, producer)
            return self._tensor(operand, producer)
        root = self.tensors[self.roots[operand.storage]]
        index = len(self.tensors)
        self.views[key] = index
        name = f"{root.name}.{index}"
        self.tensors.append(
            Tensor(index, name, operand.shape, operand.dtype, root.nbytes, root.kind, root.index, producer)
        )
        return index

    def _op(self, op: RecordedOp) -> None:
        index = len(self.ops)
        inputs = tuple(self._tensor(operand, None) for operand in op.inputs)
        own = {operand.storage for operand in op.inputs}
        outputs = tuple(self._tensor(operand, index) for operand in op.outputs if operand.storage not in own)
        count = self.names[op.name] = self.names.get(op.name, -1) + 1
        writes = tuple(
            tensor for tensor, operand in zip(inputs, op.inputs, strict=True) if operand.storage in op.written
        )
        self.ops.append(Op(index, f"{op.phase}/{op.name}-op{count}", op_type(op.name), inputs, outputs, writes=writes))
