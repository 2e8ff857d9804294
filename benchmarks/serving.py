"""
The serving model against published tables: `python -m benchmarks.serving [VALIDATION.json] [--details]`.

Prints one row per published measurement: those of the shared data, and more from the same publishers' pages. Every row
is computed with the same constants; what a row does not say (layout, draft tokens) comes from the configuration files
that its own page publishes, in `serving_cases.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.engines import CAPTURED
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.architecture import Quantization
from memplan.models.parallel import Layout
from memplan.models.precision import PUBLISHED
from memplan.models.steps import Phase, ServedStep
from memplan.serving import StepTime, step_time

CASES = Path(__file__).with_name("serving_cases.json")
MORE = Path(__file__).with_name("serving_more.json")
"""Published rows beside those of the shared data: other formats and layouts, dense models, a prefill."""
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Row:
    """One published row: its name, the milliseconds measured and predicted, and the prediction."""

    name: str
    measured_ms: float
    time: StepTime
    source: str = ""

    @property
    def predicted_ms(self) -> float:
        """Predicted time per token, of a prefill the time to the first."""
        time = self.time
        return (time.duration_ns if time.tpot_ns is None else time.tpot_ns) / 1e6

    @property
    def error(self) -> float:
        """Signed relative error."""
        return self.predicted_ms / self.measured_ms - 1


def rows(validation: Path, configs: Path) -> Iterator[Row]:
    """Every serving row of `validation`; raises `LookupError` for one that no case describes."""
    document = json.loads(CASES.read_text("utf-8"))
    for row in json.loads(validation.read_text("utf-8")):
        if row["kind"] in ("serving_decode", "serving_prefill"):
            yield predict(row, document, configs)


def predict(row: Mapping[str, Any], document: Mapping[str, Any], configs: Path) -> Row:
    """The prediction for one row."""
    workload = row["workload"]
    case = _first(document["cases"], workload)
    form = _first(document["precisions"], workload)
    names = sorted((name for name in document["models"] if name in workload), key=len)
    if not names:
        raise LookupError(f"no model is known for {workload}")
    config = document["models"][names[-1]]
    if isinstance(config, str):
        config = json.loads((configs / config).read_text("utf-8"))
    model = load_config({key: value for key, value in config.items() if key not in case.get("drop", ())})
    precision = form["precision"]
    # Linear layers that the page's converter leaves in 16 bits, and those of the recipe that it does not.
    if "linears" in case:
        wide, narrow = (tuple(case["linears"][name]) for name in ("wide", "narrow"))
        told = Quantization("as its page says", 8, 8, 0, 0, 0, 0, recipe=precision, wide=wide, narrow=narrow)
        model, precision = replace(model, quantization=told, stored=None), PUBLISHED
    expert = row.get("expert") or case.get("expert") or row["chips"] * case["dies_per_chip"]
    batch = row.get("global_batch") or row["batch"] * expert // case["dies_per_chip"]
    context = row.get("seq") or row["prompt"] + row["output"] // 2
    prefill = row["kind"] == "serving_prefill"
    ranks = ("output_parallel", "dense_parallel", "embedding_parallel", "head_parallel")
    step = ServedStep(
        Phase.PREFILL if prefill else Phase.DECODE,
        batch=batch,
        context=context,
        speculative=0 if prefill else row.get("mtp", case["speculative"]),
        precision=precision,
        kv=form["kv"],
        index_c8=form["index_c8"],
        # Tables of reference stacks tell that experts are balanced, most by force.
        even_routing=True,
        **{name: case[name] for name in ranks if name in case},
    )
    layout = Layout(tensor=row.get("tensor", 1), data=min(expert, batch), expert=expert)
    time = step_time(model, layout, step, chip(case["chip"]), engine=CAPTURED)
    chips = row.get("chips") or layout.ranks // case["dies_per_chip"]
    label = f"{workload}, {batch} x {context:,}, {chips} chips"
    return Row(label, row["ttft_ms" if prefill else "tpot_ms"], time, row["source"])


def serving_rows(validation: Path, configs: Path, *, every: int = 1) -> Iterator[MeasuredRow]:
    """Each `every`-th published step, those of `serving_more.json` behind those of `validation`."""
    document = json.loads(CASES.read_text("utf-8"))
    told = [*json.loads(validation.read_text("utf-8")), *json.loads(MORE.read_text("utf-8"))]
    for row in [row for row in told if row["kind"] in ("serving_decode", "serving_prefill")][::every]:
        found = predict(row, document, configs)
        kind = "decode" if row["kind"] == "serving_decode" else "prefill"
        chip_name = found.time.chip
        yield MeasuredRow(kind, found.source, chip_name, found.name, "ms", found.measured_ms, found.predicted_ms)


def exchange_rows(validation: Path) -> Iterator[MeasuredRow]:
    """Published dispatch and combine."""
    sources = {
        row["op"]: row["source"] for row in json.loads(validation.read_text("utf-8")) if row["kind"] == "moe_comm"
    }
    for name, measured, predicted in exchanges(validation):
        yield MeasuredRow("exchanges", sources[name.split()[0]], "910C", name, "us", measured, predicted)


def _first(entries: list[dict[str, Any]], workload: str) -> dict[str, Any]:
    for entry in entries:
        if all(word in workload for word in entry["words"]):
            return entry
    raise LookupError(f"no case describes {workload}")


def exchanges(validation: Path) -> Iterator[tuple[str, float, float]]:
    """Published dispatch and combine: name, measured and predicted microseconds for 128 tokens of 8 experts a die."""
    model = load_config(DATA / "configs" / "deepseek-ai--DeepSeek-R1.json")
    model = replace(model, layers=model.layers[:4])
    for row in json.loads(validation.read_text("utf-8")):
        if row["kind"] != "moe_comm":
            continue
        ranks = row["ep"]
        step = ServedStep(Phase.DECODE, batch=128 * ranks, context=4096, precision="w8a8", even_routing=True)
        time = step_time(model, Layout(data=ranks, expert=ranks), step, chip("910C"), engine=CAPTURED)
        kind = {"dispatch": "MoeDistributeDispatch", "combine": "MoeDistributeCombine"}[row["op"]]
        found = next(item for item in time.stages[0].ops if item.op.type == kind)
        yield f"{row['op']} EP{ranks}", row["latency_us"], found.duration_ns / 1e3


def print_rows(found: list[Row], *, details: bool) -> None:
    """Every row, and the median of the errors."""
    print("| workload | published ms | predicted ms | error | step ms |")
    print("|---|---|---|---|---|")
    for row in found:
        step = row.time.duration_ns / 1e6
        print(f"| {row.name} | {row.measured_ms:.2f} | {row.predicted_ms:.2f} | {row.error:+.1%} | {step:.1f} |")
        if details:
            print(", ".join(f"{s.name} {s.duration_ns / 1e6:.2f} ms ({s.launches})" for s in row.time.by_class))
    errors = [abs(row.error) for row in found]
    print(f"\n{len(found)} rows: median absolute error {median(errors):.1%}, largest {max(errors):.1%}\n")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("validation", nargs="?", type=Path, default=DATA / "hardware" / "validation.json")
    parser.add_argument("--configs", type=Path, default=DATA / "configs")
    parser.add_argument("--details", action="store_true", help="What each step is spent on.")
    options = parser.parse_args()
    print_rows(list(rows(options.validation, options.configs)), details=options.details)
    print_rows(list(rows(MORE, options.configs)), details=options.details)
    print("| exchange | published us | predicted us | error |")
    print("|---|---|---|---|")
    for name, measured, predicted in exchanges(options.validation):
        print(f"| {name} | {measured:.0f} | {predicted:.0f} | {predicted / measured - 1:+.1%} |")


if __name__ == "__main__":
    main()
