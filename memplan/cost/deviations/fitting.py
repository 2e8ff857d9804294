"""
Deviations carried over from kernels measured to kernels like them.

The logarithm of measured over modelled time is a Gaussian process over what kernels have in common (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006, ch. 2 and 5.4), with noise of Student's distribution, so that a
kernel that went its own way is no way of others. How much they have in common nobody knows beforehand: priors spread
over all that may be are averaged, each with a weight by how well every kernel is predicted from all others (stacking
as in Yao et al., Bayesian Analysis 13, 2018, with the error that counts here: time that is missed).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from memplan.cost.deviations.measured_deviations import Deviations, Member
from memplan.cost.deviations.prior import Columns, Prior, SharedTraits, spread_priors
from memplan.cost.deviations.traits import Trait
from memplan.cost.kernels.op_classes import CONVOLUTIONS
from memplan.cost.measured_kernels import calibration_choice
from memplan.cost.overlap import Array

_FLOOR = 1e-3
"""Variance that no repetition of a kernel is without: 3 % of its time."""
_FEWEST_FOR_SPREAD = 3
"""Kernels below which `_quantile` tells nothing."""
_ROUNDS = 3
"""Times that kernels are weighed anew by how far they went their own way; weights hardly move after that."""
_SHARES = (0.25, 0.5, 0.75, 1.0)
"""Parts of a correction that are tried: a quarter changes less than repetitions of a kernel do."""
_BY_TIME, _ALIKE = 1.0, 0.0
"""Powers of their time by which kernels count as evidence: as much as they take, or all alike."""


def fitted_deviations(traits: Sequence[Trait], measured: Sequence[Array]) -> Deviations:
    """
    Deviations of distinct kernels, each with all the times (ns) it took.

    A kind keeps the share of its deviations with which its kernels come out best when each is predicted by all others:
    by time, where a few count for all, and with each kernel alike. It keeps none where one of the two says otherwise.
    That is judged by types of which enough are left when one is taken away.
    """
    least, evidence = (int(calibration_choice(name)) for name in ("fewest_of_type", "fewest_for_evidence"))
    chosen = _chosen(measured)
    if not chosen:
        return Deviations(least_shapes=least)
    traits, measured = [traits[index] for index in chosen], [measured[index] for index in chosen]
    columns = Columns.of(traits)
    model = np.exp(columns.size + columns.reads)
    most = calibration_choice("largest_deviation")
    ratios = np.clip(np.log([float(np.median(own)) for own in measured] / model), -most, most)
    counts = Counter((trait.type, trait.dtype) for trait in traits)
    enough = np.array([counts[trait.type, trait.dtype] >= evidence for trait in traits])
    priors, shared = spread_priors(), SharedTraits(columns, columns)
    weights, apart = zip(*(_predicted_apart(shared, columns, ratios, prior) for prior in priors), strict=True)
    missed = np.array([_missed(measured, model * np.exp(each)) for each in apart])
    left = _left(missed[:, enough], _missed(measured, model)[enough], _spent(measured)[enough])
    shares = np.exp(-(left - left.min()) / calibration_choice("prior_patience"))
    shares = shares / shares.sum()
    together = np.asarray(shares @ np.array(apart))
    kept: dict[str, float] = {}
    for kind in np.unique(columns.kind).tolist():
        own = np.flatnonzero((columns.kind == kind) & enough)
        share = _share(kind, [measured[index] for index in own], model[own], together[own])
        if share:
            kept[kind] = share
    members = zip(priors, shares.tolist(), weights, strict=True)
    return Deviations(
        tuple(Member(prior, share, tuple(own.tolist())) for prior, share, own in members), tuple(traits), kept, least
    )


def _chosen(measured: Sequence[Array]) -> list[int]:
    """The kernels with the most time in all, as many as are fitted."""
    most = int(calibration_choice("most_shapes"))
    return sorted(np.argsort(-_spent(measured), kind="stable")[:most].tolist())


def _spent(measured: Sequence[Array]) -> Array:
    """Nanoseconds that all measurements of each kernel took."""
    return np.array([float(np.sum(own)) for own in measured])


def _left(missed: Array, plain: Array, spent: Array) -> Array:
    """
    For each row of what is `missed` the share of what is missed plainly that it leaves, the mean of both ways to count.

    Columns are kernels, which `spent` so much time; 1 where nothing is missed plainly.
    """
    found = np.zeros(len(missed))
    for power in (_ALIKE, _BY_TIME):
        weights = spent ** (power - 1)
        whole = float(plain @ weights)
        found = found + ((missed @ weights) / whole if whole else 1.0)
    return np.asarray(found / 2)


def _predicted_apart(shared: SharedTraits, columns: Columns, ratios: Array, prior: Prior) -> tuple[Array, Array]:
    """The weights of the kernels' deviations under `prior`, and the deviation of each that all others predict."""
    covariance = shared.covariance(prior)
    noise = prior.noise * columns.scale(prior) ** 2 + _FLOOR
    trust = np.ones(len(ratios))
    for _ in range(_ROUNDS):
        off = noise / trust * np.linalg.solve(covariance + np.diag(noise / trust), ratios)
        trust = (prior.tails + 1) / (prior.tails + off**2 / noise)
    inverse = np.linalg.inv(covariance + np.diag(noise / trust))
    weights = inverse @ ratios
    return weights, ratios - weights / np.diag(inverse)


def _missed(measured: Sequence[Array], times: Array) -> Array:
    """Nanoseconds by which all measurements of each kernel are off its time."""
    return np.array([float(np.abs(own - time).sum()) for own, time in zip(measured, times, strict=True)])


def _share(kind: str, measured: Sequence[Array], model: Array, apart: Array) -> float:
    """The share of the deviations predicted `apart` from each kernel's own with which `kind` comes out best."""
    cut = kind in CONVOLUTIONS
    return surest_share(
        lambda share: _missed(measured, model * np.exp(share * apart)),
        int(calibration_choice("fewest_for_means" if cut else "fewest_of_kind")),
        calibration_choice("cut_sureness") if cut else 0.0,
        [_spent(measured) ** (power - 1) for power in (_ALIKE, _BY_TIME)],
    )


def surest_share(
    missed: Callable[[float], Array], fewest: int, sureness: float, weights: Sequence[Array] | None = None
) -> float:
    """
    The share (0 to 1) of a correction with which several kernels together gain most.

    `missed` says for each kernel by how many nanoseconds it is off with a share. The gain has to be more than
    `sureness` times its standard error, with each of the `weights` of kernels (all alike if none are given). Few
    kernels tell by no mean what is chance: all of them have to gain. 0 where there are not the `fewest` or no share
    gains so.
    """
    plain = missed(0.0)
    if len(plain) < max(fewest, _FEWEST_FOR_SPREAD):
        return 0.0
    ways = [way / (way @ plain) for way in weights or [np.ones(len(plain))] if way @ plain > 0]
    few = len(plain) < calibration_choice("fewest_for_means")
    best, most = 0.0, 0.0
    for share in _SHARES if ways else ():
        gained = plain - missed(share)
        gains = [_sure_gain(way * gained, sureness) for way in ways]
        if min(gains) > 0 and sum(gains) > most and not (few and (gained <= 0).any()):
            best, most = share, sum(gains)
    return best


def _sure_gain(gains: Array, sureness: float) -> float:
    sure = _quantile(sureness, len(gains) - 1)
    return float(gains.sum() - sure * math.sqrt(len(gains)) * gains.std(ddof=1))


def _quantile(normal: float, freedom: int) -> float:
    """
    Student's quantile with as much beyond it as a normal one has beyond `normal`: few kernels tell their spread badly.

    Source: the expansion of Cornish and Fisher, Abramowitz and Stegun 26.7.5, to its second term; `freedom` from 2 on.
    """
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / freedom + second / freedom**2
