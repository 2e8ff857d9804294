"""What a function that runs a training step names: the modules, optimisers and schedulers that it works on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


def is_module(value: Any) -> bool:
    """Whether `value` is a `torch.nn.Module`, told without importing torch."""
    return _is(value, "torch.nn.modules.module", "Module")


def _is(value: Any, module: str, name: str) -> bool:
    return any(kind.__module__ == module and kind.__name__ == name for kind in type(value).__mro__)


@dataclass(frozen=True)
class StepObjects:
    """Modules, optimisers, and other objects with a `state_dict`, by the names that a function gives them."""

    modules: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    others: Mapping[str, Any]

    def named_tensors(self) -> Iterator[tuple[str, Any]]:
        """Parameters and buffers by dotted name, as they are now."""
        for prefix, module in self.modules.items():
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                yield f"{prefix}.{name}".lstrip("."), tensor

    @property
    def state(self) -> dict[Any, Any]:
        """The state of all optimisers by parameter."""
        return {key: value for optimizer in self.optimizers.values() for key, value in optimizer.state.items()}


def step_objects(source: Any) -> StepObjects:
    """
    What `source` names: a function or method its closure, the globals that it uses and its object's attributes.

    A module alone is named by the empty name; anything else names nothing.
    """
    named = {"": source} if is_module(source) else _named_by(source)
    modules = {name: value for name, value in named.items() if is_module(value)}
    optimizers = {name: value for name, value in named.items() if _is(value, "torch.optim.optimizer", "Optimizer")}
    others = {
        name: value
        for name, value in named.items()
        if name not in modules
        and name not in optimizers
        and callable(getattr(value, "load_state_dict", None))
        and not inspect.isclass(value)
    }
    return StepObjects(modules, optimizers, others)


def _named_by(source: Any) -> dict[str, Any]:
    function = inspect.unwrap(getattr(source, "__func__", source))
    if not inspect.isfunction(function):
        return {}
    found = inspect.getclosurevars(function)
    owner = getattr(source, "__self__", None)
    return {**found.globals, **found.nonlocals, **({} if owner is None else vars(owner))}
