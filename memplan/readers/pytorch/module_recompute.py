"""Recomputation of whole modules: what `torch.utils.checkpoint` makes of their forward pass, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from memplan.core.errors import InputError

_LISTS = frozenset({"ModuleList", "Sequential"})
_FORWARD = "forward"
_STATISTICS = frozenset({"running_mean", "running_var"})
"""Buffers that `torch.nn.functional.batch_norm` writes without counting it as a version of theirs."""


def list_modules(root: Any) -> dict[str, Any]:
    """Modules by dotted name that stand in a list of several: the layers of `root`, the outermost lists only."""
    found: dict[str, Any] = {}
    for name, module in root.named_modules():
        inside = any(name == outer or name.startswith(f"{outer}.") for outer in found)
        if type(module).__name__ in _LISTS and len(module) > 1 and not inside:
            found.update({f"{name}.{inner}".lstrip("."): member for inner, member in module.named_children()})
    return found


def recompute_module(module: Any, *, recorded: bool = False, random_state_bytes: int = 0) -> Callable[[], None]:
    """
    Have `module` keep only what goes into it; returns what takes that back.

    What its forward pass writes into buffers, such as the running statistics of a batch norm, it writes once. Where it
    is only `recorded`, on tensors without data, nothing is drawn again: an empty tensor of `random_state_bytes` stands
    for the state of the generator that each call keeps.

    Raises `InputError` where this torch has no checkpoint without reentrant backward passes.
    """
    try:
        from torch.utils.checkpoint import checkpoint
    except ImportError as error:
        raise InputError("torch.utils.checkpoint is not there: {}", error, remedy="use torch 2.6 or newer") from None
    forward = module.forward

    def recomputed(*inputs: Any, **named: Any) -> Any:
        # Compilers of torch take no contexts of others, so modules without buffers have none.
        has_buffers = any(True for _ in module.buffers())
        around = (
            {"context_fn": lambda: _around(module, random_state_bytes)} if has_buffers or random_state_bytes else {}
        )
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=not recorded, **around, **named)

    return with_forward(module, recomputed)


def with_forward(module: Any, forward: Callable[..., Any]) -> Callable[[], None]:
    """Have `module`, and none of its class, run `forward` as its forward pass; returns what takes that back."""
    own = module.__dict__.get(_FORWARD)
    module.__dict__[_FORWARD] = forward

    def undo() -> None:
        if own is None:
            module.__dict__.pop(_FORWARD, None)
        else:
            module.__dict__[_FORWARD] = own

    return undo


def _around(module: Any, random_state_bytes: int) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """
    Contexts of a forward pass and of its repetition, which works on copies of the buffers that the first wrote.

    A tensor of `random_state_bytes` is there for as long as the forward pass can be repeated.
    """
    again = _Repetition(random_state_bytes)

    @contextmanager
    def first() -> Iterator[None]:
        before = [
            (inner._buffers, name, buffer, buffer._version)
            for inner in module.modules()
            for name, buffer in inner._buffers.items()
            if buffer is not None and not buffer.is_inference()
        ]
        yield
        again.written.extend(
            (buffers, name)
            for buffers, name, buffer, version in before
            if name in _STATISTICS or buffer._version != version
        )

    return first(), again


class _Repetition:
    """
    The context of a forward pass that runs again, once for each way back through it.

    `written` are buffers that it finds as copies, so that they are written once.
    """

    def __init__(self, random_state_bytes: int) -> None:
        import torch

        self.written: list[tuple[dict[str, Any], str]] = []
        self._own: list[tuple[dict[str, Any], str, Any]] = []
        self._random_state = torch.empty(random_state_bytes, dtype=torch.uint8) if random_state_bytes else None
        self._random_state_outside: Any = None

    def __enter__(self) -> None:
        import torch

        if self._random_state is not None:
            self._random_state_outside = torch.empty_like(self._random_state)
        self._own = [(buffers, name, buffers[name]) for buffers, name in self.written]
        for buffers, name, buffer in self._own:
            buffers[name] = buffer.clone()

    def __exit__(self, *_: object) -> None:
        for buffers, name, buffer in self._own:
            buffers[name] = buffer
        self._own, self._random_state_outside = [], None


@contextmanager
def recomputed_modules(modules: Sequence[Any], *, on_cpu: bool = False) -> Iterator[None]:
    """
    `modules` recomputed for as long as the context lasts, on tensors without data.

    Each call of one keeps the state of the CPU's generator, which counts `on_cpu` alone: a device has none of it.
    """
    import torch

    state = int(torch.get_rng_state().nbytes) if on_cpu else 0
    with ExitStack() as stack:
        for module in modules:
            stack.callback(recompute_module(module, recorded=True, random_state_bytes=state))
        yield
