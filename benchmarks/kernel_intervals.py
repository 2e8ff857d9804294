"""
Intervals of kernel times by class, from profiles and public rows: `python -m benchmarks.kernel_intervals [--write]`.

The 10 % and 90 % quantiles of measured over predicted time are taken of each source that has enough kernels of a class;
the span reaches from the least to the most of them, so that one large profile does not speak for all. An interval is
the narrowest of those that take a share of the span (of its logarithms) below the prediction and one above, neither
less than a quarter of the other, with which the spans of the others hold about four of five kernels, over all of them
and as the mean over the sources. Classes of few different kernels count each of these once. `--write` puts the
intervals into `memplan/cost/intervals.json`, with the types that were measured and the factor by which intervals of
others have to be wider: the least with which those of all kernels but a type's hold four of five of that type's, as
the mean over the types.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.aicore import HERE, measured_profiles
from benchmarks.cleared_kernels import WORKED_WITH, cleared_kernels
from benchmarks.markdown import table
from benchmarks.public_kernels import public_cost, public_kernels
from memplan.cost import Kernel, kernel_cost, machine
from memplan.cost.uncertainty import UNKNOWN_CLASS, interval_class
from memplan.hardware import chip

INTERVALS = HERE.parent / "memplan" / "cost" / "intervals.json"
GENERATION = "2201"
"""The generation of all profiles at hand: rows of another one would be no check of how much wider its intervals are."""
_ENOUGH = 3
"""Kernels of a class that a source needs to have quantiles of its own; others are put together."""
_SEVERAL = 5
"""Sources of which a class is said to be known by."""
_TAIL = 0.1
_HELD = 0.8, 0.87
"""Between which the share of all kernels that are held should be."""
_SOURCES_HELD = 0.8
"""What the mean over the sources should be at least: small ones count as much as large ones in it."""
_MANY, _MANY_HELD = 100, 0.76
"""Kernels of a class from which on a source says something alone, and what should be held of each such source."""
_STEP, _WIDEST, _UNEVEN = 0.05, 1.25, 4
"""By which shares of a span are tried and up to where: sources may scatter more than the quantiles of the others."""
FEW = 10
"""Different kernels below which each counts once, however often it ran: two that repeat would decide alone."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Measured over predicted time of a kernel, its source and its class."""

    source: str
    class_name: str
    value: float
    kernel: Kernel


def kernel_ratios(data: Path) -> Iterator[Ratio]:
    """
    Every kernel of the profiles at hand, and of the public rows of their generation from which no constant came: of the
    benchmark that clears caches of the half that was worked with.
    """
    for name, core, kernels in measured_profiles(data):
        for kernel, time in zip(kernels.kernels, kernels.duration_ns, strict=True):
            cost = kernel_cost(kernel, core)
            yield Ratio(name, interval_class(kernel, cost), float(time) / cost.duration_ns, kernel)
    yield from public_ratios(GENERATION)
    yield from cleared_ratios(GENERATION)


def cleared_ratios(generation: str, half: str = WORKED_WITH) -> Iterator[Ratio]:
    """Kernels behind cleared caches of chips of `generation`, of one half and without those that gave a constant."""
    for each in cleared_kernels():
        if each.half != half or each.is_source or each.doubtful or machine(chip(each.chip)).npu_arch != generation:
            continue
        cost = each.cost()
        yield Ratio(each.source, interval_class(each.kernel, cost), each.measured_ns / cost.duration_ns, each.kernel)


def public_ratios(generation: str) -> Iterator[Ratio]:
    """Public rows of chips of `generation` from which no constant came, but for later sets: they check what is made."""
    for row, kernel in public_kernels():
        core = machine(chip(row["chip"]))
        if row.get("is_source") or "seen" in row or core.npu_arch != generation:
            continue
        cost = public_cost(row, kernel, core)
        yield Ratio(row["source"], interval_class(kernel, cost), row["us"] * 1e3 / cost.duration_ns, kernel)


def is_known(name: str, ratios: Iterable[Ratio]) -> bool:
    """Whether several sources have quantiles of class `name`, whichever of them is left out."""
    counts = Counter(ratio.source for ratio in ratios if ratio.class_name == name)
    return sum(count >= _ENOUGH for count in counts.values()) > _SEVERAL


def class_bounds(name: str, ratios: Sequence[Ratio], *, known: bool | None = None) -> tuple[float, float]:
    """
    The span of class `name` from kernels of all classes.

    Few sources say little of the next: then it reaches as far as that of all kernels. `known` says whether they are not
    few, by default as these kernels have it.
    """
    own = [ratio for ratio in ratios if ratio.class_name == name]
    several = is_known(name, ratios) if known is None else known
    found = [source_bounds(own)] if own else []
    if not several:
        found.append(source_bounds(ratio for ratio in ratios if ratio.class_name != UNKNOWN_CLASS))
    return min(low for low, _ in found), max(high for _, high in found)


def source_bounds(ratios: Iterable[Ratio]) -> tuple[float, float]:
    """The least and the most of the sources' quantiles."""
    apart: dict[str, list[float]] = defaultdict(list)
    for ratio in ratios:
        apart[ratio.source].append(ratio.value)
    groups = [values for values in apart.values() if len(values) >= _ENOUGH]
    rest = [value for values in apart.values() if len(values) < _ENOUGH for value in values]
    groups += [rest] if rest else []
    lows, highs = zip(*(np.quantile(values, (_TAIL, 1 - _TAIL)) for values in groups), strict=True)
    return float(min(lows)), float(max(highs))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The values of a class by source, and the span that the others give it."""

    values: Mapping[str, Sequence[Sequence[float]]]
    spans: Mapping[str, tuple[float, float]]

    @staticmethod
    def of(name: str, ratios: Sequence[Ratio]) -> LeftOut:
        """Those of class `name`."""
        own = [ratio for ratio in ratios if ratio.class_name == name]
        sources, known = sorted({ratio.source for ratio in own}), is_known(name, ratios)
        spans = {
            source: class_bounds(name, [ratio for ratio in ratios if ratio.source != source], known=known)
            for source in sources
        }
        return LeftOut({source: _counted(own, source) for source in sources}, spans)

    def held(self, shares: tuple[float, float]) -> dict[str, list[float]]:
        """
        How much of each kernel of each source lies inside those shares of their span, below and above the prediction:
        all or nothing, but for kernels that count once for all their runs.
        """
        below, above = shares
        held = {}
        for source, (low, high) in self.spans.items():
            least, most = low**below, high**above
            held[source] = [sum(least <= value <= most for value in runs) / len(runs) for runs in self.values[source]]
        return held


def _counted(own: Sequence[Ratio], source: str) -> list[Sequence[float]]:
    """What counts as one kernel of `source`: each one, or all equal ones where a class has few different kernels."""
    few = len({ratio.kernel for ratio in own}) < FEW
    groups: dict[object, list[float]] = defaultdict(list)
    for place, ratio in enumerate(own):
        if ratio.source == source:
            groups[ratio.kernel if few else place].append(ratio.value)
    return list(groups.values())


def coverage(held: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Over all kernels, and the mean over the sources."""
    every = [inside for own in held.values() for inside in own]
    return float(np.mean(every)), float(np.mean([np.mean(own) for own in held.values()]))


def span_shares(apart: LeftOut, span: tuple[float, float]) -> tuple[float, float]:
    """The shares of `span`, below and above the prediction, that hold nearest to what is said, then the narrowest."""
    tried = [float(share) for share in np.arange(_STEP, _WIDEST + _STEP / 2, _STEP)]
    pairs = [(low, high) for low in tried for high in tried if low <= _UNEVEN * high and high <= _UNEVEN * low]
    return min(pairs, key=lambda pair: (_missed(apart.held(pair)), _width(span, pair), pair))


def _missed(held: Mapping[str, Sequence[float]]) -> float:
    """How far what is held is from what should be, in hundredths."""
    low, high = _HELD
    kernels, sources = coverage(held)
    least = min((float(np.mean(own)) for own in held.values() if len(own) >= _MANY), default=1.0)
    return round(max(low - kernels, kernels - high, _SOURCES_HELD - sources, _MANY_HELD - least, 0.0), 2)


def _width(span: tuple[float, float], shares: tuple[float, float]) -> float:
    return shares[1] * math.log(span[1]) - shares[0] * math.log(span[0])


def class_interval(name: str, ratios: Sequence[Ratio]) -> tuple[float, float]:
    """The interval of class `name`."""
    low, high = class_bounds(name, ratios)
    below, above = span_shares(LeftOut.of(name, ratios), (low, high))
    return low**below, high**above


def chance_range(repeats: Sequence[int], held: float = 0.8, outside: float = 0.025) -> tuple[float, float]:
    """
    Between which shares of kernels lie inside of intervals that hold `held` of them, but for `outside` on either side.

    Different kernels are draws, of which each ran as often as `repeats` says: their number counts as that of as many
    equal weights (Kish 1965, the square of the sum over the sum of the squares), a binomial.
    """
    draws = max(round(sum(repeats) ** 2 / sum(count**2 for count in repeats)), 1)
    odds = np.cumsum([math.comb(draws, k) * held**k * (1 - held) ** (draws - k) for k in range(draws + 1)])
    low, high = np.searchsorted(odds, (outside, 1 - outside))
    return float(low) / draws, float(high) / draws


def classes_of(ratios: Iterable[Ratio]) -> list[str]:
    """The classes that have intervals."""
    return sorted({ratio.class_name for ratio in ratios} - {UNKNOWN_CLASS})


def interval_table(ratios: Iterable[Ratio]) -> Iterator[str]:
    """The intervals in Markdown, with how many kernels of a source those made without it hold."""
    told = list(ratios)
    rows = []
    for name in classes_of(told):
        own = [ratio for ratio in told if ratio.class_name == name]
        apart = LeftOut.of(name, told)
        low, high = class_interval(name, told)
        held = apart.held(span_shares(apart, class_bounds(name, told)))
        kernels, sources = coverage(held)
        times = Counter(ratio.kernel for ratio in own)
        least_chance, most_chance = chance_range(list(times.values()))
        inside = sum(low <= ratio.value <= high for ratio in own) / len(own)
        source, least = min(held.items(), key=lambda item: float(np.mean(item[1])))
        rows.append(
            (name, f"{low:.2f} to {high:.2f}", f"{len(own):,}", len(times), len(held), f"{inside:.0%}",
             f"{kernels:.0%}", f"{least_chance:.0%} to {most_chance:.0%}", f"{sources:.0%}",
             f"{np.mean(least):.0%} of {source}")
        )  # fmt: skip
    header = ("class", "measured over predicted", "kernels", "of them different", "sources", "inside",
              "inside, their source left out", "of intervals of 80 %, by chance", "mean over the sources",
              "least of a source left out")  # fmt: skip
    yield from table(header, rows)
    yield from table(
        ("source left out", "kernels", "inside"),
        [(source, f"{kernels:,}", f"{share:.0%}") for source, (kernels, share) in held_by_source(told).items()],
    )


def held_by_source(ratios: Sequence[Ratio]) -> dict[str, tuple[int, float]]:
    """Kernels of each source, and the share of them that the intervals made without it hold, whatever their class."""
    held: dict[str, list[float]] = defaultdict(list)
    for name in classes_of(ratios):
        apart = LeftOut.of(name, ratios)
        for source, inside in apart.held(span_shares(apart, class_bounds(name, ratios))).items():
            held[source] += inside
    return {source: (len(inside), float(np.mean(inside))) for source, inside in sorted(held.items())}


def _entry(name: str, ratios: Sequence[Ratio]) -> dict[str, float | int]:
    low, high = class_interval(name, ratios)
    own = [ratio for ratio in ratios if ratio.class_name == name]
    sources = len({ratio.source for ratio in own})
    return {"low": round(low, 3), "high": round(high, 3), "kernels": len(own), "sources": sources}


def measured_types(ratios: Iterable[Ratio]) -> list[str]:
    """Types of kernels of which enough were measured."""
    counts = Counter(ratio.kernel.type for ratio in ratios)
    return sorted(name for name, count in counts.items() if count >= _ENOUGH)


def type_factor(ratios: Sequence[Ratio]) -> float:
    """By what intervals are wider of which no kernel of the type was measured, at least 1."""
    shares: list[list[tuple[float, float]]] = []
    known = [ratio for ratio in ratios if ratio.class_name != UNKNOWN_CLASS]
    for name in sorted({ratio.kernel.type for ratio in known}):
        others = [ratio for ratio in known if ratio.kernel.type != name]
        classes = {ratio.class_name for ratio in others}
        own = [ratio for ratio in known if ratio.kernel.type == name and ratio.class_name in classes]
        spans = {told: class_interval(told, others) for told in {ratio.class_name for ratio in own}}
        # What of either end has to give for a kernel to be inside.
        needed = [max(spans[r.class_name][0] / r.value, r.value / spans[r.class_name][1]) for r in own]
        if needed:
            shares.append([(need, 1 / len(needed)) for need in needed])
    together = sorted(pair for of in shares for pair in of)
    passed = np.cumsum([weight for _, weight in together]) / len(shares)
    return max(together[int(np.searchsorted(passed, 1 - 2 * _TAIL))][0], 1.0)


def main() -> None:
    """Print the intervals, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data", help="the shared data folder")
    parser.add_argument("--write", action="store_true", help="write memplan/cost/intervals.json")
    options = parser.parse_args()
    ratios = list(kernel_ratios(options.data))
    print("\n".join(interval_table(ratios)))
    if options.write:
        document = json.loads(INTERVALS.read_text("utf-8"))
        document["classes"] = {name: _entry(name, ratios) for name in classes_of(ratios)}
        document["measured_types"]["value"] = measured_types(ratios)
        document["unmeasured_type_factor"]["value"] = round(type_factor(ratios), 2)
        INTERVALS.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
