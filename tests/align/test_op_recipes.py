"""Ops that are written out are cut where those of their kind are, in runs that the rule was not made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memplan.align import align
from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass, token_classes
from memplan.align.rematch.recipe_counts import KernelSymbols, RecipeCounts
from tests.align.known_runs import named_matches, outcome, recorded_run


@pytest.mark.parametrize(
    ("name", "least"), [("cohere", 0.98), ("gpt_neox", 0.95), ("llama_wide", 0.98), ("sample_1001", 0.97)]
)
def test_small_kernels_are_of_the_op_that_they_write_out(name: str, least: float, tmp_path: Path) -> None:
    run = recorded_run(name, tmp_path)
    right = outcome(run, align(run.plan, run.kernels)).right
    assert sum(right) / len(right) >= least


def test_the_sum_of_two_partial_gradients_is_of_the_product_that_makes_them(tmp_path: Path) -> None:
    run = recorded_run("llama_wide", tmp_path)
    names = named_matches(run.plan, align(run.plan, run.kernels))
    sums = [
        name in truth
        for name, truth, type_ in zip(names, run.truth, run.kernels.type, strict=True)
        if type_.startswith("aten::add") and any(each.endswith("gate_proj+up_proj.dx") for each in truth)
    ]
    assert len(sums) >= 4
    assert sum(sums) / len(sums) >= 0.95


def test_recipes_of_a_place_tell_nothing_of_it() -> None:
    counts, here, there = RecipeCounts(), (1, 0, 2), (1, 3, 2)
    counts.add((5, 6), here, 4)
    counts.add((5, 6), there, 1)
    counts.add((5,), here, 7)
    assert counts.elsewhere([here]) == ({(5, 6): 1}, 1)
    assert counts.elsewhere([there]) == ({(5, 6): 4, (5,): 7}, 11)
    assert counts.elsewhere([here, there]) == ({}, 0)


def test_parts_of_ops_of_two_sizes_are_alike_by_what_they_are_to_them() -> None:
    rotary, mul = (family_table().number(name) for name in ("rotary_grad", "mul"))

    def op(heads: int) -> TokenClass:
        return TokenClass((rotary,), (100 * heads * 32, 100 * 32), (100 * heads * 32,), 32)

    def part(heads: int, width: int) -> TokenClass:
        return TokenClass((mul,), (100 * heads * width,), (100 * heads * width,), 32)

    ops = token_classes([op(8), op(2)])
    kernels = token_classes([part(8, 32), part(8, 16), part(2, 32), part(2, 16)])
    symbols = KernelSymbols(ops, kernels)
    queries, keys = symbols.of(0, np.array([0, 1])), symbols.of(1, np.array([2, 3]))
    # Half of the keys is as large as the angles are, too, and may be either.
    assert symbols.alike(queries, keys).tolist() == [[True, False], [False, True]]
    assert queries[1] != keys[1]
