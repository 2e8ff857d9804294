"""How frameworks, allocators and schedulers say that memory ran out."""

from __future__ import annotations

import re

_TOLD = re.compile(
    r"out of memory"  # torch and torch_npu ("NPU out of memory. Tried to allocate"), CANN, the kernel
    r"|memory not enough"  # MindSpore's device allocator
    r"|can't allocate memory"  # torch's CPU allocator
    r"|std::bad_alloc|\bmemoryerror\b"  # C++, Python
    r"|num_npu_blocks is negative"  # MindIE
    r"|\boom\b|\boom_kill",  # Kubernetes and Slurm; the word, not the end of "room" or "bloom"
    re.IGNORECASE,
)


def tells_of_lacking_memory(text: str) -> bool:
    """Whether an error's text or a line of a job's output says that memory ran out."""
    return _TOLD.search(text) is not None
