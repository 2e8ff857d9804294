"""What would make a model that does not fit be served: each change is budgeted before it is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.deployment.cases import Case, effect_of, longest_context
from memplan.deployment.layout_search import MOST_DIES
from memplan.deployment.serving_fit import fit_serving
from memplan.kv.budget_parts import KvBudget
from memplan.kv.served_weights import runs_weights
from memplan.kv.settings import cache_types
from memplan.models.parallel import Layout

_FEWER_WEIGHTS = ("w8a8", "w4a8", "mxfp8", "mxfp8-mxfp4")


@dataclass(frozen=True, slots=True)
class WayToServe:
    """One change after which a sequence fits: an option as it is typed, or `layout`, its value, and the budget then."""

    option: str
    value: str
    result: KvBudget


def ways_to_serve(case: Case, dies: int | None = None, progress: Progress = silent) -> tuple[WayToServe, ...]:
    """
    Changes of one thing after which a sequence of the context fits, with their budgets; `case` itself does not fit.

    Tried are: the longest context of one sequence, each other cache type of the engine, weights of fewer bits that the
    chip multiplies, and the nearest other layout that fits, of at least `dies`, by default as many as `case` has.
    """
    ways = list(_changed_options(case))
    layout = nearest_layout(case, 1, dies, progress)
    return (*ways, *(() if layout is None else (layout,)))


def nearest_layout(
    case: Case, sequences: int, dies: int | None = None, progress: Progress = silent
) -> WayToServe | None:
    """
    The layout nearest to that of `case` which holds so many `sequences` on each data-parallel rank.

    Of as many dies as `case` has, or of at least `dies`, else of the fewest times as many, by doubling up to the most
    that are searched. Of those as near the one with fewest stages comes first (vLLM's `parallelism_scaling.md`: tensor
    parallelism, and stages besides where one machine doesn't do), then the one that holds most.
    """
    dies = dies or case.layout.ranks
    towers = case.layout.whole_towers
    while dies <= MOST_DIES:
        search = fit_serving(
            case.model, case.chip, case.engine, case.options, dies, case.memory, progress, whole_towers=towers
        )
        found = [item.budget for item in search.fitting if item.budget and item.budget.sequences >= sequences]
        if found:
            nearest = min(found, key=lambda item: (_distance(item.layout, case.layout), item.layout.pipeline))
            return WayToServe("layout", str(nearest.layout), nearest)
        dies *= 2
    return None


def _changed_options(case: Case) -> Iterator[WayToServe]:
    for option, value, changed in _tried(case):
        result = effect_of(option, value, changed).result
        if result is not None and result.fits and result.sequences:
            yield WayToServe(option, value, result)


def _tried(case: Case) -> Iterator[tuple[str, str, Case]]:
    shorter = _possible_context(case)
    if shorter:
        yield "--context", str(shorter), case.with_context(shorter)
    for name in cache_types(case.model, case.engine):
        if name != case.options.caches.kv:
            yield "--kv-dtype", name, case.with_cache(name)
    for name in _FEWER_WEIGHTS:
        if name != case.memory.precision and runs_weights(case.model, case.chip, name):
            yield "--weights", name, replace(case, memory=replace(case.memory, precision=name))


def _possible_context(case: Case) -> int:
    try:
        return longest_context(case, 1, most=case.options.length - 1)
    except InputError:
        return 0


def _distance(layout: Layout, other: Layout) -> float:
    """How many doublings and halvings of ranks lead from one to the other."""
    pairs = ((layout.tensor, other.tensor), (layout.pipeline, other.pipeline), (layout.data, other.data))
    return sum(abs(math.log2(one / two)) for one, two in pairs)
