"""
Times that users wait against public services: `python -m benchmarks.service_levels`.

Prints the table of docs/serving.md; which rows say what, and where they are from, is in `service_levels.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.bisection import largest_fitting
from memplan.deployment.service_goal import even_workload
from memplan.deployment.service_model import mixed_service, prompt_reading
from memplan.deployment.step_curve import StepCurve
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep

ROWS = Path(__file__).with_name("service_levels.json")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One published figure beside the predicted one."""

    name: str
    what: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Signed relative error."""
        return self.predicted / self.measured - 1


def rate_rows() -> Iterator[ServiceRow]:
    """Medians of requests that arrive at random, for a step of 2,048 tokens."""
    told = _told()["rates"]
    prompt, answer = told["prompt"], told["answer"]
    step = ServedStep(Phase.DECODE, 1, prompt + answer // 2, precision="bf16")
    exact = frozenset({prompt})
    model, die = load_config(told["model"]), chip(told["chip"])
    for row in told["rows"]:
        host = row.get("host", "vllm-ascend-full")
        curve = StepCurve(model, Layout(), die, host, step, None, exact=exact)
        load = even_workload(row["rate"], prompt, answer)
        found = mixed_service(curve, load, 1, prompt_reading(curve, load, 2048, 0.5), room=256, part=0.5)
        name = f"{row['engine']}, {row['rate']} requests/s"
        yield ServiceRow(name, "first token, ms", row["ttft_ms"], found.ttft_ns / 1e6)
        yield ServiceRow(name, "a token, ms", row["tpot_ms"], found.tpot_ns / 1e6)


def goal_rows(data: Path = DATA) -> Iterator[ServiceRow]:
    """The most sequences of a package that keep a time a token, none predicted where not even one a die does."""
    told = _told()["goals"]
    ranks = told["data"]
    step = ServedStep(Phase.DECODE, ranks, told["context"], speculative=told["drafts"], precision="w8a8")
    model = load_config(data / "configs" / told["config"])
    layout = Layout(data=ranks, expert=ranks)
    curve = StepCurve(model, layout, chip(told["chip"]), "captured", step, told["accepted"])
    for row in told["rows"]:
        goal = row["tpot_ms"] * 1e6

        def kept(sequences: int, goal: float = goal) -> bool:
            point = curve.decoding(sequences)
            return point.duration_ns / point.yielded <= goal

        most = largest_fitting(kept, 256)
        point = curve.decoding(max(1, most))
        rate = 2 * most * point.yielded / point.duration_ns * 1e9
        name = f"{told['name']}, a token in {row['tpot_ms']} ms"
        yield ServiceRow(name, "tokens/s of a package", row["tokens_per_second"], rate)


def prompt_rows(data: Path = DATA) -> Iterator[ServiceRow]:
    """Tokens of prompts a second of a package."""
    told, goals = _told()["prompts"], _told()["goals"]
    ranks, length = told["data"], told["length"]
    # Each rank has a copy of one more expert, placed by a balancer.
    step = ServedStep(Phase.DECODE, ranks, length, precision="w8a8", even_routing=True)
    model = load_config(data / "configs" / goals["config"])
    layout = Layout(data=ranks, expert=ranks)
    curve = StepCurve(model, layout, chip(goals["chip"]), "captured", step, None, exact=frozenset({length}))
    rate = 2 * length / curve.reading(length).pace_ns * 1e9
    yield ServiceRow(told["name"], "tokens/s of a package, as it is", told["low"], rate)
    yield ServiceRow(told["name"], "tokens/s of a package, experts balanced", told["high"], rate)


def _told() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ROWS.read_text("utf-8"))
    return found


def main() -> None:
    """Print the table."""
    print("| service | figure | published | predicted | error |\n|---|---|---|---|---|")
    for row in (*rate_rows(), *goal_rows(), *prompt_rows()):
        print(f"| {row.name} | {row.what} | {row.measured:,.4g} | {row.predicted:,.4g} | {row.error:+.0%} |")


if __name__ == "__main__":
    main()
