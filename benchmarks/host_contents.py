"""
Whether plans with host moves lose a byte.

`python -m benchmarks.host_contents [--out FILE] [--only TEXT] [--whole] [--layers N] [--random N] [GRAPH ...]`

The bundled graphs, the field cases that can be read, the MindSpore exports of `tests/planner/mindspore_states.py`
(eleven optimisers, BatchNorm, paged KV caches, control flow), those named, a decode, prefill and training step of
eighteen published models, and N random graphs of the tests' own strategy, each at several shares of its peak: what is
moved, what runs again, and what two runs of the plan one after the other read stale, miss or leave elsewhere than they
found it. `--only` may be given several times.

Two of the models are planned with all layers, the others, unless `--whole`, with `--layers`, four, or as many as they
have kinds of layers. They are split over two to eight dies; training is one micro-batch of a sequence of 4,096 tokens,
a decode step has batch 16 and a context of 4,096, a prefill one prompt of 4,096. A step whose backward pass is not
modelled is named and left out. A plan that does not fit says how many bytes are missing: a step's own operands need
more than the room. A violation ends with exit code 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import memplan
from benchmarks.host_cases import published_model
from benchmarks.monotony import random_graphs
from memplan.core.errors import InputError
from memplan.graph import Graph
from memplan.models import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, model_graph, training_graph
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
    "GLM-5.2": ("zai-org--GLM-5.2", Layout(tensor=8, expert=8)),
    "DeepSeek-V3": ("deepseek-ai--DeepSeek-V3", Layout(tensor=8, expert=8)),
    "GLM-4.7-Flash": ("45-family-glm4-moe-lite", Layout(tensor=4, expert=4)),
    "MiniCPM3-4B": ("56-family-minicpm3", Layout(tensor=4)),
    "Qwen3.5-35B-A3B": ("Qwen--Qwen3.5-35B-A3B", Layout(tensor=2, expert=2)),
    "GLM-4-32B": ("44-family-glm4", Layout(tensor=2)),
    "LongCat-Flash": ("59-family-longcat-flash", Layout(tensor=8, expert=8)),
    "Nemotron-3-Nano": ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", Layout(tensor=2, expert=2)),
    "Qwen3-Next-80B-A3B": ("Qwen--Qwen3-Next-80B-A3B-Instruct", Layout(tensor=4, expert=4)),
}


def files(
    named: list[Path], data: Path, exports: Path, only: Sequence[str]
) -> Iterator[tuple[str, Callable[[], Graph]]]:
    """
    Graph files by name: bundled ones, those of the field cases that can be read, MindSpore's exports, and `named` ones.

    The exports whose name has one of the texts `only` are written to `exports` first, where there is a MindSpore.
    """
    field = data / "field-cases" / "graphs"
    for path in (*SAMPLES, *sorted(field.rglob("*.mindir")), *sorted(field.rglob("*.onnx"))):
        with suppress(InputError):  # some are there because they can't be read as they are
            yield path.stem, partial(lambda graph: graph, read_graph(path))
    wanted = [name for name in NAMES if wanted_by(only, name)]
    if wanted and find_spec("mindspore") is not None:
        script = PROJECT / "tests" / "planner" / "mindspore_states.py"
        subprocess.run([sys.executable, str(script), str(exports), *wanted], check=True, capture_output=True)
    for path in (*sorted(exports.glob("*.mindir")), *named):
        yield path.stem, partial(read_graph, path)


def wanted_by(only: Sequence[str], name: str) -> bool:
    """Whether `name` has one of the texts `only`, or there are none."""
    return not only or any(text in name for text in only)


def published(data: Path, kept: int | None) -> Iterator[tuple[str, Callable[[], Graph]]]:
    """Steps of published models by name, with `kept` layers, or all; where not all are, the name says how many."""
    for number, (name, (config, layout)) in enumerate(MODELS.items()):
        layers = None if number < WHOLE else kept
        model = model_of(data, config, layers)
        title = name if layers is None else f"{name}, {len(model.layers)} layers"
        for phase, batch in ((Phase.DECODE, 16), (Phase.PREFILL, 1)):
            step = ServedStep(phase, batch=batch, context=4096)
            yield f"{title} {phase.value}", partial(model_graph, model, None, layout, step)
        yield f"{title} training", partial(training_graph, model, layout, Recipe(sequence=4096))


def model_of(data: Path, config: str, layers: int | None) -> ModelConfig:
    """A published model, with `layers` of its layers, or more where it has more kinds of them: the first of each."""
    model = published_model(data, config)
    if layers is None:
        return model
    kinds = {(layer.mixer and layer.mixer.alike, layer.ffn): layer for layer in reversed(model.layers)}
    kept = {layer.index for layer in kinds.values()}
    kept |= {layer.index for layer in [item for item in model.layers if item.index not in kept][: layers - len(kept)]}
    return replace(model, layers=tuple(layer for layer in model.layers if layer.index in kept))


def made(name: str, make: Callable[[], Graph]) -> Iterator[tuple[str, Graph]]:
    """The graph that `make` builds, named; one that can't be built is told."""
    try:
        yield name, make()
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)


def rows(
    name: str, graph: Graph, shares: Sequence[float], recompute: RecomputePolicy, found: Counter[str]
) -> Iterator[str]:
    """One line of the table for each of `shares` of the peak; plans with violations are counted in `found`."""
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    for share in shares:
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
    parser.add_argument("--only", action="append", default=[], help="cases whose name has this text")
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES, help="parts of the peak to plan with")
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
        graphs = chain.from_iterable(made(name, make) for name, make in known if wanted_by(options.only, name))
        drawn = (item for item in random_graphs(options.random, options.seed) if wanted_by(options.only, item[0]))
        for name, graph in chain(drawn, graphs):
            for line in rows(name, graph, options.shares, policy, found):
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
