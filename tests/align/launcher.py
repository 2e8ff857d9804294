"""What frameworks launch for planned ops: kernels with operands, the ops they run, and options decided once a run."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from memplan.schema import Plan, PlannedOp
from tests.align.simulated_runs import RunKernel, Shape

_SHORT = 2500
"""Nanoseconds of kernels that no plan has."""
Made = list[RunKernel]


@dataclass
class Launcher:
    """Kernels of planned ops, as a run's options have them."""

    plan: Plan
    chance: random.Random
    taken: dict[str, object] = field(default_factory=dict)

    def option(self, name: str, ways: Sequence[object]) -> object:
        """What this run does, drawn when first asked for."""
        if name not in self.taken:
            self.taken[name] = self.chance.choice(ways)
        return self.taken[name]

    def other(self, type_: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> RunKernel:
        return RunKernel(type_, list(inputs), list(outputs), "int32", _SHORT, ())

    def shapes(self, op: PlannedOp) -> tuple[list[Shape], list[Shape]]:
        assert op.kernel is not None
        launched = self.plan.kernels[op.kernel]
        return [item.shape for item in launched.inputs if item is not None], [item.shape for item in launched.outputs]

    def kernel(
        self,
        types: str | Sequence[str],
        ops: Sequence[PlannedOp],
        inputs: Sequence[Shape] | None = None,
        outputs: Sequence[Shape] | None = None,
        share: float = 1.0,
        dtype: str = "bfloat16",
    ) -> RunKernel:
        """One kernel of these ops; `types` are one type's spellings, of which a run has one."""
        type_ = types if isinstance(types, str) else str(self.option("/".join(types), types))
        read, made = self.shapes(ops[0])[0], self.shapes(ops[-1])[1]
        time = max(1000, int(share * sum(op.duration_ns for op in ops)))
        return RunKernel(
            type_, list(read if inputs is None else inputs), list(made if outputs is None else outputs), dtype, time,
            tuple(op.index for op in ops),
        )  # fmt: skip

    def collective(self, types: str | Sequence[str], op: PlannedOp, share: float = 1.0) -> RunKernel:
        row = self.kernel(types, [op], share=share)
        row.stream, row.shaped, row.inputs, row.outputs = 1, False, [], []
        return row


def plain(*types: str) -> Callable[[Launcher, PlannedOp], Made]:
    """An op that runs as one kernel."""
    return lambda run, op: [run.kernel(types, [op])]


def moved(*types: str) -> Callable[[Launcher, PlannedOp], Made]:
    """An op that runs as one collective."""
    return lambda run, op: [run.collective(types, op)]
