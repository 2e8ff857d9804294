"""What tells parts of an op: sizes that only the run has, and what such ops begin with elsewhere in the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memplan.align.classes.likelihood import likelihoods
from memplan.align.classes.lowering import rule_of
from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass, plan_tokens, token_classes
from memplan.align.classes.weight_pieces import pieces_of_ops
from memplan.align.pairs.run_habits import with_habits
from tests.align.known_runs import torch_plan
from tests.align.torch_kinds import ALL_RUNS
from tests.align.torch_samples import sampled_run

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


def test_single_numbers_are_no_sum_of_many() -> None:
    added = _class("add", (QUERY, QUERY), (QUERY,))
    kernels = [
        _class("add", (QUERY, QUERY), (QUERY,)),
        _class("add", (8, 8), (8,)),
        _class("add", (1, 1), (1,)),
        _class("add", (1, 1), ()),  # what it makes isn't known: it may expand them
    ]
    many = likelihoods(token_classes([added]), [rule_of(added.families[0])], token_classes(kernels)).core[0]
    assert many[0] > many[1] > 0.0
    assert many[3] > many[2] == 0.0
    counter = _class("add", (1, 1), (1,))
    one = likelihoods(token_classes([counter]), [rule_of(counter.families[0])], token_classes(kernels)).core[0]
    assert one[2] > 1.0


def test_what_an_op_written_out_begins_with_is_learnt() -> None:
    norm = _class("norm", (QUERY, 128), (QUERY,))
    kernels = [_class("pow", (QUERY,), (QUERY,)), _class("reduce", (QUERY,), (120,)), _class("mul", (QUERY,), (QUERY,))]
    ratios = likelihoods(token_classes([norm]), [rule_of(norm.families[0])], token_classes(kernels))
    rows, kinds = np.repeat(np.arange(6), 3), np.tile(np.arange(3, dtype=np.int32), 6)
    habits = with_habits(ratios, np.zeros(6, dtype=np.int32), rows, kinds)
    more = habits.opens[0] / habits.before[0]
    assert more[0] > 1.5
    assert max(more[1:]) < 0.6


def test_of_heads_that_are_turned_in_part_that_part_is_what_runs(tmp_path: Path) -> None:
    run = sampled_run(3003)  # latent attention
    plan = torch_plan(run, tmp_path)
    config, pieces = run.config, pieces_of_ops(plan)
    tokens, heads, width = run.batch * run.sequence, config["num_attention_heads"], config["qk_rope_head_dim"]
    turned, angles = tokens * heads * width, tokens * width
    ops = {op.part: op.index for op in plan.ops if op.layer == 0 and op.micro_batch == 0 and op.part}
    for part in ("q.rotary", "q.rotary.grad"):
        assert pieces[ops[part]] == (((turned, angles, angles), (turned,)),)
    assert ops["k.rotary"] not in pieces
    found, codes = plan_tokens(plan, [ops["q.rotary"], ops["k.rotary"]])
    kernels = token_classes([_class("mul", (size, run.sequence * width), (size,)) for size in (turned, angles)])
    ratios = likelihoods(token_classes(found), [rule_of(item.families[0]) for item in found], kernels)
    (queries, beside), (_, keys) = ratios.behind[codes].tolist()
    assert min(queries, keys) > 5.0
    assert beside < 0.1  # as large as the angles, but what they turn is not


def test_heads_that_are_turned_whole_have_no_part_of_them(tmp_path: Path) -> None:
    plan = torch_plan(ALL_RUNS["llama"], tmp_path)
    assert not [op.part for op in plan.ops if op.index in pieces_of_ops(plan) and "rotary" in (op.part or "")]
