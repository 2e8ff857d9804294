"""Times of decode and prefill steps of one instance over batch and length, from a few of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from memplan.hardware import Chip
from memplan.models import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving.constants import engine_host
from memplan.serving.fast_step import StepPoint, fast_step


@dataclass(frozen=True, slots=True)
class StepCurve:
    """
    Steps of `model` in `layout` with sequences of `context` tokens on average.

    Times are asked of the step model at powers of `base` (prompts at powers of two and at `exact` lengths) and read off
    straight lines between them. The host takes `host_factor` times as long as those of public runs. `decode` and
    `prefill` keep what was asked.
    """

    model: ModelConfig
    layout: Layout
    chip: Chip
    engine: str
    step: ServedStep
    acceptance: float | None
    cached: int = 0
    base: int = 2
    exact: frozenset[int] = frozenset()
    host_factor: float = 1.0
    decode: dict[int, StepPoint] = field(default_factory=dict)
    prefill: dict[int, StepPoint] = field(default_factory=dict)

    @property
    def request_ns(self) -> int:
        """What a request takes beside steps until its first token is with who asked."""
        return engine_host(self.engine).slower(self.host_factor).request_ns

    def decoding(self, sequences: float) -> StepPoint:
        """A decode step with `sequences` on each data-parallel rank, which pipeline stages divide among them."""
        own = max(1.0, sequences / self.layout.pipeline)
        return _between(own, _grid(own, self.base), self.decode, self._decode)

    def reading(self, tokens: float) -> StepPoint:
        """A step in which each rank reads `tokens` of a prompt of its own."""
        own = max(1.0, tokens)
        grid = (round(own), round(own)) if round(own) in self.exact else _grid(own, 2)
        return _between(own, grid, self.prefill, self._prefill)

    def _decode(self, sequences: int) -> StepPoint:
        step = replace(self.step, phase=Phase.DECODE, batch=sequences * self.layout.data)
        return self._timed(step)

    def _prefill(self, tokens: int) -> StepPoint:
        context = tokens + self.cached
        step = replace(
            self.step, phase=Phase.PREFILL, batch=self.layout.data, context=context, cached=self.cached, speculative=0
        )
        return self._timed(step)

    def _timed(self, step: ServedStep) -> StepPoint:
        return fast_step(
            self.model, self.layout, step, self.chip,
            acceptance=self.acceptance, engine=self.engine, host_factor=self.host_factor,
        )  # fmt: skip


def _grid(value: float, base: int) -> tuple[int, int]:
    low = 1
    while base * low <= value:
        low *= base
    return (low, low) if low == value else (low, base * low)


def _between(
    value: float, grid: tuple[int, int], known: dict[int, StepPoint], ask: Callable[[int], StepPoint]
) -> StepPoint:
    for place in grid:
        if place not in known:
            known[place] = ask(place)
    low, high = known[grid[0]], known[grid[1]]
    if grid[0] == grid[1]:
        return low
    part = (value - grid[0]) / (grid[1] - grid[0])

    def at(one: float, other: float) -> float:
        return one + part * (other - one)

    return StepPoint(
        at(low.duration_ns, high.duration_ns),
        at(low.pace_ns, high.pace_ns),
        at(low.overhead_ns, high.overhead_ns),
        low.yielded,
        low.launched_ns,
    )
