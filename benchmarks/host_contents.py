"""
Whether plans with host moves lose a byte.

`python -m benchmarks.host_contents [--out FILE] [--only TEXT] [--whole] [--layers N] [--random N] [GRAPH ...]`

The bundled graphs, the field cases that can be read, the MindSpore exports of `tests/planner/mindspore_states.py` (six
optimisers, BatchNorm, paged KV caches, control flow), those named, a decode, prefill and training step of ten published
models, and N random graphs of the tests' own strategy, each at several shares of its peak: what is moved, what runs
again, and what two runs of the plan one after the other read stale, miss or leave elsewhere than they found it.

Two of the models are planned with all layers, the others, unless `--whole`, with `--layers`, four. They are split over
eight dies, the hybrid one over four; training is one micro-batch of a sequence of 4,096 tokens, a decode step has batch
16 and a context of 4,096, a prefill one prompt of 4,096. A step whose backward pass is not modelled is named and left
out. A plan that does not fit says how many bytes are missing: a step's own operands need more than the room. A
violation ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import memplan
from benchmarks.monotony import random_graphs
from memplan.core.errors import InputError
from memplan.graph import Graph
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph, training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.readers import read_graph
from memplan.schema import Tier
from memplan.schema.contents import content_violations
from tests.planner.mindspore_states import NAMES

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
PROJECT = Path(__file__).resolve().parents[1]
SAMPLES = sorted((PROJECT / "memplan" / "samples").glob("*.mindir"))
WHOLE = 2
"""So many of the models are planned with all their layers."""
MODELS = {
    "Qwen3-8B": ("Qwen--Qwen3-8B", Layout(tensor=8)),
    "Qwen3-30B-A3B": ("Qwen--Qwen3-30B-A3B", Layout(tensor=8, expert=8)),
    "Qwen3-32B": ("Qwen--Qwen3-32B", Layout(tensor=8)),
    "DeepSeek-R1": ("deepseek-ai--DeepSeek-R1", Layout(tensor=8, expert=8)),
    "Llama-3.1-8B": ("meta-llama--Meta-Llama-3.1-8B", Layout(tensor=8)),
    "Llama-3.1-70B": ("meta-llama--Meta-Llama-3.1-70B", Layout(tensor=8)),
    "MiMo-7B": ("XiaomiMiMo--MiMo-7B-Base", Layout(tensor=8)),
    "gpt-oss-120b": ("openai--gpt-oss-120b", Layout(tensor=8, expert=8)),
    "DeepSeek-V3.2": ("deepseek-ai--DeepSeek-V3.2", Layout(tensor=8, expert=8)),
    "Qwen3-Next-80B-A3B": ("Qwen--Qwen3-Next-80B-A3B-Instruct", Layout(tensor=4, expert=4)),
}


def files(named: list[Path], data: Path, exports: Path, only: str) -> Iterator[tuple[str, Callable[[], Graph]]]:
    """
    Graph files by name: bundled ones, those of the field cases that can be read, MindSpore's exports, and `named` ones.

    The exports whose name has the text `only` are written to `exports` first, where there is a MindSpore.
    """
    field = data / "field-cases" / "graphs"
    for path in (*SAMPLES, *sorted(field.rglob("*.mindir")), *sorted(field.rglob("*.onnx"))):
        with suppress(InputError):  # some are there because they can't be read as they are
            yield path.stem, partial(lambda graph: graph, read_graph(path))
    wanted = [name for name in NAMES if only in name]
    if wanted and find_spec("mindspore") is not None:
        script = PROJECT / "tests" / "planner" / "mindspore_states.py"
        subprocess.run([sys.executable, str(script), str(exports), *wanted], check=True, capture_output=True)
    for path in (*sorted(exports.glob("*.mindir")), *named):
        yield path.stem, partial(read_graph, path)


def published(data: Path, kept: int | None) -> Iterator[tuple[str, Callable[[], Graph]]]:
    """Steps of published models by name, with `kept` layers, or all; where not all are, the name says how many."""
    for number, (name, (config, layout)) in enumerate(MODELS.items()):
        layers = None if number < WHOLE else kept
        model = model_of(data, config, layers)
        title = name if layers is None else f"{name}, {layers} layers"
        for phase, batch in ((Phase.DECODE, 16), (Phase.PREFILL, 1)):
            step = ServedStep(phase, batch=batch, context=4096)
            yield f"{title} {phase.value}", partial(step_graph, model, layout, step)
        yield f"{title} training", partial(training_graph, model, layout, Recipe(sequence=4096))


def model_of(data: Path, config: str, layers: int | None) -> ModelConfig:
    """A published model, with `layers` of its layers."""
    path = data / "configs" / f"{config}.json"
    if layers is None:
        return load_config(path)
    told = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        cut = Path(folder) / "config.json"
        cut.write_text(json.dumps(told | {"num_hidden_layers": layers}), encoding="utf-8")
        return load_config(cut)


def made(name: str, make: Callable[[], Graph]) -> Iterator[tuple[str, Graph]]:
    """The graph that `make` builds, named; one that can't be built is told."""
    try:
        yield name, make()
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)


def rows(name: str, graph: Graph, recompute: RecomputePolicy, found: Counter[str]) -> Iterator[str]:
    """One line of the table for each share of the peak; plans with violations are counted in `found`."""
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    for share in SHARES:
        begin = time.process_time()
        plan = memplan.plan(graph, chip="910B3", hbm=int(use.peak * share), recompute=recompute)
        moved = sum(move.size for move in plan.transfers)
        again = "-" if recompute is RecomputePolicy.NEVER else sum(op.repeats is not None for op in plan.ops)
        wrong = len(content_violations(plan))
        found.update(["plans", *["moving"] * bool(plan.transfers), *["wrong"] * bool(wrong)])
        fits = "yes" if plan.fits else f"{plan.missing_bytes:,} short"
        cells = (name, f"{share:.0%}", fits, f"{len(plan.transfers)}", f"{moved / 2**20:.1f}", f"{again}", f"{wrong}")
        yield f"| {' | '.join(cells)} | {time.process_time() - begin:.0f} |"


def main() -> None:
    """Print the table, and write it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graphs", nargs="*", type=Path)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--whole", action="store_true", help="all models with all layers")
    parser.add_argument("--layers", type=int, default=4, help="of all models but the first two")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the first random graph")
    parser.add_argument("--recompute", choices=[policy.value for policy in RecomputePolicy], default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = ("graph", "of its peak", "fits", "transfers", "MiB moved", "ops run again",
            "wrong reads, lost updates, moved addresses", "CPU s")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "-|" * len(head)]
    policy = RecomputePolicy(options.recompute)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as exports:
        kept = None if options.whole else options.layers
        known = chain(files(options.graphs, options.data, Path(exports), options.only), published(options.data, kept))
        graphs = chain.from_iterable(made(name, make) for name, make in known if options.only in name)
        drawn = (item for item in random_graphs(options.random, options.seed) if options.only in item[0])
        for name, graph in chain(drawn, graphs):
            for line in rows(name, graph, policy, found):
                lines.append(line)
                print(line, flush=True)
    verdict = f"{found['plans']} plans, {found['moving']} of them with moves, {found['wrong']} with a violation."
    print(verdict)
    if options.out:
        title = ["# Contents of plans with host moves", "", (__doc__ or "").strip(), "", "Ascend 910B3.", ""]
        options.out.write_text("\n".join([*title, *lines, "", verdict]) + "\n", encoding="utf-8")
    if found["wrong"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
