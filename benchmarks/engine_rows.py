"""
Serving by an engine with a host of its own: throughput, time per token and to the first one of public runs, predicted.

`benchmarks/engine_hosts.py` says what the host takes from these rows. How steps follow each other where others are
served too is `memplan.serving.loaded_steps`, which `memplan step --concurrency` asks as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measured_row import later_set
from memplan.core.bisection import crossing
from memplan.engines import CAPTURED, DEFAULT_ENGINE
from memplan.models import load_config
from memplan.models.drafts import with_draft
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving.constants import EngineHost, accepted, engine_host
from memplan.serving.loaded_steps import (
    WAVES,
    LoadedSteps,
    PromptSteps,
    RequestLoad,
    StepTimer,
    captured_steps,
    loaded_steps,
)

ROWS = Path(__file__).with_name("public_serving.json")
Hosts = Mapping[tuple[str, bool], EngineHost]
"""By engine and whether one die serves."""
ENGINE, SYNCHRONOUS = "vllm-ascend-full", "vllm-ascend-synchronous"
PIECEWISE, EAGER = "vllm-ascend-piecewise", "vllm-ascend-eager"
MINDIE = "mindie"
ALIKE = "sglang", "xllm"
"""Engines that take what vllm-ascend was found to take."""
WHOLE = ENGINE, DEFAULT_ENGINE, SYNCHRONOUS
"""Engines that make tokens by whole graphs."""
HIDDEN = (CAPTURED,)
"""Engines whose steps take what their kernels do."""
_MOST_NS = 1e9


@dataclass(frozen=True, slots=True)
class EngineRow:
    """A published row (`told`, with what is known of its server where it tells nothing else), and the steps it runs."""

    told: Mapping[str, Any]
    steps: LoadedSteps

    @property
    def engine(self) -> str:
        """Its engine as `memplan step` names it: an eager one for steps of more tokens than graphs are captured for."""
        tokens = -(-self.batch // self.told["data"]) * (1 + self.told["drafts"])
        return EAGER if tokens > self.told.get("most_captured", tokens) else str(self.told["engine"])

    @property
    def family(self) -> str:
        """Who serves."""
        return _family(self.told)

    @property
    def kind(self) -> str:
        """What its accuracy is summed up with."""
        what = ", at least" if self.told.get("at_least") else ", first token" if self.first else ""
        what += ", inputs assumed" if "assumed" in self.told else ""
        what += ", rate beside a time" if self.repeated else ""
        return f"served by {self.family}{what}{self._set}"

    @property
    def _set(self) -> str:
        """Which of the sets that were predicted before they were seen it is of."""
        return later_set(self.told) or (", blind" if self.told.get("blind") else "")

    @property
    def half(self) -> str:
        """Whether sources like its own of a later set are worked with or judged once; empty of a row of no such set."""
        return str(self.told.get("half", ""))

    @property
    def repeated(self) -> bool:
        """Whether another row has the time a token of the very run, so that it counts once where runs do."""
        return bool(self.told.get("same_run"))

    @property
    def alike(self) -> bool:
        """Whether it was measured of an engine with a host of its own, and not predicted blind."""
        own = self.engine not in HIDDEN or self.first
        return own and not (self.told.get("at_least") or self.told.get("blind"))

    @property
    def batch(self) -> int:
        """Sequences under way at once, of which others may wait."""
        return self.steps.load.requests

    @property
    def alone(self) -> bool:
        """Whether one die serves, so that no other process runs the model."""
        return bool(self.told["tensor"] * self.told["data"] == 1)

    @property
    def source(self) -> str:
        """Where it was published."""
        return str(self.told["source"])

    @property
    def first(self) -> bool:
        """Whether milliseconds to the first token are told."""
        return "ttft_ms" in self.told

    @property
    def timed(self) -> bool:
        """Whether milliseconds are told, and not tokens a second."""
        return self.first or "tpot_ms" in self.told

    @property
    def unit(self) -> str:
        """The unit of `measured`."""
        return "ms to the first token" if self.first else "ms a token" if self.timed else "tokens/s"

    @property
    def measured(self) -> float:
        """Tokens per second, or milliseconds."""
        return float(next(self.told[name] for name in ("ttft_ms", "tpot_ms", "tokens_per_second") if name in self.told))

    def predicted(self, host: EngineHost) -> float:
        """What is measured, with such a host."""
        if self.first:
            return self.steps.first_token_ms(replace(host, request_ns=0) if self.told.get("offline") else host)
        if self.timed:
            return self.steps.token_ms(host, mean=bool(self.told.get("mean")))
        return self.steps.tokens_per_second(host)

    @property
    def why(self) -> str:
        """
        Why nothing can be said of the row: prompts that take longer to read than answers to make share no step.

        A single request has no others' prompts to wait for, and steps of a reference stack read none.
        """
        told, steps = self.told, self.steps
        read, made = self.batch / told["data"] * steps.prompt_ns, told["output"] * steps.step_ns / steps.yielded
        undisturbed = self.batch == 1 or told.get("decodes_alone") or self.engine == CAPTURED
        if self.first or told.get("mean") or not self.timed or undisturbed or read <= made:
            return ""
        return "prompts take longer to read than answers to make, so how many are made at once is not told"

    def solved(self, host: EngineHost, names: Sequence[str]) -> float:
        """
        The nanoseconds for which the prediction of `host` with them for `names` is what was measured; negative where
        none is.
        """

        def slower(time: float) -> bool:
            there = self.predicted(replace(host, **dict.fromkeys(names, round(time))))
            return (there > self.measured) is self.timed

        return crossing(slower, -_MOST_NS, _MOST_NS, within=1.0)


def _family(told: Mapping[str, Any]) -> str:
    """Who serves a row."""
    return str(told.get("family", "MindIE" if told["engine"] == MINDIE else DEFAULT_ENGINE))


def told_load(told: Mapping[str, Any]) -> RequestLoad:
    """The requests of a row, as many of those that are sent at once as its replicas take."""
    return RequestLoad(
        requests=int(min(told["batch"], told["data"] * told.get("most_sequences", told["batch"]))),
        prompt=told["prompt"],
        answer=told["output"],
        waves=told.get("waves", WAVES),
        one_by_one=bool(told.get("one_by_one")) or "rate" in told,
        unequal=bool(told.get("unequal")),
    )


def told_reading(told: Mapping[str, Any]) -> PromptSteps:
    """How a row's engine reads prompts: one in a step of its own where nobody says how many tokens a step reads."""
    return PromptSteps(told.get("most_tokens"), bool(told.get("mixes")), bool(told.get("together")))


def engine_rows(data: Path, *, later: bool = False, named: Collection[str] = ()) -> list[EngineRow]:
    """Rows of `public_serving.json`: all, those of `later` sets, or those `named`; `data` is the shared data folder."""
    document = json.loads(ROWS.read_text("utf-8"))
    # Rows of one source share the reading of a prompt and the step of one sequence.
    timer = cache(lambda chip, engine: cache(captured_steps(chip, engine)))
    wanted = [told for told in document["rows"] if "seen" in told or not later]
    wanted = [told for told in wanted if told["name"] in named or not named]
    rows = ({**document["servers"].get(_family(told), {}), **told} for told in wanted)
    return [_row(told, data, timer) for told in rows]


def _row(told: Mapping[str, Any], data: Path, timer: Callable[[str, str], StepTimer]) -> EngineRow:
    config = told["config"]
    model = load_config(data / config if isinstance(config, str) else config)
    drafting = with_draft(model, load_config(told["draft"]), "eagle3") if "draft" in told else model
    layout, load = Layout(tensor=told["tensor"], data=told["data"], expert=told["expert"]), told_load(told)
    step = ServedStep(
        Phase.DECODE, load.requests, load.context,
        speculative=told["drafts"], precision=told["precision"], even_routing=bool(told.get("even_routing")),
    )  # fmt: skip
    more = accepted(step.speculative, DEFAULT_ENGINE, own_layers=not (told.get("foreign_drafts") or "draft" in told))
    # Releases before November 2025 make tokens by the older operator, which MindIE has.
    timed = timer(told["chip"], MINDIE if told.get("paged_attention") else told["engine"])
    steps = loaded_steps(
        drafting, layout, load, told_reading(told), step, timed,
        yielded=told.get("yielded", 1 + more), eager_drafts=bool(told["eager_drafts"]),
    )  # fmt: skip
    return EngineRow(told, steps)


def shipped_hosts() -> Hosts:
    """The hosts of `memplan/serving/constants.json`."""
    engines = (ENGINE, DEFAULT_ENGINE, SYNCHRONOUS, PIECEWISE, EAGER, MINDIE, *ALIKE, *HIDDEN)
    hosts = {(engine, alone): engine_host(engine, alone=alone) for engine in engines for alone in (False, True)}
    return asked_by_somebody(hosts, engine_host(ENGINE).request_ns)


def asked_by_somebody(hosts: Hosts, request_ns: int) -> Hosts:
    """Hosts whose requests come from somebody: who hides the work of steps still takes them in and hands tokens out."""
    return {key: replace(host, request_ns=request_ns) for key, host in hosts.items()}
