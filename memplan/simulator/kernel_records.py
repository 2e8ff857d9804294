"""The kernels of a simulated run: which core ran them, on what operands, and what its counters say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from memplan.core.resources import table
from memplan.graph.op_names import op_family
from memplan.hardware import Chip
from memplan.schema import Plan, PlannedOp, PlannedOperand, PlannedTensor
from memplan.simulator.execution import Execution
from memplan.simulator.hidden_names import hidden_op
from memplan.simulator.noise import Behaviour, Chance

COMMUNICATION = "COMMUNICATION"


@dataclass(frozen=True, slots=True)
class Operands:
    """Shapes, dtypes and formats of an op's operands as the profilers print them: `4,8;8` `FLOAT;FLOAT` `ND;ND`."""

    shapes: str
    dtypes: str
    formats: str


@dataclass(frozen=True, slots=True)
class SimulatedKernel:
    """
    One kernel of one run; times in nanoseconds, absolute.

    `core` is the file's Accelerator Core; `counters` are its PMU columns in order, empty where it has none.
    """

    step: int
    op: PlannedOp
    core: str
    start_ns: int
    duration_ns: int
    wait_ns: int
    issue_ns: int
    issued_ns: int
    task: int
    connection: int
    blocks: int
    mixed_blocks: int
    inputs: Operands
    outputs: Operands
    counters: tuple[str, ...]

    @property
    def end_ns(self) -> int:
        """When the kernel is done."""
        return self.start_ns + self.duration_ns


def _fastest(plan: Plan, bound: str, work: str) -> float:
    """
    The most `work` (`gm_bytes`, `flops`) per nanosecond that the plan gives an op of that bound, or any op if none.

    The plan's own times tell it: a plan may rest on a calibration, or come from a planner that knows no machine.
    """
    done = [(getattr(op, work) / op.duration_ns, op.bound) for op in plan.ops if op.duration_ns > 0]
    return max((rate for rate, b in done if b == bound), default=0.0) or max((rate for rate, _ in done), default=0.0)


def _facts() -> Mapping[str, Any]:
    return table("memplan.simulator", "device_kernels.json")


@cache
def _cores() -> Mapping[str, str]:
    """The kind of core by family of ops."""
    facts = _facts()
    found = {op_family(name): str(core) for core, types in facts["cores"].items() for name in types}
    return found | {op_family(name): COMMUNICATION for name in facts["communication"]}


def core_of(op_type: str) -> str:
    """The kind of core that runs ops of `op_type`, as kernel_details.csv names it."""
    if op_type.startswith("hcom_"):
        return COMMUNICATION
    return _cores().get(op_family(op_type), str(_facts()["default"]))


def operand_texts(tensors: Sequence[PlannedTensor | PlannedOperand]) -> Operands:
    """What the profilers print of `tensors`."""
    facts = _facts()
    return Operands(
        shapes=";".join(",".join(map(str, tensor.shape)) for tensor in tensors),
        dtypes=";".join(facts["dtypes"].get(tensor.dtype, "DT_UNDEFINED") for tensor in tensors),
        formats=";".join(facts["layouts"].get(tensor.layout, "ND") for tensor in tensors),
    )


class KernelRecorder:
    """Makes the kernels of `plan` on `chip`, run after run; what does not change between runs is made once."""

    def __init__(self, plan: Plan, chip: Chip, behaviour: Behaviour) -> None:
        self._plan = plan
        self._behaviour = behaviour
        self._cube_cores = chip.aic_count or 1
        self._vector_cores = chip.aiv_count or self._cube_cores
        self.clock_mhz = round((chip.clock_hz or 0) / 1e6)
        self._hbm_rate = _fastest(plan, "hbm", "gm_bytes")
        self._cube_rate = _fastest(plan, "cube", "flops")
        self._vector_rate = _fastest(plan, "vector", "flops")
        self._shares = {name: float(entry["value"]) for name, entry in _facts()["counters"].items()}
        inputs: dict[int, list[PlannedTensor]] = {}
        outputs: dict[int, list[PlannedTensor]] = {}
        for tensor in plan.tensors:
            for step in tensor.uses:
                (outputs if step == tensor.producer else inputs).setdefault(step, []).append(tensor)
        self._inputs = {step: operand_texts(found) for step, found in inputs.items()}
        self._outputs = {step: operand_texts(found) for step, found in outputs.items()}
        # What an op launches says its operands in order and as the op sees them; a storage may have another shape.
        launched = [
            (operand_texts([item for item in kernel.inputs if item is not None]), operand_texts(kernel.outputs))
            for kernel in plan.kernels
        ]
        for op in plan.ops:
            if op.kernel is not None:
                self._inputs[op.index], self._outputs[op.index] = launched[op.kernel]
        self._written = {step: sum(t.nbytes for t in found) for step, found in outputs.items()}
        self._task = 0
        self._last_end: dict[int, int] = {}

    def record(self, step: int, origin_ns: int, run: Execution, chance: Chance) -> list[SimulatedKernel]:
        """Kernels of one run that starts at `origin_ns`, in order of start."""
        plan = self._plan
        launched = [op for op in plan.ops if op.launches]
        launched.sort(key=lambda op: (int(run.start_ns[op.index]), op.index))
        noise = chance.spread(len(launched))
        nothing = operand_texts(())
        last_end = self._last_end
        kernels = []
        for op, wobble in zip(launched, noise, strict=True):
            start = origin_ns + int(run.start_ns[op.index])
            duration = int(run.end_ns[op.index] - run.start_ns[op.index])
            core = core_of(op.type)
            blocks, mixed = self._blocks(op, core)
            kernels.append(
                SimulatedKernel(
                    step=step,
                    op=hidden_op(op, core == COMMUNICATION) if self._behaviour.hidden_names else op,
                    core=core,
                    start_ns=start,
                    duration_ns=duration,
                    wait_ns=max(start - last_end[op.stream], 0) if op.stream in last_end else 0,
                    issue_ns=origin_ns + int(run.issue_ns[op.index]),
                    issued_ns=origin_ns + int(run.issued_ns[op.index]),
                    task=self._task,
                    connection=self._task + 1,
                    blocks=blocks,
                    mixed_blocks=mixed,
                    inputs=self._inputs.get(op.index, nothing),
                    outputs=self._outputs.get(op.index, nothing),
                    counters=self._counters(op, core, duration, blocks, mixed, float(wobble)),
                )
            )
            last_end[op.stream] = start + duration
            self._task += 1
        return kernels

    def _blocks(self, op: PlannedOp, core: str) -> tuple[int, int]:
        """Cores a kernel of this much traffic is spread over, and vector cores beside them."""
        wanted = max(-(-op.gm_bytes // int(self._shares["bytes_per_core"])), 1)
        if core == COMMUNICATION:
            return 0, 0
        if core == "AI_CORE":
            return min(wanted, self._cube_cores), 0
        if core == "MIX_AIC":
            return min(wanted, self._cube_cores), min(wanted * 2, self._vector_cores)
        return min(wanted, self._vector_cores), 0

    def _counters(
        self, op: PlannedOp, core: str, duration_ns: int, blocks: int, mixed: int, wobble: float
    ) -> tuple[str, ...]:
        """
        PipeUtilization columns that agree with the plan: busy time of a pipe is work over the plan's rate.

        Pipes the plan knows nothing of (scalar, MTE1) get shares of the others as seen in real profiles.
        """
        if core == COMMUNICATION or duration_ns <= 0:
            return ()
        share = self._shares
        total_us = share["busy_share"] * duration_ns / 1000.0
        total_ns = 1000.0 * total_us
        memory_ns = op.gm_bytes / self._hbm_rate if self._hbm_rate else 0.0
        written = min(self._written.get(op.index, 0) / op.gm_bytes, 1.0) if op.gm_bytes else 0.0

        def pipe(busy_ns: float) -> tuple[float, float]:
            ratio = min(max(busy_ns * (1.0 + share["jitter"] * wobble) / total_ns, 0.0), share["largest_ratio"])
            return round(ratio * total_us, 3), round(ratio, 3)

        read, write = pipe(memory_ns * (1.0 - written)), pipe(memory_ns * written)
        cube: list[float] = [0.0, 0] + [0.0] * 11
        vector: list[float] = [0.0, 0] + [0.0] * 9
        use = 0.0
        if core in ("AI_CORE", "MIX_AIC"):
            mac = pipe(op.flops / self._cube_rate if self._cube_rate else 0.0)
            cycles = round(total_us * self.clock_mhz * blocks)
            scalar = pipe(1000.0 * share["cube_scalar_share"] * total_us)
            mte1 = pipe(1000.0 * share["mte1_of_cube"] * mac[0])
            cube = [round(total_us, 3), cycles, *mac, *scalar, *mte1, *read, *write,
                    share["cube_icache_miss_rate"]]  # fmt: skip
            use = round(100.0 * total_us * blocks / (self._cube_cores * duration_ns / 1000.0), 3)
        if core != "AI_CORE":
            compute = 1000.0 * share["mixed_vector_share"] * total_us
            if self._vector_rate and core != "MIX_AIC":
                compute = op.flops / self._vector_rate
            cycles = round(total_us * self.clock_mhz * (mixed or blocks))
            scalar = pipe(1000.0 * share["vector_scalar_share"] * total_us)
            miss = share["vector_icache_miss_rate"]
            vector = [round(total_us, 3), cycles, *pipe(compute), *scalar, *read, *write, miss]
        return (*(str(value) for value in (*cube, *vector)), f"{use:.3f}")
