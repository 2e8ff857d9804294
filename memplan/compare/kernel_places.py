"""Measured kernels in the model's words, and their files: a table, and a trace for other viewers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memplan.align import HOW, Alignment, place_in_words
from memplan.core.arrays import Int64s
from memplan.core.csv_rows import csv_rows
from memplan.core.files import replacing_file
from memplan.core.units import microseconds
from memplan.schema import Plan
from memplan.traces.kernel_lanes import kernel_lanes
from memplan.traces.profile import Kernels

_HEADER = (
    "row", "step", "stream", "start_ns", "duration_ns", "name", "type", "place", "phase", "micro_batch", "layer",
    "part", "not_in_plan", "planned_op", "planned_ns", "matched_by", "probability", "likeliest_op",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KernelPlaces:
    """
    The planned op of every kernel of a rank, -1 where there is none or it is in another step than the compared one.

    `alignment` is there where names did not tell; it knows what kernels are that no plan has, and covers all steps.
    """

    plan: Plan
    op: Int64s
    alignment: Alignment | None

    def place(self, row: int) -> str:
        """A kernel in the model's words, such as `layers.12.o_proj, backward, micro-batch 1`; empty if not known."""
        op = int(self.op[row])
        if self.alignment is not None and (path := self.alignment.scopes.path(row)):
            return path
        if op >= 0 and self.plan.ops[op].part is not None:
            return place_in_words(self.plan.ops[op])
        return self.plan.ops[op].name if op >= 0 else ""

    def what(self, row: int) -> str:
        """What a kernel that no plan has is, or that it is not told apart; empty for planned ones."""
        return "" if self.alignment is None or self.op[row] >= 0 else self.alignment.scopes.named(row)

    def probability(self, row: int) -> float | None:
        """How likely the place is right; `None` where names told it, and where it is not known."""
        if self.alignment is None or np.isnan(self.alignment.scopes.place_probability[row]):
            return None
        return float(self.alignment.scopes.place_probability[row])

    def ways(self) -> Sequence[str]:
        """How each kernel was matched, empty for those that were not."""
        found = ["name" if op >= 0 and self.alignment is None else "" for op in self.op.tolist()]
        if self.alignment is not None:
            pairs = self.alignment.matches
            for kernel, how in zip(pairs.kernel.tolist(), pairs.how.tolist(), strict=True):
                found[kernel] = HOW[how].value
        return found

    def unsure_ops(self) -> Mapping[int, int]:
        """The likeliest op, by kernel, of those that are not told apart: not sure enough to be stated."""
        return {} if self.alignment is None else self.alignment.unsure.first_ops()

    def rows(self, kernels: Kernels) -> Iterator[tuple[object, ...]]:
        """A row of the table for every kernel, in order of start."""
        ways = self.ways()
        scopes = self.alignment.scopes if self.alignment is not None else None
        unsure = self.unsure_ops()
        columns = zip(
            kernels.step.tolist(), kernels.stream.tolist(), kernels.start_ns.tolist(), kernels.duration_ns.tolist(),
            kernels.name, kernels.type, self.op.tolist(), strict=True,
        )  # fmt: skip
        for row, (step, stream, start, duration, name, kind, index) in enumerate(columns):
            op = self.plan.ops[index] if index >= 0 else None
            phase, batch, layer, part = (
                ("", None, None, "") if op is None else (op.phase, op.micro_batch, op.layer, op.part)
            )
            if scopes is not None:
                phase = scopes.phases[scopes.phase[row]] if scopes.phase[row] >= 0 else ""
                part = scopes.parts[scopes.part[row]] if scopes.part[row] >= 0 else ""
                batch, layer = _known(int(scopes.micro_batch[row])), _known(int(scopes.layer[row]))
            sure = self.probability(row)
            yield (
                row, _blank(step), _blank(stream), start, duration, name, kind, self.place(row), phase or "",
                "" if batch is None else batch, "" if layer is None else layer, part or "", self.what(row),
                "" if op is None else op.name, "" if op is None else op.duration_ns, ways[row],
                "" if sure is None else round(sure, 4), self.plan.ops[unsure[row]].name if row in unsure else "",
            )  # fmt: skip


def kernel_places(plan: Plan, count: int, rows: Int64s, owner: Int64s, alignment: Alignment | None) -> KernelPlaces:
    """Places of all `count` kernels of a rank; `owner` is the planned op of those `rows` that are of the step."""
    if alignment is not None:
        return KernelPlaces(plan, alignment.op_of_kernel(), alignment)
    op = np.full(count, -1, dtype=np.int64)
    op[rows] = owner
    return KernelPlaces(plan, op, None)


def write_kernels(places: KernelPlaces, kernels: Kernels, path: Path) -> None:
    """Write every kernel with its place: a CSV table, or a trace for other viewers if `path` ends in .json."""
    with replacing_file(path) as file:
        if path.suffix.casefold() != ".json":
            writer = csv.writer(file)
            writer.writerow(_HEADER)
            writer.writerows(csv_rows(places.rows(kernels)))
            return
        lanes = kernel_lanes(kernels)
        events: list[dict[str, Any]] = [
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": lane, "args": {"name": name}}
            for lane, name in enumerate(lanes.names)
        ]
        file.write("[\n" + ",\n".join(map(json.dumps, events)))
        for done, row in enumerate(places.rows(kernels)):
            facts = dict(zip(_HEADER, row, strict=True))
            event = {
                "ph": "X", "name": facts["place"] or facts["name"], "cat": facts["phase"] or "not in the plan",
                "pid": 1, "tid": int(lanes.lane[done]), "ts": microseconds(int(kernels.start_ns[done])),
                "dur": int(kernels.duration_ns[done]) / 1000,
                "args": {key: value for key, value in facts.items() if value != ""},
            }  # fmt: skip
            file.write(",\n")
            json.dump(event, file, ensure_ascii=False)
        file.write("\n]\n")


def _known(number: int) -> int | None:
    return None if number < 0 else number


def _blank(number: int) -> int | str:
    return "" if number < 0 else number
