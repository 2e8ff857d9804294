"""What tells parts of an op: sizes that only the run has, and what such ops begin with elsewhere in the run."""

from __future__ import annotations

import numpy as np

from memplan.align.likelihood import likelihoods, rule_of
from memplan.align.op_families import family_table
from memplan.align.run_habits import with_habits
from memplan.align.tokens import TokenClass, token_classes

QUERY, SCORES, SIDE = 3 * 40 * 128, 3 * 4 * 40 * 40, 40


def _class(family: str, read: tuple[int, ...], made: tuple[int, ...], rows: int = 0) -> TokenClass:
    return TokenClass((family_table().number(family),), read, made, 0, rows=rows)


def test_scores_and_masks_are_parts_of_attention_where_a_product_makes_such_scores() -> None:
    attention = _class("attention", (QUERY, QUERY, QUERY), (QUERY,))
    product = _class("product", (QUERY, QUERY), (SCORES,))
    found = (
        _class("softmax", (SCORES,), (SCORES,)),
        _class("select", (SIDE * SIDE,), (SIDE * SIDE,), rows=SIDE),
        _class("softmax", (SCORES + 8,), (SCORES + 8,)),
        _class("select", (SIDE * SIDE,), (SIDE * SIDE,), rows=2 * SIDE),
    )
    ratios = likelihoods(token_classes([attention]), [rule_of(attention.families[0])], token_classes([product, *found]))
    scores, mask, others, flat = ratios.behind[0, 1:].tolist()
    assert min(scores, mask) > 5.0
    assert max(others, flat) < 1.0
    without = likelihoods(token_classes([attention]), [rule_of(attention.families[0])], token_classes(found))
    assert without.behind[0, 0] < 1.0


def test_what_an_op_written_out_begins_with_is_learnt() -> None:
    norm = _class("norm", (QUERY, 128), (QUERY,))
    kernels = [_class("pow", (QUERY,), (QUERY,)), _class("reduce", (QUERY,), (120,)), _class("mul", (QUERY,), (QUERY,))]
    ratios = likelihoods(token_classes([norm]), [rule_of(norm.families[0])], token_classes(kernels))
    rows, kinds = np.repeat(np.arange(6), 3), np.tile(np.arange(3, dtype=np.int32), 6)
    habits = with_habits(ratios, np.zeros(6, dtype=np.int32), rows, kinds)
    more = habits.opens[0] / habits.before[0]
    assert more[0] > 1.5
    assert max(more[1:]) < 0.6
