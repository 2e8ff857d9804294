"""What of the model every kernel is, planned or not, and what those are that no plan has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy, each_step
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import ExtraOp, PlannedSequence, TextNumbers, planned_places
from memplan.core.arrays import Bools, Floats, Int32s, Int64s
from memplan.core.resources import table
from memplan.models.steps.options import Phase, is_served
from memplan.schema import Plan, PlannedOp

OTHER_PHASE = "other"
"""The phase of kernels that stand between phases or after the step and serve none of them."""
NOT_TOLD_APART = "not told apart"
"""What a kernel is of which no op and no absence from the plan is sure enough to be stated."""
_NORMS = 3
"""Norms in a row from which they are those of gradients, weight by weight, not a check of one bucket."""
_SERVED = (Phase.PREFILL.value, Phase.DECODE.value)
_MANY = 4.0
"""Tokens for each row of logits, in comparison with the plan, from which a step is of the other kind."""
_OF_THEIR_OWN = ("check for NaN", "gradient norm", "sampling", "random numbers")
"""What kernels are that are neither logging nor a step's data, wherever they stand."""
_SERVED_DATA = "inputs and outputs of the step"
"""What small kernels between two steps of an engine are: ids, positions, places in the cache, lengths, tokens."""
_PADDED = 0.001
"""By what share of it a buffer of gradients may be longer than the weights."""
_SMALL = 1 << 16
"""Elements up to which a kernel after the step counts as logging."""


@dataclass(frozen=True, slots=True)
class KernelScopes:
    """
    What of the model each kernel is, planned or not, one row a kernel: `phases[phase]`, `parts[part]`.

    `micro_batch` and `layer` are -1 where none applies; `what` is -1 for planned kernels, else numbers `whats`: what
    an unplanned kernel is. `probability` is that of phase, micro-batch, layer and part together, whichever op of
    them it runs; of an unplanned kernel that no planned op runs it. Both are calibrated.

    A kernel that is `NOT_TOLD_APART` may be planned or not: it has no part, and NaN as its `probability`.
    `place_probability` is that of phase, micro-batch and layer alone; where that is NaN, these are not known either.
    """

    phase: Int32s
    micro_batch: Int32s
    layer: Int32s
    part: Int32s
    what: Int32s
    probability: Floats
    place_probability: Floats
    phases: tuple[str, ...]
    parts: tuple[str, ...]
    whats: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.phase)

    def named(self, kernel: int) -> str:
        """What an unplanned kernel is, empty for a planned one and where it is not known."""
        return self.whats[self.what[kernel]] if self.what[kernel] >= 0 else ""

    def untold(self) -> Bools:
        """Which kernels are not told apart."""
        number = self.whats.index(NOT_TOLD_APART) if NOT_TOLD_APART in self.whats else len(self.whats)
        found: Bools = self.what == number
        return found

    def path(self, kernel: int) -> str:
        """A kernel in the model's words: `layers.12.attention, backward, micro-batch 1`; empty if nothing is known."""
        part = self.parts[self.part[kernel]] if self.part[kernel] >= 0 else ""
        phase = self.phases[self.phase[kernel]] if self.phase[kernel] >= 0 else ""
        return _words(int(self.layer[kernel]), part, self.named(kernel), phase, int(self.micro_batch[kernel]))


def place_in_words(op: PlannedOp) -> str:
    """A planned op in the model's words: `layers.12.o_proj, backward, micro-batch 1`."""
    layer, batch = (-1 if number is None else number for number in (op.layer, op.micro_batch))
    return _words(layer, op.part or op.name, "", op.phase or "", batch)


def _words(layer: int, part: str, what: str, phase: str, micro_batch: int) -> str:
    """One spelling for what of a model something is; -1 and empty texts are left out."""
    if layer >= 0:
        part = f"layers.{layer}.{part}".rstrip(".")
    batch = f"micro-batch {micro_batch}" if micro_batch >= 0 else ""
    return ", ".join(text for text in (part, what, phase, batch) if text)


def kernel_scopes(both: PlanAndRun, found: KernelAssignment) -> KernelScopes:
    """The scopes of all kernels of an assignment."""
    plan, sequence, kernels, kernel_class = both.plan, both.sequence, both.kernels, both.kernel_class
    phases, parts, whats = TextNumbers(sequence.phases), TextNumbers(sequence.parts), TextNumbers()
    of_row = np.column_stack([sequence.place, np.full(len(sequence), -1, dtype=np.int32)])
    beside = np.flatnonzero(sequence.extra >= 0)
    of_row[beside] = _extra_scopes(plan, sequence, beside, phases, parts, whats)
    columns = np.full((len(found.row), 5), -1, dtype=np.int32)
    matched = found.row >= 0
    columns[matched] = of_row[_longest_rows(sequence, found)[matched]]
    # What the way back runs again belongs to the way back.
    again = found.how == HOW.index(MatchedBy.AGAIN)
    again &= matched
    columns[again, 0] = of_row[found.place[again], 0]
    _joint(of_row, found, columns, phases("optimizer"))
    _other_phases(both, found, columns, phases)
    # What is exchanged around the updates is of all weights.
    exchanged = kernels.among(family_table().collectives)[kernel_class] & matched
    exchanged[matched] &= sequence.extra[found.row[matched]] >= 0
    columns[exchanged, 2:4] = -1
    between = {
        (whats(rule["after"]), whats(rule["before"])): rule["what"]
        for rule in table("memplan.align", "lowering.json")["between"]
    }
    for kernel, phase, what in _Unplanned(both, found, columns, between).named():
        columns[kernel, 0] = phases(phase) if isinstance(phase, str) else phase
        columns[kernel, 4] = whats(what)
    return KernelScopes(
        columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3], columns[:, 4], found.scope_chance.copy(),
        found.scope_chance.copy(), phases.values(), parts.values(), whats.values(),
    )  # fmt: skip


def _longest_rows(sequence: PlannedSequence, found: KernelAssignment) -> Int64s:
    """The row of each kernel; of those that run several ops, that of the op planned to take longest."""
    rows = found.row.copy()
    fused = np.flatnonzero((rows >= 0) & (found.first < found.last))
    first, last = found.first[fused], found.last[fused]
    longest = first.copy()
    for further in range(1, int((last - first).max(initial=0)) + 1):
        row = np.minimum(first + further, last)
        longest = np.where(sequence.time[row] > sequence.time[longest], row, longest)
    rows[fused] = np.where(sequence.time[longest] > 0, longest, rows[fused])
    return rows


def _extra_scopes(
    plan: Plan,
    sequence: PlannedSequence,
    rows: Int64s,
    phases: TextNumbers,
    parts: TextNumbers,
    whats: TextNumbers,
) -> Int32s:
    """The five columns of rows beside the ops: each is where its op is, or of all weights."""
    extras = [sequence.extras[number] for number in sequence.extra[rows].tolist()]
    places = planned_places(plan, np.array([extra.of for extra in extras], dtype=np.int64), phases, parts)
    found = np.full((len(rows), 5), -1, dtype=np.int32)
    found[:, 0] = [phases(extra.phase) for extra in extras]
    found[:, 1] = places[:, 1]
    found[:, 4] = [whats(extra.what) for extra in extras]
    for row, extra in enumerate(extras):
        part = plan.ops[extra.of].part
        if part is not None and not extra.whole:
            found[row, 2], found[row, 3] = places[row, 2], parts(part.rpartition(".")[0] or part)
    return found


def _joint(of_row: NDArray[np.int32], found: KernelAssignment, columns: NDArray[np.int32], optimizer: int) -> None:
    """
    A kernel that runs ops of several micro-batches or layers is of none of them.

    But for one that ends a layer and begins the next, as engines fuse the sum behind a layer with the norm before the
    next one: it is where the longest of its ops is.
    """
    for kernel in np.flatnonzero((found.row >= 0) & (found.first != found.last)).tolist():
        span = of_row[found.first[kernel] : found.last[kernel] + 1]
        batches, layers = (len(np.unique(span[:, column])) for column in (1, 2))
        if batches > 1:
            columns[kernel, 1] = -1
        if layers > 1 and (batches > 1 or layers > 2 or (span[:, 0] == optimizer).any()):
            columns[kernel, 2] = -1


def _other_phases(both: PlanAndRun, found: KernelAssignment, columns: NDArray[np.int32], phases: TextNumbers) -> None:
    """
    Name steps of a served model that are of the other kind than the planned one.

    Layers and parts are the same, but a prompt has many tokens for each row that logits are made of, a decode step one.
    """
    plan, sequence, kernels, kernel_class = both.plan, both.sequence, both.kernels, both.kernel_class
    own = next((op.phase for op in plan.ops if op.phase in _SERVED), None)
    if own is None:
        return
    matched = np.flatnonzero((found.row >= 0) & found.core)
    token = sequence.token[found.row[matched]]
    planned, made = sequence.classes.outputs[token].max(axis=1), kernels.outputs[kernel_class[matched]].max(axis=1)
    known = (planned > 0) & (made > 0) & (sequence.op[found.row[matched]] >= 0)
    matched, times = matched[known], made[known] / planned[known]
    ops = [plan.ops[op] for op in sequence.op[found.row[matched]].tolist()]
    head = np.array([op.part == "lm_head" for op in ops], dtype=np.bool_)
    layer = np.array([op.layer is not None for op in ops], dtype=np.bool_)
    other: list[int] = []
    for mine in each_step(found.step[matched]):
        heads, layers = times[mine[head[mine]]], times[mine[layer[mine]]]
        if not len(heads) or not len(layers):
            continue
        tokens_of_row = float(np.median(layers) / np.median(heads))
        if max(tokens_of_row, 1.0 / tokens_of_row) >= _MANY and (tokens_of_row > 1.0) is (own == _SERVED[1]):
            other.append(int(found.step[matched[mine[0]]]))
    whole = np.isin(found.step, other) & (columns[:, 0] == phases(own))
    columns[whole, 0] = phases(_SERVED[0] if own == _SERVED[1] else _SERVED[1])


def _zeroed(sequence: PlannedSequence) -> dict[int, ExtraOp]:
    """What is filled before a step, by its size."""
    fill = family_table().number("fill")
    rows = np.flatnonzero((sequence.extra >= 0) & (sequence.classes.main[sequence.token] == fill))
    sizes = sequence.classes.inputs[sequence.token[rows]].max(axis=1) if len(rows) else rows
    return {
        size: sequence.extras[number]
        for size, number in zip(sizes.tolist(), sequence.extra[rows].tolist(), strict=True)
    }


class _Unplanned:
    """Names for kernels that no planned op runs, from what they are and what stands around them."""

    def __init__(
        self,
        both: PlanAndRun,
        found: KernelAssignment,
        columns: NDArray[np.int32],
        between: Mapping[tuple[int, int], str],
    ) -> None:
        sequence, kernels = both.sequence, both.kernels
        self.kernels, self.kernel_class, self.columns, self.between = kernels, both.kernel_class, columns, between
        self.zeroed = _zeroed(sequence)
        self.beside_step = _SERVED_DATA if is_served(both.plan) else "logging or status"
        self.free = found.row < 0
        largest = np.maximum(kernels.inputs.max(axis=1, initial=0), kernels.outputs.max(axis=1, initial=0))
        self.mains, self.sizes = kernels.main.tolist(), largest.tolist()
        self.step = found.step
        known = family_table()
        self.norm = known.number("vector_norm")
        self.positions, self.fill = {known.number("range")}, known.number("fill")
        self.collective = known.collectives
        # Beside a plan of one device collectives are those of the training, not of its logging.
        exchanges = bool(sequence.classes.among(known.collectives)[sequence.token].any())
        self.foreign = frozenset() if exchanges else known.collectives
        self.rules: list[tuple[str, frozenset[int], bool | None]] = [
            (rule["what"], frozenset(known.number(name) for name in rule["families"]), rule["scalar"])
            for rule in self._table()["unplanned"]
        ]

    @staticmethod
    def _table() -> Mapping[str, Any]:
        return table("memplan.align", "lowering.json")

    def named(self) -> Iterator[tuple[int, int | str, str]]:
        """`(kernel, phase, what)` of every unplanned kernel; sets micro-batch and layer where those around agree."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self.free.astype(np.int8), [0]))))
        for begin, end in edges.reshape(-1, 2).tolist():
            yield from self._run(begin, end)

    def _run(self, begin: int, end: int) -> Iterator[tuple[int, int | str, str]]:
        before = self.columns[begin - 1].tolist() if begin > 0 else None
        after = self.columns[end].tolist() if end < len(self.columns) else None
        classes = self.kernel_class[begin:end].tolist()
        mains = [self.mains[kind] for kind in classes]
        phase: int | str = OTHER_PHASE
        micro_batch = layer = -1
        outside = before is None or after is None or self.step[begin - 1] != self.step[end]
        if before is not None and after is not None and not outside:
            if before[0] == after[0]:
                phase = int(before[0])
            elif before[1] == after[1] and before[1] >= 0:
                phase = int(after[0])  # what stands before a phase serves it
            if phase != OTHER_PHASE and before[1] == after[1]:
                micro_batch = int(before[1])
                layer = int(before[2]) if before[2] == after[2] else -1
        small = "" if before is None or after is None else self.between.get((int(before[4]), int(after[4])), "")
        # Positions are made for what comes next, whatever ended before them.
        positions = next((place for place, main in enumerate(mains) if main in self.positions), len(mains))
        communicates = bool(self.collective & set(mains))
        for place, main in enumerate(mains):
            kernel = begin + place
            size = self.sizes[classes[place]]
            what = self._what(main, classes[place])
            zeroed = self._zeroed(size) if main == self.fill else None
            if zeroed is not None:
                # Where one step follows another nothing tells which of them sets gradients to zero.
                self.columns[kernel, 1], self.columns[kernel, 2] = -1, -1
                yield kernel, zeroed.phase, zeroed.what
                continue
            if place >= positions and after is not None:
                self.columns[kernel, 1], self.columns[kernel, 2] = after[1], layer
                yield kernel, int(after[0]), "positions"
                continue
            if small and size <= _SMALL and main not in self.collective:
                what = small
            elif (
                (outside or communicates) and size <= _SMALL and main not in self.foreign and what not in _OF_THEIR_OWN
            ):
                what = self.beside_step if outside else "logging or status"
            self.columns[kernel, 1], self.columns[kernel, 2] = micro_batch, layer
            yield kernel, phase, what

    def _zeroed(self, size: int) -> ExtraOp | None:
        """What of gradients is filled by a kernel of so many elements, padding of their buffer aside."""
        near = (extra for whole, extra in self.zeroed.items() if abs(size - whole) <= whole * _PADDED)
        return next(near, None)

    def _what(self, main: int, kind: int) -> str:
        for what, families, scalar in self.rules:
            if main in families - self.foreign and (scalar is None or scalar == bool(self.kernels.scalar[kind])):
                return what
        return family_table().names[main].replace("_", " ")
