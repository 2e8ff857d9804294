"""
Intervals of kernel times by generation of chips and class: `python -m benchmarks.kernel_intervals [--write]`.

An interval has to say what a source does that was never seen: an operator, a profile, a publication. So each source of
a class counts once, however many kernels it has, and each of its different kernels once, however often it ran; beside
them stands, as if it were one source more, what else a kernel may do: all classes of 2201, and for other generations
the class of 2201. The interval reaches from one quantile of that mixture of measured over predicted times to the
other, alike far from its ends: a tenth or, where that takes less, the largest tail with which mixtures without a source
hold four of five of that source's kernels, over all different kernels and as the mean over the sources. A source is
left out of all generations at once. Classes of fewer than three sources have the tail of their generation, found
likewise over all its classes.

The formulas of 910 were kept with its profiles in view: it has the intervals of 2201, wider by the least factor with
which those hold four of five kernels by what was predicted before they had been looked at, as the mean over the
networks. `--write` puts intervals and factor into `memplan/cost/intervals.json`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.aicore import HERE
from benchmarks.kernel_ratios import INTERVALS, Ratio, first_seen_ratios, kernel_ratios
from benchmarks.markdown import table
from memplan.cost import Kernel
from memplan.cost.uncertainty import BASE_GENERATION

BASE, REGISTERS, FIRST = BASE_GENERATION, "3510", "1001"
"""
Generations of 910B, of most sources, whose classes stand in where another one has few; of 950; of 910.

The first two have intervals of their own.
"""
OWN = BASE, REGISTERS
SEVERAL = 3
"""Sources of a class from which on they choose its tail."""
_TAILS = np.arange(100, 0, -1) * 0.001
_HELD = 0.8
_STEP, _WIDEST = 0.05, 3
"""Factors that are tried."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Logarithms of measured over predicted times, and what each weighs."""

    values: Floats
    weights: Floats

    def scaled(self) -> _Mixture:
        return _Mixture(self.values, self.weights / self.weights.sum())

    def quantiles(self, shares: Floats) -> Floats:
        """Between two values as far as their middles are apart."""
        order = np.argsort(self.values)
        weights = self.weights[order]
        return np.interp(shares, (np.cumsum(weights) - weights / 2) / weights.sum(), self.values[order])

    @staticmethod
    def together(parts: Sequence[_Mixture]) -> _Mixture:
        return _Mixture(np.concatenate([one.values for one in parts]), np.concatenate([one.weights for one in parts]))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A source held against the intervals that the others make: its different kernels, the share inside by tail."""

    kernels: int
    inside: Floats


@dataclass(frozen=True, slots=True)
class Measured:
    """Sources of each class of each generation, and how many different kernels each has there."""

    sources: Mapping[tuple[str, str], Mapping[str, _Mixture]]
    different: Mapping[tuple[str, str, str], int]

    @staticmethod
    def of(ratios: Iterable[Ratio]) -> Measured:
        """Those of `ratios`."""
        runs: dict[tuple[str, str, str], dict[Kernel, list[float]]] = defaultdict(lambda: defaultdict(list))
        for ratio in ratios:
            runs[ratio.generation, ratio.class_name, ratio.source][ratio.kernel].append(ratio.value)
        sources: dict[tuple[str, str], dict[str, _Mixture]] = defaultdict(dict)
        for (generation, name, source), kernels in runs.items():
            values = np.log(np.concatenate([np.array(own) for own in kernels.values()]))
            weights = np.concatenate([np.full(len(own), 1 / len(own)) for own in kernels.values()])
            sources[generation, name][source] = _Mixture(values, weights).scaled()
        return Measured(sources, {place: len(kernels) for place, kernels in runs.items()})

    def classes(self, generation: str) -> list[str]:
        """Those of which kernels of `generation` were measured."""
        return sorted(name for of, name in self.sources if of == generation)

    def mixture(self, generation: str, name: str, without: str = "") -> _Mixture:
        """The sources of a class but one, each weighing once, and what stands beside them."""
        if generation == BASE:
            beside = [part for other in self.classes(BASE) for part in self._others(BASE, other, without)]
        else:
            beside = [self.mixture(BASE, name, without)]
        return _Mixture.together([*self._others(generation, name, without), _Mixture.together(beside).scaled()])

    def _others(self, generation: str, name: str, source: str) -> list[_Mixture]:
        return [part for of, part in self.sources.get((generation, name), {}).items() if of != source]

    def left_out(self, generation: str, name: str) -> dict[str, LeftOut]:
        """Each source of a class against the intervals that the others make."""
        found = {}
        for source, own in self.sources[generation, name].items():
            others = self.mixture(generation, name, source)
            low, high = others.quantiles(_TAILS), others.quantiles(1 - _TAILS)
            inside = (low[:, None] <= own.values) & (own.values <= high[:, None])
            found[source] = LeftOut(self.different[generation, name, source], inside @ own.weights)
        return found


@dataclass(frozen=True, slots=True)
class ClassInterval:
    """
    Between `low` and `high` times the prediction, `tail` of the mixture beyond either end.

    `left_out` holds its sources against what the others make with each tail, `place` is that of `tail` among them.
    """

    low: float
    high: float
    tail: float
    left_out: Mapping[str, LeftOut]
    place: int

    @property
    def kernels(self) -> int:
        """Different ones."""
        return sum(one.kernels for one in self.left_out.values())

    def held(self) -> tuple[float, float]:
        """The share inside of what other sources make: of all different kernels, and the mean over the sources."""
        kernels, sources = _coverage(list(self.left_out.values()))
        return float(kernels[self.place]), float(sources[self.place])


def class_intervals(measured: Measured, generation: str) -> dict[str, ClassInterval]:
    """The intervals of all classes of a generation; each holds its prediction."""
    told = {name: measured.left_out(generation, name) for name in measured.classes(generation)}
    every = _chosen([one for own in told.values() for one in own.values()])
    found = {}
    for name, own in told.items():
        place = _chosen(list(own.values())) if len(own) >= SEVERAL else every
        tail = float(_TAILS[place])
        low, high = np.exp(measured.mixture(generation, name).quantiles(np.array((tail, 1 - tail))))
        found[name] = ClassInterval(min(float(low), 1.0), max(float(high), 1.0), tail, own, place)
    return found


def _chosen(told: Sequence[LeftOut]) -> int:
    held = np.minimum(*_coverage(told))
    enough = np.flatnonzero(held >= _HELD - 1e-9)
    return int(enough[0]) if len(enough) else len(_TAILS) - 1


def _coverage(told: Sequence[LeftOut]) -> tuple[Floats, Floats]:
    """The share inside by tail: over all different kernels, and the mean over the sources."""
    inside = np.array([one.inside for one in told])
    counts = np.array([one.kernels for one in told], dtype=np.float64)
    return counts @ inside / counts.sum(), inside.mean(axis=0)


def held_by_source(intervals: Mapping[str, ClassInterval]) -> dict[str, tuple[int, float]]:
    """Different kernels of each source, and the share of them inside of the intervals that the others make."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for one in intervals.values():
        for source, own in one.left_out.items():
            found[source].append((own.kernels, float(own.inside[one.place])))
    return {source: (sum(kernels for kernels, _ in own), _mean(own)) for source, own in sorted(found.items())}


def _mean(own: Sequence[tuple[int, float]]) -> float:
    return sum(kernels * share for kernels, share in own) / sum(kernels for kernels, _ in own)


def inside(intervals: Mapping[str, ClassInterval], ratios: Iterable[Ratio], factor: float = 1.0) -> tuple[int, float]:
    """Different kernels of classes that have intervals, and the share inside of those if wider by `factor`."""
    runs: dict[Kernel, list[bool]] = defaultdict(list)
    for ratio in ratios:
        if (one := intervals.get(ratio.class_name)) is not None:
            runs[ratio.kernel].append(one.low / factor <= ratio.value <= one.high * factor)
    return len(runs), float(np.mean([np.mean(own) for own in runs.values()]))


def held_anew(ratios: Sequence[Ratio]) -> dict[tuple[str, str], tuple[float, float]]:
    """
    What intervals hold of sources that had no part in their tails either, by generation and class: of all different
    kernels, and the mean over the sources. Classes of one source have nothing to be told by.
    """
    found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for source in sorted({ratio.source for ratio in ratios if ratio.generation in OWN}):
        others = Measured.of(ratio for ratio in ratios if ratio.source != source)
        for generation in OWN:
            intervals = {**class_intervals(others, BASE), **class_intervals(others, generation)}
            own: dict[str, list[Ratio]] = defaultdict(list)
            for ratio in ratios:
                if ratio.source == source and ratio.generation == generation and ratio.class_name in intervals:
                    own[ratio.class_name].append(ratio)
            for name, told in own.items():
                found[generation, name].append(inside(intervals, told))
    return {place: (_mean(told), sum(share for _, share in told) / len(told)) for place, told in found.items()}


def first_factor(intervals: Mapping[str, ClassInterval], without: str = "") -> float:
    """
    The factor of the first generation, from all its networks but one; `intervals` are those of 2201.

    Both halves of a network count as one.
    """
    networks: dict[str, list[list[Ratio]]] = defaultdict(list)
    for own in first_seen_ratios().values():
        networks[own[0].source].append(own)
    networks.pop(without, None)
    return next(
        factor
        for factor in (round(1 + _STEP * step, 2) for step in range(round((_WIDEST - 1) / _STEP)))
        if np.mean([np.mean([inside(intervals, own, factor)[1] for own in of]) for of in networks.values()]) >= _HELD
    )


def interval_table(intervals: Mapping[str, Mapping[str, ClassInterval]], ratios: Sequence[Ratio]) -> Iterator[str]:
    """The intervals in Markdown, with how many kernels of a source those made without it hold."""
    rows, anew = [], held_anew(ratios)
    for generation, classes in intervals.items():
        for name, one in classes.items():
            kernels, sources = one.held()
            rows.append(
                (generation, name, f"{one.low:.2f} to {one.high:.2f}", one.kernels, len(one.left_out),
                 f"{one.tail:.1%}", f"{kernels:.0%}", f"{sources:.0%}",
                 *((f"{share:.0%}" for share in anew[generation, name]) if (generation, name) in anew else ("", "")))
            )  # fmt: skip
    header = ("generation", "class", "measured over predicted", "different kernels", "sources", "beyond either end",
              "inside, their source left out", "mean over the sources", "inside, the tail chosen without it as well",
              "mean over the sources")  # fmt: skip
    yield from table(header, rows)
    shown = [
        (generation, source, kernels, f"{share:.0%}")
        for generation, classes in intervals.items()
        for source, (kernels, share) in held_by_source(classes).items()
    ]
    yield from table(("generation", "source left out", "different kernels", "inside"), shown)


def first_table(intervals: Mapping[str, ClassInterval], ratios: Iterable[Ratio]) -> Iterator[str]:
    """What intervals of 2201 hold of the first generation, as first seen and as predicted now, by profile and class."""
    factor = first_factor(intervals)
    rows = []
    for name, own in first_seen_ratios().items():
        apart = first_factor(intervals, own[0].source)
        kernels, share = inside(intervals, own, factor)
        alone, left_out = inside(intervals, own)[1], inside(intervals, own, apart)[1]
        rows.append((f"{name}, first seen", kernels, f"{alone:.0%}", f"{share:.0%}", f"{left_out:.0%} ({apart})"))
    now: dict[str, list[Ratio]] = defaultdict(list)
    for ratio in ratios:
        if ratio.generation == FIRST:
            now[ratio.source].append(ratio)
            now[ratio.class_name].append(ratio)
    for name, own in sorted(now.items()):
        kernels, share = inside(intervals, own, factor)
        rows.append((f"{name}, now", kernels, f"{inside(intervals, own)[1]:.0%}", f"{share:.0%}", ""))
    yield from table(("kernels of 910", "different", "inside", f"{factor} times wider", "factor without it"), rows)


def written(
    intervals: Mapping[str, Mapping[str, ClassInterval]],
) -> dict[str, dict[str, dict[str, float | int]]]:
    """The intervals as `intervals.json` has them, by generation and class."""
    return {
        generation: {
            name: {
                "low": round(one.low, 3),
                "high": round(one.high, 3),
                "kernels": one.kernels,
                "sources": len(one.left_out),
            }
            for name, one in classes.items()
        }
        for generation, classes in intervals.items()
    }


def main() -> None:
    """Print the intervals, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data", help="the shared data folder")
    parser.add_argument("--write", action="store_true", help="write memplan/cost/intervals.json")
    options = parser.parse_args()
    ratios = kernel_ratios(options.data)
    measured = Measured.of(ratios)
    intervals = {generation: class_intervals(measured, generation) for generation in OWN}
    print("\n".join((*interval_table(intervals, ratios), *first_table(intervals[BASE], ratios))))
    if options.write:
        document = json.loads(INTERVALS.read_text("utf-8"))
        document["generations"] = written(intervals)
        document["wider"]["value"][FIRST] = first_factor(intervals[BASE])
        INTERVALS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
