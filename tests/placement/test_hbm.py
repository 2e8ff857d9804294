"""Addresses in HBM for what comes and goes: nothing overlaps, and what lasts ends where it began."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from memplan.placement.hbm import lay_out, lay_out_again
from memplan.placement.residency import Residency, Storage, live_bytes

STEPS = 40


def storages(count: int, seed: int) -> list[Storage]:
    """Every other one lasts from run to run."""
    rng = np.random.default_rng(seed)
    return [
        Storage(i, int(rng.integers(1, 9)) * 512, 0, STEPS, (0, STEPS - 1), (), persistent=i % 2 == 0)
        for i in range(count)
    ]


def resident(held: Sequence[Storage], seed: int) -> list[Residency]:
    """What lasts is there at both ends, most of it away in between; the rest is there once."""
    rng = np.random.default_rng(seed)
    found = []
    for index, storage in enumerate(held):
        leaves, returns = sorted(rng.integers(1, STEPS, 2).tolist())
        if storage.persistent and index % 4 and leaves < returns:
            found += [Residency(index, 0, leaves), Residency(index, returns, STEPS)]
        elif storage.persistent:
            found.append(Residency(index, 0, STEPS))
        else:
            found.append(Residency(index, leaves - 1, returns))
    return found


def check(held: Sequence[Storage], spans: Sequence[Residency], offsets: Sequence[int], out: frozenset[int]) -> None:
    """No two share bytes at a step, and a storage that lasts ends at its first address."""
    for i, j in combinations(set(range(len(spans))) - out, 2):
        a, b = spans[i], spans[j]
        if a.start < b.end and b.start < a.end:
            sizes = held[a.storage].size, held[b.storage].size
            assert offsets[i] + sizes[0] <= offsets[j] or offsets[j] + sizes[1] <= offsets[i]
    for index, storage in enumerate(held):
        if storage.persistent:
            assert len({offsets[i] for i, span in enumerate(spans) if span.storage == index}) == 1


@pytest.mark.parametrize("seed", range(6))
def test_what_lasts_ends_at_the_address_at_which_it_begins(seed: int) -> None:
    held = storages(30, seed)
    spans = resident(held, seed + 1)
    most = int(live_bytes(held, spans, STEPS).max())
    for enough in (None, most, most * 9 // 10):
        layout = lay_out(held, spans, STEPS, alignment=512, enough=enough)
        check(held, spans, layout.offsets, frozenset())
        assert most <= layout.peak
        assert layout.lower_bound == most
        if layout.spilled:
            check(held, spans, layout.kept, layout.spilled)
            assert enough is not None
            kept = set(range(len(spans))) - layout.spilled
            assert all(layout.kept[i] + held[spans[i].storage].size <= enough for i in kept)
        else:
            assert enough is None or layout.peak <= enough


@pytest.mark.parametrize("seed", range(6))
def test_a_small_change_leaves_most_where_it_was(seed: int) -> None:
    held = storages(40, seed)
    spans = resident(held, seed + 1)
    enough = int(live_bytes(held, spans, STEPS).max() * 1.3)
    first = lay_out(held, spans, STEPS, alignment=512, enough=enough)
    # One storage leaves earlier than before, another one stays longer.
    changed = list(spans)
    at = next(i for i, span in enumerate(spans) if span.start == 0 and 1 < span.end < STEPS)
    changed[at] = Residency(spans[at].storage, 0, spans[at].end - 1)
    longer = next(i for i, span in enumerate(spans) if 0 < span.start < span.end < STEPS)
    changed[longer] = Residency(spans[longer].storage, spans[longer].start, spans[longer].end + 1)
    again = lay_out_again(held, changed, STEPS, spans, first.offsets, alignment=512, enough=enough)
    assert again is not None
    check(held, changed, again.offsets, again.spilled)
    moved = [i for i in range(len(changed)) if again.offsets[i] != first.offsets[i]]
    assert set(moved) <= {longer}
