"""The cost model against published kernels: each row of `validation.json` with the tiling its own page describes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.machine import Machine, machine
from memplan.cost.product_costs import matmul_cost
from memplan.cost.products import MatmulProblem, Tiling
from memplan.cost.transfer import Copy, copy_time, dirty_in_l2
from memplan.cost.vector import vector_passes, vector_time, vector_work
from memplan.hardware import chip

CASES = Path(__file__).with_name("aicore_cases.json")
PIPES = {"mac_us": "cube", "mte1_us": "mte1", "mte2_us": "mte2", "mte2_or_aicore_us": "mte2", "vec_us": "vector"}


@dataclass(frozen=True, slots=True)
class Published:
    """One published kernel: what was measured and what is predicted, microseconds; `None` where not published."""

    name: str
    measured: float | None
    predicted: float
    pipes: Mapping[str, tuple[float, float]]
    is_source: bool
    source: str
    chip: str

    @property
    def error(self) -> float | None:
        """Signed relative error of the task time."""
        return None if self.measured is None else self.predicted / self.measured - 1


def published(path: Path) -> Iterator[Published]:
    """Every kernel row of `validation.json`; raises `LookupError` for one that no case describes."""
    document = json.loads(CASES.read_text("utf-8"))
    for row in json.loads(path.read_text("utf-8")):
        if row["kind"] != "kernel":
            continue
        case = _case(document["cases"], row)
        name = next(name for key, name in document["chips"].items() if key in row["chip"])
        predicted = predict(case, machine(chip(name)))
        pipes = {
            f"{pipe}": (float(row[column]), predicted[pipe] / 1e3)
            for column, pipe in PIPES.items()
            if row.get(column) is not None and pipe in predicted
        }
        yield Published(
            name=f"{row['chip']}: {row['op']}, {row['shape']}",
            measured=row["task_duration_us"],
            predicted=predicted["time"] / 1e3,
            pipes=pipes,
            is_source=bool(case.get("source")),
            source=row["source"],
            chip=name,
        )


def published_rows(path: Path) -> Iterator[MeasuredRow]:
    """The task times among the published kernels."""
    for row in published(path):
        if row.measured is not None:
            what, shares = row.name, row.is_source
            yield MeasuredRow("kernels", row.source, row.chip, what, "us", row.measured, row.predicted, shares)


def _case(cases: list[dict[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    for case in cases:
        fits = case["op"] == row["op"] and case.get("shape", row["shape"]) == row["shape"]
        if fits and case.get("chip", "") in row["chip"]:
            return case
    raise LookupError(f"no case describes {row['op']} on {row['chip']}")


def predict(case: Mapping[str, Any], core: Machine) -> dict[str, float]:
    """Nanoseconds of the whole (`time`) and of each pipe."""
    return {"matmul": _matmul, "copy": _copy, "add": _add}[case["kind"]](case, core)


def _matmul(case: Mapping[str, Any], core: Machine) -> dict[str, float]:
    groups, width = case.get("groups", 1), float(case.get("width", 2))
    rate = core.mac_rate(case.get("dtype", "float16"))
    assert rate is not None, f"{core.name} does not multiply {case['dtype']}"
    problem = MatmulProblem(
        m=case["m"], n=case["n"], k=case["k"], batch=groups, a_batch=groups, b_batch=groups, a_bytes=width,
        b_bytes=width, out_bytes=float(case.get("out", 2 if width <= 2 else 4)), b_run=case.get("b_run", "n"),
        mac_rate=rate,
    )  # fmt: skip
    m, n, k, k_l1 = case["tile"]
    tiling = Tiling(m, n, k, k_l1, l1_buffers=case.get("l1_buffers", 2))
    after = case.get("after")
    passes = after["passes"] + vector_passes(op_class(after["activation"]), core) if after else 0.0
    cost = matmul_cost(problem, core, tiling=tiling, passes=passes, blocks=case.get("cores", 0))
    return {"time": float(cost.duration_ns), **cost.pipes}


def _copy(case: Mapping[str, Any], core: Machine) -> dict[str, float]:
    to_l1 = case["path"] == "l1"
    copy = Copy(
        read=case["read"], hot=case.get("hot", 0), instruction=case["instruction"], row=case["row"],
        stride=case.get("stride", 0), path=case["path"], converts=to_l1,
    )  # fmt: skip
    time = copy_time(copy, core, core.cubes if to_l1 else core.vectors).read_ns
    head = core.head_ns(core.cubes, 0) if to_l1 else core.head_ns(0, core.vectors)
    return {"time": time + head, "mte2": time}


def _add(case: Mapping[str, Any], core: Machine) -> dict[str, float]:
    x = Operand((8192, 8192), "float16")
    work = vector_work(Kernel("Add", (x, x), (x,)), op_class("Add"), core)
    work = replace(work, piece=case["piece"], pieces=work.read / 2 / core.vectors / case["piece"])
    bypass = case.get("bypass", False)
    kept = dirty_in_l2(work.read, work.written, core.l2, bypass=bypass)
    time = vector_time(work, core, kept=kept, double_buffer=case.get("double_buffer", True))
    return {"time": time.duration, "vector": time.vector}
