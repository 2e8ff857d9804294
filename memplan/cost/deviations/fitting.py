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
from memplan.cost.measured_kernels import calibration_choice
from memplan.cost.overlap import Array

_FLOOR = 1e-3
"""Variance that no repetition of a kernel is without: 3 % of its time."""
_ROUNDS = 3
"""Times that kernels are weighed anew by how far they went their own way; weights hardly move after that."""
_SHARES = (0.25, 0.5, 0.75, 1.0)
"""Parts of a correction that are tried: a quarter changes less than repetitions of a kernel do."""


def fitted_deviations(traits: Sequence[Trait], measured: Sequence[Array]) -> Deviations:
    """
    Deviations of distinct kernels, each with all the times (ns) it took.

    A kind keeps the share of its deviations with which its kernels come out best when each is predicted by all others,
    and none where that may be chance. That is judged by types of which enough are left when one is taken away.
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
    alone = _missed(measured, model)[enough].sum()
    missed = np.array([_missed(measured, model * np.exp(each))[enough].sum() for each in apart])
    shares = np.exp(-(missed - missed.min()) / max(calibration_choice("prior_patience") * alone, 1e-9))
    shares = shares / shares.sum()
    together = np.asarray(shares @ np.array(apart))
    kept: dict[str, float] = {}
    for kind in np.unique(columns.kind).tolist():
        own = np.flatnonzero((columns.kind == kind) & enough)
        share = _share([measured[index] for index in own], model[own], together[own])
        if share:
            kept[kind] = share
    members = zip(priors, shares.tolist(), weights, strict=True)
    return Deviations(
        tuple(Member(prior, share, tuple(own.tolist())) for prior, share, own in members), tuple(traits), kept, least
    )


def _chosen(measured: Sequence[Array]) -> list[int]:
    """The kernels with the most time in all, as many as are fitted."""
    spent = np.array([float(np.sum(own)) for own in measured])
    most = int(calibration_choice("most_shapes"))
    return sorted(np.argsort(-spent, kind="stable")[:most].tolist())


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


def _share(measured: Sequence[Array], model: Array, apart: Array) -> float:
    """The share of the deviations predicted `apart` from each kernel's own with which a kind comes out best."""
    fewest = int(calibration_choice("fewest_of_kind"))
    return surest_share(lambda share: _missed(measured, model * np.exp(share * apart)), fewest)


def surest_share(missed: Callable[[float], Array], fewest: int) -> float:
    """
    The share (0 to 1) of a correction with which several kernels together gain most that is hardly chance.

    `missed` says for each kernel by how many nanoseconds it is off with a share. 0 where there are not the `fewest`
    kernels, three or more, or no gain is sure. Few kernels tell by no mean what is chance: they have to agree.
    """
    plain = missed(0.0)
    if len(plain) < fewest:
        return 0.0
    gains = {share: _sure_gain(plain - missed(share)) for share in _SHARES}
    best = max(gains, key=gains.__getitem__)
    if gains[best] <= 0 or (len(plain) < calibration_choice("fewest_for_means") and not _agreed(plain, missed(best))):
        return 0.0
    return best


def _agreed(plain: Array, corrected: Array) -> bool:
    """Whether every kernel gains by a correction, and all together enough of what they are off."""
    gains = plain - corrected
    return bool((gains > 0).all() and gains.sum() > calibration_choice("agreed_gain") * plain.sum())


def _sure_gain(gains: Array) -> float:
    sure = _quantile(calibration_choice("carry_sureness"), len(gains) - 1)
    return float(gains.sum() - sure * math.sqrt(len(gains)) * gains.std(ddof=1))


def _quantile(normal: float, freedom: int) -> float:
    """
    Student's quantile with as much beyond it as a normal one has beyond `normal`: few kernels tell their spread badly.

    Source: the expansion of Cornish and Fisher, Abramowitz and Stegun 26.7.5, to its second term; `freedom` from 2 on.
    """
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / freedom + second / freedom**2
