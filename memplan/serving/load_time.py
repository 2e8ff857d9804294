"""`load_time`: what a layout does with so many requests at once: the first token, each further one, all in a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from memplan.engines import CAPTURED, DEFAULT_ENGINE
from memplan.models.parallel import Layout
from memplan.serving.constants import EngineHost, engine_host, step_interval
from memplan.serving.loaded_steps import LoadedSteps


@dataclass(frozen=True, slots=True)
class LoadFigure:
    """A predicted `value`, between which four of five public ones lie, and what part of its time is the host's."""

    value: float
    low: float
    high: float
    host: float


@dataclass(frozen=True, slots=True)
class LoadTime:
    """
    What who asks sees of `steps` served by `engine`, whose host takes `host_factor` times as long as public ones.

    Times in nanoseconds: `first_token` of one who comes while others are answered (or alone), `mean_first_token` of all
    requests of the load, those that all come at once at its start among them; `token`, each further one on average,
    and `quiet_token` of steps that read nobody's prompt. `rate` is tokens a second of all requests together, and
    `reading` the part of the time that prompts take.
    """

    steps: LoadedSteps
    engine: str
    host_factor: float | None
    first_token: LoadFigure
    mean_first_token: LoadFigure
    token: LoadFigure
    quiet_token: LoadFigure
    rate: LoadFigure
    reading: float

    @property
    def rate_per_die(self) -> float:
        """Tokens a second of one die."""
        return self.rate.value / self.steps.layout.ranks

    @property
    def requests_per_second(self) -> float:
        """Requests that are answered in a second."""
        return self.rate.value / self.steps.load.answer


def asked_host(engine: str, layout: Layout, *, offline: bool = False, host_factor: float | None = None) -> EngineHost:
    """
    The host of `engine` on ranks of `layout`, asked by somebody unless `offline`.

    Who hides the work of steps still takes requests in and hands tokens out.
    """
    host = engine_host(engine, alone=layout.ranks == 1)
    host = replace(host, request_ns=0 if offline else engine_host(DEFAULT_ENGINE).request_ns)
    return host.slower(1.0 if host_factor is None else host_factor)


def load_time(steps: LoadedSteps, engine: str, *, offline: bool = False, host_factor: float | None = None) -> LoadTime:
    """
    What who asks sees of `steps`, which `loaded_steps` finds, with the host of `engine`.

    `offline` ones come from nobody: a program asks the engine itself. `host_factor` is how many times as long the
    machine's host takes as those of public runs. Raises `InputError` for an engine that is not known.
    """
    host = asked_host(engine, steps.layout, offline=offline, host_factor=host_factor)
    hidden = engine_host(CAPTURED)

    def figure(of: Callable[[EngineHost], float], kernels: float | None = None, *, rate: bool = False) -> LoadFigure:
        """A time in milliseconds, or a `rate`, which is as many times less as its steps take longer."""
        value, alone = of(host), of(hidden) if kernels is None else kernels
        share = max(0.0, 1 - (value / alone if rate else alone / value))
        step_ms = steps.loop(host, group=1).step if rate else value
        told = share if host_factor is None else 0.0
        low, high = step_interval(engine, told, duration_ns=step_ms * 1e6)
        if rate:
            return LoadFigure(value, value / high, value / low, share)
        return LoadFigure(value * 1e6, value * low * 1e6, value * high * 1e6, share)

    prompt_ms = steps.prompt_ns / 1e6
    return LoadTime(
        steps=steps,
        engine=engine,
        host_factor=host_factor,
        first_token=figure(steps.first_token_ms, prompt_ms),
        mean_first_token=figure(steps.mean_first_token_ms),
        token=figure(steps.token_ms),
        quiet_token=figure(lambda one: steps.token_ms(one, mean=False)),
        rate=figure(steps.tokens_per_second, rate=True),
        reading=steps.reading_part(host),
    )
