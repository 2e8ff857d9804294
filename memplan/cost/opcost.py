"""What each op of a graph costs: the interface between the cost model and the planner."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.cost.kernel import Kernel, kernel_of_op
from memplan.cost.kernel_time import NONE, stepped_share
from memplan.cost.l2 import advice, graph_accesses, graph_costs, l2_states
from memplan.cost.machine import Machine
from memplan.graph import Graph


@dataclass(frozen=True, slots=True)
class OpCost:
    """
    Predicted time of one op and what limits it: `cube`, `vector`, `hbm` (HBM or L2), `link`, `launch` or `none`.

    `flops` counts multiplies and adds, `gm_bytes` the traffic to global memory: every
    operand read and written once, of which L2 serves a part. `kernel` is what it launches
    and `hot_share` the share of its reads that L2 holds, in steps fine enough to predict the same time; `None` for ops
    that launch nothing. `pushed_share` is the share of them that pushes results out of L2, in such steps, `None` too
    without a calibration.
    """

    duration_ns: int
    bound: str
    flops: int
    gm_bytes: int
    kernel: Kernel | None = None
    hot_share: float | None = None
    pushed_share: float | None = None


def op_costs(graph: Graph, machine: Machine) -> list[OpCost]:
    """Cost of every op of `graph` in order; ops that launch no kernel cost nothing."""
    return costs_and_advice(graph, machine)[0]


def costs_and_advice(graph: Graph, machine: Machine) -> tuple[list[OpCost], list[str]]:
    """`op_costs`, and lines of advice on L2 and of what was taken for granted."""
    accesses = graph_accesses(graph)
    states = l2_states(accesses, machine)
    costs = graph_costs(graph, machine, states)
    found = []
    for op, access, (hot, pushed), cost in zip(graph.ops, accesses, states, costs, strict=True):
        if cost is None:
            found.append(OpCost(0, NONE, 0, 0))
            continue
        once = sum(size for _, size in (*access.reads, *access.writes))
        shares = (stepped_share(hot), stepped_share(pushed))
        found.append(OpCost(cost.duration_ns, cost.bound, cost.flops, once, kernel_of_op(op, graph), *shares))
    return found, advice(graph, costs, machine)
