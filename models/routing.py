"""
How unevenly tokens choose experts that nobody has balanced: how much the busiest rank gets, and which experts get any.

How often an expert is chosen is log-normal about the mean. What a rank of several experts gets is taken for log-normal
as well, with the variance of their sum and that of drawing so many rows (Fenton 1960); the busiest of `ranks` lies
where the largest of so many normal values is expected (Blom 1958). The one width of it all is the
median over the models of `routing.json`, of which public runs tell a layer's busiest rank, entropy or busier half
(of log-normal shares the entropy lacks half the variance of the logarithm, and the busier half has the normal
distribution's value at the width).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import exp, expm1, log, log1p, sqrt
from statistics import NormalDist, fmean, median
from typing import Any

from memplan.core.resources import table
from memplan.models.feed_forward import Ffn, MoeFfn
from memplan.models.parallel import Layout

_NORMAL = NormalDist()
_PARTS = 64
"""Equally likely parts that popularities are averaged over."""


def shared_evenly(ffn: Ffn | None, layout: Layout, *, even: bool) -> bool:
    """
    Whether ranks of a step get as many rows of `ffn` as each other: all do without experts, or with `even` ones.

    Ranks beyond the experts hold copies, which whoever has balances.
    """
    return even or not isinstance(ffn, MoeFfn) or layout.expert > ffn.experts


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
    return fmean(1 - (1 - min(1.0, chance * own)) ** tokens for own in _popularities())


@cache
def _popularities() -> tuple[float, ...]:
    """How often experts are chosen, over the mean: one for each of the equally likely parts."""
    width = sqrt(log1p(_variance()))
    popular = [exp(width * _NORMAL.inv_cdf((part + 0.5) / _PARTS)) for part in range(_PARTS)]
    mean = fmean(popular)
    return tuple(own / mean for own in popular)


def _expected_largest(ranks: int) -> float:
    """The largest of `ranks` standard normal values, as expected."""
    return _NORMAL.inv_cdf((ranks - 0.375) / (ranks + 0.25))


def _largest(ranks: int, width: float) -> float:
    """The largest of log-normal values of mean one, `width` the variance of their logarithm."""
    return exp(_expected_largest(ranks) * sqrt(width) - width / 2)


@cache
def _variance() -> float:
    """Of how often an expert is chosen, by its mean squared: the median, in logarithms, of what models tell."""
    told = table("memplan.models", "routing.json")["models"]
    return exp(median(fmean(log(_told(figure)) for figure in figures) for figures in told.values()))


def _told(figure: Mapping[str, Any]) -> float:
    """The variance, by the mean squared, with which a published figure is met."""
    if "busier_half" in figure:
        return expm1(_NORMAL.inv_cdf(figure["busier_half"]) ** 2)
    if "missing_entropy" in figure:
        return expm1(2 * figure["missing_entropy"] * log(figure["experts"]))
    place = _expected_largest(figure["ranks"])
    width = (place - sqrt(place**2 - 2 * log(figure["max_over_mean"]))) ** 2
    return float((expm1(width) - 1 / figure["rows"]) * figure["experts"])
