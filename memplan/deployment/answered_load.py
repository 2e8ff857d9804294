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
from memplan.serving.constants import accepted
from memplan.serving.load_time import LoadFigure, LoadTime, asked_host, load_time
from memplan.serving.loaded_steps import (
    WAVES,
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
    conversations do; `offline` ones are asked by no server.
    """

    prompt: int
    answer: int
    at_once: int | None = None
    rate: float | None = None
    requests: int | None = None
    unequal: bool = False
    offline: bool = False

    def __post_init__(self) -> None:
        if self.at_once is None and self.rate is None and self.requests is None:
            raise InputError(
                "how many requests there are at once is not told", remedy="give --concurrency 32, or --rate 4"
            )
        for name, value in (("at once", self.at_once), ("a second", self.rate), ("in all", self.requests)):
            if value is not None and value <= 0:
                raise InputError("{:g} requests {} ask for nothing", value, name)


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

    def time(requests: int, waves: float) -> LoadTime:
        load = RequestLoad(
            requests, ask.prompt, ask.answer, waves, one_by_one=ask.rate is not None, unequal=ask.unequal
        )
        steps = loaded_steps(model, layout, load, reading, step, timed, yielded=yielded, eager_drafts=eager_drafts)
        return load_time(steps, engine, offline=ask.offline, host_factor=host_factor)

    most = math.inf
    if limits is not None and limits.sequences is not None:
        most = limits.sequences * layout.data
    if ask.rate is not None:
        return _at_rate(ask, ask.rate, limits, most, _MOST * layout.data, time)
    wanted = ask.at_once or ask.requests or 1
    wanted = wanted if ask.requests is None else min(wanted, ask.requests)
    running, total = int(min(wanted, most)), ask.requests or WAVES * wanted
    found = time(running, total / running)
    # Of those that are sent at once half wait on average as long as they do who follow others.
    waiting = (wanted - running) / found.requests_per_second * (1 - wanted / total / 2) * 1e9
    return AnsweredLoad(ask, limits, found, 0.0, waiting)


def _at_rate(
    ask: LoadAsk,
    rate: float,
    limits: LoadLimits | None,
    most: float,
    bound: int,
    time: Callable[[int, float], LoadTime],
) -> AnsweredLoad:
    """
    What is seen of requests that come at a rate: at once are those that come in the time of one (Little's law).

    The engine begins with none: from one on as many are taken as come meanwhile until no more do.
    """
    room = int(min(most, ask.at_once or most, bound))

    def at_once(requests: int) -> AnsweredLoad:
        waves = math.inf if ask.requests is None else max(1.0, ask.requests / requests)
        found = time(requests, waves)
        return AnsweredLoad(ask, limits, found, _behind(found, rate, ask, room))

    running = 1
    found = at_once(running)
    while running < room and (coming := math.ceil(rate * _seconds(found))) > running:
        running = min(coming, room)
        found = at_once(running)
    answered = found.time.requests_per_second
    if running == room and rate * _seconds(found) > room and answered < rate:
        queued = 0.0 if ask.at_once is not None and ask.at_once <= most else None
        if queued is None and ask.requests is not None:
            queued = ask.requests / 2 * (1 / answered - 1 / rate) * 1e9
        return replace(found, waiting_ns=queued, queue_ns=0.0)
    lasting = math.inf if ask.requests is None else ask.requests
    offered = ask.answer * (rate if math.isinf(lasting) else lasting / ((lasting - 1) / rate + _seconds(found)))
    same = LoadFigure(offered, offered, offered, found.time.rate.host)
    return replace(found, time=replace(found.time, rate=same))


def _seconds(found: AnsweredLoad) -> float:
    """Seconds that a request takes."""
    time = found.time
    return (time.first_token.value + found.queue_ns + (found.ask.answer - 1) * time.token.value) / 1e9


def _behind(found: LoadTime, rate: float, ask: LoadAsk, room: int) -> float:
    """Nanoseconds that a prompt waits on average for those that came before it and are not read yet."""
    steps = found.steps
    host = asked_host(found.engine, steps.layout, offline=ask.offline, host_factor=found.host_factor)
    queue = Queue(steps.layout.data, rate, steps.prompt_ms(host) / 1e3)
    # No more wait than there is room for.
    longest = room / steps.layout.data * steps.prompt_ms(host) / 1e3
    return min(queue.mean_wait, longest) * 1e9
