"""
How unevenly tokens choose experts that nobody has balanced: how much the busiest rank gets, and which experts get any.

How often an expert is chosen is log-normal about the mean. What a rank of several experts gets is taken for log-normal
as well, with the variance of their sum and that of drawing so many rows (Fenton 1960); the busiest of `ranks` lies
where the largest of so many normal values is expected (Blom 1958). The one width of it all is what `routing.json`
has of a published run.
"""

from __future__ import annotations

from functools import cache
from math import exp, log, log1p, sqrt
from statistics import NormalDist, fmean

from memplan.core.resources import table

_NORMAL = NormalDist()
_PARTS = 64
"""Equally likely parts that popularities are averaged over."""


def busiest_rank(ranks: int, experts: int, rows: float) -> float:
    """
    Times the mean number of rows that the busiest of `ranks` gets, each with so many `experts` and `rows` on average.

    One where there is one rank, and never more than all rows of all ranks.
    """
    if ranks <= 1 or rows <= 0:
        return 1.0
    return min(_largest(ranks, log1p(_variance() / experts + 1 / rows)), float(ranks))


def share_hit(chance: float, tokens: int) -> float:
    """
    Share of experts that get any of so many `tokens`, each of which goes to an expert with that `chance` on average.

    A token goes to different experts: one alone hits as many as it chooses.
    """
    width = log1p(_variance())
    popular = [exp(sqrt(width) * _NORMAL.inv_cdf((part + 0.5) / _PARTS)) for part in range(_PARTS)]
    mean = fmean(popular)
    return fmean(1 - (1 - min(1.0, chance * own / mean)) ** tokens for own in popular)


def _expected_largest(ranks: int) -> float:
    """The largest of `ranks` standard normal values, as expected."""
    return _NORMAL.inv_cdf((ranks - 0.375) / (ranks + 0.25))


def _largest(ranks: int, width: float) -> float:
    """The largest of log-normal values of mean one, `width` the variance of their logarithm."""
    return exp(_expected_largest(ranks) * sqrt(width) - width / 2)


@cache
def _variance() -> float:
    """Of how often an expert is chosen, by its mean squared: that with which the published run is met."""
    told = table("memplan.models", "routing.json")["busiest"]
    place = _expected_largest(told["ranks"])
    width = (place - sqrt(place**2 - 2 * log(told["max_over_mean"]))) ** 2
    return float((exp(width) - 1 - 1 / told["rows"]) * told["experts"])
