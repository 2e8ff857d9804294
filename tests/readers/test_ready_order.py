"""The order in which the CPU runtime starts what is ready, as the profiler of MindSpore 2.10 shows it."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.graph.lifetime import lifetimes
from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindspore.graph_by_graph import graph_by_graph
from memplan.readers.mindspore.ready_order import in_ready_order, ready_order
from tests.readers.test_graph_by_graph import compiled

SIZE = 1024
WAYS = Mapping[str, tuple[str, ...]]


def graph(ways: WAYS, *, without_kernel: frozenset[str] = frozenset()) -> Graph:
    """Ops in compiled order by what they read: other ops, `w` a weight of their own, `x` the batch."""
    tensors = [Tensor(0, "x", (SIZE // 4,), "float32", SIZE, TensorKind.INPUT, 0)]
    made: dict[str, int] = {"x": 0}
    ops: list[Op] = []
    for name, reads in ways.items():
        inputs = []
        for read in reads:
            if read == "w":
                tensors.append(_tensor(len(tensors), f"w of {name}", TensorKind.WEIGHT))
                inputs.append(len(tensors) - 1)
            else:
                inputs.append(made[read])
        made[name] = len(tensors)
        tensors.append(_tensor(len(tensors), name, TensorKind.ACTIVATION, len(ops)))
        ops.append(
            Op(len(ops), name, "Kernel", tuple(inputs), (made[name],), launches=name not in without_kernel)
        )  # fmt: skip
    return Graph("step", tuple(ops), tuple(tensors), (), (), "", "MindSpore")


def _tensor(index: int, name: str, kind: TensorKind, producer: int | None = None) -> Tensor:
    return Tensor(index, name, (SIZE // 4,), "float32", SIZE, kind, index, producer)


def run(found: Graph) -> list[str]:
    return [found.ops[index].name for index in ready_order(found, [range(len(found.ops))])]


def test_what_waits_for_weights_alone_runs_as_the_step_begins() -> None:
    """Went wrong once: copies of all layers' weights were planned where the compiled order has them."""
    layers = range(4)
    ways: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        ways[f"cast{layer}"] = ("w",)
        ways[f"product{layer}"] = (f"product{layer - 1}" if layer else "x", f"cast{layer}")
    found = graph(ways)
    assert run(found)[:4] == [f"cast{layer}" for layer in layers]
    alive = [
        sum(span.start <= step < span.end for span in lifetimes(one) if one.tensors[span.tensor].kind == "activation")
        for one in (found, in_ready_order(found))
        for step in range(len(found.ops))
    ]
    assert max(alive[: len(found.ops)]) == 3
    assert max(alive[len(found.ops) :]) == 5


def test_kernels_enter_a_queue_as_they_become_ready() -> None:
    """`c` waits in the queue from what `a` sends to it on, and `e` from what `d` does."""
    ways = {"a": ("x",), "b": ("a",), "c": ("b", "a"), "d": ("x",), "e": ("d",), "f": ("d", "c")}
    assert run(graph(ways)) == ["a", "d", "b", "c", "e", "f"]
    # What had its turn before all was there enters again.
    ways = {"a": ("x",), "b": ("a",), "d": ("a",), "more": ("b", "d"), "c": ("a", "more"), "e": ("d",)}
    assert run(graph(ways)) == ["a", "b", "d", "more", "e", "c"]


def test_what_is_reached_first_is_fused_with_its_only_user() -> None:
    """Of an unrolled cell the product takes the sum behind it along: it runs in the turn that `x` has given that."""
    ways = {"h": ("w",), "x1": ("x",), "s": ("x",), "gate": ("s",), "product": ("h", "gate"), "sum": ("x1", "product")}
    assert run(graph({**ways, "other": ("x1",)})) == ["h", "x1", "s", "gate", "product", "sum", "other"]


def test_a_view_of_the_batch_has_a_turn() -> None:
    ways = {"view": ("x",), "a": ("w",), "after": ("view",), "also": ("view",), "b": ("a",), "c": ("a",)}
    assert run(graph(ways, without_kernel=frozenset({"view"}))) == ["a", "view", "b", "c", "after", "also"]


def test_a_kernel_hands_over_where_nothing_else_is_between_the_two() -> None:
    ways = {"a": ("w",), "b": ("w",), "after_a": ("a",), "after_b": ("b", "x"), "last": ("after_a", "after_b")}
    assert run(graph(ways)) == ["a", "after_a", "b", "after_b", "last"]
    # What reads one tensor twice gets it twice.
    assert run(graph({"a": ("w",), "b": ("w",), "after_a": ("a", "a")})) == ["a", "b", "after_a"]


def test_ops_without_a_kernel_take_no_turn() -> None:
    ways = {"a": ("w",), "b": ("w",), "view": ("a",), "after": ("view",)}
    assert run(graph(ways, without_kernel=frozenset({"view"}))) == ["a", "view", "after", "b"]


def test_the_optimiser_is_a_queue_of_its_own() -> None:
    found = graph_by_graph(compiled(), when_ready=True)
    assert [op.name.rpartition("/")[2] for op in found.ops if op.launches] == [
        "MatMul-op0",
        "MatMul-op1",
        "ApplyMomentum-op0",
        "ApplyMomentum-op1",
    ]
