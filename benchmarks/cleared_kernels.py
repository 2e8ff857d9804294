"""
A public benchmark's kernels on 910B and 950, before most of which caches were cleared, and what was first said of them.

Prints the summary of `accuracy.md`: `python -m benchmarks.cleared_kernels`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from benchmarks.measured_row import Said, sums
from benchmarks.public_kernels import cost_run_again
from memplan.cost import CLEARED_L2, Kernel, KernelCost, Operand, kernel_cost, machine
from memplan.cost.deviations import UNKNOWN_L2
from memplan.cost.uncertainty import interval_class, time_interval
from memplan.hardware import chip

CLEARED = Path(__file__).with_name("cleared_kernels.json")
LIBRARY = Path(__file__).with_name("library_kernels.json")
"""A third set, of the vendor's library alone."""
PAGES = Path(__file__).with_name("fourth_kernels.json")
"""A fourth, of pages of five repositories, which was committed before it was predicted."""
WORKED_WITH, SUMMED_UP = "worked with", "judged in sums"
LATER = "later, worked with", "later, judged once"
THIRD = "third, worked with", "third, judged once"
"""Halves of sets that were first read when prices and intervals rested on the others."""
FOURTH = ("fourth, judged once",)
"""A set that is judged whole."""
BESIDE = ", beside constants"
"""What a line adds for other kernels of a source, or of shapes, of which a constant came: they check least."""

_HALVES = tuple(
    half + beside
    for halves in ((WORKED_WITH, SUMMED_UP), LATER, THIRD, FOURTH)
    for beside in ("", BESIDE)
    for half in halves
)


@dataclass(frozen=True, slots=True)
class ClearedKernel:
    """
    A measured kernel: nanoseconds, what was said of it when it was first seen and whether the interval held it then.

    `half` is that of its source, which is worked with or only summed up; intervals are made of both. `is_source` where
    a constant came from all kernels of its source on that chip, `gave` where one came from those of half of the shapes,
    this one among them; `beside` where one came from any kernel of its source or with inputs of its shapes, on
    whichever chip. It meets its operands in L2 where it was run `again` and again on them. `doubtful` says why its time
    may not be a device's own, "" where it is. `besides` are further kernels whose times are in what was measured.
    """

    source: str
    half: str
    chip: str
    kernel: Kernel
    measured_ns: float
    first_ns: float
    first_inside: bool
    cleared: bool
    is_source: bool
    gave: bool
    beside: bool
    doubtful: str
    again: bool = False
    besides: tuple[Kernel, ...] = ()

    @property
    def is_later(self) -> bool:
        """Whether it is of a later set, from which neither constants nor intervals come."""
        return self.half in (*LATER, *THIRD, *FOURTH)

    def cost(self) -> KernelCost:
        """What memplan says now."""
        core = machine(chip(self.chip))
        if self.again:
            return cost_run_again(self.kernel, core)
        return kernel_cost(self.kernel, core, CLEARED_L2 if self.cleared else UNKNOWN_L2)

    def besides_ns(self) -> int:
        """What memplan says now of the kernels `besides`, which come behind one another."""
        core = machine(chip(self.chip))
        return sum(kernel_cost(each, core).duration_ns for each in self.besides)

    def said_now(self) -> Said:
        """The error of what memplan says now, and whether its interval holds what was measured."""
        cost, besides = self.cost(), self.besides_ns()
        interval = time_interval(self.kernel, cost, machine(chip(self.chip)))
        own = self.measured_ns - besides
        inside = interval is not None and interval.low_ns <= own <= interval.high_ns
        return Said((cost.duration_ns + besides) / self.measured_ns - 1, inside)


def cleared_kernels() -> Iterator[ClearedKernel]:
    """Every kernel of the sets."""
    entries = [entry for path in (CLEARED, LIBRARY, PAGES) for entry in json.loads(path.read_text("utf-8"))["sources"]]
    gave = [(entry["source"], row) for entry in entries for row in entry["kernels"] if _gave(entry, row)]
    sources, shapes = {source for source, _ in gave}, {_shapes(_kernel(row)) for _, row in gave}
    for entry in entries:
        for row in entry["kernels"]:
            kernel = _kernel(row)
            yield ClearedKernel(
                source=entry["source"],
                half=entry["half"],
                chip=row["chip"],
                kernel=kernel,
                measured_ns=row["us"] * 1e3,
                first_ns=row["first_seen"] * 1e3,
                first_inside=row["first_inside"],
                cleared=entry["cleared"],
                is_source=row["chip"] in entry.get("is_source", ()),
                gave=row.get("gave", False),
                beside=entry["source"] in sources or _shapes(kernel) in shapes,
                doubtful=entry.get("doubtful", ""),
                again=entry.get("again", False),
                besides=tuple(_kernel(each) for each in row.get("besides", ())),
            )


def _gave(entry: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return row["chip"] in entry.get("is_source", ()) or row.get("gave", False)


def _shapes(kernel: Kernel) -> tuple[tuple[int, ...], ...]:
    """The shapes of the inputs."""
    return tuple(operand.shape for operand in kernel.present)


def _kernel(row: Mapping[str, Any]) -> Kernel:
    inputs, outputs = (tuple(_operand(text) for text in row[side].split("; ")) for side in ("in", "out"))
    return Kernel(
        row["type"], inputs, tuple(each for each in outputs if each), tuple(sorted(row.get("attributes", {}).items()))
    )


def _operand(text: str) -> Operand | None:
    """`float16 32x128`, a layout other than `ND` behind it; a dtype alone for a scalar, `-` for what is left out."""
    if text == "-":
        return None
    dtype, sizes, layout = (*text.split(" "), "", "")[:3]
    return Operand(tuple(int(size) for size in sizes.split("x") if size), dtype, layout or "ND")


def cleared_table() -> list[tuple[str, ...]]:
    """
    Cells of a line for each half of each chip and of each class of kernels in it, as first seen -> now: kernels that no
    constant came from, their median error, bias, how many are beyond 40 % and how many inside. Those `beside` such
    that gave a constant have lines of their own.
    """
    groups: dict[tuple[str, str, str], list[tuple[Said, Said]]] = {}
    counts: dict[tuple[str, str, str], set[str]] = {}
    for each in cleared_kernels():
        if each.is_source or each.gave or each.doubtful:
            continue
        said = Said(each.first_ns / each.measured_ns - 1, each.first_inside), each.said_now()
        name = interval_class(each.kernel, each.cost())
        half = each.half + (BESIDE if each.beside else "")
        for key in ((half, "all", "all"), (half, each.chip, "all"), (half, each.chip, name)):
            groups.setdefault(key, []).append(said)
            counts.setdefault(key, set()).add(each.source)
    return [
        (*key, f"{len(said)} of {len(counts[key])}", *_cells(said)) for key, said in sorted(groups.items(), key=_order)
    ]


def _order(item: tuple[tuple[str, str, str], object]) -> tuple[int, bool, str, bool, str]:
    (half, name, kind), _ = item
    return _HALVES.index(half), name != "all", name, kind != "all", kind


def _cells(said: Sequence[tuple[Said, Said]]) -> Iterator[str]:
    for first, now in zip(*(sums([pair[place] for pair in said]) for place in (0, 1)), strict=True):
        yield f"{first} -> {now}"


CLEARED_HEADER = ("half", "chip", "class", "kernels, of sources", "median", "bias", "beyond 40 %", "inside")


def main() -> None:
    """Print the table."""
    print("\n".join(table(CLEARED_HEADER, cleared_table())))


if __name__ == "__main__":
    main()
