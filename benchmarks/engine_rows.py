"""
Serving by an engine with a host of its own: throughput, time per token and to the first one of public runs, predicted.

`benchmarks/engine_hosts.py` says what the host takes from these rows. Each is asked as `memplan step --concurrency` and
`--rate` are: how many of its requests run at once says `memplan.deployment.answered_load` within what the engine's
planner lets it, and how their steps follow each other `memplan.serving.loaded_steps`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measured_row import MeasuredRow, later_set
from memplan.core.bisection import crossing
from memplan.core.errors import InputError
from memplan.deployment.answered_load import LoadAsk, RunningLoad, running_load
from memplan.deployment.load_limits import LoadLimits
from memplan.engines import CAPTURED, DEFAULT_ENGINE, step_mode
from memplan.hardware import chip as find_chip
from memplan.models import ModelConfig, load_config
from memplan.models.drafts import with_draft
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.requests.load_request import LoadRequest
from memplan.serving.constants import EngineHost, accepted, engine_host
from memplan.serving.load_time import asked_host
from memplan.serving.loaded_steps import LoadedSteps, PromptSteps, RequestLoad, StepTimer, captured_steps, loaded_steps

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
    """
    A published row (`told`, with what is known of its server where it tells nothing else), and the steps it runs.

    `at` says what runs at once with a host, where that depends on it: `steps` are then those of the shipped one.
    """

    told: Mapping[str, Any]
    steps: LoadedSteps
    at: Callable[[EngineHost], RunningLoad] | None = None

    @property
    def engine(self) -> str:
        """Its engine as `memplan step` names it: an eager one for steps of more tokens than graphs are captured for."""
        tokens = -(-self.batch // self.told["data"]) * (1 + self.told["drafts"])
        return EAGER if tokens > self.told.get("most_captured", tokens) else str(self.told["engine"])

    @property
    def family(self) -> str:
        """Who serves, as `servers` of the rows has it: of another engine than the one that stands for it, that one."""
        return _family(self.told)

    @property
    def kind(self) -> str:
        """What its accuracy is summed up with."""
        return _kind(self.told)

    @property
    def half(self) -> str:
        """Whether sources like its own of a later set are worked with or judged once; empty of a row of no such set."""
        return str(self.told.get("half", ""))

    @property
    def repeated(self) -> bool:
        """Whether another row has the time a token of the very run, so that it counts once where runs do."""
        return _repeated(self.told)

    @property
    def gave_constant(self) -> bool:
        """Whether a constant of serving beside hosts came from it, so that it says nothing of what is predicted."""
        return "constant" in self.told

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
        return _first(self.told)

    @property
    def timed(self) -> bool:
        """Whether milliseconds are told, and not tokens a second."""
        return self.first or "tpot_ms" in self.told

    @property
    def unit(self) -> str:
        """The unit of `measured`."""
        return _unit(self.told)

    @property
    def measured(self) -> float:
        """Tokens per second, or milliseconds."""
        return _measured(self.told)

    def predicted(self, host: EngineHost) -> float:
        """What is measured, with such a host."""
        host = replace(host, request_ns=0) if self.told.get("offline") else host
        running = RunningLoad(self.steps) if self.at is None else self.at(host)
        if self.first:
            return running.steps.first_token_ms(host)
        if self.timed:
            return running.steps.token_ms(host, mean=bool(self.told.get("mean")))
        return running.tokens_per_second(host)

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


def _server(told: Mapping[str, Any]) -> str:
    """Who is told to serve a row."""
    return str(told.get("foreign", _family(told)))


def _first(told: Mapping[str, Any]) -> bool:
    return "ttft_ms" in told


def _repeated(told: Mapping[str, Any]) -> bool:
    return bool(told.get("same_run"))


def _kind(told: Mapping[str, Any]) -> str:
    """What the accuracy of a row is summed up with."""
    what = ", at least" if told.get("at_least") else ", first token" if _first(told) else ""
    what += ", inputs assumed" if "assumed" in told else ""
    what += ", rate beside a time" if _repeated(told) else ""
    # Of the sets that were predicted before they were seen.
    return f"served by {_server(told)}{what}" + (later_set(told) or (", once blind" if "opened" in told else ""))


def _unit(told: Mapping[str, Any]) -> str:
    return "ms to the first token" if _first(told) else "ms a token" if "tpot_ms" in told else "tokens/s"


def _measured(told: Mapping[str, Any]) -> float:
    return float(next(told[name] for name in ("ttft_ms", "tpot_ms", "tokens_per_second") if name in told))


def told_ask(told: Mapping[str, Any]) -> LoadAsk:
    """What is asked of a row's engine: as many requests in all as `waves` of those make that its command lets run."""
    at_once = int(told["batch"])
    served = min(at_once, told["data"] * told.get("most_sequences", at_once))
    return LoadAsk(
        prompt=told["prompt"],
        answer=told["output"],
        at_once=at_once,
        rate=told.get("rate"),
        requests=round(told["waves"] * served) if "waves" in told else None,
        unequal=bool(told.get("unequal")),
        offline=bool(told.get("offline")),
        one_by_one=bool(told.get("one_by_one")),
    )


def told_limits(told: Mapping[str, Any], model: ModelConfig, layout: Layout, step: ServedStep) -> LoadLimits | None:
    """
    What a row's engine runs at once, by what its command says; `None` where no planner of it, or of it on the row's
    chip, is known, and of rows that tell what decodes at once rather than what is asked.
    """
    if told.get("decodes_alone"):
        return None
    asked = LoadRequest(
        input_length=told["prompt"],
        output_length=told["output"],
        read_tokens=told.get("most_tokens"),
        step_sequences=told.get("most_sequences"),
        utilization=told.get("utilization"),
    )
    try:
        return asked.limits(model, layout, find_chip(told["chip"]), step, step_mode(told["engine"]))
    except InputError:
        return None


def told_reading(told: Mapping[str, Any]) -> PromptSteps:
    """How a row's engine reads prompts: one in a step of its own where nobody says how many tokens a step reads."""
    return PromptSteps(told.get("most_tokens"), bool(told.get("mixes")), bool(told.get("together")))


def engine_rows(data: Path, *, later: bool = False, named: Collection[str] = ()) -> list[EngineRow]:
    """Rows of `public_serving.json`: all, those of `later` sets, or those `named`; `data` is the shared data folder."""
    document = json.loads(ROWS.read_text("utf-8"))
    # Rows of one source share the reading of a prompt and the step of one sequence.
    timer = cache(lambda chip, engine: cache(captured_steps(chip, engine)))
    rows = [{**document["servers"].get(_family(told), {}), **told} for told in document["rows"]]
    wanted = [("seen" in told or not later) and (told["name"] in named or not named) for told in rows]
    places = {_place(told) for told, asked in zip(rows, wanted, strict=True) if asked}
    asked = [_asked(told, data) if _place(told) in places else None for told in rows]
    # Who ran what a planner refuses has other memory than it knows of.
    elsewhere = {_place(row.told) for row in asked if row is not None and row.limits is not None and row.limits.refused}
    return [
        _row(replace(row, limits=None) if _place(row.told) in elsewhere else row, timer)
        for row, one in zip(asked, wanted, strict=True)
        if one and row is not None
    ]


def refused_rows(data: Path) -> Iterator[MeasuredRow]:
    """Rows of `public_serving.json` that could not be asked, and what is said of them today in place of a time."""
    document = json.loads(ROWS.read_text("utf-8"))
    for told in document["refused"]:
        why = _refusal({**document["servers"].get(_family(told), {}), **told}, data)
        yield MeasuredRow(
            _kind(told), told["source"], told["chip"], told["name"], _unit(told), _measured(told), None, why=why
        )


def _refusal(told: Mapping[str, Any], data: Path) -> str:
    """Why a row cannot be asked; `ValueError` if it can."""
    try:
        _row(_asked(told, data), captured_steps)
    except InputError as error:
        return str(error)
    raise ValueError(f"{told['name']} can be asked: it belongs to the rows")


def _place(told: Mapping[str, Any]) -> tuple[str, str]:
    """Whose machine served a row."""
    return told["source"], told["chip"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a row tells, and what of it is served within which limits."""

    told: Mapping[str, Any]
    model: ModelConfig
    layout: Layout
    step: ServedStep
    limits: LoadLimits | None


def _asked(told: Mapping[str, Any], data: Path) -> _Asked:
    config = told["config"]
    model = load_config(data / config if isinstance(config, str) else config)
    drafting = with_draft(model, load_config(told["draft"]), "eagle3") if "draft" in told else model
    layout = Layout(tensor=told["tensor"], data=told["data"], expert=told["expert"])
    step = ServedStep(
        Phase.DECODE, told["batch"], told["prompt"] + told["output"] // 2,
        speculative=told["drafts"], precision=told["precision"], even_routing=bool(told.get("even_routing")),
        joined_recurrence=bool(told.get("joined_recurrence")),
    )  # fmt: skip
    return _Asked(told, drafting, layout, step, told_limits(told, drafting, layout, step))


def _row(asked: _Asked, timer: Callable[[str, str], StepTimer]) -> EngineRow:
    told, layout, step, ask = asked.told, asked.layout, asked.step, told_ask(asked.told)
    more = accepted(step.speculative, DEFAULT_ENGINE, own_layers=not (told.get("foreign_drafts") or "draft" in told))
    # Releases before November 2025 make tokens by the older operator, which MindIE has.
    timed = timer(told["chip"], MINDIE if told.get("paged_attention") else told["engine"])

    def steps_of(load: RequestLoad) -> LoadedSteps:
        return loaded_steps(
            asked.model, layout, load, told_reading(told), step, timed,
            yielded=told.get("yielded", 1 + more), eager_drafts=bool(told["eager_drafts"]),
        )  # fmt: skip

    def running(host: EngineHost) -> RunningLoad:
        return running_load(ask, asked.limits, layout, steps_of, host)

    steps = running(asked_host(told["engine"], layout, offline=ask.offline)).steps
    return EngineRow(told, steps, running if ask.rate is not None else None)


def shipped_hosts() -> Hosts:
    """The hosts of `memplan/serving/constants.json`."""
    engines = (ENGINE, DEFAULT_ENGINE, SYNCHRONOUS, PIECEWISE, EAGER, MINDIE, *ALIKE, *HIDDEN)
    hosts = {(engine, alone): engine_host(engine, alone=alone) for engine in engines for alone in (False, True)}
    return asked_by_somebody(hosts, engine_host(ENGINE).request_ns)


def asked_by_somebody(hosts: Hosts, request_ns: int) -> Hosts:
    """Hosts whose requests come from somebody: who hides the work of steps still takes them in and hands tokens out."""
    return {key: replace(host, request_ns=request_ns) for key, host in hosts.items()}
