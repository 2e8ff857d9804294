"""How long each kernel takes on a given chip, what limits it, and how its buffers and L2 are used."""

from memplan.cost.calibration import Calibration, load_calibration, save_calibration
from memplan.cost.deviations import CLEARED_L2, L2State
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.kernel_rows import kernel_of_row
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.cost.limits import KernelCost
from memplan.cost.machine import Machine, calibrated, machine
from memplan.cost.opcost import OpCost, costs_and_advice, op_costs

__all__ = [
    "CLEARED_L2",
    "Calibration",
    "Kernel",
    "KernelCost",
    "L2State",
    "Machine",
    "OpCost",
    "Operand",
    "calibrated",
    "costs_and_advice",
    "kernel_cost",
    "kernel_of_op",
    "kernel_of_row",
    "load_calibration",
    "machine",
    "op_costs",
    "save_calibration",
]
