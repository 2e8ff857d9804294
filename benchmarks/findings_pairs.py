"""
Two faults at once: are both named, is one of them the first finding, and is the cost of each right?

Usage: python -m benchmarks.findings_pairs [--pairs 14] [--seed SEED]

Pairs of plain faults that cost time, and their strengths, are drawn anew each run unless a seed is given. Each is held
against what it costs alone. Where both make the host late the one hides the other, in part or whole: such pairs are
told in the table too.
"""

from __future__ import annotations

import argparse
import random
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import memplan
from benchmarks.findings import RANKS, STEPS, plans
from benchmarks.planted import cost_of, faults_of, off_by
from memplan.findings import diagnose
from memplan.schema import Plan
from memplan.simulator import FAULTS, STRENGTHS, ChosenFault, chosen_fault, simulate_job


@dataclass(frozen=True, slots=True)
class Pair:
    """Two faults, whether each was named, what came first, and by which share the cost of each named one is off."""

    faults: tuple[ChosenFault, ChosenFault]
    named: tuple[bool, bool]
    found: Sequence[str]
    off: tuple[float, ...]

    @property
    def first(self) -> bool:
        """Whether one of the two was ranked first."""
        return bool(self.found) and any(self.found[0] in one.fault.findings for one in self.faults)


def together(one: ChosenFault, other: ChosenFault) -> ChosenFault:
    """Both faults in one job."""

    def plant(job: Any, _strength: float, *more: Any) -> Any:
        return other.fault.plant(one.fault.plant(job, one.strength, *more), other.strength, *more)

    ranks = max(one.fault.ranks, other.fault.ranks)
    return ChosenFault(f"{one.kind} and {other.kind}", replace(one.fault, plant=plant, ranks=ranks), one.strength)


def tried(plan: Plan, pair: tuple[ChosenFault, ChosenFault], folder: Path, seed: int) -> Pair:
    """What a diagnosis of a job with both faults finds."""
    simulate_job(plan, folder, fault=together(*pair), ranks=RANKS, steps=STEPS, seed=seed)
    found = faults_of(diagnose(memplan.open_profile(folder, cache=folder.parent / "cache"), plan=plan).findings)
    first, second = ([item for item in found if item.kind in one.fault.findings] for one in pair)
    off = tuple(
        off_by(cost_of(plan, one, ranks=RANKS, steps=STEPS, seed=seed), one, mine)
        for one, mine in zip(pair, (first, second), strict=True)
        if mine
    )
    return Pair(pair, (bool(first), bool(second)), tuple(item.kind for item in found), off)


def main() -> None:
    """Print a table of the pairs that were not told right, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=14)
    parser.add_argument("--seed", type=int, help="drawn anew by default")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else secrets.randbelow(10**9)
    chance = random.Random(seed)
    kinds = [kind for kind, one in FAULTS.items() if not (one.background or one.memory) and one.layout == "data"]
    done = []
    with tempfile.TemporaryDirectory() as name:
        plan = plans(Path(name), seed)["plain"]
        for number in range(given.pairs):
            drawn = [chosen_fault(f"{kind}:{chance.choice(list(STRENGTHS))}") for kind in chance.sample(kinds, 2)]
            done.append(tried(plan, (drawn[0], drawn[1]), Path(name) / f"{number}", seed + number))
    print(f"Seed {seed}.\n\n| faults | named | first | costs off by |\n|---|---|---|---|")
    for pair in done:
        if not (all(pair.named) and pair.first) or any(abs(share) > 0.15 for share in pair.off):
            faults = " and ".join(f"{one.kind} {one.strength:g}" for one in pair.faults)
            named = " and ".join("yes" if one else "no" for one in pair.named)
            print(f"| {faults} | {named} | {pair.found[0] if pair.found else '–'} | "
                  f"{', '.join(f'{share:+.0%}' for share in pair.off)} |")  # fmt: skip
    off = [abs(share) for pair in done for share in pair.off]
    print(f"\nOne of the two first: {sum(pair.first for pair in done)} of {len(done)}; both named: "
          f"{sum(all(pair.named) for pair in done)}; costs off by {median(off):.1%} in the median.")  # fmt: skip


if __name__ == "__main__":
    main()
