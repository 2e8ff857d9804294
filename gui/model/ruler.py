"""Ticks of a time or byte axis, and the text at each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from memplan.core.units import TIME_UNITS, format_bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """One labelled position of an axis, in the axis' own unit."""

    value: float
    text: str


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `count` pieces."""
    if span <= 0:
        return 1.0
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999999)


_ROOM_FOR_TEXT = 0.15
"""Share of an axis at its end where the text of a tick has no room any more."""


def _telling_step(start: float, end: float, count: int) -> float:
    """The step of about `count` ticks; where fewer than two of them have room for their text, the next smaller one."""
    last = end - (end - start) * _ROOM_FOR_TEXT
    steps = [nice_step(end - start, max(count, 1) * more) for more in (1, 2, 4, 8)]
    return next((step for step in steps if math.floor(last / step) > math.ceil(start / step)), steps[0])


def time_ticks(start: float, end: float, count: int) -> list[Tick]:
    """
    At most about `count` ticks over `[start, end)` nanoseconds, all in the unit that suits the step.

    There are two at least, however few are asked for: one alone says no distance.
    """
    step = _telling_step(start, end, count)
    largest = max(abs(start), abs(end), step)
    scale, unit = next(((s, u) for s, u in TIME_UNITS if largest >= s), TIME_UNITS[-1])
    digits = max(0, math.ceil(-math.log10(step / scale) - 1e-9))
    first = math.ceil(start / step)
    last = math.floor(end / step)
    return [Tick(i * step, f"{i * step / scale:,.{digits}f} {unit}") for i in range(first, last + 1)]


def event_ticks(start: float, end: float, count: int) -> list[Tick]:
    """At most about `count` ticks over the events numbered `[start, end)`, and two at least where there are two."""
    step = max(round(_telling_step(start, end, count)), 1)
    return [Tick(float(i * step), f"{i * step:,}") for i in range(math.ceil(start / step), math.floor(end / step) + 1)]


def byte_ticks(low: float, high: float, count: int) -> list[Tick]:
    """At most about `count` ticks over `[low, high)` bytes at round binary sizes."""
    span = max(high - low, 1.0)
    step = 1.0
    while span / step > max(count, 1):
        step *= 2
    first, last = math.ceil(low / step), math.floor(high / step)
    return [Tick(i * step, format_bytes(round(i * step))) for i in range(first, last + 1)]
