"""
Whether plans with host moves lose a byte: `host_contents.py [GRAPH ...]` writes `host_contents.md`.

The bundled graphs and those named, each at several shares of its peak: what is moved, and what two runs of the plan
one after the other read stale, miss or leave elsewhere than they found it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import memplan
from memplan.readers import read_graph
from memplan.schema import Tier
from memplan.schema.contents import content_violations

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
HERE = Path(__file__).parent
SAMPLES = sorted((HERE.parent / "memplan" / "samples").glob("*.mindir"))


def rows(path: Path) -> list[str]:
    """One line of the table for each share of the peak."""
    graph = read_graph(path)
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    found = []
    for share in SHARES:
        plan = memplan.plan(graph, chip="910B3", hbm=int(use.peak * share))
        moved = sum(move.size for move in plan.transfers)
        wrong = len(content_violations(plan))
        fits = "yes" if plan.fits else f"{plan.missing_bytes:,} short"
        cells = (path.stem, f"{share:.0%}", fits, f"{len(plan.transfers)}", f"{moved / 2**20:.1f}", f"{wrong}")
        found.append(f"| {' | '.join(cells)} |")
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure and write the table."""
    head = ["| graph | of its peak | fits | transfers | MiB moved | wrong reads, lost updates, moved addresses |"]
    table = [line for path in (*SAMPLES, *map(Path, sys.argv[1:])) for line in rows(path)]
    title = ["# Contents of plans with host moves", "", "Ascend 910B3; two runs of each plan.", ""]
    (HERE / "host_contents.md").write_text("\n".join([*title, *head, "|-|-|-|-|-|-|", *table]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
