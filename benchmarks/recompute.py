"""
Recomputation beside host moves: `python -m benchmarks.recompute [--out FILE] [--graph FILE] [CASE ...]`.

Training steps of `host_cases.py`, and graph files, at shares of their peak. `moves` is the best choice of moves alone,
`full` every layer computed anew from its inputs with the moves that this still needs, `memplan` the best of what the
linear program over both proposes. All are scored by the one schedule, before addresses are given; times are multiples
of the compute. One slower than full recomputation ends with exit code 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

from benchmarks.host_cases import PROJECT, Case, all_cases, problem_of
from memplan.hardware import chip as find_chip
from memplan.hardware import host_tier
from memplan.placement.host import choose_moves
from memplan.placement.recompute import RecomputeSearch
from memplan.placement.rounding import rounding
from memplan.readers import read_graph

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)


def main() -> None:
    """Print the table, and write it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--graph", type=Path, action="append", default=[], help="a graph file")
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["| case | HBM | bound | memplan | over bound | moves | full | ops run again | s |", "|" + "---|" * 9]
    over, slower = [], []
    files: dict[str, Case] = {path.stem: (partial(read_graph, path), "910B3") for path in options.graph}
    for name, (build, chip) in (all_cases(options.data) | files).items():
        chosen = name in options.cases if options.cases or files else "train" in name
        if not chosen and name not in files:
            continue
        graph, target = build(), find_chip(chip)
        base = problem_of(graph, chip)
        compute = int(base.durations.sum())
        for share in options.shares:
            begin = time.process_time()
            capacity = int(int(base.live.max()) * share)
            durations, allowed = base.durations.tolist(), [True] * len(graph.ops)
            search = RecomputeSearch(
                graph, durations, allowed, capacity, rounding(target.npu_arch or ""), host_tier(target)
            )
            found: dict[str, tuple[int, int]] = {}
            for choice in map(search.guided, search.choices()):
                moves = choose_moves(choice.problem, capacity, choice.bound)
                if not moves.over:
                    again = len(choice.graph.ops) - len(graph.ops)
                    found[choice.rule] = min(found.get(choice.rule, (2**62, 0)), (moves.makespan_ns, again))
            if not found:
                lines.append(f"| {name} | {share:.0%} | does not fit |" + " |" * 7)
                print(lines[-1], flush=True)
                continue
            best, again = min(found.values())
            alone, full = (found.get(rule, (None, 0))[0] for rule in ("nothing is made anew", "all made anew"))
            gap = best / search.bound_ns - 1
            if search.bound_ns > compute:
                over.append(gap)
            if full is not None and best > full:
                slower.append(f"{name} {share:.0%}")
            times = [f"{value / compute:.3f}" if value is not None else "-" for value in (alone, full)]
            row = [name, f"{share:.0%}", f"{search.bound_ns / compute:.3f}", f"{best / compute:.3f}", f"{gap:.1%}"]
            lines.append("| " + " | ".join([*row, *times, str(again), f"{time.process_time() - begin:.0f}"]) + " |")
            print(lines[-1], flush=True)
    verdict = [
        f"Over the bound, where it is above compute: median {statistics.median(over):.1%}, worst {max(over):.1%}."
        if over
        else "Nowhere is the bound above compute.",
        f"Slower than full recomputation: {', '.join(slower) or 'nowhere'}.",
    ]
    print("\n".join(verdict))
    if options.out:
        text = "# Recomputation\n\n" + (__doc__ or "").strip() + "\n\n" + "\n".join([*lines, "", *verdict]) + "\n"
        options.out.write_text(text, encoding="utf-8")
    if slower:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
