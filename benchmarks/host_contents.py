"""
Whether plans with host moves lose a byte.

`python -m benchmarks.host_contents [--out FILE] [--only TEXT] [--random N] [GRAPH ...]`

The bundled graphs, those named, N random ones of the tests' own strategy, and a training, prefill and decode step of
six published models (read from the shared data folder beside the project, or `--data`), each at several shares of its
peak: what is moved, what runs again, and what two runs of the plan one after the other read stale, miss or leave
elsewhere than they found it. A plan that does not fit says how many bytes are missing: a step's own operands need more
than the room, or bounds say so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import memplan
from benchmarks.monotony import random_graphs
from memplan.graph import Graph
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph, training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.readers import read_graph
from memplan.schema import Tier
from memplan.schema.contents import content_violations

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
PROJECT = Path(__file__).resolve().parents[1]
SAMPLES = sorted((PROJECT / "memplan" / "samples").glob("*.mindir"))
MODELS = {
    "Qwen3-8B": ("Qwen--Qwen3-8B", Layout(tensor=8)),
    "Qwen3-32B": ("Qwen--Qwen3-32B", Layout(tensor=8)),
    "Qwen3-30B-A3B": ("Qwen--Qwen3-30B-A3B", Layout(tensor=8, expert=8)),
    "DeepSeek-R1": ("deepseek-ai--DeepSeek-R1", Layout(tensor=8, expert=8)),
    "Llama-3.1-8B": ("meta-llama--Meta-Llama-3.1-8B", Layout(tensor=8)),
    "Llama-3.1-70B": ("meta-llama--Meta-Llama-3.1-70B", Layout(tensor=8)),
}


def cases(files: list[Path], data: Path) -> Iterator[tuple[str, Callable[[], Graph]]]:
    """Graphs by name, made when they are asked for."""
    for path in (*SAMPLES, *files):
        yield path.stem, partial(read_graph, path)
    for name, (config, layout) in MODELS.items():
        yield f"{name} decode", partial(served, data, config, layout, ServedStep(Phase.DECODE, batch=16, context=4096))
        yield f"{name} prefill", partial(served, data, config, layout, ServedStep(Phase.PREFILL, batch=1, context=4096))
    for name, (config, layout) in MODELS.items():
        yield f"{name} training", partial(trained, data, config, layout)


def served(data: Path, config: str, layout: Layout, step: ServedStep) -> Graph:
    """A served step of a published model."""
    return step_graph(load_config(data / "configs" / f"{config}.json"), layout, step)


def trained(data: Path, config: str, layout: Layout) -> Graph:
    """A training step of a published model on sequences of 4,096 tokens."""
    return training_graph(load_config(data / "configs" / f"{config}.json"), layout, Recipe(sequence=4096))


def rows(name: str, graph: Graph, recompute: RecomputePolicy) -> Iterator[str]:
    """One line of the table for each share of the peak."""
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    for share in SHARES:
        begin = time.process_time()
        plan = memplan.plan(graph, chip="910B3", hbm=int(use.peak * share), recompute=recompute)
        moved = sum(move.size for move in plan.transfers)
        again = "-" if recompute is RecomputePolicy.NEVER else sum(op.repeats is not None for op in plan.ops)
        wrong = len(content_violations(plan))
        fits = "yes" if plan.fits else f"{plan.missing_bytes:,} short"
        cells = (name, f"{share:.0%}", fits, f"{len(plan.transfers)}", f"{moved / 2**20:.1f}", f"{again}", f"{wrong}")
        yield f"| {' | '.join(cells)} | {time.process_time() - begin:.0f} |"


def main() -> None:
    """Print the table, and write it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graphs", nargs="*", type=Path)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the first random graph")
    parser.add_argument("--recompute", choices=[policy.value for policy in RecomputePolicy], default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = ("graph", "of its peak", "fits", "transfers", "MiB moved", "ops run again",
            "wrong reads, lost updates, moved addresses", "CPU s")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "-|" * len(head)]
    policy = RecomputePolicy(options.recompute)
    known = ((name, make()) for name, make in cases(options.graphs, options.data) if options.only in name)
    drawn = (item for item in random_graphs(options.random, options.seed) if options.only in item[0])
    for name, graph in chain(drawn, known):
        for line in rows(name, graph, policy):
            lines.append(line)
            print(line, flush=True)
    if options.out:
        title = ["# Contents of plans with host moves", "", "Ascend 910B3; two runs of each plan.", ""]
        options.out.write_text("\n".join([*title, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
