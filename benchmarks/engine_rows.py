"""
Serving by an engine with a host of its own: throughput and time per token of public runs, predicted.

The host's time of a step is the median, over the sources, of what their steps took beyond the captured graph that is
predicted; each row is also predicted with the median of the other sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time
from memplan.serving.constants import host_step_ns

ROWS = Path(__file__).with_name("public_serving.json")
ENGINE = "vllm-ascend"


@dataclass(frozen=True, slots=True)
class EngineRow:
    """A published row: milliseconds of its captured step and of reading one prompt, and the tokens a step yields."""

    told: Mapping[str, Any]
    step_ms: float
    prompt_ms: float
    yielded: float

    @property
    def measured(self) -> float:
        """Tokens per second, or milliseconds a token."""
        return float(self.told.get("tokens_per_second") or self.told["tpot_ms"])

    def predicted(self, host_ms: float) -> float:
        """What is measured, with so much time of the host a step: prompts are read one after the other on a replica."""
        told, per_token = self.told, (self.step_ms + host_ms) / self.yielded
        if "tpot_ms" in told:
            return per_token
        own = told["batch"] / told["data"]
        wave = own * (self.prompt_ms + host_ms) + told["output"] * per_token
        return float(told["batch"] * told["output"] / wave * 1e3)

    @property
    def host_ms(self) -> float:
        """The host's time of a step with which the prediction is what was measured."""
        told = self.told
        if "tpot_ms" in told:
            return self.measured * self.yielded - self.step_ms
        own = told["batch"] / told["data"]
        wave = told["batch"] * told["output"] / self.measured * 1e3
        rest = wave - own * self.prompt_ms - told["output"] * self.step_ms / self.yielded
        return float(rest / (own + told["output"] / self.yielded))


def engine_rows(data: Path) -> list[EngineRow]:
    """Every row of `public_serving.json`; `data` is the shared data folder."""
    return [_row(told, data) for told in json.loads(ROWS.read_text("utf-8"))["rows"]]


def _row(told: Mapping[str, Any], data: Path) -> EngineRow:
    config = told["config"]
    model = load_config(json.loads((data / config).read_text("utf-8")) if isinstance(config, str) else config)
    layout = Layout(tensor=told["tensor"], data=told["data"], expert=told["expert"])
    context = told["prompt"] + told["output"] // 2
    precision = told["precision"]
    step = ServedStep(Phase.DECODE, told["batch"], context, speculative=told["drafts"], precision=precision)
    prompt = ServedStep(Phase.PREFILL, told["data"], told["prompt"], precision=precision)
    decoded = step_time(model, layout, step, told["chip"])
    read = step_time(model, layout, prompt, told["chip"])
    return EngineRow(told, decoded.duration_ns / 1e6, read.duration_ns / 1e6, decoded.tokens_per_sequence)


def host_median(rows: Sequence[EngineRow]) -> float:
    """Milliseconds of the host a step: the median over sources of the median of their rows."""
    sources: dict[str, list[float]] = {}
    for row in rows:
        sources.setdefault(row.told["source"], []).append(row.host_ms)
    return median(median(values) for values in sources.values())


def measured_engine_rows(data: Path) -> Iterator[MeasuredRow]:
    """The rows with the constant as shipped, and as the other sources have it."""
    rows = engine_rows(data)
    for row in rows:
        told = row.told
        others = [other for other in rows if other.told["source"] != told["source"]]
        yield MeasuredRow(
            f"served by {ENGINE}", told["source"], told["chip"], told["name"],
            "ms a token" if "tpot_ms" in told else "tokens/s", row.measured,
            row.predicted(host_step_ns(ENGINE) / 1e6), is_source=True, left_out=row.predicted(host_median(others)),
        )  # fmt: skip
