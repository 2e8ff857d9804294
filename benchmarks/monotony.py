"""
Whether more HBM ever makes a step longer: `python -m benchmarks.monotony [--out FILE] [--random N] [CASE ...]`.

Cases of `host_moves.py`, training steps of published models cut to two layers, graph files (`--graph FILE`), and N
random graphs of the tests' own strategy are planned at 20 budgets of the peak, each by itself, with recomputation and
without. A rise is a budget whose step is longer than that of a smaller one that fits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import memplan
from benchmarks.host_cases import PROJECT, all_cases
from memplan.graph import Graph
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.readers import read_graph
from memplan.schema import Tier
from memplan.schema.storages import planned_tensors

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


def shallow_graphs(data: Path) -> Iterator[tuple[str, Graph, str]]:
    """Training steps of published models that have two layers left."""
    for name, (config, layout) in SHALLOW.items():
        told = json.loads((data / "configs" / f"{config}.json").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            cut = Path(folder) / "config.json"
            cut.write_text(json.dumps(told | {"num_hidden_layers": LAYERS}), encoding="utf-8")
            model = load_config(cut)
        yield f"{name} training, {LAYERS} layers", training_graph(model, layout, Recipe(sequence=4096)), "910B3"


def rises(graph: Graph, chip: str, recompute: RecomputePolicy) -> tuple[int, int, float, int]:
    """Budgets that fit, those with a longer step than a smaller one, by how much at most, and different step times."""
    use = memplan.plan(graph, chip=chip, hbm=2**60).tier(Tier.HBM)
    assert use is not None
    least: int | None = None
    fit, longer, most, times = 0, 0, 0.0, set()
    for number in range(1, BUDGETS + 1):
        budget = max(use.peak * number // BUDGETS, 1)
        plan = memplan.plan(graph, chip=chip, hbm=budget, recompute=recompute)
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
    parser.add_argument("--policy", choices=[item.value for item in RecomputePolicy])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["| case | ops | recompute | budgets that fit | step times | rises | longest | CPU s |", "|" + "---|" * 8]
    named = ((name, build(), chip) for name, (build, chip) in all_cases(options.data).items() if name in options.cases)
    cut = (item for item in shallow_graphs(options.data) if item[0] in options.cases)
    files = ((path.stem, read_graph(path), "910B3") for path in options.graph)
    drawn = ((name, graph, "910B3") for name, graph in random_graphs(options.random))
    for source in (named, cut, files, drawn):
        for name, graph, chip in source:
            for policy in RecomputePolicy:
                if options.policy and policy.value != options.policy:
                    continue
                begin = time.process_time()
                fit, longer, most, times = rises(graph, chip, policy)
                seconds = time.process_time() - begin
                row = (name, f"{len(graph.ops):,}", policy.value, fit, times, longer, f"{most:.2%}", f"{seconds:.0f}")
                lines.append("| " + " | ".join(map(str, row)) + " |")
                print(lines[-1], flush=True)
    if options.out:
        text = "# More HBM, no longer step\n\n" + (__doc__ or "").strip() + "\n\n" + "\n".join(lines) + "\n"
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
