"""Rates of the host link from single copies that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Protocol

from memplan.core.errors import InputError
from memplan.core.units import format_bytes
from memplan.hardware.host import LinkRates

_LARGE, _SMALL = 1 << 20, 4096
"""Copies from 1 MiB on tell the rate, those of at most a page the latency."""


class LinkCopy(Protocol):
    """One copy: `direction` is `h2d` or `d2h`; bytes and nanoseconds."""

    @property
    def direction(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def duration_ns(self) -> float: ...


def copy_rates(copies: Sequence[LinkCopy], source: str) -> LinkRates:
    """
    The rates at which `copies` ran, from `source`, the latency taken off; `None` for what they don't tell.

    A direction's rate is the median of its copies of 1 MiB and more, the latency that of copies of at most 4 KiB in
    either. Raises `InputError` where no copy is large enough to tell a rate.
    """
    small = [copy.duration_ns for copy in copies if copy.nbytes <= _SMALL]
    latency = median(small) if small else 0.0
    large = [copy for copy in copies if copy.nbytes >= _LARGE and copy.duration_ns > latency]
    if not large:
        raise InputError(
            "{}: none of its {} copies between host and device is of {} or more",
            source,
            len(copies),
            format_bytes(_LARGE),
            remedy="give --d2h and --h2d, or --link-rates",
        )
    rates = {
        direction: [copy.nbytes / (copy.duration_ns - latency) * 1e9 for copy in large if copy.direction == direction]
        for direction in ("d2h", "h2d")
    }
    told = ", ".join(f"{len(found)} {direction}" for direction, found in rates.items() if found)
    sizes = f"{format_bytes(min(copy.nbytes for copy in large))} to {format_bytes(max(copy.nbytes for copy in large))}"
    return LinkRates(
        median(rates["d2h"]) if rates["d2h"] else None,
        median(rates["h2d"]) if rates["h2d"] else None,
        round(latency) if small else None,
        f"{source}: {told} copies of {sizes}",
    )
