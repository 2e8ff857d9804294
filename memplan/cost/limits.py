"""What one kernel costs, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.cost.machine import Machine
from memplan.cost.products import Tiling

CUBE, VECTOR, MEMORY, LAUNCH, LINK, NONE = "cube", "vector", "hbm", "launch", "link", "none"


@dataclass(frozen=True, slots=True)
class KernelCost:
    """
    Predicted time of one kernel and what makes it up.

    `pipes` are nanoseconds by pipe (`cube`, `mte1`, `mte2`, `mte3`, `fixpipe`, `vector`, `scalar`), averages over the
    cores as profilers report them, with the pipes that the kernel does not use left out. `gm_bytes` crosses between the
    cores and GM, of which `hbm_bytes` reaches HBM and the rest is served by L2. `bound` is `cube`, `vector`, `hbm`
    (HBM or L2), `link` or `launch`; `kind` the formula used, `tiling` that of a matmul. `assumed` says what the
    operands did not tell. `known` is false when they did not suffice and only the launch is counted.
    """

    duration_ns: int
    bound: str
    pipes: Mapping[str, float]
    flops: int
    gm_bytes: int
    hbm_bytes: int
    kind: str
    tiling: Tiling | None = None
    assumed: str = ""
    known: bool = True


def launch_alone(head_ns: float, kind: str, assumed: str, moved: int = 0) -> KernelCost:
    """The cost of which only the launch is known."""
    return KernelCost(round(head_ns), LAUNCH, {}, 0, moved, moved, kind, assumed=assumed, known=False)


def limit_of(pipes: Mapping[str, float], duration: float, machine: Machine) -> str:
    """What limits a kernel: the launch where it is most of the time, else the slowest group of pipes."""
    groups = {
        CUBE: max(pipes.get("cube", 0.0), pipes.get("mte1", 0.0)),
        VECTOR: pipes.get("vector", 0.0),
        MEMORY: max(pipes.get("mte2", 0.0), pipes.get("mte3", 0.0), pipes.get("fixpipe", 0.0)),
    }
    name = max(groups, key=lambda group: groups[group])
    return LAUNCH if groups[name] < machine["launch_bound_share"] * (duration - groups[name]) else name
