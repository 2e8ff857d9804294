"""What would make a model that does not fit be served: each change is budgeted before it is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.deployment.cases import Case, Effect, longest_context
from memplan.deployment.serving_fit import fit_serving
from memplan.kv.served_weights import runs_weights
from memplan.kv.settings import cache_types
from memplan.models.parallel import Layout

_FEWER_WEIGHTS = ("w8a8", "w4a8", "mxfp8", "mxfp8-mxfp4")
_MOST_DIES = 384
"""The dies of the largest machine with one memory."""


def ways_to_serve(case: Case) -> tuple[Effect, ...]:
    """
    Changes of one thing after which a sequence of the context fits, with their budgets; `case` itself does not fit.

    Tried are: the longest context of one sequence, each other cache type of the engine, weights of fewer bits that the
    chip multiplies, and other layouts of as many dies, else of the fewest times as many (by doubling, up to the largest
    machine).
    """
    return tuple(way for way in _tried(case) if way.result is not None and way.result.fits)


def _tried(case: Case) -> Iterator[Effect]:
    shorter = _possible_context(case)
    if shorter:
        yield _effect("--context", str(shorter), case.with_context(shorter))
    for name in cache_types(case.model, case.engine):
        if name != case.options.caches.kv:
            yield _effect("--kv-dtype", name, case.with_cache(name))
    for name in _FEWER_WEIGHTS:
        if name != case.memory.precision and runs_weights(case.model, case.chip, name):
            yield _effect("--weights", name, replace(case, memory=replace(case.memory, precision=name)))
    yield from _layouts(case)


def _possible_context(case: Case) -> int:
    try:
        return longest_context(case, 1, most=case.options.length - 1)
    except InputError:
        return 0


def _effect(option: str, value: str, case: Case) -> Effect:
    try:
        return Effect(option, value, case.budget())
    except InputError as error:
        return Effect(option, value, None, str(error))


def _layouts(case: Case) -> Iterator[Effect]:
    """The layout nearest to that of `case` which fits, of as many dies or of the fewest times as many."""
    dies = case.layout.ranks
    while dies <= _MOST_DIES:
        found = fit_serving(case.model, case.chip, case.engine, case.options, dies, case.memory).fitting
        if found:
            # Of those as near the one that holds most comes first, as it does in the search.
            nearest = min(found, key=lambda item: _distance(item.layout, case.layout))
            yield Effect("layout", str(nearest.layout), nearest.budget)
            return
        dies *= 2


def _distance(layout: Layout, other: Layout) -> float:
    """How many doublings and halvings of ranks lead from one to the other."""
    pairs = ((layout.tensor, other.tensor), (layout.pipeline, other.pipeline), (layout.data, other.data))
    return sum(abs(math.log2(one / two)) for one, two in pairs)
