"""
Serving by an engine with a host of its own: throughput and time per token of public runs, predicted.

What the host takes are medians over sources: of a step what it took beyond the captured graph that is predicted, for
engines of one die and of several apart, of a draft the host launches what is left over that, and of graphs captured in
pieces what small batches take a layer; what a layer takes that is launched op by op comes from none of the rows. Each
row is also predicted with the medians of the others; rows that were kept back are in none of them. Baselines of tests
are a kind apart: runs must reach them, and may be ahead of them by any amount.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time
from memplan.serving.constants import CAPTURED, EngineHost, engine_host
from memplan.serving.steptime import step_layers

ROWS = Path(__file__).with_name("public_serving.json")
Hosts = Mapping[tuple[str, bool], EngineHost]
"""By engine and whether one die serves."""
ENGINE, SYNCHRONOUS = "vllm-ascend", "vllm-ascend-synchronous"
PIECEWISE, EAGER = "vllm-ascend-piecewise", "vllm-ascend-eager"
_FEW = 2
"""Sequences with which a step of captured pieces is its host's."""
_MOST_NS = 1e9
_HALVINGS = 50


@dataclass(frozen=True, slots=True)
class EngineRow:
    """A published row: nanoseconds of its captured step and of reading a prompt, layers, and tokens a step yields."""

    told: Mapping[str, Any]
    step_ns: int
    prompt_ns: int
    layers: int
    yielded: float

    @property
    def engine(self) -> str:
        """Its engine as `memplan step` names it: an eager one for steps of more tokens than graphs are captured for."""
        tokens = -(-self.batch // self.told["data"]) * (1 + self.told["drafts"])
        return EAGER if tokens > self.told.get("most_captured", tokens) else str(self.told["engine"])

    @property
    def batch(self) -> int:
        """Sequences under way at once, of which others may wait."""
        return sequences_under_way(self.told)

    @property
    def alone(self) -> bool:
        """Whether one die serves, so that no other process runs the model."""
        return bool(self.told["tensor"] * self.told["data"] == 1)

    @property
    def source(self) -> str:
        """Where it was published."""
        return str(self.told["source"])

    @property
    def timed(self) -> bool:
        """Whether milliseconds a token are told, and not tokens a second."""
        return "tpot_ms" in self.told

    @property
    def measured(self) -> float:
        """Tokens per second, or milliseconds a token."""
        return float(self.told["tpot_ms"] if self.timed else self.told["tokens_per_second"])

    def predicted(self, host: EngineHost) -> float:
        """
        What is measured, with such a host.

        A replica reads its prompts one after the other. Where replicas share experts none makes tokens while another
        reads, so that each waits for the prompts of all.
        """
        told = self.told
        drafts = told["drafts"] if told["eager_drafts"] else 0
        step = host.step(self.step_ns, self.layers, reads=False, eager_drafts=drafts) / 1e6
        if self.timed:
            return step / self.yielded
        read = host.step(self.prompt_ns, self.layers, reads=True) / 1e6
        prompts = self.batch if told["expert"] > 1 else self.batch / told["data"]
        wave = prompts * read + told["output"] * step / self.yielded
        return float(self.batch * told["output"] / wave * 1e3)

    @property
    def why(self) -> str:
        """Why nothing can be said of the row: prompts that take longer to read than answers to make share no step."""
        told = self.told
        read, made = self.batch / told["data"] * self.prompt_ns, told["output"] * self.step_ns / self.yielded
        if not self.timed or read <= made:
            return ""
        return "prompts take longer to read than answers to make, so how many are made at once is not told"

    def solved(self, host: Callable[[float], EngineHost]) -> float:
        """The nanoseconds for which the prediction with `host` of them is what was measured; negative where none is."""
        low, high = -_MOST_NS, _MOST_NS
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            slow = (self.predicted(host(middle)) > self.measured) is self.timed
            low, high = (low, middle) if slow else (middle, high)
        return (low + high) / 2


def sequences_under_way(told: Mapping[str, Any]) -> int:
    """Those that are sent at once, as far as the replicas of a row take them."""
    return int(min(told["batch"], told["data"] * told.get("most_sequences", told["batch"])))


def engine_rows(data: Path) -> list[EngineRow]:
    """Every row of `public_serving.json`; `data` is the shared data folder."""
    return [_row(told, data) for told in json.loads(ROWS.read_text("utf-8"))["rows"]]


def _row(told: Mapping[str, Any], data: Path) -> EngineRow:
    config = told["config"]
    model = load_config(json.loads((data / config).read_text("utf-8")) if isinstance(config, str) else config)
    layout = Layout(tensor=told["tensor"], data=told["data"], expert=told["expert"])
    context = told["prompt"] + told["output"] // 2
    precision = told["precision"]
    # Nobody has balanced the experts of a service, as reference tables say that they did.
    step = ServedStep(
        Phase.DECODE, sequences_under_way(told), context,
        speculative=told["drafts"], precision=precision, even_routing=False,
    )  # fmt: skip
    prompt = ServedStep(Phase.PREFILL, told["data"], told["prompt"], precision=precision, even_routing=False)
    decoded = step_time(model, layout, step, told["chip"])
    read = step_time(model, layout, prompt, told["chip"])
    return EngineRow(told, decoded.duration_ns, read.duration_ns, step_layers(model, step), decoded.tokens_per_sequence)


def shipped_hosts() -> Hosts:
    """The hosts of `memplan/serving/constants.json`."""
    engines = (ENGINE, SYNCHRONOUS, PIECEWISE, EAGER, CAPTURED)
    return {(engine, alone): engine_host(engine, alone=alone) for engine in engines for alone in (False, True)}


def fitted_rows(rows: Iterable[EngineRow]) -> list[EngineRow]:
    """Those that constants come from: not kept back, and with a prediction."""
    return [row for row in rows if not row.told.get("kept_back") and not row.why]


def found_hosts(rows: Sequence[EngineRow]) -> Hosts:
    """The hosts as `rows` have them: medians over sources of the medians of their rows."""
    launched = _median(
        (row.source, row.measured * row.yielded * 1e6 / row.layers)
        for row in rows
        if row.engine == PIECEWISE and row.timed and not row.alone and row.told["batch"] <= _FEW
    )
    several = _whole([row for row in rows if not row.alone], (ENGINE, SYNCHRONOUS), None)
    # What one process launches piece by piece hides behind the kernels, as steps of one die show.
    alone = _whole([row for row in rows if row.alone], (ENGINE, SYNCHRONOUS, PIECEWISE), several)
    hosts: dict[tuple[str, bool], EngineHost] = {}
    for single, host in ((False, several), (True, alone)):
        hosts[ENGINE, single] = hosts[SYNCHRONOUS, single] = host
        hosts[PIECEWISE, single] = replace(host, layer_ns=0 if single else round(launched))
        hosts[EAGER, single] = replace(host, layer_ns=engine_host(EAGER).layer_ns)
        hosts[CAPTURED, single] = engine_host(CAPTURED)
    return hosts


def _whole(rows: Sequence[EngineRow], engines: Iterable[str], drafting: EngineHost | None) -> EngineHost:
    """The host of steps captured whole, or of such `engines`; drafts as `drafting` has them or as `rows` have."""
    bare = replace(engine_host(ENGINE), step_ns=0, draft_ns=0)
    step = _median(
        (row.source, row.solved(lambda time: replace(bare, step_ns=round(time))))
        for row in rows
        if row.engine in engines and not row.told["eager_drafts"]
    )
    plain = replace(bare, step_ns=max(0, round(step)))
    if drafting is not None:
        return replace(plain, draft_ns=drafting.draft_ns)
    draft = _median(
        (row.source, row.solved(lambda time: replace(plain, draft_ns=round(time))))
        for row in rows
        if row.told["eager_drafts"]
    )
    return replace(plain, draft_ns=max(0, round(draft)))


def _median(values: Iterable[tuple[str, float]]) -> float:
    sources: dict[str, list[float]] = {}
    for source, value in values:
        sources.setdefault(source, []).append(value)
    return median(median(found) for found in sources.values())


def measured_engine_rows(data: Path) -> Iterator[MeasuredRow]:
    """The rows with the constants as shipped, and as the other sources have them."""
    rows, shipped = engine_rows(data), shipped_hosts()
    fitted = fitted_rows(rows)
    for row in rows:
        family = "MindIE" if row.engine == CAPTURED else ENGINE
        kind = f"served by {family}" + (", at least" if row.told.get("at_least") else "")
        kept_back = row not in fitted
        if row.why:
            yield MeasuredRow(
                kind, row.source, row.told["chip"], row.told["name"], "ms a token", row.measured, None, why=row.why
            )
            continue
        others = found_hosts([other for other in fitted if other.source != row.source])
        yield MeasuredRow(
            kind, row.source, row.told["chip"], row.told["name"],
            "ms a token" if row.timed else "tokens/s", row.measured,
            row.predicted(shipped[row.engine, row.alone]), is_source=not kept_back,
            left_out=row.predicted(others[row.engine, row.alone]),
        )  # fmt: skip
