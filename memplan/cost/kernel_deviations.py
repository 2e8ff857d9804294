"""
How far measured kernels are off the model, carried over to kernels like them.

The logarithm of measured over modelled time is taken for a Gaussian process over what kernels have in common: their
bound and size, their kind, the rule that costs them, their type, and the length of their rows (Rasmussen and Williams,
Gaussian Processes for Machine Learning, 2006, ch. 2 and 5.4). A kernel of a type that was not measured keeps the
model's time; kinds for which kernels left out came out no better keep it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memplan.cost.kernel import Kernel, op_class
from memplan.cost.measured_kernels import calibration_choice
from memplan.cost.overlap import Array

_FLOOR = 1e-3
"""Variance that no repetition of a kernel is without: 3 % of its time."""
_MIDDLE_NS = 20_000.0
"""The size at which variances are told: longer kernels are predicted the better, shorter ones the worse."""


class Predicted(Protocol):
    """What a correction starts from: the model's time and what limits it."""

    @property
    def duration_ns(self) -> int: ...
    @property
    def bound(self) -> str: ...
    @property
    def known(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Trait:
    """What a kernel has in common with others: type, bound, logarithms of its model time (ns) and row length."""

    type: str
    bound: str
    size: float
    row: float


def trait_of(kernel: Kernel, cost: Predicted) -> Trait:
    """The trait of `kernel`, which the model gives `cost`."""
    operands = (*kernel.outputs, *(operand for operand in kernel.inputs if operand is not None))
    length = next((operand.shape[-1] for operand in operands if operand.shape), 1)
    return Trait(kernel.type, cost.bound, math.log(max(cost.duration_ns, 1)), math.log(max(length, 1)))


@dataclass(frozen=True, slots=True)
class Prior:
    """
    Variances of log ratios that kernels share by what they have in common, and how far size and row may differ for it.

    `noise` is what each goes its own way, `falloff` the power of the time by which all deviations get smaller.
    """

    bound: float
    kind: float
    rule: float
    type: float
    shape: float
    noise: float
    size_length: float
    row_length: float
    falloff: float


@dataclass(frozen=True, slots=True)
class Deviations:
    """Kernels measured, the weight that each one's deviation has for others, and the share that each kind keeps."""

    prior: Prior
    traits: tuple[Trait, ...] = ()
    weights: tuple[float, ...] = ()
    kept: Mapping[str, float] = field(default_factory=dict)

    def covers(self, trait: Trait) -> bool:
        """Whether kernels of its type were measured from half to twice its time."""
        if not self.kept.get(op_class(trait.type).kind):
            return False
        sizes = [known.size for known in self.traits if known.type == trait.type]
        return bool(sizes) and min(sizes) - math.log(2) <= trait.size <= max(sizes) + math.log(2)

    def ratio(self, trait: Trait) -> float:
        """Measured over modelled time that is expected of a kernel."""
        if not self.covers(trait):
            return 1.0
        share = self.kept[op_class(trait.type).kind]
        covariance = _covariance(_Columns.of([trait]), _Columns.of(self.traits), self.prior)
        return math.exp(share * float(covariance[0] @ np.asarray(self.weights)))


@dataclass(frozen=True, slots=True)
class _Columns:
    type: NDArray[np.str_]
    rule: NDArray[np.str_]
    kind: NDArray[np.str_]
    bound: NDArray[np.str_]
    size: Array
    row: Array

    @staticmethod
    def of(traits: Sequence[Trait]) -> _Columns:
        classes = [op_class(trait.type) for trait in traits]
        return _Columns(
            np.array([trait.type for trait in traits]),
            np.array([item.rule for item in classes]),
            np.array([item.kind for item in classes]),
            np.array([trait.bound for trait in traits]),
            np.array([trait.size for trait in traits]),
            np.array([trait.row for trait in traits]),
        )

    def scale(self, prior: Prior) -> Array:
        return np.asarray(np.exp(-prior.falloff * (self.size - math.log(_MIDDLE_NS))))


def _covariance(one: _Columns, other: _Columns, prior: Prior) -> Array:
    def alike(name: str) -> Array:
        return np.asarray(np.equal.outer(getattr(one, name), getattr(other, name)), dtype=np.float64)

    def near(name: str, length: float) -> Array:
        far = np.subtract.outer(getattr(one, name), getattr(other, name)) / length
        return np.asarray(np.exp(-0.5 * far**2))

    near_size, near_row = near("size", prior.size_length), near("row", prior.row_length)
    bound, types = alike("bound"), alike("type")
    by_size = prior.bound * bound + prior.kind * alike("kind") + prior.rule * alike("rule") * bound
    shared = near_size * (by_size + prior.shape * types * near_row) + prior.type * types
    return np.asarray(shared * np.multiply.outer(one.scale(prior), other.scale(prior)))


def fitted_deviations(traits: Sequence[Trait], measured: Sequence[Array]) -> Deviations:
    """
    Deviations of distinct kernels, each with all the times (ns) it took.

    Variances are those under which the deviations are likeliest, drawn towards those of `calibration.json`. A kind
    keeps the share of its deviations with which its kernels come out best, for sure, when each is predicted by all
    others, and none where that may be chance.
    """
    prior = Prior(*(calibration_choice(f"prior_{item.name}") for item in fields(Prior)))
    model = np.exp([trait.size for trait in traits])
    times = np.array([float(np.median(own)) for own in measured])
    most = int(calibration_choice("most_shapes"))
    chosen = np.sort(np.argsort(-np.array([float(np.sum(own)) for own in measured]), kind="stable")[:most])
    if not len(chosen):
        return Deviations(prior)
    columns = _Columns.of([traits[index] for index in chosen])
    ratios = np.log(times[chosen] / model[chosen])
    prior = _likeliest(columns, ratios, prior)
    inverse = np.linalg.inv(_noisy(columns, prior))
    weights = inverse @ ratios
    apart = ratios - weights / np.diag(inverse)
    kept: dict[str, float] = {}
    for kind in np.unique(columns.kind).tolist():
        own = np.flatnonzero(columns.kind == kind)
        share = _share([measured[chosen[index]] for index in own], model[chosen][own], apart[own])
        if share:
            kept[kind] = share
    return Deviations(prior, tuple(traits[index] for index in chosen), tuple(weights.tolist()), kept)


def _noisy(columns: _Columns, prior: Prior) -> Array:
    noise = prior.noise * columns.scale(prior) ** 2 + _FLOOR
    return _covariance(columns, columns, prior) + np.diag(noise)


def _share(measured: Sequence[Array], model: Array, apart: Array) -> float:
    """The share of the deviations predicted `apart` from each kernel's own with which a kind comes out best."""
    if len(measured) < calibration_choice("fewest_shapes"):
        return 0.0

    def off(share: float) -> Array:
        times = model * np.exp(share * apart)
        return np.array([float(np.abs(own - time).sum()) for own, time in zip(measured, times, strict=True)])

    alone, sure = off(0.0), _quantile(calibration_choice("carry_sureness"), len(measured) - 1)
    best, most = 0.0, 0.0
    for share in (0.25, 0.5, 0.75, 1.0):
        gain = alone - off(share)
        least = float(gain.sum() - sure * math.sqrt(len(gain)) * gain.std(ddof=1))
        if least > most:
            best, most = share, least
    return best


def _quantile(normal: float, freedom: int) -> float:
    """
    Student's quantile with as much beyond it as a normal one has beyond `normal`: few kernels tell their spread badly.

    Source: the expansion of Cornish and Fisher, Abramowitz and Stegun 26.7.5, to its second term; `freedom` from 2 on.
    """
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / freedom + second / freedom**2


def _likeliest(columns: _Columns, ratios: Array, start: Prior) -> Prior:
    """The prior of the greatest marginal likelihood, each of its values doubled or halved in turn from `start`."""
    spread = calibration_choice("prior_spread")

    def worth(prior: Prior) -> float:
        try:
            factor = np.linalg.cholesky(_noisy(columns, prior))
        except np.linalg.LinAlgError:
            return -math.inf
        solved = np.linalg.solve(factor, ratios)
        far = sum(math.log(getattr(prior, item.name) / getattr(start, item.name)) ** 2 for item in fields(Prior))
        return float(-0.5 * solved @ solved - np.log(np.diag(factor)).sum() - 0.5 * far / spread**2)

    best, most = start, worth(start)
    for factor in (2.0, 2.0, math.sqrt(2.0)):
        for item in fields(Prior):
            for by in (factor, 1 / factor):
                tried = replace(best, **{item.name: getattr(best, item.name) * by})
                value = worth(tried)
                if value > most:
                    best, most = tried, value
    return best
