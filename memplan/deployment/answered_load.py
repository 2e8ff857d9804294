"""Requests at once, or so many a second, on a layout that is given: how many run, and what who asks sees of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from memplan.core.errors import InputError
from memplan.deployment.load_limits import LoadLimits
from memplan.deployment.queueing import Queue
from memplan.engines import DEFAULT_ENGINE
from memplan.hardware import Chip
from memplan.models import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import ServedStep
from memplan.serving.constants import EngineHost, accepted
from memplan.serving.load_time import LoadFigure, LoadTime, asked_host, load_time
from memplan.serving.loaded_steps import (
    WAVES,
    LoadedSteps,
    RequestLoad,
    captured_steps,
    loaded_steps,
    prompt_steps,
)

_MOST = 4096
"""Sequences of a replica at once where nobody says how many there may be."""


@dataclass(frozen=True, slots=True)
class LoadAsk:
    """
    Requests of `prompt` tokens that are answered with `answer` tokens: `at_once` at most, `rate` a second where they
    come so, `requests` in all where that is told. At least one of the three is. `unequal` answers have lengths as
    conversations do; `offline` ones are asked by no server. Those of a rate come one by one, others where that is said.
    """

    prompt: int
    answer: int
    at_once: int | None = None
    rate: float | None = None
    requests: int | None = None
    unequal: bool = False
    offline: bool = False
    one_by_one: bool = False

    def __post_init__(self) -> None:
        if self.at_once is None and self.rate is None and self.requests is None:
            raise InputError(
                "how many requests there are at once is not told", remedy="give --concurrency 32, or --rate 4"
            )
        for name, value in (("at once", self.at_once), ("a second", self.rate), ("in all", self.requests)):
            if value is not None and value <= 0:
                raise InputError("{:g} requests {} ask for nothing", value, name)


@dataclass(frozen=True, slots=True)
class RunningLoad:
    """
    What of requests runs at once: `steps` of those, and nanoseconds that they wait (`AnsweredLoad`). `offered` are the
    tokens a second of requests that come at a rate, where it sets them and not the steps.
    """

    steps: LoadedSteps
    queue_ns: float = 0.0
    waiting_ns: float | None = 0.0
    offered: float | None = None

    def tokens_per_second(self, host: EngineHost) -> float:
        """Tokens a second of all requests, with such a host: no more than are asked for."""
        return self.steps.tokens_per_second(host) if self.offered is None else self.offered


@dataclass(frozen=True, slots=True)
class AnsweredLoad:
    """
    What is seen of `ask`: `time` of those that run at once within the engine's `limits` (`None` where no planner of it
    is known). Nanoseconds on average: `queue_ns` behind prompts that came before, `waiting_ns` until the engine takes a
    request up; `None` where more come than are answered, so that they wait longer and longer.
    """

    ask: LoadAsk
    limits: LoadLimits | None
    time: LoadTime
    queue_ns: float = 0.0
    waiting_ns: float | None = 0.0

    @property
    def under_way(self) -> int:
        """Requests that run at once."""
        return self.time.steps.load.requests

    @property
    def starts(self) -> bool:
        """Whether the engine would start, as far as that is known."""
        return self.limits is None or not self.limits.refused

    @property
    def ttft(self) -> LoadFigure | None:
        """Nanoseconds to the first token of all requests on average, waiting with them; `None` if that has no end."""
        if self.waiting_ns is None:
            return None
        first = self.time.mean_first_token
        whole = first.value + self.queue_ns + self.waiting_ns
        return LoadFigure(whole, whole * first.low / first.value, whole * first.high / first.value, first.host)


def answered_load(
    model: ModelConfig,
    layout: Layout,
    chip: Chip,
    ask: LoadAsk,
    step: ServedStep,
    engine: str = DEFAULT_ENGINE,
    *,
    limits: LoadLimits | None = None,
    step_tokens: int | None = None,
    acceptance: float | None = None,
    eager_drafts: bool = False,
    host_factor: float | None = None,
) -> AnsweredLoad:
    """
    What is seen of `ask` where `engine` serves `model` in `layout` on dies of `chip`, by its name or a release's.

    `step` says how many tokens are drafted, of which `acceptance` are accepted on average (by default what services
    report), and what is in how many bits. No more run at once than `limits` let, and steps read so many tokens of
    prompts, or `step_tokens` where no limits are known. Raises `InputError` for what can't be timed.
    """
    if layout.pipeline > 1:
        raise InputError(
            "requests at once are not modelled for pipeline stages", remedy="leave --pp out, or ask memplan fit --rate"
        )
    timed = cache(captured_steps(chip, engine))
    reading = prompt_steps(engine, step_tokens if limits is None else limits.step_tokens)
    if acceptance is None:
        acceptance = accepted(step.speculative, engine, own_layers=model.draft is None)
    yielded = 1 + acceptance

    def steps_of(load: RequestLoad) -> LoadedSteps:
        return loaded_steps(model, layout, load, reading, step, timed, yielded=yielded, eager_drafts=eager_drafts)

    host = asked_host(engine, layout, offline=ask.offline, host_factor=host_factor)
    running = running_load(ask, limits, layout, steps_of, host)
    time = load_time(running.steps, engine, offline=ask.offline, host_factor=host_factor)
    if ask.rate is not None:

        def rate(times: float) -> float:
            """Tokens a second where all takes so many times as long: what is asked for, while more at once keep up."""
            slower = host.slower(times)
            there = running_load(ask, limits, layout, lambda load: steps_of(load).slower(times), slower)
            return there.tokens_per_second(slower)

        low, high = (rate(time.rate.value / end) for end in (time.rate.low, time.rate.high))
        time = replace(time, rate=LoadFigure(running.tokens_per_second(host), low, high, time.rate.host))
    return AnsweredLoad(ask, limits, time, running.queue_ns, running.waiting_ns)


def running_load(
    ask: LoadAsk,
    limits: LoadLimits | None,
    layout: Layout,
    steps_of: Callable[[RequestLoad], LoadedSteps],
    host: EngineHost,
) -> RunningLoad:
    """
    What of `ask` runs at once on replicas of `layout` with such a host, within `limits` if any are known.

    `steps_of` says what steps a load has; of requests at a rate it is asked more than once.
    """

    def steps(requests: int, waves: float) -> LoadedSteps:
        one_by_one = ask.one_by_one or ask.rate is not None
        return steps_of(
            RequestLoad(requests, ask.prompt, ask.answer, waves, one_by_one=one_by_one, unequal=ask.unequal)
        )

    most = math.inf
    if limits is not None and limits.sequences is not None:
        most = limits.sequences * layout.data
    if ask.rate is not None:
        return _at_rate(ask, ask.rate, most, _MOST * layout.data, steps, host)
    wanted = ask.at_once or ask.requests or 1
    wanted = wanted if ask.requests is None else min(wanted, ask.requests)
    running, total = int(min(wanted, most)), ask.requests or WAVES * wanted
    found = steps(running, total / running)
    # Of those that are sent at once half wait on average as long as they do who follow others.
    waiting = (wanted - running) / _answered(found, host) * (1 - wanted / total / 2) * 1e9
    return RunningLoad(found, 0.0, waiting)


def _answered(steps: LoadedSteps, host: EngineHost) -> float:
    """Requests that are answered in a second."""
    return steps.tokens_per_second(host) / steps.load.answer


def _at_rate(
    ask: LoadAsk,
    rate: float,
    most: float,
    bound: int,
    steps: Callable[[int, float], LoadedSteps],
    host: EngineHost,
) -> RunningLoad:
    """
    What is seen of requests that come at a rate: at once are those that come in the time of one (Little's law).

    The engine begins with none: from one on as many are taken as come meanwhile until no more do.
    """
    room = int(min(most, ask.at_once or most, bound))

    def at_once(requests: int) -> RunningLoad:
        waves = math.inf if ask.requests is None else max(1.0, ask.requests / requests)
        found = steps(requests, waves)
        return RunningLoad(found, _behind(found, rate, host, room))

    def seconds(found: RunningLoad) -> float:
        """Seconds that a request takes."""
        first, token = found.steps.first_token_ms(host), found.steps.token_ms(host)
        return (first + found.queue_ns / 1e6 + (ask.answer - 1) * token) / 1e3

    running = 1
    found = at_once(running)
    while running < room and (coming := math.ceil(rate * seconds(found))) > running:
        running = min(coming, room)
        found = at_once(running)
    answered = _answered(found.steps, host)
    lasting = math.inf if ask.requests is None else ask.requests
    # The last one comes when all before it have.
    offered = ask.answer * (rate if math.isinf(lasting) else lasting / ((lasting - 1) / rate + seconds(found)))
    if running == room and rate * seconds(found) > room and answered < rate:
        queued = 0.0 if ask.at_once is not None and ask.at_once <= most else None
        if queued is None and ask.requests is not None:
            queued = ask.requests / 2 * (1 / answered - 1 / rate) * 1e9
        return RunningLoad(found.steps, 0.0, queued, offered if offered < answered * ask.answer else None)
    return replace(found, offered=offered)


def _behind(steps: LoadedSteps, rate: float, host: EngineHost, room: int) -> float:
    """Nanoseconds that a prompt waits on average for those that came before it and are not read yet."""
    data, prompt_ms = steps.layout.data, steps.prompt_ms(host)
    queue = Queue(data, rate, prompt_ms / 1e3)
    # No more wait than there is room for.
    return min(queue.mean_wait, room / data * prompt_ms / 1e3) * 1e9
