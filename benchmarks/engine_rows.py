"""
Serving by an engine with a host of its own: throughput and time per token of public runs, predicted.

The host's time of a step is the median, over the sources, of what their steps took beyond the captured graph that is
predicted, apart for synchronous and asynchronous scheduling; that of a draft the host launches the median of what is
left over it. Each row is also predicted with the medians of the other sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time
from memplan.serving.constants import eager_draft_ns, host_step_ns

ROWS = Path(__file__).with_name("public_serving.json")
ENGINE = "vllm-ascend"
SYNCHRONOUS = "vllm-ascend-synchronous"


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Milliseconds of the host: of a step by how it is scheduled, and of a draft by the attention of its model."""

    asynchronous: float
    synchronous: float
    dense_draft: float
    sparse_draft: float

    def of(self, row: EngineRow) -> float:
        """Those of a step of `row`."""
        told = row.told
        step = self.asynchronous if told["asynchronous"] else self.synchronous
        draft = self.sparse_draft if row.sparse else self.dense_draft
        return step + (told["drafts"] * draft if told["eager_drafts"] else 0.0)


@dataclass(frozen=True, slots=True)
class EngineRow:
    """
    A published row: milliseconds of its captured step and of reading one prompt, the tokens a step yields, and
    whether an indexer picks what is attended.
    """

    told: Mapping[str, Any]
    step_ms: float
    prompt_ms: float
    yielded: float
    sparse: bool

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
    sparse = any(share.name == "indexer" for share in decoded.by_class)
    return EngineRow(told, decoded.duration_ns / 1e6, read.duration_ns / 1e6, decoded.tokens_per_sequence, sparse)


def shipped_times() -> HostTimes:
    """The times of `memplan/serving/constants.json`."""
    return HostTimes(
        host_step_ns(ENGINE) / 1e6,
        host_step_ns(SYNCHRONOUS) / 1e6,
        eager_draft_ns(sparse=False) / 1e6,
        eager_draft_ns(sparse=True) / 1e6,
    )


def host_times(rows: Sequence[EngineRow]) -> HostTimes:
    """The times as `rows` have them: medians over sources of the medians of their rows."""
    plain = [row for row in rows if not row.told["eager_drafts"]]
    steps = {
        kind: _median((row.told["source"], row.host_ms) for row in plain if row.told["asynchronous"] is kind)
        for kind in (True, False)
    }
    drafts = {
        kind: _median(
            (row.told["source"], (row.host_ms - steps[row.told["asynchronous"]]) / row.told["drafts"])
            for row in rows
            if row.told["eager_drafts"] and row.sparse is kind
        )
        for kind in (True, False)
    }
    return HostTimes(steps[True], steps[False], drafts[False], drafts[True])


def _median(values: Iterable[tuple[str, float]]) -> float:
    sources: dict[str, list[float]] = {}
    for source, value in values:
        sources.setdefault(source, []).append(value)
    return median(median(found) for found in sources.values())


def measured_engine_rows(data: Path) -> Iterator[MeasuredRow]:
    """The rows with the constants as shipped, and as the other sources have them."""
    rows, shipped = engine_rows(data), shipped_times()
    for row in rows:
        told = row.told
        others = host_times([other for other in rows if other.told["source"] != told["source"]])
        yield MeasuredRow(
            f"served by {ENGINE}", told["source"], told["chip"], told["name"],
            "ms a token" if "tpot_ms" in told else "tokens/s", row.measured,
            row.predicted(shipped.of(row)), is_source=True, left_out=row.predicted(others.of(row)),
        )  # fmt: skip
