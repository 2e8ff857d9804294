"""
Host moves against their bound and other planners' rules.

`python -m benchmarks.host_moves [--other] [--out FILE] [--shares PART ...] [CASE ...]`

Every case is planned at 90, 75, 60, 45 and 30 % of its peak. All rules are scored by the one simulated schedule, before
addresses are given; the last columns are the step of the whole plan without recomputation, with addresses, which
`memplan.plan` has checked. Seconds are CPU time. Where nothing can help, a step's own operands need more than the room.
The bound of small cases is that of tensors that move as a whole (`placement/whole_moves.py`). A choice slower than any
rule ends with exit code 1. Published configs are read from the shared data folder beside the project (or `--data`).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import memplan
from memplan.core.units import format_bytes
from memplan.cost import costs_and_advice, machine
from memplan.graph import Graph
from memplan.hardware import chip as find_chip
from memplan.hardware import host_tier
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep, step_graph, training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.host import choose_moves
from memplan.placement.memory_layout import storages_of
from memplan.placement.move_bound import move_bound
from memplan.placement.move_orders import MOVE_RULES
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.placement.residency import least_bytes
from memplan.placement.rounding import rounding
from memplan.readers import read_graph
from memplan.schema.storages import planned_tensors

PROJECT = Path(__file__).resolve().parents[1]
SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
Case = tuple[Callable[[], Graph], str]


def cases(data: Path) -> dict[str, Case]:
    """Graphs by name, with the chip that each is planned on."""

    def file(path: Path) -> Case:
        return lambda: read_graph(path), "910B3"

    def served(config: str, chip: str, step: ServedStep, layout: Layout | None = None) -> Case:
        return lambda: step_graph(load_config(data / "configs" / f"{config}.json"), layout or Layout(), step), chip

    def trained(config: str, chip: str, layout: Layout, recipe: Recipe) -> Case:
        return lambda: training_graph(load_config(data / "configs" / f"{config}.json"), layout, recipe), chip

    samples, field = PROJECT / "memplan" / "samples", data / "field-cases" / "graphs"
    return {
        "sample cnn": file(samples / "cnn.mindir"),
        "sample llama_infer": file(samples / "llama_infer.mindir"),
        "sample llama_train": file(samples / "llama_train.mindir"),
        "paged decode": file(field / "03-host-moves-lose-updates" / "ascend_decode_paged.mindir"),
        "Qwen3-8B decode": served("Qwen--Qwen3-8B", "910B3", ServedStep(Phase.DECODE, batch=32, context=4096)),
        "Qwen3-8B prefill": served("Qwen--Qwen3-8B", "910B3", ServedStep(Phase.PREFILL, batch=1, context=8192)),
        "DeepSeek-R1 prefill": served("deepseek-ai--DeepSeek-R1", "910C",
                                      ServedStep(Phase.PREFILL, batch=2, context=4096, precision="w8a8"),
                                      Layout(tensor=8, data=2, expert=16)),
        "DeepSeek-V3 decode": served("deepseek-ai--DeepSeek-V3", "910C",
                                     ServedStep(Phase.DECODE, batch=64, context=4096, precision="w8a8"),
                                     Layout(data=64, expert=64)),
        "Llama-3.1-70B decode": served("meta-llama--Meta-Llama-3.1-70B", "910B3",
                                       ServedStep(Phase.DECODE, batch=16, context=8192), Layout(tensor=8)),
        "Mixtral prefill": served("mistralai--Mixtral-8x7B-v0.1", "910B3",
                                  ServedStep(Phase.PREFILL, batch=4, context=4096), Layout(tensor=8)),
        "Llama-3.1-8B training": trained("meta-llama--Meta-Llama-3.1-8B", "910B3", Layout(tensor=8),
                                         Recipe(sequence=8192)),
        "Qwen3-8B training": trained("Qwen--Qwen3-8B", "910B3", Layout(tensor=8),
                                     Recipe(sequence=4096, micro_batches=4)),
        "Qwen3-30B-A3B training": trained("Qwen--Qwen3-30B-A3B", "910B3", Layout(tensor=4, data=2, expert=8),
                                          Recipe(sequence=4096, micro_batches=2)),
        "DeepSeek-V3 training": trained("deepseek-ai--DeepSeek-V3", "910C", Layout(tensor=8, data=8, expert=64),
                                        Recipe(sequence=4096)),
    }  # fmt: skip


def other_cases(data: Path) -> dict[str, Case]:
    """Small models and last stages, where single tensors take much of the room, and sizes of other published models."""

    def decoded(config: str, layout: Layout, batch: int, context: int) -> Case:
        step = ServedStep(Phase.DECODE, batch=batch, context=context)
        return lambda: step_graph(load_config(data / "configs" / f"{config}.json"), layout, step), "910B3"

    def trained(config: str, layout: Layout, recipe: Recipe, stage: int = 0) -> Case:
        model = data / "configs" / f"{config}.json"
        return lambda: training_graph(load_config(model), layout, recipe, stage=stage), "910B3"

    return {
        "Qwen3-0.6B decode": decoded("Qwen--Qwen3-0.6B", Layout(), 16, 8192),
        "Qwen3-1.7B decode, batch 8": decoded("Qwen--Qwen3-1.7B", Layout(), 8, 4096),
        "Qwen3-1.7B decode, batch 32": decoded("Qwen--Qwen3-1.7B", Layout(), 32, 4096),
        "MiMo-7B decode": decoded("XiaomiMiMo--MiMo-7B-Base", Layout(), 24, 6144),
        "Qwen3-32B decode": decoded("Qwen--Qwen3-32B", Layout(tensor=4), 24, 8192),
        "gemma-3-27b decode": decoded("google--gemma-3-27b-it", Layout(tensor=2), 12, 8192),
        "gpt-oss-120b decode": decoded("openai--gpt-oss-120b", Layout(tensor=8), 32, 4096),
        "MiniMax-M2.5 decode": decoded("MiniMaxAI--MiniMax-M2.5", Layout(tensor=8, expert=8), 24, 4096),
        "Qwen3-0.6B training": trained("Qwen--Qwen3-0.6B", Layout(), Recipe(sequence=4096)),
        "Qwen3-0.6B training, last of 2 stages": trained(
            "Qwen--Qwen3-0.6B", Layout(pipeline=2, data=2), Recipe(sequence=4096, micro_batches=2), 1
        ),
        "Qwen3-1.7B training, last of 2 stages": trained(
            "Qwen--Qwen3-1.7B", Layout(tensor=2, pipeline=2), Recipe(sequence=4096), 1
        ),
        "Llama-3.1-8B training, first of 2 stages": trained(
            "meta-llama--Meta-Llama-3.1-8B", Layout(tensor=4, pipeline=2), Recipe(sequence=4096, micro_batches=2)
        ),
        "MiMo-7B training": trained("XiaomiMiMo--MiMo-7B-Base", Layout(tensor=8), Recipe(sequence=2048)),
    }


def problem_of(graph: Graph, chip: str) -> MoveProblem:
    """What can be moved of `graph` on `chip`."""
    target = find_chip(chip)
    costs, _ = costs_and_advice(graph, machine(target))
    storages = storages_of(graph, planned_tensors(graph), rounding(target.npu_arch or ""))
    durations = np.array([cost.duration_ns for cost in costs], dtype=np.int64)
    host = host_tier(target)
    return move_problem(storages, durations, out_link=host.out_link, in_link=host.in_link)


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


def scale(data: Path) -> None:
    """CPU seconds and memory of whole plans at 75 % of the peak, checks included: 61 layers, and 100,000 ops."""

    def model(name: str) -> ModelConfig:
        return load_config(data / "configs" / f"{name}.json")

    large = cases(data)
    graphs: dict[str, Case] = {name: large[name] for name in ("DeepSeek-V3 decode", "DeepSeek-V3 training")}
    many = Recipe(sequence=4096, micro_batches=57)
    graphs["Qwen3-8B training, 57 micro-batches"] = (
        lambda: training_graph(model("Qwen--Qwen3-8B"), Layout(tensor=8), many)
    ), "910B3"  # fmt: skip
    print("| case | ops | plan CPU s | peak memory so far | over bound |")
    print("|---|---|---|---|---|")
    for name, (build, chip) in graphs.items():
        graph = build()
        capacity = int(problem_of(graph, chip).live.max() * 0.75)
        start = time.process_time()
        plan = memplan.plan(graph, chip=chip, hbm=capacity, recompute=RecomputePolicy.NEVER)
        seconds = time.process_time() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        gap = plan.makespan_ns / (plan.makespan_bound_ns or plan.makespan_ns) - 1 if plan.fits else None
        row = (
            name,
            f"{len(graph.ops):,}",
            f"{seconds:.1f}",
            format_bytes(memory),
            f"{gap:.1%}" if gap is not None else "-",
        )
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Print the table, and write it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES, help="parts of the peak to plan with")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--choice-only", action="store_true", help="score choices, make no plans")
    parser.add_argument("--other", action="store_true", help="the second table's cases")
    parser.add_argument("--scale", action="store_true", help="only time whole plans of large graphs")
    options = parser.parse_args()
    if options.scale:
        scale(options.data)
        return
    head = ["case", "HBM", "bound", "memplan", "over bound", *MOVE_RULES, "choice s", "plan", "over bound", "plan s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    over, planned, slower = [], [], []
    for name, (build, chip) in (other_cases if options.other else cases)(options.data).items():
        if options.cases and name not in options.cases:
            continue
        graph = build()
        problem = problem_of(graph, chip)
        peak, compute = int(problem.live.max()), int(problem.durations.sum())
        for share in options.shares:
            capacity = int(peak * share)
            start = time.process_time()
            bound = move_bound(problem, capacity, thorough=True)
            if bound is None:
                lines.append(f"| {name} | {share:.0%} | {least_of(problem, capacity)} |" + " |" * (len(head) - 3))
                print(lines[-1], flush=True)
                continue
            chosen = choose_moves(problem, capacity, bound)
            seconds = time.process_time() - start
            rules: list[int | None] = []
            for rule in MOVE_RULES.values():
                moved = rule(problem, capacity)
                fits = int(problem.live_without(moved[problem.unit]).max()) <= capacity
                rules.append(problem.run(moved, capacity).makespan_ns if fits else None)
            if any(value is not None and value < chosen.makespan_ns for value in rules):
                slower.append(f"{name} {share:.0%}")
            gap = chosen.makespan_ns / bound.makespan_ns - 1
            if bound.makespan_ns > compute:
                over.append(gap)
            row = [name, f"{share:.0%}", times(bound.makespan_ns, compute), times(chosen.makespan_ns, compute)]
            row += [f"{gap:.1%}", *(times(value, compute) for value in rules), f"{seconds:.1f}"]
            if options.choice_only:
                row += ["", "", ""]
            else:
                start = time.process_time()
                plan = memplan.plan(graph, chip=chip, hbm=capacity, recompute=RecomputePolicy.NEVER)
                row += [times(plan.makespan_ns if plan.fits else None, compute)]
                row += [f"{plan.makespan_ns / bound.makespan_ns - 1:.1%}" if plan.fits else "-"]
                row += [f"{time.process_time() - start:.1f}"]
                if plan.fits and bound.makespan_ns > compute:
                    planned.append(plan.makespan_ns / bound.makespan_ns - 1)
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
    verdict = [
        f"Over the bound, where it is above compute ({len(over)} of the rows): median {statistics.median(over):.1%}, "
        f"worst {max(over):.1%}." if over else "Nowhere is the bound above compute.",
        f"Plans with addresses, in the same rows: median {statistics.median(planned):.1%}, worst {max(planned):.1%}."
        if planned else "No plans were made.",
        f"Slower than a rule: {', '.join(slower) or 'nowhere'}.",
    ]  # fmt: skip
    print("\n".join(verdict))
    if options.out:
        text = (__doc__ or "").strip() + "\n\nTimes are multiples of the time that the ops take alone.\n\n"
        options.out.write_text("# Host moves\n\n" + text + "\n".join([*lines, "", *verdict]) + "\n", encoding="utf-8")
    if slower:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
