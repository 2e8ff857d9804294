"""Values of tensors that a step reads on the host, where planning has none: the ordinary one, if it is known."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

_ORDINARY = 0.5
"""A number that scales something: an optimiser's step count, which must not be 0, or a loss that is printed."""
_INFINITY_FLAG = "_amp_foreach_non_finite_check_and_unscale_"
"""What `torch.amp.GradScaler` checks gradients with; its second argument becomes 1 where one is not finite."""
_UNCHANGED = frozenset({"any", "all", "clone", "view", "detach", "squeeze", "reshape", "_to_copy"})
_BOTH = frozenset({"mul", "logical_and", "bitwise_and"})
_EITHER = frozenset({"add", "add_", "logical_or", "bitwise_or"})
_NOT = frozenset({"logical_not", "bitwise_not"})


class HostValues:
    """
    What reading a tensor without data gives: flags that tell whether something is finite say that it is.

    Other numbers are taken as one half where they are floating point. Other flags and integers, of which sizes and
    branches may be made, are not known.
    """

    def __init__(self) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self._flags: Any = WeakIdKeyDictionary()
        self._places: dict[str, None] = {}

    def follow(self, name: str, args: Sequence[Any], result: Any) -> Any:
        """Returns `result` of the op `name`, with what is known of it where it tells whether something is finite."""
        if name == _INFINITY_FLAG:
            self._flags[args[1]] = False
        elif (flag := self._flag_of(name, args)) is not None:
            self._flags[result] = flag
        return result

    def _flag_of(self, name: str, args: Sequence[Any]) -> bool | None:
        if name in {"isnan", "isinf", "isfinite"}:
            return name == "isfinite"
        if name in {"eq", "ne"}:
            itself = args[0] is args[1]  # `x != x` holds where x is not a number
            infinite = isinstance(args[1], float) and math.isinf(args[1])
            return itself == (name == "eq") if itself or infinite else None
        known = [self._flags.get(item) for item in args[:2] if hasattr(item, "untyped_storage")]
        if not known or None in known:
            return None
        if name in _NOT:
            return not known[0]
        if name in _UNCHANGED or (len(known) == 2 and name in _BOTH):
            return all(known)
        return any(known) if len(known) == 2 and name in _EITHER else None

    def read(self, tensor: Any, *, noted: bool) -> float | bool | None:
        """The value of `tensor` on the host, `None` where it is not known; the place is kept if it is to be `noted`."""
        flag = self._flags.get(tensor)
        if flag is None and not tensor.dtype.is_floating_point:
            return None
        if noted and (place := _reading_place()):
            self._places[place] = None
        if flag is None:
            return _ORDINARY
        return float(flag) if tensor.dtype.is_floating_point else bool(flag)

    def notes(self) -> list[str]:
        """One line that says where values were read and what they were taken for; none where none was."""
        if not self._places:
            return []
        return [
            f"values read on the host at {', '.join(self._places)} were taken as ordinary ones (no infinity, no NaN): "
            "a step with others may peak elsewhere"
        ]


def _reading_place() -> str | None:
    """File and line outside PyTorch that read a value; `None` for an optimiser that reads its own state."""
    import torch

    libraries = str(Path(torch.__file__).parent)
    optimisers, here = str(Path(libraries) / "optim"), str(Path(__file__).parent)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(optimisers):
            return None
        if not file.startswith((libraries, here)):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return None
