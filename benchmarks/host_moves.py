"""
Host moves against their bound and other planners' rules.

`python -m benchmarks.host_moves [--out FILE] [--shares PART ...] [CASE ...]`

Every case is planned at 90, 75, 60, 45 and 30 % of its peak. All rules are scored by the one simulated schedule, before
addresses are given; the last columns are the step of the whole plan without recomputation, with addresses, which
`memplan.plan` has checked. Seconds are CPU time. Where nothing can help, a step's own operands need more than the room.
The bound of small cases is that of tensors that move as a whole (`placement/whole_moves.py`). A choice slower than any
rule, or a plan slower than one whose moves find addresses, ends with exit code 1. That no plan is slower than uniform
recomputation is in the table of `benchmarks/recompute.py`. Published configs are read from the shared data folder
beside the project (or `--data`).

Times are multiples of the time that the ops take alone.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import memplan
from benchmarks.host_cases import (
    PROJECT,
    Case,
    further_cases,
    hybrid_cases,
    later_cases,
    main_cases,
    once_cases,
    other_cases,
    problem_of,
)
from memplan.core.arrays import Bools
from memplan.core.units import format_bytes
from memplan.graph import Graph
from memplan.hardware import chip as find_chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.hbm import lay_out
from memplan.placement.host import choose_moves
from memplan.placement.move_bound import move_bound
from memplan.placement.move_orders import MOVE_RULES
from memplan.placement.move_problem import MoveProblem
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.placement.residency import least_bytes
from memplan.placement.rounding import rounding
from memplan.placement.schedule import run_schedule

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
SUITES: dict[str, Callable[[Path], dict[str, Case]]] = {
    "Steps of published models, bundled graphs and a field case": main_cases,
    "Small models and last stages, where single tensors take much of the room": other_cases,
    "Other families": further_cases,
    "Models planned for the first time": once_cases,
    "Further models planned for the first time": later_cases,
    "Hybrids, experts and sparse attention planned for the first time": hybrid_cases,
}
NOTES = """
The linear program moves tensors in parts. What moves large tensors moves a whole number of them, what comes back has
its room before its first byte arrives, and while an op uses it all others that moved have to free what is lacking
without it: the program is given the bytes that move at least for that, and the bound is the larger of its answer and
that of whole tensors (`placement/large_moves.py`). `tests/placement/test_large_moves.py` holds both against every
choice of small cases. What is left over 10 % is decode where nearly all fits or where all weights move between the KV
caches; how much of that is the bound's is not known.

A plan is never slower than a rule whose moves find addresses (`placement/address_feedback.py`). The bound of tensors
that move as a whole is asked for where gaps have up to 400 steps together. [monotony.md](monotony.md) says whether
more HBM ever makes a step longer.
"""


@dataclass
class Found:
    """What the rows of a table say together: how far over the bound they are, and which are slower than a rule."""

    choices: dict[str, float] = field(default_factory=dict)
    plans: dict[str, float] = field(default_factory=dict)
    slower: list[str] = field(default_factory=list)
    slower_plans: list[str] = field(default_factory=list)

    def verdict(self) -> list[str]:
        """The sentences below the table."""
        lines = [f"Of {len(self.choices)} rows the bound is above compute."]
        for what, over in (("Choices", self.choices), ("Plans with addresses", self.plans)):
            if over:
                worst = max(over, key=lambda name: over[name])
                middle = statistics.median(over.values())
                lines.append(f"{what} over it: median {middle:.1%}, worst {over[worst]:.1%} ({worst}).")
        lines.append(f"Choices slower than a rule: {', '.join(self.slower) or 'nowhere'}.")
        lines.append(
            f"Plans slower than a rule whose moves find addresses: {', '.join(self.slower_plans) or 'nowhere'}."
        )
        return lines


def least_of(problem: MoveProblem, capacity: int) -> str:
    """Why `capacity` bytes are too few: what one step uses at the same time, wherever all else is."""
    need = least_bytes(problem.storages, problem.steps)
    step = int(need.argmax())
    if need[step] <= capacity:
        return "no moves found"
    return f"step {step} uses {format_bytes(int(need[step]))}, {int(need[step]) / int(problem.live.max()):.0%}"


def times(value: int | None, compute: int) -> str:
    """A step time as a multiple of the compute."""
    return "-" if value is None else f"{value / compute:.3f}"


def has_addresses(problem: MoveProblem, moved: Bools, capacity: int, chip: str) -> bool:
    """Whether the solver packs what the moves of a rule leave in HBM."""
    schedule = run_schedule(
        problem.storages, problem.durations, problem.gaps(moved), capacity,
        out_link=problem.out_link, in_link=problem.in_link,
    )  # fmt: skip
    alignment = rounding(find_chip(chip).npu_arch or "").alignment
    layout = lay_out(problem.storages, schedule.residencies, problem.steps, alignment=alignment, enough=capacity)
    return layout.peak <= capacity


def rows(name: str, graph: Graph, chip: str, shares: list[float], found: Found, planned: bool) -> Iterator[list[str]]:
    """The cells of one case's rows; what they say goes to `found`."""
    problem = problem_of(graph, chip)
    peak, compute = int(problem.live.max()), int(problem.durations.sum())
    for share in shares:
        capacity, row = int(peak * share), f"{name}, {share:.0%}"
        start = time.process_time()
        bound = move_bound(problem, capacity, thorough=True)
        if bound is None:
            yield [name, f"{share:.0%}", least_of(problem, capacity)]
            continue
        chosen = choose_moves(problem, capacity, bound)
        seconds = time.process_time() - start
        rules: list[int | None] = []
        ruled: list[tuple[int, Bools]] = []
        for rule in MOVE_RULES.values():
            moved = rule(problem, capacity)
            fits = int(problem.live_without(moved[problem.unit]).max()) <= capacity
            rules.append(problem.run(moved, capacity).makespan_ns if fits else None)
            if fits:
                ruled.append((rules[-1] or 0, moved))
        fastest = min((value for value in rules if value is not None), default=None)
        above = bound.makespan_ns > compute
        if above:
            found.choices[row] = chosen.makespan_ns / bound.makespan_ns - 1
        if fastest is not None and fastest < chosen.makespan_ns:
            found.slower.append(row)
        cells = [name, f"{share:.0%}", times(bound.makespan_ns, compute), times(chosen.makespan_ns, compute)]
        cells += [f"{chosen.makespan_ns / bound.makespan_ns - 1:.1%}", *(times(value, compute) for value in rules)]
        cells.append(f"{seconds:.1f}")
        if not planned:
            yield cells
            continue
        start = time.process_time()
        plan = memplan.plan(graph, chip=chip, hbm=capacity, recompute=RecomputePolicy.NEVER)
        seconds = time.process_time() - start
        over = plan.makespan_ns / bound.makespan_ns - 1
        if plan.fits and above:
            found.plans[row] = over
        faster = [moved for step, moved in ruled if not plan.fits or step < plan.makespan_ns]
        if any(has_addresses(problem, moved, capacity, chip) for moved in faster):
            found.slower_plans.append(row)
        cells += [times(plan.makespan_ns if plan.fits else None, compute), f"{over:.1%}" if plan.fits else "-"]
        yield [*cells, f"{seconds:.1f}"]


def scale(data: Path) -> Iterator[list[str]]:
    """CPU seconds and memory of whole plans at 75 % of the peak, checks included: 61 layers, and 100,000 ops."""
    large = main_cases(data)
    graphs: dict[str, Case] = {name: large[name] for name in ("DeepSeek-V3 decode", "DeepSeek-V3 training")}
    many = Recipe(sequence=4096, micro_batches=57)
    config = data / "configs" / "Qwen--Qwen3-8B.json"
    graphs["Qwen3-8B training, 57 micro-batches"] = (
        lambda: training_graph(load_config(config), Layout(tensor=8), many)
    ), "910B3"  # fmt: skip
    yield ["case", "ops", "plan CPU s", "peak memory so far", "over bound"]
    for name, (build, chip) in graphs.items():
        graph = build()
        capacity = int(problem_of(graph, chip).live.max() * 0.75)
        start = time.process_time()
        plan = memplan.plan(graph, chip=chip, hbm=capacity, recompute=RecomputePolicy.NEVER)
        seconds = time.process_time() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        gap = plan.makespan_ns / (plan.makespan_bound_ns or plan.makespan_ns) - 1 if plan.fits else None
        over = f"{gap:.1%}" if gap is not None else "-"
        yield [name, f"{len(graph.ops):,}", f"{seconds:.1f}", format_bytes(memory), over]


def speed(data: Path) -> Iterator[list[str]]:
    """CPU seconds of the first plan that fits, as the window shows it, and of the best one."""
    trained = main_cases(data) | other_cases(data)
    yield ["step", "ops", "HBM", "first plan", "best plan, ops may run twice"]
    for name in ("Qwen3-0.6B training, last of 2 stages", "Llama-3.1-8B training", "Qwen3-8B training"):
        build, chip = trained[name]
        graph = build()
        for share in (0.75, 0.45):
            capacity = int(problem_of(graph, chip).live.max() * share)
            seconds = []
            for quick in (True, False):
                start = time.process_time()
                memplan.plan(graph, chip=chip, hbm=capacity, quick=quick)
                seconds.append(f"{time.process_time() - start:.1f}")
            yield [name, f"{len(graph.ops):,}", f"{share:.0%}", *seconds]


def table(lines: Iterator[list[str]]) -> list[str]:
    """Rows as Markdown, the first one as the head; each is printed as it comes."""
    written: list[str] = []
    width = 0
    for cells in lines:
        width = width or len(cells)
        written.append("| " + " | ".join([*cells, *[""] * (width - len(cells))]) + " |")
        print(written[-1], flush=True)
        if len(written) == 1:
            written.append("|" + "---|" * width)
    return written


def main() -> None:
    """Print the tables, and write the page to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES, help="parts of the peak to plan with")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--choice-only", action="store_true", help="score choices, make no plans")
    parser.add_argument("--scale", action="store_true", help="only time whole plans of large graphs")
    parser.add_argument("--speed", action="store_true", help="only time first and best plans")
    options = parser.parse_args()
    timed = {"Planning time": (options.speed, speed), "Large graphs": (options.scale, scale)}
    only = options.scale or options.speed
    page, slower = ["# Host moves", "", (__doc__ or "").strip(), ""], False
    head = ["case", "HBM", "bound", "memplan", "over bound", *MOVE_RULES, "choice s", "plan", "over bound", "plan s"]
    for title, cases in SUITES.items() if not only else ():
        found = Found()
        chosen = {
            name: case for name, case in cases(options.data).items() if not options.cases or name in options.cases
        }
        if not chosen:
            continue

        def lines(chosen: dict[str, Case] = chosen, found: Found = found) -> Iterator[list[str]]:
            yield head
            for name, (build, chip) in chosen.items():
                yield from rows(name, build(), chip, options.shares, found, not options.choice_only)

        page += [f"## {title}", "", *table(lines()), "", *found.verdict(), ""]
        print("\n".join(found.verdict()), flush=True)
        slower = slower or bool(found.slower or found.slower_plans)
    page += [] if only else [NOTES.strip(), ""]
    for title, (asked, timings) in timed.items():
        if asked or not (only or options.cases):
            page += [f"## {title}", "", f"{timings.__doc__}", "", *table(timings(options.data)), ""]
    if options.out:
        options.out.write_text("\n".join(page), encoding="utf-8")
    if slower:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
