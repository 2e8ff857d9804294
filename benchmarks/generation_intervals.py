"""
Intervals of kernel times of the first generation of chips: `python -m benchmarks.generation_intervals`.

Intervals by class are made from kernels of 2201 (`benchmarks/kernel_intervals.py`). Those of a generation of which
few profiles were measured are wider by one factor: a step more than the least with which four of five different
kernels of each class and of each source are inside. Both halves of one network are one source. Kernels of which a class
has few say nothing alone. Beside it stands what intervals so wide hold of the same kernels by what was predicted of
them before they were seen, with factors made without their source. The factor of 950 is made likewise, of public
kernels and of the half of a benchmark's operators that was worked with, each a source; what it holds of the other half
stands beside it.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.aicore import HERE
from benchmarks.cleared_kernels import SUMMED_UP
from benchmarks.first_generation import LENET, OLDER, RESNET, RESNET_BACK, ROWS, costed_rows, kernel_of
from benchmarks.kernel_intervals import FEW, INTERVALS, Ratio, cleared_ratios, public_ratios
from benchmarks.markdown import table
from memplan.cost import kernel_cost, machine
from memplan.cost.uncertainty import SHORT_CLASS, interval_class
from memplan.hardware import chip

REGISTERS = "3510"
"""The generation of 950."""
TOLD = OLDER, LENET, RESNET, RESNET_BACK
_HELD, _STEP = 0.8, 0.05


def generation_ratios(data: Path) -> list[Ratio]:
    """Kernels of the five profiles by the model as it is, less rows that gave constants; `data` is the shared data."""
    found = []
    for path in (ROWS, *TOLD):
        for row, kernel, cost in costed_rows(path, data if path == ROWS else None):
            predicted = row.predicted if row.left_out is None else row.left_out
            if predicted is not None and (row.left_out is not None or not row.is_source):
                found.append(Ratio(row.source, interval_class(kernel, cost), row.measured / predicted, kernel))
    return found


def registers_ratios() -> list[Ratio]:
    """Kernels of 950 from which no constant came: public ones, and those of operators that were worked with."""
    return [*public_ratios(REGISTERS), *cleared_ratios(REGISTERS)]


def first_seen_ratios() -> dict[str, list[Ratio]]:
    """Kernels of each profile by what was predicted before it had been looked at, by the profile's name."""
    short = json.loads(INTERVALS.read_text("utf-8"))["short_ns"]["value"] / 1e3
    found = {}
    for path in TOLD:
        document = json.loads(path.read_text("utf-8"))
        core = machine(chip(document["chip"]))
        ratios = []
        for row in document["rows"]:
            kernel, seen = kernel_of(row), row["first_seen"]
            name = SHORT_CLASS if seen < short else interval_class(kernel, kernel_cost(kernel, core))
            ratios.append(Ratio(document["source"], name, row["us"] / seen, kernel))
        found[path.stem] = ratios
    return found


def needed_factors(ratios: Iterable[Ratio]) -> dict[tuple[str, str], list[list[float]]]:
    """
    By what intervals of 2201 have to be wider to hold each kernel, by class and source: lists of its runs.

    Below 1 is how much narrower they might be.
    """
    document = json.loads(INTERVALS.read_text("utf-8"))
    known, apart = set(document["measured_types"]["value"]), float(document["unmeasured_type_factor"]["value"])
    runs: dict[tuple[str, str], dict[object, list[float]]] = defaultdict(lambda: defaultdict(list))
    for ratio in ratios:
        entry = document["classes"][ratio.class_name]
        need = max(entry["low"] / ratio.value, ratio.value / entry["high"])
        wider = 1.0 if ratio.kernel.type in known else apart
        runs[ratio.class_name, ratio.source][ratio.kernel].append(need / wider)
    return {place: list(kernels.values()) for place, kernels in runs.items()}


def held(kernels: Sequence[Sequence[float]], factor: float) -> float:
    """The share of kernels inside of intervals that are wider by `factor`, each weighing once for all its runs."""
    return float(np.mean([np.mean([need <= factor for need in runs]) for runs in kernels]))


def groups(needs: Mapping[tuple[str, str], Sequence[Sequence[float]]]) -> dict[str, list[Sequence[float]]]:
    """The kernels of each class and of each source that has enough different ones."""
    found: dict[str, list[Sequence[float]]] = defaultdict(list)
    for (name, source), kernels in needs.items():
        found[name] += kernels
        found[source] += kernels
    return {name: kernels for name, kernels in found.items() if len(kernels) >= FEW}


def generation_factor(ratios: Iterable[Ratio]) -> float:
    """
    The least factor, at least 1, in steps of a twentieth, and a step more: with the least of the others, 73 % of the
    products of one profile were inside.
    """
    found = groups(needed_factors(ratios)).values()
    return next(
        round(factor + _STEP, 2)
        for factor in (round(1 + _STEP * step, 2) for step in range(math.ceil(9 / _STEP)))
        if all(held(kernels, factor) >= _HELD for kernels in found)
    )


def generation_table(data: Path) -> Iterator[str]:
    """What intervals of the factor hold by class and source, first seen, and of 950, and with the source left out."""
    ratios = generation_ratios(data)
    factor = generation_factor(ratios)
    sources = sorted({ratio.source for ratio in ratios})
    without = {source: generation_factor(r for r in ratios if r.source != source) for source in sources}
    needs = needed_factors(ratios)
    rows: list[tuple[object, ...]] = []
    for name in sorted({name for name, _ in needs}):
        own = {source: kernels for (of, source), kernels in needs.items() if of == name}
        every = [runs for kernels in own.values() for runs in kernels]
        apart = sum(held(kernels, without[source]) * len(kernels) for source, kernels in own.items()) / len(every)
        rows.append((name, len(every), len(own), f"{held(every, factor):.0%}", f"{apart:.0%}"))
    for source in sources:
        every = [runs for (_, of), kernels in needs.items() if of == source for runs in kernels]
        apart = held(every, without[source])
        rows.append((source, len(every), 1, f"{held(every, factor):.0%}", f"{apart:.0%} ({without[source]})"))
    header = ("class or source", "different kernels", "sources", f"inside, {factor} times wider", "its source left out")
    yield from table(header, rows)
    seen = []
    for name, own_ratios in first_seen_ratios().items():
        every = [runs for kernels in needed_factors(own_ratios).values() for runs in kernels]
        seen.append(
            (name, len(every), f"{held(every, factor):.0%}", f"{held(every, without[own_ratios[0].source]):.0%}")
        )
    yield from table(("profile as first seen", "different kernels", "inside", "its source left out"), seen)
    factors = (1.0, generation_factor(registers_ratios()))
    wider = [f"inside, {each} times wider" for each in factors]
    halves = {"made of it": registers_ratios(), "not looked at": cleared_ratios(REGISTERS, SUMMED_UP)}
    shown = []
    for name, own_kernels in halves.items():
        every = [runs for kernels in needed_factors(own_kernels).values() for runs in kernels]
        shown.append((name, len(every), *(f"{held(every, each):.0%}" for each in factors)))
    yield from table(("kernels of 950", "different kernels", *wider), shown)


def main() -> None:
    """Print the tables."""
    print("\n".join(generation_table(HERE.parents[1] / "shared/data")))


if __name__ == "__main__":
    main()
