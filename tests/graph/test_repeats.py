"""What is given up between two uses is made anew by ops that run once more, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.graph import Graph, TensorKind
from memplan.graph.access import accesses
from memplan.graph.lifetime import lifetimes
from memplan.graph.repeats import GivenUp, Repeat, RepeatRules, may_repeat, repeated_ops, with_repeats
from tests.planner.graphs import Builder, forward_and_back


def rules_of(graph: Graph) -> RepeatRules:
    return RepeatRules(graph, [True] * len(graph.ops))


def test_a_tensor_is_made_anew_right_before_it_is_needed_again() -> None:
    graph = forward_and_back(4, 1000)
    first = graph.ops[0].outputs[0]
    found = repeated_ops(rules_of(graph), [GivenUp(first, 1, 6)])
    assert found.repeats == (Repeat(op=0, before=6),)
    again = with_repeats(graph, found.repeats)
    assert [op.repeats for op in again.ops] == [None] * 6 + [0] + [None] * 2
    assert accesses(again)[6] == accesses(graph)[0]
    assert again.ops[6].index == 6
    assert [again.tensors[index].producer for op in again.ops[7:] for index in op.outputs] == [7, 8]


def test_inputs_that_are_gone_are_made_anew_as_well_and_each_once() -> None:
    graph = forward_and_back(4, 1000)
    kept = [op.outputs[0] for op in graph.ops[:3]]
    rules = rules_of(graph)
    gaps = [GivenUp(storage, rules.uses[storage][-2], rules.uses[storage][-1]) for storage in kept]
    assert repeated_ops(rules, gaps).repeats == (Repeat(0, 4), Repeat(1, 4), Repeat(2, 4))


def test_a_tensor_whose_lifetime_is_over_lives_again_for_the_copy_alone() -> None:
    build = Builder()
    given = build.tensor(100, TensorKind.INPUT)
    build.op([given], [dead := build.tensor(100)])
    build.op([dead], [wanted := build.tensor(100)])
    for _ in range(60):
        build.op([given], [given := build.tensor(10)])
    build.op([wanted, given], [out := build.tensor(10)])
    graph = build.graph([out])
    again = with_repeats(graph, repeated_ops(rules_of(graph), [GivenUp(wanted, 1, 62)]).repeats)
    assert [(op.index, op.repeats) for op in again.ops if op.repeats is not None] == [(62, 0), (63, 1)]
    (span,) = [span for span in lifetimes(again) if span.tensor == dead]
    assert span.uses == (0, 1, 62, 63)


def updated_in_place() -> tuple[Graph, int, int]:
    """Made, read, changed in place, read again; what was read first is wanted once more."""
    build = Builder()
    given = build.tensor(100, TensorKind.INPUT)
    build.op([given], [base := build.tensor(100)])
    build.op([base], [first := build.tensor(100)])
    build.op([base], [build.tensor(100, storage=base)])
    build.op([base], [second := build.tensor(100)])
    for _ in range(5):
        build.op([given], [build.tensor(1)])
    build.op([base], [build.tensor(1)])
    build.op([first, second], [out := build.tensor(10)])
    return build.graph([out]), first, second


def test_what_was_read_before_an_update_is_not_made_of_what_is_newer() -> None:
    graph, first, second = updated_in_place()
    rules = rules_of(graph)
    # `second` is made of the updated bytes, `first` of those before: both are run again from the start.
    found = repeated_ops(rules, [GivenUp(first, 1, 10), GivenUp(second, 3, 10)])
    assert [item.op for item in found.repeats] in ([0, 1, 2, 3], [0, 1, 0, 2, 3], [0, 2, 3, 0, 1], [3, 0, 1])


def test_an_update_that_is_still_needed_is_not_undone() -> None:
    graph, first, _ = updated_in_place()
    # Without the later read of what was updated it could be made anew; at step 9 it is still to be read.
    assert repeated_ops(rules_of(graph), [GivenUp(first, 1, 10)]).repeats == (Repeat(0, 10), Repeat(1, 10))
    build = Builder()
    given = build.tensor(100, TensorKind.INPUT)
    build.op([given], [base := build.tensor(100)])
    build.op([base], [first := build.tensor(100)])
    build.op([base], [build.tensor(100, storage=base)])
    for _ in range(5):
        build.op([given], [build.tensor(1)])
    build.op([first], [build.tensor(1)])
    build.op([base], [out := build.tensor(1)])
    needed = build.graph([out])
    found = repeated_ops(rules_of(needed), [GivenUp(first, 1, 8)])
    assert found.repeats == ()
    assert found.refused == (GivenUp(first, 1, 8),)


@pytest.mark.parametrize("change", ["writes", "type", "unknown", "weight"])
def test_what_gives_something_else_the_second_time_does_not_run_twice(change: str) -> None:
    graph = forward_and_back(4, 1000)
    op = graph.ops[0]
    allowed = [True] * len(graph.ops)
    if change == "writes":
        graph = replace(graph, ops=(replace(op, writes=op.inputs[:1]), *graph.ops[1:]))
    elif change == "type":
        graph = replace(graph, ops=(replace(op, type="Dropout"), *graph.ops[1:]))
    elif change == "unknown":
        allowed[0] = False
    else:
        graph = replace(graph, outputs=(*graph.outputs, op.outputs[0]))
    found = repeated_ops(RepeatRules(graph, allowed), [GivenUp(op.outputs[0], 1, 6)])
    assert found.repeats == ()


NEVER = ("Dropout", "DropoutGenMask", "StatelessRandomUniform", "Send", "Receive", "Print", "RandInt", "Custom")


def test_random_numbers_and_peers_are_not_asked_twice() -> None:
    assert not [name for name in NEVER if may_repeat(name)]
    assert all(may_repeat(name) for name in ("MatMul", "DropOutDoMask", "AllReduce", "RmsNorm", "Softmax", "Cast"))


def test_control_flow_runs_nothing_twice() -> None:
    graph = forward_and_back(4, 1000)
    looped = replace(graph, ops=(*graph.ops[:-1], replace(graph.ops[-1], type="LoopBegin")))
    assert not any(rules_of(looped).repeatable)
