"""
How well planned ops and measured kernels are matched: on runs of known truth, simulated ones, real profiles; how fast.

`python -m benchmarks.alignment SHARED_DATA [--runs N] [--kernels N] [--only speed ...]` prints the tables of
`benchmarks/alignment.md`, or those named alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

import memplan
from benchmarks.framework_runs import batch_table, framework_table
from benchmarks.layout_runs import layout_table
from benchmarks.profile_compositions import composition_table
from benchmarks.profile_labels import UNPLANNED_LABELS, given_less_right, labelled, labelled_plan
from benchmarks.profile_variants import variant_table
from benchmarks.served_runs import block_table
from memplan.align import align
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan

_TABLES: Mapping[str, str] = {
    "known": "Runs of known truth, names hidden",
    "simulated": "Simulated runs",
    "samples": "Models drawn at random",
    "labelled": "A labelled profile",
    "variants": "Other shapes of that profile, each planned like itself",
    "compositions": "Other stages put together from that profile",
    "micro_batches": "Many micro-batches of few layers",
    "layouts": "Other layouts and phases",
    "frameworks": "Steps as engines and trainers launch them",
    "batches": "Plans of another batch than ran",
    "blocks": "Steps that run a layer in a few kernels",
    "speed": "Speed",
}
"""Tables by what they are called on the command line, with their titles."""


def label_table(shared: Path) -> Iterator[str]:
    """Lines of the table of the labelled profile."""
    kernels = memplan.open_profile(shared / "profiles" / "qwen3-0.6b-train-4rank").rank(0).kernels()
    assert kernels is not None
    plan = labelled_plan(shared)
    verdicts = labelled(plan, align(plan, kernels), shared / "labels" / "qwen3_rank0.csv")
    compute = [item for item in verdicts if not item.collective]
    total = sum(item.duration_us for item in compute)
    yield "| what | right |"
    yield "|---|---|"
    for name, test in (("phase, micro-batch, layer", "scope"), ("part", "part"), ("all of these", "right")):
        share = sum(item.duration_us for item in compute if getattr(item, test)) / total
        yield f"| compute time: {name} | {share:.2%} |"
    exchanged = [item for item in verdicts if item.collective]
    yield f"| communication ops | {sum(item.right for item in exchanged)} of {len(exchanged)} |"
    unplanned = [item for item in verdicts if item.part_label in UNPLANNED_LABELS]
    yield f"| kernels that no plan has, named | {sum(item.part for item in unplanned)} of {len(unplanned)} |"
    yield ""
    for title, coarse in (
        ("Probability of phase, micro-batch, layer and part, where the label means one planned part:", False),
        (
            "Where it takes several for right (angles or rotary, updates of all weights), so that more is right:",
            True,
        ),
    ):
        yield title
        yield ""
        yield from calibration_table([(item.probability, item.right) for item in verdicts if item.coarse is coarse])
        yield ""
    wrong: Counter[str] = Counter()
    for item in verdicts:
        if not item.right:
            wrong[item.part_label] += 1
    yield "wrong: " + ", ".join(f"{name} {count}" for name, count in wrong.most_common())


def calibration_table(pairs: Sequence[tuple[float, bool]]) -> Iterator[str]:
    """Lines of a table of probabilities given and shares that were right."""
    edges = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.01)
    yield "| probability given | matches | mean given | right |"
    yield "|---|---|---|---|"
    for low, high in pairwise(edges):
        inside = [(chance, right) for chance, right in pairs if low <= chance < high]
        if inside:
            given = np.mean([chance for chance, _ in inside])
            share = np.mean([right for _, right in inside])
            yield f"| {low:g} to {min(high, 1.0):g} | {len(inside)} | {given:.1%} | {share:.1%} |"


def known_table(shared: Path) -> Iterator[str]:
    """Lines of the table of runs whose truth is known and whose names were hidden."""
    from tests.align.alexnet_run import alexnet_kernels, alexnet_outcome, alexnet_plan
    from tests.align.known_runs import Outcome, aligned, recorded_run
    from tests.align.mindspore_runs import SAMPLES_RUN, mindspore_run
    from tests.align.torch_configs import FRESH_RUNS
    from tests.align.torch_kinds import ALL_RUNS, FRESH_SAMPLES

    def line(name: str, plan: Plan, kernels: int, found: Outcome) -> str:
        right = np.mean(found.right)
        off = given_less_right(list(zip(found.chance, found.right, strict=True)))
        shares = f"{found.time_right:.2%} | {found.told:.1%} | {right:.1%}"
        return f"| {name} | {len(plan.ops)} | {kernels} | {shares} | {off} |"

    yield (
        "| run | planned ops | kernels | time right | kernels told apart | kernels right "
        "| probability given less share right |"
    )
    yield "|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in SAMPLES_RUN:
            (folder / name).mkdir()
            run = mindspore_run(name, folder / name)
            yield line(f"MindSpore, graph mode on a CPU: {name}", run.plan, len(run.kernels), aligned(run))
        for name in ALL_RUNS:
            run = recorded_run(name, folder)
            yield line(f"PyTorch on a CPU: {name}, two steps", run.plan, len(run.kernels), aligned(run))
        plan, kernels = alexnet_plan(folder), alexnet_kernels(shared)
        found = alexnet_outcome(plan, kernels, align(plan, kernels))
        yield line("AlexNet by torch_npu, plan from MindSpore", plan, len(kernels), found)
    yield ""
    yield (
        "`memplan/align/pair_model.json` and `calibration.json` say which constants and curves were chosen with which "
        f"of these runs in view. Of these rows {', '.join([*FRESH_RUNS, *FRESH_SAMPLES])} and AlexNet are fresh."
    )


def simulated_table(shared: Path, runs: int) -> Iterator[str]:
    """Lines of the table of simulated runs, by plan."""
    from tests.align.simulated_runs import checked_claims, disturbance, model_plans, right_share, simulate_run

    plans = model_plans(shared / "configs")
    shares: dict[str, list[float]] = defaultdict(list)
    of_ops: list[tuple[float, bool]] = []
    of_scopes: list[tuple[float, bool]] = []
    names = list(plans)
    for seed in range(runs):
        name = names[seed % len(names)]
        run = simulate_run(plans[name], seed, disturbance(seed))
        found = align(run.plan, run.kernels)
        shares[name].append(right_share(run, found.op_of_kernel().tolist()))
        pairs, kernels = checked_claims(run, found)
        of_ops += pairs
        of_scopes += kernels
    yield "| plan | runs | time right, mean | least |"
    yield "|---|---|---|---|"
    for name, found_shares in shares.items():
        yield f"| {name} | {len(found_shares)} | {np.mean(found_shares):.2%} | {min(found_shares):.2%} |"
    every = [share for group in shares.values() for share in group]
    yield f"| all | {len(every)} | {np.mean(every):.2%} | {min(every):.2%} |"
    for title, pairs in (
        ("Probability of matches, that the kernel runs the op:", of_ops),
        ("Probability of kernels, that they are of that phase, micro-batch, layer and part, or of no plan:", of_scopes),
    ):
        yield ""
        yield title
        yield ""
        yield from calibration_table(pairs)


def sample_table(samples: Path | None) -> Iterator[str]:
    """Lines of the table of recorded models drawn at random (`tests.align.torch_samples`), by seed."""
    from tests.align.known_runs import aligned, read_run
    from tests.align.torch_samples import sampled_run

    if samples is None:
        yield "no recordings: --samples FOLDER"
        return
    yield "| seed | model | kernels | time right | told apart | kernels right | probability given less share right |"
    yield "|---|---|---|---|---|---|---|"
    shares: list[float] = []
    every: list[tuple[float, bool]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(samples.glob("*.csv.gz"), key=lambda path: int(path.name.partition(".")[0])):
            seed = int(path.name.partition(".")[0])
            drawn = sampled_run(seed)
            run = read_run(drawn, path, Path(scratch))
            if not len(run.kernels):
                continue
            found = aligned(run)
            pairs = list(zip(found.chance, found.right, strict=True))
            shares.append(found.time_right)
            every += pairs
            yield (
                f"| {seed} | {drawn.config['model_type']} | {len(run.kernels)} | {found.time_right:.2%} "
                f"| {found.told:.1%} | {np.mean(found.right):.1%} | {given_less_right(pairs)} |"
            )
    yield f"| all | mean, least {min(shares):.2%} | | {np.mean(shares):.2%} | | | {given_less_right(every)} |"
    yield ""
    yield from calibration_table(every)


def speed_table(shared: Path, count: int) -> Iterator[str]:
    """Lines of the table of time taken: one plan many times over, and one plan of as many ops."""
    from tests.align.simulated_runs import Disturbance, model_plans, right_share, simulate_run

    plan = model_plans(shared / "configs")["qwen3 PP2 DP2"]
    align(plan, simulate_run(plan, 0).kernels)  # compiles
    yield "| run | ops | kernels | time right | CPU seconds | wall seconds |"
    yield "|---|---|---|---|---|---|"
    each = len(simulate_run(plan, 1, Disturbance(steps=1)).kernels)
    for name, used, steps in (
        ("many steps", plan, max(1, count // each)),
        ("one long step", long_plan(shared, count), 1),
    ):
        run = simulate_run(used, 1, Disturbance(steps=steps))
        begin, begin_wall = time.process_time(), time.perf_counter()
        found = align(used, run.kernels)
        cpu, wall = time.process_time() - begin, time.perf_counter() - begin_wall
        right = right_share(run, found.op_of_kernel().tolist())
        yield f"| {name} | {len(used.ops)} | {len(run.kernels)} | {right:.1%} | {cpu:.1f} | {wall:.1f} |"


def micro_batch_table(shared: Path) -> Iterator[str]:
    """Lines of the table of simulated steps of few layers and many micro-batches, one run begun inside a step."""
    from tests.align.simulated_runs import Disturbance, disturbance, right_share, simulate_run

    model = load_config(shared / "configs" / "Qwen--Qwen3-0.6B.json")
    seeds = (1, 2, 3, 15, 19, 23)
    yield "| layers | micro-batches | stage | time right, by run |"
    yield "|---|---|---|---|"
    for layers, count, stages, stage in (
        (1, 64, 1, 0), (2, 64, 1, 0), (3, 128, 1, 0), (6, 96, 1, 0), (4, 64, 2, 0), (4, 64, 2, 1), (8, 64, 4, 1),
    ):  # fmt: skip
        recipe = Recipe(sequence=4096, micro_batch=1, micro_batches=count)
        few = replace(model, layers=model.layers[:layers])
        plan = memplan.plan(training_graph(few, Layout(pipeline=stages), recipe, stage=stage), chip="910B2")
        shares = []
        for seed in seeds:
            run = simulate_run(plan, seed, disturbance(seed) if seed % 4 == 3 else Disturbance())
            shares.append(f"{right_share(run, align(plan, run.kernels).op_of_kernel().tolist()):.1%}")
        yield f"| {layers} | {count} | {stage + 1} of {stages} | {', '.join(shares)} |"


def long_plan(shared: Path, count: int) -> Plan:
    """A plan of a step with so many micro-batches that it has about `count` kernels."""
    model = load_config(shared / "configs" / "Qwen--Qwen3-0.6B.json")
    recipe = Recipe(sequence=4096, micro_batch=1, micro_batches=max(1, count // 1800))
    return memplan.plan(training_graph(model, Layout(), recipe), chip="910B4")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--kernels", type=int, default=1_000_000)
    parser.add_argument("--samples", type=Path, help="a folder of recordings that tests.align.torch_samples made")
    parser.add_argument("--only", nargs="+", choices=list(_TABLES), default=list(_TABLES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print_tables(options, scratch)


def print_tables(options: argparse.Namespace, scratch: str) -> None:
    """Print each table under its title; `scratch` is a folder for files."""
    lines_of = {
        "known": lambda: known_table(options.shared),
        "simulated": lambda: simulated_table(options.shared, options.runs),
        "samples": lambda: sample_table(options.samples),
        "labelled": lambda: label_table(options.shared),
        "variants": lambda: variant_table(options.shared, Path(scratch)),
        "compositions": lambda: composition_table(options.shared, Path(scratch)),
        "micro_batches": lambda: micro_batch_table(options.shared),
        "layouts": lambda: layout_table(options.shared),
        "frameworks": lambda: framework_table(options.shared),
        "batches": lambda: batch_table(options.shared),
        "blocks": lambda: block_table(options.shared),
        "speed": lambda: speed_table(options.shared, options.kernels),
    }
    for name in options.only:
        title, lines = _TABLES[name], lines_of[name]()
        print(f"## {title}\n")
        for line in lines:
            print(line)
        print()


if __name__ == "__main__":
    main()
