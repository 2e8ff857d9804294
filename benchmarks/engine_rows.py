"""
Serving by an engine with a host of its own: throughput, time per token and to the first one of public runs, predicted.

`benchmarks/engine_hosts.py` says what the host takes from these rows; `benchmarks/closed_loops.py` how steps that read
and steps that make tokens follow each other where others are served too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.closed_loops import ClosedLoop
from benchmarks.measured_row import later_set
from memplan.core.bisection import crossing
from memplan.engines import CAPTURED
from memplan.models import ModelConfig, load_config
from memplan.models.drafts import with_draft
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time
from memplan.serving.constants import EngineHost, HostWork, accepted, accepted_in_turn, engine_host

ROWS = Path(__file__).with_name("public_serving.json")
Hosts = Mapping[tuple[str, bool], EngineHost]
"""By engine and whether one die serves."""
ENGINE, SYNCHRONOUS = "vllm-ascend", "vllm-ascend-synchronous"
PIECEWISE, EAGER = "vllm-ascend-piecewise", "vllm-ascend-eager"
MINDIE = "mindie"
ALIKE = "sglang", "xllm"
"""Engines that take what vllm-ascend was found to take."""
WHOLE = ENGINE, SYNCHRONOUS
HIDDEN = (CAPTURED,)
"""Engines whose steps take what their kernels do."""
_WAVES = 2.0
"""How often all requests at once follow each other where a source doesn't say: midway between once and without end."""
_MOST_NS = 1e9


@dataclass(frozen=True, slots=True)
class EngineRow:
    """
    A published row (`told`, with what is known of its server where it tells nothing else).

    Nanoseconds of its captured step and of that of one sequence a replica, of reading a prompt and those that are read
    together; what both have for the host, and tokens a step yields.
    """

    told: Mapping[str, Any]
    step_ns: int
    single_ns: int
    prompt_ns: int
    group_ns: int
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
        told, loop = self.told, self._loop(host)
        if self.first:
            # Whoever comes while others are answered waits for the rest of the step under way: half of it on average.
            read = loop.mixed if self.mixes and self.batch > 1 else loop.read
            asked = 0.0 if told.get("offline") else host.request_ns / 1e6
            return loop.chunks * read + (loop.step / 2 if self.batch > 1 else 0.0) + asked
        if self.timed:
            return loop.step / self.yielded + (loop.among() / told["output"] if told.get("mean") else 0.0)
        if told.get("unequal"):
            single = host.step(self.single_ns, replace(self.work, sequences=1), reads=False, eager_drafts=self._eager)
            coming = replace(loop, mixed=self._mixed(host, loop.step, loop.coming()))
            taken = coming.drained(single / 1e6) / loop.waves
        else:
            taken = loop.wave()
        return float(self.batch * told["output"] / taken * 1e3)

    @property
    def mixes(self) -> bool:
        """Whether steps read prompts and make tokens at once."""
        return bool(self.told.get("mixes"))

    @property
    def _eager(self) -> bool:
        """Whether the host launches drafts one by one."""
        return bool(self.told["eager_drafts"])

    def _loop(self, host: EngineHost) -> ClosedLoop:
        """The steps of the row as they follow each other."""
        told = self.told
        step = host.step(self.step_ns, self.work, reads=False, eager_drafts=self._eager) / 1e6
        group = 1 if self.first else self.group
        read = self._reading(host, self._kernels(group), group) / 1e6
        own = self.batch / told["data"]
        shared = (self.timed and not told.get("together") and told.get("waves") != 1) or "rate" in told
        prompts = self.batch if shared and told["expert"] > 1 else own
        return ClosedLoop(
            prompts=prompts,
            group=group,
            chunks=self.chunks,
            waves=told.get("waves", _WAVES),
            steps=max(0, told["output"] - 1) / self.yielded,
            step=step,
            read=read,
            mixed=self._mixed(host, step, group),
            apart=self.mixes or self.one_by_one,
        )

    def _kernels(self, prompts: float) -> float:
        """Nanoseconds of the captured step that reads so many prompts, or one of the steps that read a long one."""
        if prompts <= 1 or self.group == 1:
            return max(1.0, prompts) * self.prompt_ns / self.chunks
        return self.prompt_ns + (prompts - 1) / (self.group - 1) * (self.group_ns - self.prompt_ns)

    def _reading(self, host: EngineHost, kernels: float, prompts: float, under_way: int = 0) -> int:
        """Nanoseconds of a step of `kernels` that reads `prompts` beside as many sequences as are `under_way`."""
        tokens = round(prompts * self.told["prompt"] / self.chunks) + under_way
        work = replace(self.prompt_work, sequences=round(prompts) + under_way, tokens=tokens)
        return host.step(kernels, work, reads=True)

    def _mixed(self, host: EngineHost, step: float, prompts: float) -> float:
        """Milliseconds of reading so many prompts and making a token of each sequence, which takes `step` alone."""
        kernels = self._kernels(prompts)
        if not self.mixes:
            return step + self._reading(host, kernels, prompts) / 1e6
        # Weights are read once for both.
        both = kernels + max(0, self.step_ns - self.single_ns)
        return max(step, self._reading(host, both, prompts, self.work.sequences) / 1e6)

    @property
    def one_by_one(self) -> bool:
        """Whether requests come at a rate or after answers of unequal lengths, and not together."""
        return bool(self.told.get("one_by_one")) or "rate" in self.told

    @property
    def chunks(self) -> int:
        """Steps that a prompt is read in: one where nobody says how many tokens a step reads at most."""
        return int(-(-self.told["prompt"] // self.told.get("most_tokens", self.told["prompt"])))

    @property
    def group(self) -> int:
        """Prompts of a replica read in the same steps: as many as fit into one, of those that come together."""
        if self.one_by_one:
            return 1
        fitting = self.told.get("most_tokens", 0) // self.told["prompt"]
        return int(max(1, min(-(-self.batch // self.told["data"]), fitting)))

    @property
    def why(self) -> str:
        """
        Why nothing can be said of the row: prompts that take longer to read than answers to make share no step.

        A single request has no others' prompts to wait for, and steps of a reference stack read none.
        """
        told = self.told
        read, made = self.batch / told["data"] * self.prompt_ns, told["output"] * self.step_ns / self.yielded
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
    return str(told.get("family", "MindIE" if told["engine"] == MINDIE else ENGINE))


def sequences_under_way(told: Mapping[str, Any]) -> int:
    """Those that are sent at once, as far as the replicas of a row take them."""
    return int(min(told["batch"], told["data"] * told.get("most_sequences", told["batch"])))


def engine_rows(data: Path, *, later: bool = False) -> list[EngineRow]:
    """Every row of `public_serving.json`, or those of `later` sets alone; `data` is the shared data folder."""
    document = json.loads(ROWS.read_text("utf-8"))
    # Rows of one source share the reading of a prompt and the step of one sequence.
    timed = cache(_captured)
    wanted = [told for told in document["rows"] if "seen" in told or not later]
    rows = ({**document["servers"].get(_family(told), {}), **told} for told in wanted)
    return [_row(told, data, document["drafted_acceptance"], timed) for told in rows]


def _captured(model: ModelConfig, layout: Layout, step: ServedStep, chip: str, engine: str) -> tuple[int, HostWork]:
    """Nanoseconds of a captured step by the kernels of `engine`, and what it has for a host."""
    found = step_time(model, layout, step, chip, engine=engine)
    return found.duration_ns - found.host_ns, found.work


def _row(
    told: Mapping[str, Any],
    data: Path,
    drafted: Mapping[str, float],
    timed: Callable[[ModelConfig, Layout, ServedStep, str, str], tuple[int, HostWork]],
) -> EngineRow:
    config = told["config"]
    model = load_config(data / config if isinstance(config, str) else config)
    drafting = with_draft(model, load_config(told["draft"]), "eagle3") if "draft" in told else model
    layout = Layout(tensor=told["tensor"], data=told["data"], expert=told["expert"])
    context = told["prompt"] + told["output"] // 2
    precision = told["precision"]
    even = bool(told.get("even_routing"))
    step = ServedStep(
        Phase.DECODE, sequences_under_way(told), context,
        speculative=told["drafts"], precision=precision, even_routing=even,
    )  # fmt: skip
    prompt = ServedStep(Phase.PREFILL, told["data"], told["prompt"], precision=precision, even_routing=even)
    if told.get("foreign_drafts") or "draft" in told:
        more = accepted_in_turn(step.speculative, drafted["first"], drafted["further"])
    else:
        more = accepted(step.speculative, ENGINE)
    # Releases before November 2025 make tokens by the older operator, which MindIE has.
    kernels = MINDIE if told.get("paged_attention") else told["engine"]
    on = told["chip"], kernels
    step_ns, work = timed(drafting, layout, step, *on)
    single_ns, _ = timed(drafting, layout, replace(step, batch=told["data"]), *on)
    prompt_ns, prompt_work = timed(model, layout, prompt, *on)
    row = EngineRow(
        told, step_ns, single_ns, prompt_ns, prompt_ns, work, prompt_work, yielded=told.get("yielded", 1 + more)
    )
    if row.group == 1:
        return row
    group_ns, _ = timed(model, layout, replace(prompt, batch=told["data"] * row.group), *on)
    return replace(row, group_ns=group_ns)


def shipped_hosts() -> Hosts:
    """The hosts of `memplan/serving/constants.json`."""
    engines = (ENGINE, SYNCHRONOUS, PIECEWISE, EAGER, MINDIE, *ALIKE, *HIDDEN)
    hosts = {(engine, alone): engine_host(engine, alone=alone) for engine in engines for alone in (False, True)}
    return asked_by_somebody(hosts, engine_host(ENGINE).request_ns)


def asked_by_somebody(hosts: Hosts, request_ns: int) -> Hosts:
    """Hosts whose requests come from somebody: who hides the work of steps still takes them in and hands tokens out."""
    return {key: replace(host, request_ns=request_ns) for key, host in hosts.items()}
