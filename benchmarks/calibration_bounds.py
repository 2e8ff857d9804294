"""What any calibration of a profile leaves: what its kernels themselves say, with the answers known."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_learners import Told, learners
from benchmarks.calibration_profiles import Mask, Profiled
from benchmarks.markdown import percent, section, table
from memplan.cost.deviations import Member, Trait, fitted_deviations, mean_place
from memplan.cost.measured_kernels import calibration_choice
from memplan.cost.overlap import Array

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_ALIKE = 0.05
"""How far sizes, rows and shares of L2 of near twins may differ, in logarithms and in shares: 5 %."""


def floors(every: Sequence[Profiled]) -> Iterator[str]:
    """What any calibration leaves at least, and what factors fitted to the very kernels leave."""
    yield from section(
        "What there is to be had",
        "Left of the model's error by the best factor for each class, type, type and bound, and shape, each found on "
        "the very kernels that it is checked on; over all kernels, then over those of types with three shapes or more. "
        "The last one is what repetitions of a kernel differ by: the floor.",
    )
    rows = []
    for each in every:
        for name, own in (("all", np.ones(len(each.kernels), bool)), ("known types", each.known_by(each.time > 0))):
            error = np.abs(each.model - each.time)[own].sum()
            groups = (each.kind, each.type, np.char.add(np.char.add(each.type, " "), each.bound), each.shape)
            left = (left_by_factors(each, own, group) / error for group in groups)
            rows.append((each.name, name, percent(error / each.time[own].sum()), *(f"{share:.0%}" for share in left)))
    yield from table(("profile", "kernels", "model", "class", "type", "type and bound", "shape"), rows)


def left_by_factors(each: Profiled, own: Mask, group: NDArray[np.generic]) -> float:
    left = 0.0
    for name in np.unique(group[own]):
        rows = own & (group == name)
        factors = each.time[rows] / each.model[rows]
        order = np.argsort(factors)
        passed = np.cumsum(each.model[rows][order])
        best = factors[order][np.searchsorted(passed, passed[-1] / 2)]
        left += float(np.abs(best * each.model[rows] - each.time[rows]).sum())
    return left


def spread(every: Sequence[Profiled]) -> Iterator[str]:
    """What tells how shapes deviate: the variance that groups explain, by as many kernels as they have."""
    yield from section(
        "What deviations go with",
        "The share of the variance of logarithms of measured over modelled time, shapes weighted by the root of their "
        "time, that groups of shapes explain beyond what as many groups drawn at random would (adjusted R squared); "
        "and the variance that repetitions of a shape have.",
    )
    rows = []
    for each in every:
        first = np.unique(each.shape, return_index=True)[1]
        times = [each.time[each.shape == number] for number in range(len(first))]
        off = np.log(np.array([np.median(own) for own in times]) / each.model[first])
        weights = np.sqrt([own.sum() for own in times])
        size = np.round(np.log2(each.model[first]) / 2)
        kernels = [each.kernels.kernels[row] for row in first]
        formats = [tuple((op.dtype, op.layout) for op in kernel.present[:2]) for kernel in kernels]
        types = each.type[first].tolist()
        bounds = each.bound[first].tolist()
        groups: Mapping[str, Sequence[Hashable]] = {
            "class": each.kind[first].tolist(),
            "type": types,
            "type and bound": list(zip(types, bounds, strict=True)),
            "type and size": list(zip(types, size.tolist(), strict=True)),
            "type, data types and layouts": list(zip(types, formats, strict=True)),
        }
        told = [_explained(off, weights, group) for group in groups.values()]
        noise = sum(float(np.var(np.log(own))) * weight for own, weight in zip(times, weights, strict=True))
        whole = float(np.average((off - np.average(off, weights=weights)) ** 2, weights=weights))
        rows.append(
            (each.name, str(len(first)), f"{whole:.3f}", *map(_share, told), percent(noise / weights.sum() / whole))
        )
    header = ("profile", "shapes", "variance", *groups, "repetitions")
    yield from table(header, rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _explained(off: Array, weights: Array, group: Sequence[Hashable]) -> float | None:
    """Adjusted R squared; `None` where there are as many groups as shapes, or next to it."""
    names = list(dict.fromkeys(group))
    free = len(off) - len(names)
    if free < len(off) / 4:
        return None
    number = np.array([names.index(name) for name in group])
    left = 0.0
    for index in range(len(names)):
        own = number == index
        left += float((weights[own] * (off[own] - np.average(off[own], weights=weights[own])) ** 2).sum())
    whole = float((weights * (off - np.average(off, weights=weights)) ** 2).sum())
    return 1 - left / free / (whole / (len(off) - 1))


def twins(every: Sequence[Profiled]) -> Iterator[str]:
    """What kernels next to identical tell of each other."""
    yield from section(
        "Near twins",
        "Kernels with another one of their type and data type whose time by the model, rows and columns differ by no "
        "more than 5 % and which finds as much in L2: the model's error on them, that of what their nearest twin "
        "tells, and that of the best of no, a quarter, half, three quarters and all of it, chosen for each kernel with "
        "its own time known. What is left there no calibration by kernels like these can tell.",
    )
    rows = []
    for each in every:
        names, first = np.unique(each.shape, return_index=True)
        kernels = [each.traits[row] for row in first]
        own = [each.shape == name for name in names]
        missed = np.zeros((len(names), len(SHARES)))
        spent = np.zeros(len(names))
        for index, kernel in enumerate(kernels):
            found = [(_apart(kernel, other), number) for number, other in enumerate(kernels) if number != index]
            apart, nearest = min((pair for pair in found), default=(math.inf, 0))
            if apart > _ALIKE:
                continue
            factor = float(np.median(each.time[own[nearest]] / each.model[own[nearest]]))
            times, model = each.time[own[index]], each.model[own[index]]
            missed[index] = [np.abs(factor**share * model - times).sum() for share in SHARES]
            spent[index] = times.sum()
        if spent.any():
            total = spent.sum()
            left = (missed[:, 0].sum(), missed[:, -1].sum(), missed.min(axis=1).sum())
            count = str(np.count_nonzero(spent))
            rows.append((each.name, count, percent(total / each.time.sum()), *(percent(part / total) for part in left)))
    yield from table(("profile", "kernels", "time of profile", "model", "by the twin", "best share of each"), rows)


def _apart(one: Trait, other: Trait) -> float:
    if not one.speaks_for(other):
        return math.inf
    differences = [one.size - other.size, one.row - other.row, one.rows - other.rows, one.read_row - other.read_row]
    return max(abs(part) for part in (*differences, (one.hot or 0.0) - (other.hot or 0.0)))


@dataclass(frozen=True, slots=True)
class Half:
    """
    One part of a draw of the distinct kernels, held against what the other tells: which rows are fitted, which of the
    others are of types of which these have enough, and what each prior of the calibration tells of them.
    """

    fitted: Mask
    own: Mask
    priors: tuple[Told, ...]


Drawn = Sequence[tuple[Profiled, Sequence[Sequence[Half]]]]
"""Profiles, and of each draw of theirs the halves."""


def drawn_halves(every: Sequence[Profiled], draws: int) -> Drawn:
    """The halves of each profile in `draws` draws, without those of which nothing is checked."""
    return [(each, [list(_halves(each, each.parts(seed))) for seed in range(draws)]) for each in every]


def _halves(each: Profiled, part: NDArray[np.int64]) -> Iterator[Half]:
    for number in (0, 1):
        fitted = part != number
        own = ~fitted & each.known_by(fitted)
        if own.any():
            yield Half(fitted, own, tuple(_by_priors(each, fitted, own)))


def hindsight(every: Drawn, draws: int) -> Iterator[str]:
    """How far fits to halves of the shapes would get with the best choice for each class, the answers known."""
    yield from section(
        "Halves with the answers known",
        f"Halves of the distinct kernels, {draws} times; of the model's error on types of which the fit has enough is "
        "left: by the prior and share of it that are best for all kernels checked, by those that are best for each "
        "class, and by those that are best for each type, in each half of each draw chosen on the very kernels that "
        "are checked. Where even the best for each class leaves more than 67 %, a third less is out of reach of any "
        "choice among these priors.",
    )
    rows = []
    for each, drawn in every:
        found = [left for halves in drawn if (left := _left_knowing(each, halves)) is not None]
        if found:
            rows.append((each.name, *(f"{share:.0%}" for share in np.mean(found, axis=0))))
    yield from table(("profile", "one choice", "one for each class", "one for each type"), rows)


def _left_knowing(each: Profiled, halves: Sequence[Half]) -> tuple[float, float, float] | None:
    """Shares of the model's error left by the best choice for all, each class and each type, `None` without any."""
    whole, left = 0.0, [0.0, 0.0, 0.0]
    for half in halves:
        missed = _missed_by_choice(each, half)
        whole += float(missed[0].sum())
        for index, group in enumerate((np.zeros(half.own.sum()), each.kind[half.own], each.type[half.own])):
            left[index] += sum(float(missed[:, group == name].sum(axis=1).min()) for name in np.unique(group))
    if not whole:
        return None
    return left[0] / whole, left[1] / whole, left[2] / whole


def _missed_by_choice(each: Profiled, half: Half) -> NDArray[np.float64]:
    """Nanoseconds missed of each kernel checked, a row for the model and one for each prior with each share of it."""
    found = [np.abs(each.model[half.own] - each.time[half.own])]
    for told in half.priors:
        found += _missed_by_shares(each, half.own, told)
    return np.array(found)


def _missed_by_shares(each: Profiled, own: Mask, told: Told) -> list[Array]:
    return [np.abs(each.model[own] * np.exp(share * told.ratios) - each.time[own]) for share in SHARES[1:]]


def _by_priors(each: Profiled, fitted: Mask, own: Mask) -> Iterator[Told]:
    """What each prior of the calibration tells of the kernels of `own` by those `fitted`."""
    shapes = _shapes(each, fitted)
    told = fitted_deviations(
        [mean_place([each.traits[row] for row in rows]) for rows in shapes], [each.time[rows] for rows in shapes]
    )
    asked, number = _numbered(each.traits, own)
    kept = dict.fromkeys(each.kind.tolist(), 1.0)
    for member in told.members:
        alone = replace(told, members=(Member(member.prior, 1.0, member.weights),), kept=kept).times_ns(asked)
        yield Told("priors", np.asarray(np.log(alone[number] / each.model[own])))


def _by_learners(each: Profiled, fitted: Mask, own: Mask) -> Iterator[Told]:
    shapes = _shapes(each, fitted)
    places = [mean_place([each.traits[row] for row in rows]) for rows in shapes]
    most = calibration_choice("largest_deviation")
    ratios = np.array([math.log(float(np.median(each.time[rows] / each.model[rows]))) for rows in shapes])
    spent = np.array([each.time[rows].sum() for rows in shapes])
    asked, number = _numbered(each.traits, own)
    for told in learners(places, np.clip(ratios, -most, most), spent, asked):
        yield replace(told, ratios=told.ratios[number])


def _numbered(traits: Sequence[Trait], own: Mask) -> tuple[list[Trait], NDArray[np.int64]]:
    """The distinct traits of the rows `own`, and which of them each of these rows has."""
    found: dict[Trait, int] = {}
    number = [found.setdefault(traits[row], len(found)) for row in np.flatnonzero(own)]
    return list(found), np.array(number, dtype=np.int64)


def _shapes(each: Profiled, fitted: Mask) -> list[NDArray[np.int64]]:
    """The rows of each distinct kernel that is fitted."""
    return [np.flatnonzero(fitted & (each.shape == number)) for number in np.unique(each.shape[fitted])]


def flexible(every: Drawn, draws: int) -> Iterator[str]:
    """How far learners of several families get whose constants are the best there are, the answers known."""
    yield from section(
        "Flexible learners with the answers known",
        f"Halves of the distinct kernels, {draws} times; of the model's error on types of which the fit has enough is "
        "left by the best constants of each family of learners and the best share of what they tell, one choice for "
        "all draws of a profile, made on the very kernels that are checked; by the best of all of them; and by the "
        "best of all for each class of the profile, the model among them. Nobody knows these beforehand. Where 67 % "
        "or less is left, a third less is within reach of the family, were its constants known.",
    )
    families: tuple[str, ...] = ("priors", "nearest", "kernel ridge", "boosted trees")
    rows = []
    for each, drawn in every:
        left = _left_by_family(each, drawn)
        if left:
            rows.append((each.name, *(f"{left[name]:.0%}" for name in (*families, "all", "classes"))))
    yield from table(("profile", *families, "best of all", "best for each class"), rows)


def _left_by_family(each: Profiled, drawn: Sequence[Sequence[Half]]) -> Mapping[str, float]:
    """The share of the model's error that each family leaves, all of them, and all with a choice for each class."""
    kinds, kind = np.unique(each.kind, return_inverse=True)
    missed: dict[tuple[str, int, int], Array] = {}
    plain = np.zeros(len(kinds))
    for half in chain.from_iterable(drawn):
        own = half.own
        plain += np.bincount(kind[own], np.abs(each.model - each.time)[own], len(kinds))
        for number, told in enumerate((*half.priors, *_by_learners(each, half.fitted, own))):
            for share, off in enumerate(_missed_by_shares(each, own, told)):
                key = (told.family, number, share)
                missed[key] = missed.get(key, 0.0) + np.bincount(kind[own], off, len(kinds))
    whole = float(plain.sum())
    if not whole:
        return {}
    left = {
        family: min([whole, *(float(off.sum()) for key, off in missed.items() if key[0] == family)]) / whole
        for family in dict.fromkeys(name for name, _, _ in missed)
    }
    best = np.min([plain, *missed.values()], axis=0)
    return {**left, "all": min(left.values()), "classes": float(best.sum()) / whole}
