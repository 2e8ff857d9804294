"""What a function that runs a training step names: the modules, optimisers and schedulers that it works on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memplan.readers.named_objects import named_objects


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
    What `source` names, itself or through the functions and objects that it calls (`memplan.readers.named_objects`).

    A module alone is named by the empty name; what is no function names nothing.
    """
    named = {"": source} if is_module(source) else named_objects(source) if callable(source) else {}
    modules = {name: value for name, value in named.items() if is_module(value)}
    inside = {id(inner) for module in modules.values() for inner in module.modules() if inner is not module}
    modules = {name: module for name, module in modules.items() if id(module) not in inside}
    optimizers = {name: value for name, value in named.items() if _is(value, "torch.optim.optimizer", "Optimizer")}
    others = {
        name: value
        for name, value in named.items()
        if not is_module(value)
        and name not in optimizers
        and callable(getattr(value, "load_state_dict", None))
        and not inspect.isclass(value)
    }
    return StepObjects(modules, optimizers, others)
