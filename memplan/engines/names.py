"""Who serves where nobody says so, and who hides the host."""

from __future__ import annotations

DEFAULT_ENGINE = "vllm-ascend"
"""Who serves where nothing else is said: of memory as of time."""

CAPTURED = "captured"
"""The engine that hides all of the host's work behind the captured graphs of its steps: reference stacks."""
