"""A plan beside what a worker logged when it started, item by item, and the plan with the measured figures in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.core.sentence import Sentence, Text
from memplan.deployment.cases import Case
from memplan.kv.budget_parts import BudgetPart, KvBudget
from memplan.traces.logs.worker_memory import WorkerMemory


@dataclass(frozen=True, slots=True)
class WorkerItem:
    """One item of memory as planned and as logged, in bytes, and the option that sets it where they differ."""

    name: Text
    planned: int | None
    logged: int | None
    knob: str


@dataclass(frozen=True, slots=True)
class WorkerCheck:
    """
    The `items`, the budget `before` the run, and the one `after` the log's card, share, activations and buffers were
    taken over, of which weights are still planned. `sized` has the log's whole cache in place of what is left.
    """

    logged: WorkerMemory
    items: tuple[WorkerItem, ...]
    before: KvBudget
    after: KvBudget
    sized: KvBudget | None


def _held(result: KvBudget, *parts: BudgetPart) -> int | None:
    sizes = [item.nbytes for item in result.items if item.part in parts]
    return None if not sizes or None in sizes else sum(size or 0 for size in sizes)


def worker_check(case: Case, before: KvBudget, logged: WorkerMemory) -> WorkerCheck:
    """Compare `before`, the budget of `case`, with what was `logged`; raises `InputError` where it can't be planned."""
    known = case.memory
    total = logged.total
    if total is None and case.engine.token_pools is not None:
        total = logged.free  # such an engine deals out what is free when it starts
    memory = replace(
        known,
        hbm=known.hbm if total is None else total,
        reserved=known.reserved if total is None else 0,
        utilization=known.utilization if logged.utilization is None else logged.utilization,
        activations=known.activations if logged.activations is None else logged.activations,
        collectives=known.collectives if logged.non_torch is None else logged.non_torch,
        # The engine has measured what else there is.
        workspace=known.workspace if logged.non_torch is None else 0,
        used=known.used if logged.free is None or logged.total is None else max(0, logged.total - logged.free),
    )
    options = case.options if logged.context is None else replace(case.options, length=logged.context)
    measured = replace(case, memory=memory, options=options)
    sized = None
    if logged.cache is not None and logged.cache > 0:
        sized = replace(measured, memory=replace(memory, cache=logged.cache)).budget()
    card = _held(before, BudgetPart.CARD)
    driver = _held(before, BudgetPart.DRIVER) or 0
    items = (
        WorkerItem(Sentence("device"), None if card is None else card - driver, total, "--hbm"),
        WorkerItem(Sentence("weights"), _held(before, BudgetPart.WEIGHTS), logged.weights, "--weights"),
        WorkerItem(Sentence("activations"), _held(before, BudgetPart.ACTIVATIONS), logged.activations, "--activations"),
        WorkerItem(
            Sentence("beside the framework's"),
            _held(before, BudgetPart.COLLECTIVES),
            logged.non_torch,
            "--hccl-buffsize",
        ),
        WorkerItem(Sentence("graphs"), _held(before, BudgetPart.GRAPHS), logged.graphs, "--graph-memory"),
        WorkerItem(Sentence("KV cache"), before.available_bytes, logged.cache, "--kv-cache-memory-bytes"),
    )
    return WorkerCheck(logged, items, before, measured.budget(), sized)
