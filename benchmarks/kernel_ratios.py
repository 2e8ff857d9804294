"""Measured over predicted times of kernels, by generation, class and source: what intervals are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.aicore import HERE, measured_profiles
from benchmarks.cleared_kernels import cleared_kernels
from benchmarks.first_generation import LENET, OLDER, RESNET, RESNET_BACK, ROWS, costed_rows, kernel_of
from benchmarks.public_kernels import public_cost, public_kernels
from memplan.cost import Kernel, KernelCost, kernel_cost, machine
from memplan.cost.uncertainty import SHORT_CLASS, UNKNOWN_CLASS, interval_class
from memplan.hardware import chip

INTERVALS = HERE.parent / "memplan" / "cost" / "intervals.json"
TOLD = OLDER, LENET, RESNET, RESNET_BACK
"""Profiles of the first generation that say what was predicted of them before they had been looked at."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Measured over predicted time of a kernel, the generation of its chip, its source and its class."""

    generation: str
    source: str
    class_name: str
    value: float
    kernel: Kernel


def kernel_ratios(data: Path) -> list[Ratio]:
    """
    Every kernel of a known class from which no constant came, but for later sets, which check what is made.

    These are the profiles in the shared data folder `data`, those of the first generation, public rows, and kernels
    behind cleared caches, of both halves: for intervals none is kept apart.
    """
    found = [*_profile_ratios(data), *_public_ratios(), *_cleared_ratios(), *_first_generation_ratios(data)]
    return [ratio for ratio in found if ratio.class_name != UNKNOWN_CLASS]


def _profile_ratios(data: Path) -> Iterator[Ratio]:
    for name, core, kernels in measured_profiles(data):
        for kernel, time in zip(kernels.kernels, kernels.duration_ns, strict=True):
            yield _ratio(core.npu_arch, name, kernel, float(time), kernel_cost(kernel, core))


def _public_ratios() -> Iterator[Ratio]:
    for row, kernel in public_kernels():
        if row.get("is_source") or "seen" in row:
            continue
        core = machine(chip(row["chip"]))
        yield _ratio(core.npu_arch, row["source"], kernel, row["us"] * 1e3, public_cost(row, kernel, core))


def _cleared_ratios() -> Iterator[Ratio]:
    for each in cleared_kernels():
        if not (each.is_source or each.gave or each.doubtful or each.is_later):
            generation = machine(chip(each.chip)).npu_arch
            yield _ratio(generation, each.source, each.kernel, each.measured_ns, each.cost())


def _first_generation_ratios(data: Path) -> Iterator[Ratio]:
    """Both halves of one network are one source; of rows that gave constants what was predicted without them."""
    for path in (ROWS, *TOLD):
        for row, kernel, cost in costed_rows(path, data if path == ROWS else None):
            predicted = row.predicted if row.left_out is None else row.left_out
            if predicted is not None and (row.left_out is not None or not row.is_source):
                name = interval_class(kernel, cost)
                yield Ratio(machine(chip(row.chip)).npu_arch, row.source, name, row.measured / predicted, kernel)


def _ratio(generation: str, source: str, kernel: Kernel, measured_ns: float, cost: KernelCost) -> Ratio:
    return Ratio(generation, source, interval_class(kernel, cost), measured_ns / cost.duration_ns, kernel)


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
            ratios.append(Ratio(core.npu_arch, document["source"], name, row["us"] / seen, kernel))
        found[path.stem] = ratios
    return found
