"""Recomputation of whole modules: what `torch.utils.checkpoint` makes of their forward pass, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from memplan.core.errors import InputError

_LISTS = frozenset({"ModuleList", "Sequential"})
_FORWARD = "forward"


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

    Raises `InputError` where this torch has no checkpoint without reentrant backward passes.
    """
    try:
        from torch.utils.checkpoint import checkpoint
    except ImportError as error:
        raise InputError(f"torch.utils.checkpoint is not there: {error}", remedy="use torch 2.6 or newer") from None
    own = module.__dict__.get(_FORWARD)
    forward = module.forward

    def recomputed(*inputs: Any, **named: Any) -> Any:
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=keep_random_state, **named)

    module.__dict__[_FORWARD] = recomputed

    def undo() -> None:
        if own is None:
            module.__dict__.pop(_FORWARD, None)
        else:
            module.__dict__[_FORWARD] = own

    return undo


@contextmanager
def recomputed_modules(modules: Sequence[Any]) -> Iterator[None]:
    """`modules` recomputed for as long as the context lasts, on tensors without data."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback(recompute_module(module, keep_random_state=False))
        yield
