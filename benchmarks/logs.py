"""
What workers logged beside what is planned: weights, the cache before the run and with measured figures, tokens.

`python benchmarks/logs.py DATA` prints the table of logs.md; DATA is the folder of published configs and field cases.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memplan.core.units import GIB
from memplan.deployment.cases import Case
from memplan.deployment.worker_check import worker_check
from memplan.hardware import chip
from memplan.kv import BudgetPart, CacheOptions, Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.reports.kv.worker_section import printed_tokens
from memplan.traces.logs.worker_memory import WorkerMemory

CASES = Path(__file__).with_name("logs_cases.json")
HELD = (("weights", 0.005), ("before", 0.05), ("tokens", 0.012), ("concurrency", 0.012))
"""Columns and the share that the counts below the table are of."""


def case_of(row: Mapping[str, Any], data: Path) -> Case:
    """What the worker served, as it was asked for."""
    model = load_config(row["values"]) if "values" in row else load_config(data / row["config"])
    die = chip(row.get("chip", "910B3"))
    options = ServingOptions(
        length=row.get("context") or model.max_positions,
        caches=CacheOptions(
            kv=row.get("kv"), block_size=row.get("page"), speculative_tokens=row.get("drafts", 0), mtp="drafts" in row
        ),
        batched_tokens=row.get("prefill"),
        prefix_caching=row.get("prefix"),
    )
    layout = Layout(tensor=row["tensor"], data=row.get("data", 1), expert=row.get("expert", 1))
    total = row.get("total")
    memory = Memory(
        precision=row.get("precision", "published"),
        utilization=row.get("utilization"),
        hbm=None if total is None else round(total * GIB),
        reserved=None if total is None else 0,
        used=0 if total is None or "free" not in row else round((total - row["free"]) * GIB),
        sequences=row.get("sequences"),
        eager=row.get("eager", False),
    )
    return Case(model, die, engine(row.get("engine", "vllm-0.23.0"), die), options, layout, memory)


def logged(row: Mapping[str, Any]) -> WorkerMemory:
    """The figures of the log."""
    sizes = ("total", "free", "weights", "activations", "non_torch", "cache")
    given = {name: round(row[name] * GIB) for name in sizes if name in row}
    counts = {name: row[name] for name in ("utilization", "blocks", "tokens", "context", "concurrency") if name in row}
    return WorkerMemory(row["source"], **given, **counts)


def compared(row: Mapping[str, Any], data: Path) -> dict[str, float | None]:
    """Shares by which plans miss the log: of weights, of the cache before and after, of its tokens or blocks."""
    case, log = case_of(row, data), logged(row)
    # Where no share of the card is known, what is planned needs room for the weights alone.
    roomy = case if log.total is not None else replace(case, memory=replace(case.memory, hbm=1 << 40, reserved=0))
    before = roomy.budget()
    weights = sum(item.nbytes or 0 for item in before.items if item.part is BudgetPart.WEIGHTS)
    check = worker_check(roomy, before, log)
    fed = check.sized or check.after
    if log.cache is None and log.blocks is not None:
        fed = replace(roomy, options=replace(roomy.options, blocks=log.blocks)).budget()
    sized = log.cache is not None or log.blocks is not None
    known = log.total is not None
    # What NCCL takes is not known of every card: then there is no figure before the run, only one too large.
    runtime = all(item.nbytes is not None for item in before.items if item.part is BudgetPart.COLLECTIVES)
    return {
        "weights": _off(weights, log.weights),
        "before": _off(before.available_bytes, log.cache) if known and runtime else None,
        "after": _off(check.after.available_bytes, log.cache) if known and log.non_torch is not None else None,
        "tokens": _off(printed_tokens(fed), log.tokens) if sized else None,
        "concurrency": _off(fed.pool.max_concurrency, log.concurrency) if sized else None,
    }


def _off(planned: float, was: float | None) -> float | None:
    return None if not was else planned / was - 1


def within(found: Sequence[Mapping[str, float | None]], column: str, share: float) -> str:
    """How many of the rows that tell `column` are met within `share`."""
    told = [value for row in found if (value := row[column]) is not None]
    return f"{column} within {share:.1%} in {sum(abs(value) <= share for value in told)} of {len(told)} rows"


def main() -> None:
    """Print a row for each log, and how many of them hold."""
    data = Path(sys.argv[1])
    print("| log | source | weights | cache before | cache, measured | tokens | concurrency |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for row in json.loads(CASES.read_text("utf-8"))["cases"]:
        found = compared(row, data)
        rows.append(found)
        cells = ("" if value is None else f"{value:+.2%}" for value in found.values())
        print(f"| {row['name']} | {row['source']} | {' | '.join(cells)} |")
    held = [within(rows, column, share) for column, share in HELD]
    print(f"\nCounted: {'; '.join(held)}.")


if __name__ == "__main__":
    main()
