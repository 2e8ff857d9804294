"""
The serving model against published tables: `python -m benchmarks.serving [VALIDATION.json] [--details]`.

Prints one row per published measurement. Every row is computed with the same constants; what a row does not say
(layout, draft tokens) comes from the configuration files that its own page publishes, in `serving_cases.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, Step
from memplan.serving import StepTime, step_time

CASES = Path(__file__).with_name("serving_cases.json")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Row:
    """One published row: its name, the milliseconds measured and predicted, and the prediction."""

    name: str
    measured_ms: float
    time: StepTime

    @property
    def predicted_ms(self) -> float:
        """Predicted time per token."""
        assert self.time.tpot_ns is not None
        return self.time.tpot_ns / 1e6

    @property
    def error(self) -> float:
        """Signed relative error."""
        return self.predicted_ms / self.measured_ms - 1


def rows(validation: Path, configs: Path) -> Iterator[Row]:
    """Every decode row of `validation`; raises `LookupError` for one that no case describes."""
    document = json.loads(CASES.read_text("utf-8"))
    for row in json.loads(validation.read_text("utf-8")):
        if row["kind"] == "serving_decode":
            yield predict(row, document, configs)


def predict(row: Mapping[str, Any], document: Mapping[str, Any], configs: Path) -> Row:
    """The prediction for one row."""
    workload = row["workload"]
    case = _first(document["cases"], workload)
    form = _first(document["precisions"], workload)
    names = sorted((name for name in document["models"] if name in workload), key=len)
    if not names:
        raise LookupError(f"no model is known for {workload}")
    model = load_config(configs / document["models"][names[-1]])
    expert = case.get("expert") or row["chips"] * case["dies_per_chip"]
    batch = row.get("global_batch") or row["batch"] * expert // case["dies_per_chip"]
    context = row.get("seq") or row["prompt"] + row["output"] // 2
    ranks = ("output_parallel", "dense_parallel", "embedding_parallel", "head_parallel")
    step = Step(
        Phase.DECODE,
        batch=batch,
        context=context,
        speculative=row.get("mtp", case["speculative"]),
        precision=form["precision"],
        kv=form["kv"],
        index_c8=form["index_c8"],
        **{name: case[name] for name in ranks if name in case},
    )
    time = step_time(model, Layout(data=min(expert, batch), expert=expert), step, chip(case["chip"]))
    label = f"{workload}, {batch} x {context:,}, {row.get('chips', expert // case['dies_per_chip'])} chips"
    return Row(label, row["tpot_ms"], time)


def _first(entries: list[dict[str, Any]], workload: str) -> dict[str, Any]:
    for entry in entries:
        if all(word in workload for word in entry["words"]):
            return entry
    raise LookupError(f"no case describes {workload}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("validation", nargs="?", type=Path, default=DATA / "hardware" / "validation.json")
    parser.add_argument("--configs", type=Path, default=DATA / "configs")
    parser.add_argument("--details", action="store_true", help="What each step is spent on.")
    options = parser.parse_args()
    found = list(rows(options.validation, options.configs))
    print("| workload | TPOT published ms | predicted ms | error | step ms |")
    print("|---|---|---|---|---|")
    for row in found:
        step = row.time.duration_ns / 1e6
        print(f"| {row.name} | {row.measured_ms:.2f} | {row.predicted_ms:.2f} | {row.error:+.1%} | {step:.1f} |")
        if options.details:
            print(", ".join(f"{s.name} {s.duration_ns / 1e6:.2f} ms ({s.launches})" for s in row.time.by_class))
    errors = [abs(row.error) for row in found]
    print(f"\n{len(found)} rows: median absolute error {median(errors):.1%}, largest {max(errors):.1%}")


if __name__ == "__main__":
    main()
