"""Writes down what PyTorch dispatches, op by op: the storages that each reads and makes, and when they are let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memplan.core.errors import InputError
from memplan.graph.model import TensorKind
from memplan.readers.pytorch.aten import TORCH_DTYPES
from memplan.readers.pytorch.host_values import HostValues

ADDED_UP = "add (autograd)"
"""Autograd adds up what comes back by several ways; in place where nothing else holds one, unless somebody watches."""


@dataclass(slots=True)
class Recorded:
    """One op as dispatched, or (`name` empty) a storage let go: storages by number, results with their types."""

    name: str
    inputs: tuple[tuple[int, tuple[int, ...]], ...]
    outputs: tuple[tuple[int, tuple[int, ...], str], ...] = ()
    attrs: Mapping[str, object] = field(default_factory=dict)
    on_way_back: bool = False


def op_recorder(names: Mapping[int, tuple[str, Any]]) -> Any:
    """A dispatch mode that writes down what PyTorch runs; made in a function because its base is PyTorch's."""
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def in_engine() -> bool:
        """Whether autograd runs, and no forward pass that checkpointing repeats within it."""
        return torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()

    def arguments_of(func: Any, args: Sequence[Any]) -> dict[str, object]:
        found: dict[str, object] = {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if isinstance(value, (bool, int, float, str)):
                found[argument.name] = value
            elif isinstance(value, (list, tuple)) and value and all(isinstance(item, int) for item in value):
                found[argument.name] = tuple(value)
        return found

    def tensors(tree: Any) -> list[Any]:
        return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    class Recorder(TorchDispatchMode):  # type: ignore[misc]  # PyTorch has no types
        def __init__(self) -> None:
            super().__init__()
            self.recording = False
            self.events: list[Recorded] = []
            self.numbers: dict[int, int] = {}
            self.alive: dict[int, Any] = {}
            self.nbytes: list[int] = []
            self.before: dict[int, tuple[str, TensorKind, tuple[int, ...], str]] = {}
            self.passing: set[int] = set()
            self.kept: list[int] = []
            self.parameters: dict[int, Any] = {}
            self.produced: set[int] = set()
            self.threads = torch.get_num_threads()
            self.host = HostValues()

        def number(self, tensor: Any) -> int:
            """The number of the storage of `tensor`; a weak reference keeps its address from being used again."""
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            found = self.numbers.get(reference.cdata)
            if found is None:
                found = self.numbers[reference.cdata] = len(self.nbytes)
                self.nbytes.append(storage.nbytes())
                self.alive[found] = reference
            return found

        def note_deaths(self) -> None:
            for number in [number for number, reference in self.alive.items() if reference.expired()]:
                del self.numbers[self.alive[number].cdata]
                del self.alive[number]
                self.events.append(Recorded("", ((number, ()),)))

        def exists(self, tensor: Any, label: str, kind: TensorKind) -> None:
            self.before.setdefault(self.number(tensor), (label, kind, tuple(tensor.shape), dtype_of(tensor)))

        def begin(self, optimizer: Any, inputs: Sequence[Any]) -> None:
            self.recording = True
            for place, tensor in enumerate(tensors(list(inputs))):
                self.exists(tensor, f"inputs{place}", TensorKind.INPUT)
            for label, tensor in names.values():
                self.exists(tensor, label, TensorKind.WEIGHT)
            for place, tensor in enumerate(self.parameters.values()):
                self.exists(tensor, f"parameter{place}", TensorKind.WEIGHT)
            held = [tensor for _, tensor in names.values()] + list(self.parameters.values())
            if optimizer is not None:
                for place, state in enumerate(optimizer.state.values()):
                    for key, value in state.items():
                        if isinstance(value, torch.Tensor):
                            self.exists(value, f"{key}.{place}", TensorKind.OPTIMIZER_STATE)
            for tensor in held:
                if tensor.grad is not None:
                    self.passing.add(self.number(tensor.grad))
            self.parameters.clear()

        def end(self, result: Any) -> None:
            self.note_deaths()
            self.recording = False
            self.kept = [number for number in self.alive if number not in self.before]
            self.kept += [self.number(tensor) for tensor in tensors(result)]

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func._schema.name.partition("::")[2]
            if name == "_local_scalar_dense":
                value = self.host.read(args[0], noted=self.recording)
                if value is not None:
                    return value
            if not self.recording:
                for tensor in tensors((args, kwargs)):
                    if isinstance(tensor, torch.nn.Parameter):
                        self.parameters.setdefault(id(tensor), tensor)
                return self.host.follow(name, args, func(*args, **(kwargs or {})))
            self.note_deaths()
            used = tensors((args, kwargs))
            known = [self.number(tensor) for tensor in used]
            for number, tensor in zip(known, used, strict=True):
                if number not in self.before and number not in self.produced and number not in self.passing:
                    written = name.endswith("_") and number == known[0]
                    kind = TensorKind.OPTIMIZER_STATE if written else TensorKind.CONSTANT
                    self.exists(tensor, f"held{number}", kind)
            result = self.host.follow(name, args, func(*args, **(kwargs or {})))
            made = tuple((self.number(tensor), tuple(tensor.shape), dtype_of(tensor)) for tensor in tensors(result))
            if name == "add" and in_engine() and not used[0]._is_view():
                name = ADDED_UP  # autograd leaves views alone: whoever made one still holds its base
            if not made and not name.endswith("_"):
                return result  # asks for a device or a size
            self.produced.update(number for number, _, _ in made)
            shapes = tuple((number, tuple(tensor.shape)) for number, tensor in zip(known, used, strict=True))
            self.events.append(Recorded(name, shapes, made, arguments_of(func, args), in_engine()))
            return result

    return Recorder()


def dtype_of(tensor: Any) -> str:
    """The element type of a tensor of PyTorch as a dtype; raises `InputError` for one that is not known."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in TORCH_DTYPES:
        raise InputError("element type {} is unknown", name)
    return TORCH_DTYPES[name]
