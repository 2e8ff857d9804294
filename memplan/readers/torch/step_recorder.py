"""A step run on tensors without data, every call of an operator and every storage seen."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from memplan.graph.model import TensorKind
from memplan.readers.torch.step_record import Operand, RecordedOp, RecordedStorage, StepRecord

_DTYPES = {"float8_e4m3fn": "float8_e4m3", "float8_e8m0fnu": "float8_e8m0"}


class StorageWatch:
    """Numbers of storages while they live; `record` is what is written down, and nothing while it is `None`."""

    def __init__(self) -> None:
        self.record: StepRecord | None = None
        self._numbers: dict[int, int] = {}
        self._known: dict[int, RecordedStorage] = {}
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._next = 0

    def number(self, tensor: Any) -> int:
        """The number of the tensor's storage, a new one for a storage that was not seen yet."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._numbers:
            return self._numbers[key]
        number, self._next = self._next, self._next + 1
        self._numbers[key] = number
        self._known[number] = RecordedStorage(int(storage.nbytes()), *_form(tensor))
        if self.record is not None:
            self.record.storages[number] = self._known[number]

        def gone(_: object) -> None:
            self._numbers.pop(key, None)
            self._alive.pop(number, None)
            if self.record is not None and number in self.record.storages:
                self.record.storages[number].gone = len(self.record.ops)

        self._alive[number] = weakref.ref(storage, gone)
        return number

    def renamed(self, tensor: Any, kind: TensorKind, name: str) -> None:
        """Say what a storage is, once that is known."""
        storage = self._known[self.number(tensor)]
        storage.kind, storage.name = kind, name
        storage.shape, storage.dtype = _form(tensor)

    def begin(self) -> StepRecord:
        """Write down from now on; what lives was found."""
        self.record = StepRecord()
        for number in sorted(self._alive):
            self._known[number].found = True
            self.record.storages[number] = self._known[number]
        return self.record


def _form(tensor: Any) -> tuple[tuple[int, ...], str]:
    """Shape and type of data of a tensor, as memplan names it."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return tuple(map(int, tensor.shape)), _DTYPES.get(dtype, dtype)


@contextmanager
def recording(watch: StorageWatch) -> Iterator[None]:
    """Every call of an operator goes into the record of `watch`."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def operands(values: Any) -> tuple[Operand, ...]:
        leaves = (value for value in tree_leaves(values) if isinstance(value, torch.Tensor))
        return tuple(Operand(watch.number(value), *_form(value)) for value in leaves if value.layout == torch.strided)

    class Recorder(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, call: Any, types: Any, inputs: tuple[Any, ...] = (), named: Mapping[str, Any] | None = None
        ) -> Any:
            before = operands((inputs, named))
            result = call(*inputs, **(named or {}))
            after = operands(result)
            if watch.record is not None:
                made = {operand.storage for operand in after} - {operand.storage for operand in before}
                written = _written(call, inputs, watch)
                if made or written:
                    phase = "backward" if torch._C._current_graph_task_id() != -1 else "forward"
                    name = str(call.overloadpacket).removeprefix("aten.")
                    watch.record.ops.append(RecordedOp(name, before, after, written, phase))
            return result

    with Recorder():
        yield


def _written(call: Any, inputs: tuple[Any, ...], watch: StorageWatch) -> frozenset[int]:
    """Storages that the call changes, as its schema says."""
    from torch.utils._pytree import tree_leaves

    found: set[int] = set()
    for argument, value in zip(call._schema.arguments, inputs, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.update(watch.number(item) for item in tree_leaves(value) if hasattr(item, "untyped_storage"))
    return frozenset(found)
