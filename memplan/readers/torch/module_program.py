"""A PyTorch module, or a function that runs a training step of one, as a program whose layers may be recomputed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from memplan.core.errors import InputError
from memplan.graph.model import Graph, TensorKind
from memplan.readers.mindir.op_table import Target
from memplan.readers.torch.fake_state import fake_state
from memplan.readers.torch.module_recompute import list_modules, recomputed_modules
from memplan.readers.torch.step_record import record_graph
from memplan.readers.torch.step_recorder import StorageWatch, recording
from memplan.schema import PlannedProgram


def is_module(value: Any) -> bool:
    """Whether `value` is a `torch.nn.Module`, told without importing torch."""
    return _is(value, "torch.nn.modules.module", "Module")


def _is(value: Any, module: str, name: str) -> bool:
    return any(kind.__module__ == module and kind.__name__ == name for kind in type(value).__mro__)


def named_by(source: Any) -> dict[str, Any]:
    """What a function or method names: its closure, the globals that it uses, attributes of its object."""
    function = inspect.unwrap(getattr(source, "__func__", source))
    if not inspect.isfunction(function):
        return {}
    found = inspect.getclosurevars(function)
    owner = getattr(source, "__self__", None)
    own = {} if owner is None else dict(vars(owner))
    return {**found.globals, **found.nonlocals, **own}


def is_module_program(source: Any) -> bool:
    """Whether `source` is a module of torch or a function that names one."""
    return is_module(source) or any(map(is_module, named_by(source).values()))


class ModuleProgram:
    """
    `source(*inputs)` as torch runs it, op by op: a function that runs a step, or a module alone.

    A module in training mode is run forward and, from the sum of what it gives, backward. The step is run twice on
    tensors without data and recorded the second time, when optimisers have their state.
    """

    def __init__(self, source: Any, inputs: tuple[Any, ...], *, kernels: Target | None = None) -> None:
        import torch

        self._source, self._inputs = source, inputs
        self._version = str(torch.__version__)
        named = {"": source} if is_module(source) else named_by(source)
        self._modules = {name: value for name, value in named.items() if is_module(value)}
        self._optimizers = {
            name: value for name, value in named.items() if _is(value, "torch.optim.optimizer", "Optimizer")
        }
        known = (*self._modules, *self._optimizers)
        self._others = {
            name: value
            for name, value in named.items()
            if name not in known and callable(getattr(value, "load_state_dict", None)) and not inspect.isclass(value)
        }
        self._layers = {
            f"{name}.{inner}".lstrip("."): layer
            for name, module in self._modules.items()
            for inner, layer in list_modules(module).items()
        }
        devices = {str(item.device.type) for module in self._modules.values() for item in module.parameters()}
        self._kernels = kernels or (Target.ASCEND if devices & {"npu", "cuda"} else Target.CPU)

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules in lists of several."""
        return tuple(self._layers)

    def told(self, recomputed: Collection[str]) -> PlannedProgram:
        """The program as a plan records it."""
        name = getattr(self._source, "__name__", type(self._source).__name__)
        return PlannedProgram("torch", self._version, "eager", self._kernels.value, name, tuple(recomputed))

    def graph(self, recomputed: Collection[str] = ()) -> Graph:
        """
        The graph of a step as it runs; raises `InputError` for a step that needs the data of a tensor.

        Random numbers, weights, gradients and optimisers are afterwards what they were.
        """
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.utils._pytree import tree_map

        mode, watch = FakeTensorMode(), StorageWatch()
        layers = [self._layers[name] for name in recomputed]

        def without_data(value: Any) -> Any:
            return mode.from_tensor(value, static_shapes=True) if isinstance(value, torch.Tensor) else value

        try:
            with fake_state(mode, self._modules, self._optimizers, self._others), recomputed_modules(layers):
                inputs = tree_map(without_data, self._inputs)
                step = self._step(inputs)
                with mode, recording(watch):
                    step()
                    self._name_state(watch, inputs)
                    record = watch.begin()
                    result = step()
                    del result
                    watch.record = None
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(
                f"the step can't be run without data: {type(error).__name__}: {first}",
                remedy="leave reading values (item, float, print) and loading data outside the function",
            ) from None
        name = getattr(self._source, "__name__", type(self._source).__name__)
        return record_graph(record, name, f"PyTorch {self._version}")

    def _step(self, inputs: Any) -> Callable[[], object]:
        import torch

        if not is_module(self._source):
            return lambda: self._source(*inputs)

        def alone() -> object:
            if not self._source.training:
                with torch.no_grad():
                    return self._source(*inputs)
            result = self._source(*inputs)
            leaves = [item for item in torch.utils._pytree.tree_leaves(result) if isinstance(item, torch.Tensor)]
            torch.autograd.backward([item.sum() for item in leaves if item.requires_grad])
            self._source.zero_grad()
            return None

        return alone

    def _name_state(self, watch: StorageWatch, inputs: Any) -> None:
        """Say which storages are weights, gradients, optimiser state and inputs."""
        import torch
        from torch.utils._pytree import tree_leaves

        for prefix, module in self._modules.items():
            for name, parameter in module.named_parameters():
                full = f"{prefix}.{name}".lstrip(".")
                watch.renamed(parameter, TensorKind.WEIGHT, full)
                if parameter.grad is not None:
                    watch.renamed(parameter.grad, TensorKind.GRADIENT, f"{full}.grad")
            for name, buffer in module.named_buffers():
                watch.renamed(buffer, TensorKind.CONSTANT, f"{prefix}.{name}".lstrip("."))
        for prefix, optimizer in self._optimizers.items():
            for number, state in enumerate(optimizer.state.values()):
                for name, value in state.items():
                    if isinstance(value, torch.Tensor):
                        watch.renamed(value, TensorKind.OPTIMIZER_STATE, f"{prefix}.{number}.{name}")
        for number, value in enumerate(tree_leaves(inputs)):
            if isinstance(value, torch.Tensor):
                watch.renamed(value, TensorKind.INPUT, f"input.{number}")
