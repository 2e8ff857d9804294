"""What each op of a graph costs: the interface between the cost model and the planner."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.cost.deviations import UNKNOWN_L2, L2State
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.cost.l2 import graph_accesses
from memplan.cost.l2_advice import advice
from memplan.cost.limits import NONE
from memplan.cost.machine import Machine
from memplan.cost.ordered_costs import asked_states, graph_costs
from memplan.graph import Graph


@dataclass(frozen=True, slots=True)
class OpCost:
    """
    Predicted time of one op and what limits it: `cube`, `vector`, `hbm` (HBM or L2), `link`, `launch` or `none`.

    `flops` counts multiplies and adds, `gm_bytes` the traffic to global memory: every
    operand read and written once, of which L2 serves a part. `kernel` is what it launches, `None` where that is
    nothing, and `l2` what it meets there, in steps fine enough to predict the same time.
    """

    duration_ns: int
    bound: str
    flops: int
    gm_bytes: int
    kernel: Kernel | None = None
    l2: L2State = UNKNOWN_L2


def op_costs(graph: Graph, machine: Machine) -> list[OpCost]:
    """Cost of every op of `graph` in order; ops that launch no kernel cost nothing."""
    return costs_and_advice(graph, machine)[0]


def costs_and_advice(graph: Graph, machine: Machine) -> tuple[list[OpCost], list[str]]:
    """`op_costs`, and lines of advice on L2 and of what was taken for granted."""
    accesses = graph_accesses(graph)
    states = asked_states(accesses, machine)
    costs = graph_costs(graph, machine, states)
    found = []
    for op, access, state, cost in zip(graph.ops, accesses, states, costs, strict=True):
        if cost is None:
            found.append(OpCost(0, NONE, 0, 0))
            continue
        once = sum(size for _, size in (*access.reads, *access.writes))
        found.append(OpCost(cost.duration_ns, cost.bound, cost.flops, once, kernel_of_op(op, graph), state.stepped()))
    return found, advice(graph, costs, machine)
