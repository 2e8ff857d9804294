"""Which types of ops have kernels of threads (SIMT), and what each thread does, by `kernels.json`."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.resources import table
from memplan.cost.kernels.op_classes import listed_name


@dataclass(frozen=True, slots=True)
class ThreadRule:
    """
    A core's `threads`, and `accesses` to memory of each element that wait for each other.

    `picks` where an element is what an index picks, else it is one of the result. `windows` where as many are read as
    a window has, instead. `spreads` where elements are dealt out to all cores, else each gets as many as it has
    threads. `sums`: accesses for two parts that are added up, where all elements make one.
    """

    threads: int
    accesses: int = 0
    picks: bool = False
    windows: bool = False
    spreads: bool = False
    sums: int = 0


def thread_rule(op_type: str, generation: str) -> ThreadRule | None:
    """What threads of kernels of `op_type` do on `generation` (`npu_arch`), `None` where there are none."""
    rule = table("memplan.cost", "kernels.json")["threads"]["generations"].get(generation, {})
    wanted = listed_name(op_type)
    found = next((entry for name, entry in rule.items() if name.casefold() == wanted), None)
    return None if found is None else ThreadRule(**found)
