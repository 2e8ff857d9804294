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


def recompute_module(module: Any, *, keep_random_state: bool = True) -> Callable[[], None]:
    """
    Have `module` keep only what goes into it; returns what takes that back.

    What its forward pass writes into buffers, such as the running statistics of a batch norm, it writes once.

    Raises `InputError` where this torch has no checkpoint without reentrant backward passes.
    """
    try:
        from torch.utils.checkpoint import checkpoint
    except ImportError as error:
        raise InputError("torch.utils.checkpoint is not there: {}", error, remedy="use torch 2.6 or newer") from None
    forward = module.forward

    def recomputed(*inputs: Any, **named: Any) -> Any:
        # Compilers of torch take no contexts of others, so modules without buffers have none.
        around = {"context_fn": lambda: _buffers_once(module)} if any(True for _ in module.buffers()) else {}
        return checkpoint(
            forward, *inputs, use_reentrant=False, preserve_rng_state=keep_random_state, **around, **named
        )

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


def _buffers_once(module: Any) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a forward pass and of its repetition, which works on copies of the buffers that the first wrote."""
    written: list[tuple[dict[str, Any], str]] = []

    @contextmanager
    def first() -> Iterator[None]:
        before = [
            (inner._buffers, name, buffer, buffer._version)
            for inner in module.modules()
            for name, buffer in inner._buffers.items()
            if buffer is not None and not buffer.is_inference()
        ]
        yield
        written.extend(
            (buffers, name)
            for buffers, name, buffer, version in before
            if name in _STATISTICS or buffer._version != version
        )

    @contextmanager
    def again() -> Iterator[None]:
        own = [(buffers, name, buffers[name]) for buffers, name in written]
        for buffers, name, buffer in own:
            buffers[name] = buffer.clone()
        try:
            yield
        finally:
            for buffers, name, buffer in own:
                buffers[name] = buffer

    return first(), again()


@contextmanager
def recomputed_modules(modules: Sequence[Any]) -> Iterator[None]:
    """`modules` recomputed for as long as the context lasts, on tensors without data."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback(recompute_module(module, keep_random_state=False))
        yield
