"""A program's parameters, buffers and optimisers on tensors without data, for as long as a step is recorded."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def fake_state(
    mode: Any, modules: Mapping[str, Any], optimizers: Mapping[str, Any], others: Mapping[str, Any]
) -> Iterator[None]:
    """
    Within the context `modules` and `optimizers` hold tensors of `mode`; what they were comes back, unchanged.

    Optimisers begin without state. `others` are objects with a `state_dict`, such as schedulers, which is put back.
    """
    import torch

    fakes: dict[int, Any] = {}

    def fake(tensor: Any) -> Any:
        if id(tensor) not in fakes:
            made = mode.from_tensor(tensor.detach(), static_shapes=True)
            if isinstance(tensor, torch.nn.Parameter):
                made = torch.nn.Parameter(made, requires_grad=tensor.requires_grad)
            fakes[id(tensor)] = made
        return fakes[id(tensor)]

    with ExitStack() as stack:
        for module in modules.values():
            for inner in module.modules():
                for held in (inner._parameters, inner._buffers):
                    stack.callback(held.update, dict(held))
                    held.update({name: None if value is None else fake(value) for name, value in held.items()})
        for optimizer in optimizers.values():
            stack.callback(_restore, optimizer, optimizer.state, [dict(group) for group in optimizer.param_groups])
            optimizer.state = defaultdict(dict)
            for group in optimizer.param_groups:
                group["params"] = [fake(parameter) for parameter in group["params"]]
        for other in others.values():
            if isinstance(other, torch.amp.GradScaler):  # its scale is a tensor, made in the first step
                stack.callback(vars(other).update, dict(vars(other)))
                held = {name: fake(value) for name, value in vars(other).items() if isinstance(value, torch.Tensor)}
                vars(other).update(held, _per_optimizer_states=copy.copy(other._per_optimizer_states))
                continue
            stack.callback(other.load_state_dict, copy.deepcopy(other.state_dict()))
        with torch.random.fork_rng(devices=[]):
            yield


def _restore(optimizer: Any, state: Any, groups: list[dict[str, Any]]) -> None:
    optimizer.state = state
    for group, before in zip(optimizer.param_groups, groups, strict=True):
        group.clear()
        group.update(before)
