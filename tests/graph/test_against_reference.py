"""Unfolded programs need exactly the bytes that running them needs, or safely more where it depends on the data."""

from __future__ import annotations

from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from memplan.core.progress import silent
from memplan.graph import Graph, live_curve
from memplan.readers import Target
from memplan.readers.mindir.program import Program
from memplan.readers.mindir.program_graph import program_graph
from tests.graph.programs import programs, written
from tests.graph.reference import execute


def unfold(program: Program) -> Graph:
    return program_graph(program, origin="test", shapes=None, target=Target.ASCEND, progress=silent)


@settings(max_examples=300)
@given(program=programs(), decisions=st.lists(st.booleans(), max_size=12))
def test_no_run_needs_more_at_any_op_than_the_graph_says(program: Program, decisions: list[bool]) -> None:
    note(written(program))
    assume(any(node.target == "Switch" for function in program.functions.values() for node in function.nodes))
    graph = unfold(program)
    planned: dict[str, int] = {}
    for op, nbytes in zip(graph.ops, live_curve(graph, persistent=False).tolist(), strict=True):
        planned[op.name] = max(planned.get(op.name, 0), nbytes)
    run = execute(program, iter(decisions))
    for (scope, _), needed in zip(run.events, run.live_bytes(), strict=True):
        assert needed <= planned[scope], scope


@settings(max_examples=300)
@given(program=programs(control_flow=False))
def test_without_conditions_the_bytes_are_exact(program: Program) -> None:
    note(written(program))
    graph = unfold(program)
    planned = dict(zip((op.name for op in graph.ops), live_curve(graph, persistent=False).tolist(), strict=True))
    run = execute(program, iter(()))
    # The graph runs the whole program in one order, the reference function by function: the same events, reordered.
    place = {op.name: op.index for op in graph.ops}
    assert set(place) <= {scope for scope, _ in run.events}
    if len(place) < len(graph.ops):
        return  # a function called twice: its events can't be told apart by name
    run.events = sorted((event for event in run.events if event[0] in place), key=lambda event: place[event[0]])
    for (scope, _), needed in zip(run.events, run.live_bytes(), strict=True):
        assert planned[scope] == needed, scope


@settings(max_examples=200)
@given(program=programs())
def test_unfolded_graphs_are_sound(program: Program) -> None:
    note(written(program))
    graph = unfold(program)
    for op in graph.ops:
        if op.type == "LoopBegin":
            continue
        for tensor in op.inputs:
            producer = graph.tensors[tensor].producer
            assert producer is None or producer <= op.index
    for made in graph.tensors:
        assert graph.tensors[made.storage].storage == made.storage
