"""Assignments of a few kernels to the rows of a plan, for tests of what rules make of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.likelihood import Likelihoods
from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass, TokenClasses, token_classes
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence, planned_sequence
from memplan.core.arrays import Float32s, Int32s
from tests.align.known_runs import torch_plan
from tests.align.torch_kinds import ALL_RUNS


def made_run(
    sequence: PlannedSequence,
    kernel_class: Sequence[int] | Int32s,
    kernels: TokenClasses | None = None,
    ratios: Likelihoods | None = None,
    times: Float32s | None = None,
) -> PlanAndRun:
    """Kernels of those classes beside rows, without names or a plan, for rules that read nothing but what is given."""
    kinds = np.array(kernel_class, dtype=np.int32)
    nameless = (np.full(count, -1, dtype=np.int64) for count in (len(sequence), len(kinds)))
    row_names, kernel_names = nameless
    took = np.ones(len(kinds), dtype=np.float32) if times is None else times
    return PlanAndRun(None, sequence, row_names, ratios, kernels or sequence.classes, kinds, kernel_names, took)


class PlannedRows:
    """The rows of the plan of a recorded run: of each planned op by its name, and of each extra op by what it is."""

    def __init__(self, run: str, folder: Path) -> None:
        plan = torch_plan(ALL_RUNS[run], folder)
        self.sequence: PlannedSequence = planned_sequence(plan, [op.index for op in plan.ops if op.kernel is not None])
        self._rows = {plan.ops[op].name: row for row, op in enumerate(self.sequence.op.tolist()) if op >= 0}

    def of_layers(self, part: str) -> list[int]:
        """The rows of a part, in the order of the layers; of the first micro-batch."""
        return [row for name, row in self._rows.items() if name.startswith("micro_batch.0.") and name.endswith(part)]

    def extra(self, what: str) -> list[int]:
        """Rows of that extra op."""
        numbers = self.sequence.extra.tolist()
        return [row for row, number in enumerate(numbers) if number >= 0 and self.sequence.extras[number].what == what]


def made_assignment(rows: Sequence[int], core: Sequence[bool], chance: Sequence[float]) -> KernelAssignment:
    """Kernels with those rows, of one step."""
    row, whole = np.array(rows), np.array(core)
    how = np.where(whole, HOW.index(MatchedBy.KERNEL), HOW.index(MatchedBy.PART)).astype(np.int8)
    sure = np.array(chance, dtype=np.float64)
    return KernelAssignment(
        row, np.zeros(len(row), dtype=np.int64), row.copy(), sure, sure.copy(), how, row.copy(), row.copy(), whole
    )


def made_classes(kinds: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> TokenClasses:
    """Classes of kernels: the family, and what they read and make."""
    number = family_table().number
    return token_classes([TokenClass((number(family),), inputs, outputs, 16) for family, inputs, outputs in kinds])
