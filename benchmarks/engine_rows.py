"""
Serving by an engine with a host of its own: throughput, time per token and to the first one of public runs, predicted.

What the host takes are medians over sources, each of which counts once: of a kernel that is launched by itself what
eager steps take; of a step of models with grouped attention what was measured beyond the captured graph that is
predicted, and then of others, by layer of theirs; of graphs captured in pieces what small batches take a layer; of
first tokens of models that mix tokens otherwise, by layer again. What a request takes is that with which other first
tokens are missed least, as where kernels take most of them what is left says little of it. Drafts that the host
launches have baselines alone, which runs must reach and may be ahead of by any amount: what is left is the most that a
draft takes, and the lower quartile over sources is taken. Each row is also predicted with what the other sources say;
rows that were kept back are in none of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

from benchmarks.measured_row import MeasuredRow
from memplan.models import ModelConfig, load_config
from memplan.models.drafts import with_draft
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import StepTime, step_time
from memplan.serving.constants import (
    CAPTURED,
    EngineHost,
    HostWork,
    accepted,
    accepted_in_turn,
    engine_host,
    host_interval,
)
from memplan.serving.steptime import step_layers, unfused_layers

ROWS = Path(__file__).with_name("public_serving.json")
Hosts = Mapping[tuple[str, bool], EngineHost]
"""By engine and whether one die serves."""
ENGINE, SYNCHRONOUS = "vllm-ascend", "vllm-ascend-synchronous"
PIECEWISE, EAGER = "vllm-ascend-piecewise", "vllm-ascend-eager"
MINDIE = "mindie"
ALIKE = "sglang", "xllm"
"""Engines that take what vllm-ascend was found to take."""
WHOLE = ENGINE, SYNCHRONOUS
HIDDEN = CAPTURED, MINDIE
"""Engines whose steps take what their kernels do."""
_FEW = 2
"""Sequences with which a step of captured pieces is its host's."""
_WAVES = 2.0
"""How often all requests at once follow each other where a source doesn't say: midway between once and without end."""
_MOST_TOKENS = 2048
"""Tokens that a step of vLLM's server reads at most on dies of less than 70 GiB, unless told (`EngineArgs` of vLLM)."""
_MOST_NS = 1e9
_HALVINGS = 50


@dataclass(frozen=True, slots=True)
class EngineRow:
    """
    A published row: nanoseconds of its captured step and of reading a prompt, what both have for the host, and tokens
    a step yields.
    """

    told: Mapping[str, Any]
    step_ns: int
    prompt_ns: int
    work: HostWork
    prompt_work: HostWork
    yielded: float

    @property
    def engine(self) -> str:
        """Its engine as `memplan step` names it: an eager one for steps of more tokens than graphs are captured for."""
        tokens = -(-self.batch // self.told["data"]) * (1 + self.told["drafts"])
        return EAGER if tokens > self.told.get("most_captured", tokens) else str(self.told["engine"])

    @property
    def family(self) -> str:
        """Who serves."""
        return str(self.told.get("family", "MindIE" if self.engine == MINDIE else ENGINE))

    @property
    def kind(self) -> str:
        """What its accuracy is summed up with."""
        what = ", at least" if self.told.get("at_least") else ", first token" if self.first else ""
        return f"served by {self.family}{what}{', blind' if self.told.get('blind') else ''}"

    @property
    def alike(self) -> bool:
        """Whether it was measured of an engine with a host of its own, and not predicted blind."""
        own = self.engine not in HIDDEN or self.first
        return own and not (self.told.get("at_least") or self.told.get("blind"))

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
        """
        What is measured, with such a host.

        Prompts that are sent at once are read by all replicas in the same steps, as few as their tokens fit into. Those
        sent at a rate come one by one: where replicas share experts each waits for the prompts of all.
        """
        told = self.told
        drafts = told["drafts"] if told["eager_drafts"] else 0
        step = host.step(self.step_ns, self.work, reads=False, eager_drafts=drafts) / 1e6
        if self.first:
            # Whoever comes while others are answered waits for the rest of the step under way: half of it on average.
            under_way = step / 2 if self.batch > 1 else 0.0
            return self._read(host, 1) + under_way + host.request_ns / 1e6
        if self.timed:
            among = self._among(self._read(host, 1)) / told["output"] if told.get("mean") else 0.0
            return step / self.yielded + among
        own = -(-self.batch // told["data"])
        if "rate" in told:
            read = (self.batch if told["expert"] > 1 else own) * self._read(host, 1)
        else:
            read = own * self._read(host, own)
        wave = read + told["output"] * step / self.yielded
        return float(self.batch * told["output"] / wave * 1e3)

    def _read(self, host: EngineHost, prompts: int) -> float:
        """Milliseconds of reading each of so many prompts that wait together."""
        most = self.told.get("most_tokens", _MOST_TOKENS if self.family == ENGINE else None)
        tokens = prompts * self.told["prompt"]
        steps = 1 if most is None else -(-tokens // most)
        step = host.step(prompts * self.prompt_ns / steps, self.prompt_work, reads=True)
        return steps * step / prompts / 1e6

    def _among(self, read: float) -> float:
        """
        Milliseconds that others' prompts, of `read` each, stand between the tokens of an answer.

        Requests come when others are done: then all others' prompts are read in the course of an answer. Only of those
        that all come at once half are, on average, and the rest before its first token.
        """
        told, waves = self.told, self.told.get("waves", _WAVES)
        together = told["expert"] == 1 or waves == 1 or told.get("together")
        others = (self.batch / told["data"] if together else self.batch) - 1
        return float((1 - 0.5 / waves) * others * read)

    @property
    def why(self) -> str:
        """Why nothing can be said of the row: prompts that take longer to read than answers to make share no step."""
        told = self.told
        read, made = self.batch / told["data"] * self.prompt_ns, told["output"] * self.step_ns / self.yielded
        if self.first or told.get("mean") or not self.timed or read <= made:
            return ""
        return "prompts take longer to read than answers to make, so how many are made at once is not told"

    def solved(self, host: EngineHost, names: Sequence[str]) -> float:
        """
        The nanoseconds for which the prediction of `host` with them for `names` is what was measured; negative where
        none is.
        """
        low, high = -_MOST_NS, _MOST_NS
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            slow = (self.predicted(replace(host, **dict.fromkeys(names, round(middle)))) > self.measured) is self.timed
            low, high = (low, middle) if slow else (middle, high)
        return (low + high) / 2


def sequences_under_way(told: Mapping[str, Any]) -> int:
    """Those that are sent at once, as far as the replicas of a row take them."""
    return int(min(told["batch"], told["data"] * told.get("most_sequences", told["batch"])))


def engine_rows(data: Path) -> list[EngineRow]:
    """Every row of `public_serving.json`; `data` is the shared data folder."""
    document = json.loads(ROWS.read_text("utf-8"))
    return [_row(told, document["drafted_acceptance"], data) for told in document["rows"]]


def _row(told: Mapping[str, Any], drafted: Mapping[str, Any], data: Path) -> EngineRow:
    config = told["config"]
    model = load_config(json.loads((data / config).read_text("utf-8")) if isinstance(config, str) else config)
    drafting = with_draft(model, load_config(told["draft"]), "eagle3") if "draft" in told else model
    layout = Layout(tensor=told["tensor"], data=told["data"], expert=told["expert"])
    context = told["prompt"] + told["output"] // 2
    precision = told["precision"]
    # Nobody has balanced the experts of a service, as reference tables say that they did.
    step = ServedStep(
        Phase.DECODE, sequences_under_way(told), context,
        speculative=told["drafts"], precision=precision, even_routing=False,
    )  # fmt: skip
    prompt = ServedStep(Phase.PREFILL, told["data"], told["prompt"], precision=precision, even_routing=False)
    if told.get("foreign_drafts") or "draft" in told:
        more = accepted_in_turn(step.speculative, drafted["first"], drafted["further"])
    else:
        more = accepted(step.speculative, ENGINE)
    decoded = step_time(drafting, layout, step, told["chip"])
    read = step_time(model, layout, prompt, told["chip"])
    return EngineRow(
        told, decoded.duration_ns, read.duration_ns, _work(decoded, drafting), _work(read, model),
        told.get("yielded", 1 + more),
    )  # fmt: skip


def _work(found: StepTime, model: ModelConfig) -> HostWork:
    kernels = sum(stage.launches for stage in found.stages)
    return HostWork(step_layers(model, found.step), unfused_layers(model, found.step), kernels, found.sequences)


def shipped_hosts() -> Hosts:
    """The hosts of `memplan/serving/constants.json`."""
    engines = (ENGINE, SYNCHRONOUS, PIECEWISE, EAGER, *ALIKE, *HIDDEN)
    hosts = {(engine, alone): engine_host(engine, alone=alone) for engine in engines for alone in (False, True)}
    return _asked_by_somebody(hosts, engine_host(ENGINE).request_ns)


def _asked_by_somebody(hosts: Hosts, request_ns: int) -> Hosts:
    """Hosts whose requests come from somebody: who hides the work of steps still takes them in and hands tokens out."""
    return {key: replace(host, request_ns=request_ns) for key, host in hosts.items()}


def fitted_rows(rows: Iterable[EngineRow]) -> list[EngineRow]:
    """Those that constants come from: not kept back, with a prediction, and of baselines those with eager drafts."""
    return [
        row
        for row in rows
        if not (row.told.get("kept_back") or row.told.get("blind") or row.why)
        and (row.first or row.engine not in HIDDEN)
        and (row.told["eager_drafts"] or not row.told.get("at_least"))
    ]


def found_hosts(rows: Sequence[EngineRow]) -> Hosts:
    """The hosts as `rows` have them."""
    first, rows = [row for row in rows if row.first], [row for row in rows if not row.first]
    whole = [row for row in rows if row.engine in (*WHOLE, *ALIKE) and not row.told["eager_drafts"]]
    host = replace(
        engine_host(ENGINE), step_ns=0, unfused_layer_ns=0, prompt_unfused_layer_ns=0, draft_ns=0, request_ns=0
    )
    host = _solved([row for row in rows if row.engine == EAGER], host, ("kernel_ns", "prompt_kernel_ns"))
    host = replace(host, kernel_ns=0)
    # What one process launches piece by piece hides behind the kernels, as steps of one die show.
    single = [row for row in rows if row.alone and row.engine == PIECEWISE]
    host = _solved([*(row for row in whole if not row.work.unfused), *single], host, ("step_ns",))
    host = _least_missed([row for row in first if not row.work.unfused], host, "request_ns")
    host = _solved([row for row in first if row.work.unfused], host, ("prompt_unfused_layer_ns",))
    host = _solved([row for row in whole if row.work.unfused], host, ("unfused_layer_ns",))
    drafts = _by_source((row.source, row.solved(host, ("draft_ns",))) for row in rows if row.told["eager_drafts"])
    host = replace(host, draft_ns=max(0, round(quantiles(drafts, n=4, method="inclusive")[0])))
    launched = median(
        _by_source(
            (row.source, row.measured * row.yielded * 1e6 / row.work.layers)
            for row in rows
            if row.engine == PIECEWISE
            and row.timed
            and not row.alone
            and row.batch <= _FEW
            and not row.told.get("mean")
        )
    )
    pieces, eager = replace(host, layer_ns=round(launched)), replace(host, kernel_ns=host.prompt_kernel_ns)
    hosts: dict[tuple[str, bool], EngineHost] = {}
    for one in (False, True):
        hosts |= {(engine, one): host for engine in (*WHOLE, *ALIKE)}
        hosts |= {(engine, one): engine_host(engine) for engine in HIDDEN}
        hosts |= {(PIECEWISE, one): host if one else pieces, (EAGER, one): eager}
    return _asked_by_somebody(hosts, host.request_ns)


def _solved(rows: Iterable[EngineRow], host: EngineHost, names: Sequence[str]) -> EngineHost:
    """`host` with that time for `names` with which `rows` are what was measured, the median over their sources."""
    time = median(_by_source((row.source, row.solved(host, names)) for row in rows))
    return replace(host, **dict.fromkeys(names, max(0, round(time))))


def _least_missed(rows: Sequence[EngineRow], host: EngineHost, name: str) -> EngineHost:
    """`host` with that time for `name` with which `rows` are missed least, by logarithms; each source counts once."""
    own = [engine_host(row.engine) if row.engine in HIDDEN else host for row in rows]

    def missed(time: int) -> float:
        sources: dict[str, list[float]] = {}
        for row, host in zip(rows, own, strict=True):
            error = log(row.predicted(replace(host, **{name: time})) / row.measured)
            sources.setdefault(row.source, []).append(abs(error))
        return sum(mean(found) for found in sources.values())

    # The least is where one of the rows is met.
    times = [max(0, round(row.solved(host, (name,)))) for row, host in zip(rows, own, strict=True)]
    return replace(host, **{name: min(times, key=missed)})


def _by_source(values: Iterable[tuple[str, float]]) -> list[float]:
    """The median of what each source says."""
    sources: dict[str, list[float]] = {}
    for source, value in values:
        sources.setdefault(source, []).append(value)
    return [median(found) for found in sources.values()]


@dataclass(frozen=True, slots=True)
class HostSpread:
    """
    What a row says of its host: the `share` of its time that is predicted to be the host's, and measured over predicted
    time of the whole (`times`) and of the host alone.
    """

    source: str
    share: float
    times: float
    host_times: float


def host_spread(row: EngineRow, hosts: Hosts) -> HostSpread:
    """What `row` says of hosts, predicted with `hosts`."""
    host = hosts[row.engine, row.alone]
    told = (row.predicted(host), row.predicted(engine_host(CAPTURED)), row.measured)
    whole, kernels, measured = told if row.timed else tuple(1 / value for value in told)
    if row.first:
        kernels = row.prompt_ns / 1e6
    own = whole - kernels
    return HostSpread(row.source, own / whole, measured / whole, (measured - kernels) / own if own > 0 else 1.0)


def host_quantiles(found: Iterable[HostSpread]) -> tuple[float, float]:
    """The 10 and 90 % quantiles over sources of what hosts take, where they take much of a step."""
    least = host_interval().at_least
    tenths = quantiles(
        _by_source((item.source, item.host_times) for item in found if item.share >= least), n=10, method="inclusive"
    )
    return tenths[0], tenths[-1]


def measured_engine_rows(data: Path) -> Iterator[MeasuredRow]:
    """The rows with the constants as shipped, and as the other sources have them."""
    rows, shipped = engine_rows(data), shipped_hosts()
    fitted = fitted_rows(rows)
    for row in rows:
        if row.why:
            yield MeasuredRow(
                row.kind, row.source, row.told["chip"], row.told["name"], row.unit, row.measured, None, why=row.why
            )
            continue
        others = found_hosts([other for other in fitted if other.source != row.source])
        yield MeasuredRow(
            row.kind, row.source, row.told["chip"], row.told["name"], row.unit, row.measured,
            row.predicted(shipped[row.engine, row.alone]), is_source=row in fitted,
            left_out=row.predicted(others[row.engine, row.alone]),
        )  # fmt: skip
