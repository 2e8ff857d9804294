#!/usr/bin/env python3
"""
Planted faults: is what was planted the first finding, is nothing found in clean runs, and is its cost right?

usage: benchmarks/findings.py [--runs N] [--clean N] [--seed SEED] [--only KIND] [--markdown FILE]
       benchmarks/findings.py --plans fresh [--faulty N] [--clean N] [--seed SEED] [--markdown FILE]

A training step of a small model is planned, run on simulated ranks with each fault of `memplan simulate --fault` at
three strengths, and diagnosed. Seeds are drawn anew each run unless one is given, and sizes of the models with them.
What a fault costs is how much longer the same job with the same noise takes with it than without; of memory, the bytes
that were planted. There are two sets: plain faults in machines alike, by the author of the rules, and faults as they
look in the field among the noise of real machines, written without sight of the rules. Clean runs are of both, the
latter of several models in all layouts; a pipeline's bubble, which its schedule has without any fault, is let pass.
`--plans fresh` draws plans, layouts and all else anew (benchmarks/findings_fresh.py).
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import memplan
from benchmarks.findings_fresh import fresh_trial
from benchmarks.planted import cost_of, faults_of, off_by
from memplan.findings import Finding, diagnose
from memplan.models import load_config
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from memplan.simulator import (
    FAULTS,
    LAYOUTS,
    STRENGTHS,
    chosen_fault,
    simulate_job,
)
from memplan.simulator.noise import Chance

DENSE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 6, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
EXPERTS = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 1024, "intermediate_size": 3072,
    "moe_intermediate_size": 768, "num_experts": 32, "num_experts_per_tok": 4, "num_hidden_layers": 4,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "decoder_sparse_step": 1,
    "norm_topk_prob": True, "mlp_only_layers": [],
}  # fmt: skip
RANKS, STEPS, FIELD_STEPS = 4, 4, 5
_MODELS, _GRAPHS = 14, 6
"""Fresh plans of a trial."""


@dataclass
class Tally:
    """How the runs of one set went."""

    right: int = 0
    total: int = 0
    quiet: int = 0
    clean: int = 0
    errors: list[float] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)


def plans(folder: Path, seed: int) -> dict[str, Plan]:
    """Plans of one training step by layout, of models whose sizes depend on the seed; `plain` is always the same."""
    chance = Chance(seed)

    def among(*choices: int) -> int:
        return choices[int(float(chance.uniform(1)[0]) * len(choices))]

    dense = DENSE | {"hidden_size": among(1536, 2048, 3072), "num_hidden_layers": among(4, 6, 8),
                     "intermediate_size": among(4096, 5632, 8192)}  # fmt: skip
    experts = EXPERTS | {"num_experts": among(16, 32, 64), "num_hidden_layers": among(4, 6)}
    staged = dense | {"num_hidden_layers": 2}
    told = {"plain": (DENSE, 2048), "data": (dense, among(1024, 2048)), "tensor": (dense, 2048),
            "pipeline": (staged, 2048), "expert": (experts, among(1024, 2048))}  # fmt: skip
    found = {}
    for name, (config, sequence) in told.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        recipe = Recipe(sequence=sequence)
        found[name] = memplan.plan(load_config(path), chip="910B3", phase="train", recipe=recipe)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="runs of each fault at each strength")
    parser.add_argument("--clean", type=int, default=20, help="runs of each set without a fault")
    parser.add_argument("--seed", type=int, help="of the first run; drawn anew by default")
    parser.add_argument("--only", help="only this kind of fault, or set: plain, field")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument(
        "--plans", choices=("own", "fresh"), default="own", help="those of this file, or others each run"
    )
    parser.add_argument("--faulty", type=int, default=90, help="runs with a fault, on fresh plans")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else secrets.randbelow(10**9)
    if given.plans == "fresh":
        with tempfile.TemporaryDirectory() as name:
            text, good = fresh_trial(
                Path(name), seed, faulty=given.faulty, clean=given.clean, models=_MODELS, graphs=_GRAPHS
            )
        print(text)
        if given.markdown:
            into_section(given.markdown, "fresh", text)
        return 0 if good else 1
    sets = {"plain": Tally(), "field": Tally()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = plans(folder, seed)
        for number, kind in enumerate(FAULTS):
            which = "field" if FAULTS[kind].background else "plain"
            if given.only in (None, kind, which):
                _kind(sets[which], made, folder, kind, seed + 100 * number, given.runs)
        begin = time.perf_counter()
        for which, tally in sets.items():
            for number in range(given.clean if given.only in (None, which) else 0):
                _clean(tally, made, folder, which, number, seed)
        spent = (time.perf_counter() - begin) / max(sum(one.clean for one in sets.values()), 1)
    lines = [f"Seed {seed}; {RANKS} ranks, {STEPS} and {FIELD_STEPS} steps."]
    good = True
    for which, title in (("plain", "Machines alike"), ("field", "As in the field")):
        tally = sets[which]
        middle = median(tally.errors) if tally.errors else 0.0
        good &= tally.right >= 0.95 * tally.total and tally.quiet >= 0.95 * tally.clean and middle <= 0.15
        lines += ["", f"## {title}", "", "| fault | first | error of cost (median) | found |", "|---|---|---|---|",
                  *tally.rows, "",
                  f"Planted fault ranked first: {tally.right} of {tally.total}, "
                  f"{tally.right / max(tally.total, 1):.1%}.",
                  f"Clean runs without a finding: {tally.quiet} of {tally.clean}.",
                  f"Error of cost, median over kinds: {middle:.1%}; largest {max(tally.errors, default=0):.1%}.",
                  ]  # fmt: skip
    lines += ["", f"A clean run is simulated, read and diagnosed in {spent:.2f} s."]
    print("\n".join(lines))
    if given.markdown:
        into_section(given.markdown, "planted", "\n".join(lines))
    return 0 if good else 1


def into_section(path: Path, section: str, text: str) -> None:
    """Put `text` between the marks of `section` in the document `path`, at its end where it has none."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before, _, rest = old.partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before.rstrip()}\n\n{begin}\n{text}\n{end}\n{after.lstrip()}".lstrip(), encoding="utf-8")


def _kind(tally: Tally, made: dict[str, Plan], folder: Path, kind: str, seed: int, runs: int) -> None:
    fault = FAULTS[kind]
    plan = made[fault.layout if fault.background else "plain"]
    steps = FIELD_STEPS if fault.background else STEPS
    first, mine, seen = 0, [], []
    for strength in STRENGTHS:
        for _ in range(runs):
            seed += 1
            chosen = chosen_fault(f"{kind}:{strength}")
            target = folder / f"{kind}-{strength}-{seed}"
            simulate_job(plan, target, fault=chosen, ranks=RANKS, steps=steps, seed=seed)
            found = _found(plan, target, fault.layout, planned=fault.planned)
            if fault.layout == "pipeline" and "pipeline.bubble" not in fault.findings:
                # A pipeline has one by its schedule, with a fault and without.
                found = [one for one in found if one.kind != "pipeline.bubble"]
            hit = bool(found) and found[0].kind in fault.findings
            first += hit
            seen.append(found[0].kind if found else "nothing")
            named = [one for one in found if one.kind in fault.findings]
            if any(one.cost_ns or one.cost_bytes for one in named):
                cost = cost_of(plan, chosen, ranks=RANKS, steps=steps, seed=seed)
                mine.append(abs(off_by(cost, chosen, named)))
    tries = len(STRENGTHS) * runs
    tally.right, tally.total = tally.right + first, tally.total + tries
    if mine:
        tally.errors.append(median(mine))
    shown = f"{median(mine):.1%}" if mine else "–"
    tally.rows.append(f"| {kind} | {first} of {tries} | {shown} | {', '.join(seen)} |")
    print(tally.rows[-1], flush=True)


def _clean(tally: Tally, made: dict[str, Plan], folder: Path, which: str, number: int, seed: int) -> None:
    layout = LAYOUTS[number % len(LAYOUTS)] if which == "field" else "data"
    plan = made[layout if which == "field" else "plain"]
    target = folder / f"clean-{which}-{number}"
    steps = FIELD_STEPS if which == "field" else STEPS
    clean_seed = abs(seed - 1 - number)
    simulate_job(plan, target, ranks=RANKS, steps=steps, seed=clean_seed, layout=layout, background=which == "field")
    found = [one for one in _found(plan, target, layout) if layout != "pipeline" or one.kind != "pipeline.bubble"]
    tally.clean += 1
    tally.quiet += not found
    if found:
        print(f"clean run {number} ({which}, {layout}): {found[0].kind} {found[0].title}", flush=True)


def _found(plan: Plan, target: Path, layout: str, *, planned: bool = True) -> list[Finding]:
    profile = memplan.open_profile(target, cache=target.parent / "cache")
    # The plan is of the whole model and one micro-batch, which no stage of a pipeline runs.
    return faults_of(diagnose(profile, plan=plan if planned and layout != "pipeline" else None).findings)


if __name__ == "__main__":
    sys.exit(main())
