"""
Whether more HBM ever makes a step longer.

`python -m benchmarks.monotony [--out FILE] [--way WAY] [--random N] [--graph FILE] [--chains] [CASE ...]`

Cases of `host_moves.py`, training steps of published models cut to two layers (three of them where nothing is named),
graph files, chains of layers there and back, and N random graphs of the tests' own strategy are planned at 20 budgets
of the peak, each by itself: with moves alone, with recomputation alone (a host of one byte), and with both. A rise is a
budget whose step is longer than that of a smaller one that fits. Seconds are CPU time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from random import Random

import memplan
from benchmarks.host_cases import PROJECT, all_cases
from memplan.graph import Graph
from memplan.hardware import HostTier, host_tier
from memplan.hardware import chip as find_chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.readers import read_graph
from memplan.schema import Tier
from memplan.schema.storages import planned_tensors
from tests.planner.graphs import forward_and_back

BUDGETS = 20
LAYERS = 2
SHALLOW = {
    "Qwen3-0.6B": ("Qwen--Qwen3-0.6B", Layout()),
    "Llama-3.1-8B": ("meta-llama--Meta-Llama-3.1-8B", Layout(tensor=8)),
    "Qwen3-30B-A3B": ("Qwen--Qwen3-30B-A3B", Layout(tensor=4, data=2, expert=8)),
    "MiMo-7B": ("XiaomiMiMo--MiMo-7B-Base", Layout(tensor=4)),
    "Qwen3-1.7B": ("Qwen--Qwen3-1.7B", Layout(tensor=2)),
}
"""Published models by name, with the layout of the rank whose training step is planned."""
ALONE = ("Qwen3-0.6B", "MiMo-7B", "Qwen3-1.7B")
"""Those of them that are planned where no case is named."""
WAYS = {
    "moves": (RecomputePolicy.NEVER, None),
    "recompute": (RecomputePolicy.AUTO, 1),
    "both": (RecomputePolicy.AUTO, None),
}
"""What a plan may do to need less HBM: the policy, and the bytes of the host, `None` without a limit."""


def shallow_graphs(data: Path) -> Iterator[tuple[str, Graph, str]]:
    """Training steps of published models that have two layers left."""
    for name, (config, layout) in SHALLOW.items():
        told = json.loads((data / "configs" / f"{config}.json").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            cut = Path(folder) / "config.json"
            cut.write_text(json.dumps(told | {"num_hidden_layers": LAYERS}), encoding="utf-8")
            model = load_config(cut)
        yield f"{name} training, {LAYERS} layers", training_graph(model, layout, Recipe(sequence=4096)), "910B3"


def rises(graph: Graph, chip: str, recompute: RecomputePolicy, host: HostTier | None) -> tuple[int, int, float, int]:
    """Budgets that fit, those with a longer step than a smaller one, by how much at most, and different step times."""
    use = memplan.plan(graph, chip=chip, hbm=2**60).tier(Tier.HBM)
    assert use is not None
    least: int | None = None
    fit, longer, most, times = 0, 0, 0.0, set()
    for number in range(1, BUDGETS + 1):
        budget = max(use.peak * number // BUDGETS, 1)
        plan = memplan.plan(graph, chip=chip, hbm=budget, recompute=recompute, host=host)
        if not plan.fits:
            continue
        fit += 1
        times.add(plan.makespan_ns)
        if least is not None and plan.makespan_ns > least:
            longer += 1
            most = max(most, plan.makespan_ns / least - 1)
        least = plan.makespan_ns if least is None else min(least, plan.makespan_ns)
    return fit, longer, most, len(times)


def random_graphs(count: int, first: int = 0) -> Iterator[tuple[str, Graph]]:
    """Graphs that the strategy of the tests draws from seeds, the `first` and so on, of those that take some bytes."""
    from hypothesis import HealthCheck, Phase, find, settings

    from tests.planner.graphs import graphs

    for seed in range(first, first + count):
        found: list[Graph] = []

        def keep(graph: Graph, seed: int = seed, found: list[Graph] = found) -> bool:
            if any(tensor.nbytes and tensor.end > tensor.start for tensor in planned_tensors(graph)):
                found.append(graph)
            return len(found) > 20 + seed % 40

        quiet = settings(
            max_examples=200, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None
        )
        find(graphs(largest=40_000, most_ops=16), keep, settings=quiet, random=Random(seed))
        yield f"random {seed}", found[-1]


def main() -> None:
    """Print the table, and write it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--graph", type=Path, action="append", default=[], help="a graph file")
    parser.add_argument("--chains", action="store_true", help="chains of 5 and 11 layers there and back")
    parser.add_argument("--way", choices=WAYS, action="append", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cases = options.cases
    if not (cases or options.random or options.graph or options.chains):
        cases = [f"{name} training, {LAYERS} layers" for name in ALONE]
    lines = ["| case | ops | way | budgets that fit | step times | rises | longest | CPU s |", "|" + "---|" * 8]
    named = ((name, build(), chip) for name, (build, chip) in all_cases(options.data).items() if name in cases)
    cut = (item for item in shallow_graphs(options.data) if item[0] in cases)
    files = ((path.stem, read_graph(path), "910B3") for path in options.graph)
    drawn = ((name, graph, "910B3") for name, graph in random_graphs(options.random))
    chains = ((f"chain of {n} layers", forward_and_back(n, 1 << 20), "910B3") for n in (5, 11) if options.chains)
    for name, graph, chip in chain(named, cut, files, chains, drawn):
        for way in options.way or WAYS:
            policy, room = WAYS[way]
            host = None if room is None else host_tier(find_chip(chip), capacity=room)
            begin = time.process_time()
            fit, longer, most, times = rises(graph, chip, policy, host)
            seconds = time.process_time() - begin
            row = (name, f"{len(graph.ops):,}", way, fit, times, longer, f"{most:.2%}", f"{seconds:.0f}")
            lines.append("| " + " | ".join(map(str, row)) + " |")
            print(lines[-1], flush=True)
    if options.out:
        text = "# More HBM, no longer step\n\n" + (__doc__ or "").strip() + "\n\n" + "\n".join(lines) + "\n"
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
