#!/usr/bin/env python3
"""
Planted faults: is what was planted the first finding, is nothing found in clean runs, and is its cost right?

usage: benchmarks/findings.py [--runs N] [--clean N] [--seed SEED] [--markdown FILE]

A training step of a small model is planned, run on four simulated ranks with each fault of `memplan simulate --fault`
at three strengths, and diagnosed. Seeds are drawn anew each run unless one is given. What a fault costs is how much
longer the same job with the same noise takes with it than without; of memory, the bytes that were planted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import memplan
from memplan.findings import Finding, diagnose
from memplan.models import load_config
from memplan.models.training.memory import Recipe
from memplan.schema import Plan, Tier
from memplan.simulator import FAULTS, STRENGTHS, ChosenFault, chosen_fault, planted_ns, simulate_job

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 6, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
RANKS, STEPS = 4, 4


def planned(folder: Path) -> Plan:
    """A plan of one training step of a model of 6 layers."""
    path = folder / "config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    return memplan.plan(load_config(path), chip="910B3", phase="train", recipe=Recipe(sequence=2048))


def faults_of(findings: list[Finding]) -> list[Finding]:
    """Findings that cost something; facts such as what makes the peak are no faults."""
    return [one for one in findings if one.cost_ns or one.cost_bytes]


def truth_bytes(plan: Plan, kind: str, strength: float) -> int:
    """What a fault of memory was planted with."""
    peak = max(use.peak for use in plan.tiers if use.tier is Tier.HBM)
    if kind == "leaked-tensor":
        return round(strength * peak) * (STEPS - 1)
    share = strength + (0.1 if kind == "fragmented-pool" else 0.02)
    reserved = 1.01 * peak
    if kind == "fragmented-pool":
        return round(peak * (0.01 + share / (1 - min(share, 0.9))))
    return round(share / (1 - min(share, 0.9)) * reserved)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="runs of each fault at each strength")
    parser.add_argument("--clean", type=int, default=20, help="runs without a fault")
    parser.add_argument("--seed", type=int, help="of the first run; drawn anew by default")
    parser.add_argument("--only", help="only this kind of fault")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else secrets.randbelow(10**9)
    lines = [f"Seed {seed}; {RANKS} ranks, {STEPS} steps.", "", "| fault | first | error of cost (median) | found |",
             "|---|---|---|---|"]  # fmt: skip
    right = total = 0
    errors: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = planned(folder)
        count = 0
        for kind in FAULTS:
            if given.only not in (None, kind):
                continue
            first, mine, seen = 0, [], []
            for strength in STRENGTHS:
                for _ in range(given.runs):
                    count += 1
                    fault = chosen_fault(f"{kind}:{strength}")
                    found = _run(plan, folder / f"run{count}", seed + count, f"{kind}:{strength}")
                    hit = found[0] if found and found[0].kind in fault.fault.findings else None
                    first += hit is not None
                    seen.append(found[0].kind if found else "nothing")
                    named = next((one for one in found if one.kind in fault.fault.findings), None)
                    if named is not None:
                        mine.append(_error(plan, fault, named, seed + count))
            tries = len(STRENGTHS) * given.runs
            right, total = right + first, total + tries
            if mine:
                errors.append(median(mine))
            shown = f"{median(mine):.1%}" if mine else "–"
            lines.append(f"| {kind} | {first} of {tries} | {shown} | {', '.join(seen)} |")
            print(lines[-1], flush=True)
        quiet = 0
        begin = time.perf_counter()
        for number in range(given.clean):
            found = _run(plan, folder / f"clean{number}", seed - 1 - number, None)
            quiet += not found
            if found:
                print(f"clean run {number}: {found[0].kind} {found[0].title}")
        spent = (time.perf_counter() - begin) / max(given.clean, 1)
    middle = median(errors) if errors else 0.0
    lines += ["", f"Planted fault ranked first: {right} of {total} ({right / max(total, 1):.1%}).",
              f"Clean runs without a finding: {quiet} of {given.clean}.",
              f"Error of cost, median over kinds: {middle:.1%}; largest {max(errors, default=0):.1%}.",
              f"A run is simulated, read and diagnosed in {spent:.2f} s."]  # fmt: skip
    print("\n".join(lines[-4:]))
    if given.markdown:
        given.markdown.write_text("\n".join(["# Planted faults", "", *lines, ""]), encoding="utf-8")
    return 0 if right >= 0.95 * total and quiet >= 0.95 * given.clean and middle <= 0.15 else 1


def _run(plan: Plan, target: Path, seed: int, fault: str | None) -> list[Finding]:
    chosen = None if fault is None else chosen_fault(fault)
    simulate_job(plan, target, fault=chosen, ranks=RANKS, steps=STEPS, seed=abs(seed))
    profile = memplan.open_profile(target, cache=target.parent / "cache")
    return faults_of(list(diagnose(profile, plan=plan).findings))


def _error(plan: Plan, fault: ChosenFault, named: Finding, seed: int) -> float:
    if fault.fault.memory:
        truth, told = truth_bytes(plan, fault.kind, fault.strength), named.cost_bytes or 0
    else:
        truth = planted_ns(plan, fault, ranks=RANKS, steps=STEPS, seed=abs(seed))
        told = named.cost_ns or 0
    return abs(told - truth) / max(truth, 1)


if __name__ == "__main__":
    sys.exit(main())
