"""Which types of ops have kernels of threads (SIMT), and what each thread does, by `kernels.json`."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.cost.kernels.op_classes import by_name, listed_name


@dataclass(frozen=True, slots=True)
class ThreadRule:
    """
    A core's `threads`, and `accesses` to memory of each element that wait for each other.

    An element is what an index picks, or one of the result that `windows` of others make, of which as many are read.
    `spreads` where elements are dealt out to all cores, else each gets as many as it has threads. `sums`: accesses for
    two parts that are added up, where all elements make one.
    """

    threads: int
    accesses: int = 0
    windows: bool = False
    spreads: bool = False
    sums: int = 0


def thread_rule(op_type: str, generation: str) -> ThreadRule | None:
    """What threads of kernels of `op_type` do on `generation` (`npu_arch`), `None` where there are none."""
    found = by_name("threads", "generations", generation).get(listed_name(op_type))
    return None if found is None else ThreadRule(**found)
