"""What a process can be asked about its memory: the framework's allocator on a device, else the process itself."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any, Protocol

from memplan.readers.mindspore.cell import mindspore_module

_KIB = 1024


class MemoryCounter(Protocol):
    """
    Bytes in use now, kept from the system, and in use at most since `reset`.

    `component` is what profilers call who counts; `counts_tensors` whether it counts what a plan plans.
    """

    component: str
    counts_tensors: bool

    def allocated(self) -> int:
        """Bytes in use now."""
        ...

    def reserved(self) -> int:
        """Bytes kept from the system."""
        ...

    def peak(self) -> int:
        """The most bytes in use since the last reset."""
        ...

    def reset(self) -> None:
        """Start looking for a peak anew."""
        ...


class ProcessCounter:
    """Resident bytes of the process: interpreter and libraries with them, so that they can't be held against a plan."""

    component = "APP"
    counts_tensors = False

    def allocated(self) -> int:
        """Resident bytes now, of Linux; elsewhere the most there ever were."""
        status = Path("/proc/self/statm")
        if not status.exists():
            return self.peak()
        return int(status.read_text().split()[1]) * resource.getpagesize()

    def reserved(self) -> int:
        """The same."""
        return self.allocated()

    def peak(self) -> int:
        """The most resident bytes since the process began, for nothing can reset that."""
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * _KIB

    def reset(self) -> None:
        """Nothing: the system's mark stays."""


class RuntimeCounter:
    """The memory pool of a device, by the functions that `mindspore.runtime`, `torch.npu` and `torch.cuda` share."""

    counts_tensors = True

    def __init__(self, statistics: Any, component: str) -> None:
        self.component = component
        self._statistics = statistics

    def allocated(self) -> int:
        """Bytes of tensors now."""
        return int(self._statistics.memory_allocated())

    def reserved(self) -> int:
        """Bytes of the pool."""
        return int(self._statistics.memory_reserved())

    def peak(self) -> int:
        """The most bytes of tensors since the last reset."""
        return int(self._statistics.max_memory_allocated())

    def reset(self) -> None:
        """Start looking for a peak anew, where this version can."""
        change = getattr(self._statistics, "reset_peak_memory_stats", None)
        if change is not None:
            change()


def mindspore_counter() -> MemoryCounter:
    """The pool of MindSpore's device; on a CPU, whose pool says 0 of everything, the process."""
    mindspore = mindspore_module()
    if str(mindspore.get_context("device_target")) == "CPU" or not hasattr(mindspore.runtime, "memory_allocated"):
        return ProcessCounter()
    return RuntimeCounter(mindspore.runtime, "MindSpore")


def torch_counter() -> MemoryCounter:
    """The allocator of torch's device, an NPU where torch_npu is there; on a CPU the process."""
    torch = sys.modules.get("torch")
    for name, component in (("npu", "PTA"), ("cuda", "PTA")):
        device = getattr(torch, name, None)
        if device is not None and device.is_available():
            return RuntimeCounter(device, component)
    return ProcessCounter()
