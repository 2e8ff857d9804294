"""Which layouts of a number of dies serve a model, which is best, and why the others are not."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.units import format_bytes
from memplan.deployment.layout_search import Candidate, LayoutSearch, check_experts, layouts, sorted_fit
from memplan.hardware import Chip
from memplan.kv.budget import budget
from memplan.kv.budget_parts import BudgetPart, Memory
from memplan.kv.engine import Engine
from memplan.kv.settings import ServingOptions
from memplan.models import ModelConfig
from memplan.models.parallel import Layout


def fit_serving(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    options: ServingOptions,
    dies: int,
    memory: Memory | None = None,
    progress: Progress = silent,
    *,
    whole_towers: bool = False,
) -> LayoutSearch:
    """
    Serving layouts of `dies` dies, most sequences of the context in all first, where it is shortened the longest.

    Among equals the one with fewer tensor-parallel ranks goes first, then with fewer stages: both cost traffic in
    every layer or bubbles. `whole_towers` says of all layouts what `Layout` says of one.
    """
    if dies < 1:
        raise InputError("{} dies can't hold a model", dies)
    candidates = []
    tried = [replace(layout, whole_towers=whole_towers) for layout in layouts(model, dies)]
    for number, layout in enumerate(tried):
        progress(number, len(tried), "layouts")
        candidates.append(_serve(model, chip, engine, options, layout, memory))
    order = "most sequences of the context in all, then fewest TP ranks, then fewest stages"
    return sorted_fit(candidates, f"longest context, then {order}" if options.fits_length else order)


def _serve(
    model: ModelConfig, chip: Chip, engine: Engine, options: ServingOptions, layout: Layout, memory: Memory | None
) -> Candidate:
    try:
        check_experts(model, layout)
        result = budget(model, chip, engine, options, layout, memory)
    except InputError as error:
        return Candidate(layout, None, None, 0, str(error))
    if result.fits:
        return Candidate(layout, result, None, result.sequences * layout.data, "")
    held = sum(item.nbytes or 0 for item in result.items if item.part is BudgetPart.WEIGHTS)
    reason = (
        f"{format_bytes(result.missing_bytes)} missing for one sequence of {options.length:,} tokens "
        f"(weights {format_bytes(held)}, left for KV {format_bytes(result.available_bytes)})"
    )
    if result.refusal is not None and result.refusal.needed_bytes:
        reason = f"the engine refuses to start: {result.refusal.message}"
    return Candidate(layout, result, None, 0, reason)
