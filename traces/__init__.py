"""
Readers of what CANN, MindSpore and torch_npu profilers leave behind.

`open_profile(path)` is the way in; `memplan.traces.profile` describes what it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memplan.traces.directory import open_profile

__all__ = ["open_profile"]


def __getattr__(name: str) -> object:
    # Reading brings numpy and more with it, which importing memplan must not.
    if name == "open_profile":
        from memplan.traces.directory import open_profile

        return open_profile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
