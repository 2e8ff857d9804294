"""L2 serves what was touched less than its size ago; advice uses only what HBM and L2 have to spare."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memplan.cost import Kernel, Operand, machine
from memplan.cost.l2 import L2Access, held_share, hot_shares, kernel_accesses, pushed_shares
from memplan.cost.l2_advice import bypasses, prefetches
from memplan.cost.ordered_costs import graph_costs
from memplan.graph import Graph, Op, Tensor, TensorKind, dense_bytes
from memplan.hardware import chip

B3 = machine(chip("910B3"))
MIB = 1 << 20


def reference(accesses: list[L2Access], size: int) -> list[float]:
    """Shares by the definition: bytes of the distinct tensors touched since, each with its latest size."""
    history: list[tuple[object, int]] = []
    shares = []
    for access in accesses:
        hot = 0.0
        for key, nbytes in access.reads:
            places = [place for place, (other, _) in enumerate(history) if other == key]
            if places:
                since = dict(history[places[-1] + 1 :])
                hot += nbytes * held_share(sum(since.values()) + nbytes, size)
        total = sum(nbytes for _, nbytes in access.reads)
        shares.append(hot / total if total else 0.0)
        history += [*access.reads, *access.writes]
    return shares


# One size a key, so that every history is one of real tensors.
keys = st.integers(0, 8)
touched = st.lists(keys.map(lambda key: (key, (key * 37) % 90 + 1)), max_size=3, unique=True).map(tuple)


@given(st.lists(st.builds(L2Access, touched, touched), max_size=25), st.integers(50, 400))
def test_reuse_distances_are_those_of_the_definition(accesses: list[L2Access], size: int) -> None:
    for found, wanted in zip(hot_shares(accesses, size), reference(accesses, size), strict=True):
        assert abs(found - wanted) < 1e-9


@given(st.lists(st.builds(L2Access, touched, touched), max_size=25), st.integers(100, 400))
def test_reads_push_out_results_of_which_l2_has_no_other_copy(accesses: list[L2Access], size: int) -> None:
    """No more than they bring in and than was ever written, nothing while all fits, and nothing without writes."""
    found = pushed_shares(accesses, size)
    reads = [sum(nbytes for _, nbytes in access.reads) for access in accesses]
    written = sum(nbytes for access in accesses for _, nbytes in access.writes)
    assert all(0 <= share <= 1 for share in found)
    assert sum(share * read for share, read in zip(found, reads, strict=True)) <= written + 1e-6
    if len({key for access in accesses for key, _ in (*access.reads, *access.writes)}) * 90 <= size:
        assert not any(found)
    assert not any(pushed_shares([L2Access(access.reads, ()) for access in accesses], size))


def test_a_result_is_written_back_once_and_not_for_being_read() -> None:
    size = 192 * MIB
    made, used = L2Access((), (("a", size // 2),)), L2Access((("a", size // 2),), ())
    first, second = L2Access((("b", size),), ()), L2Access((("c", size),), ())
    assert pushed_shares([made, used, first, second], size) == [0.0, 0.0, 0.5, 0.0]
    assert pushed_shares([made, L2Access((("b", size // 4),), ())], size) == [0.0, 0.0]
    assert pushed_shares([made, L2Access((), (("b", size),)), second], size) == [0.0, 0.0, 1.0]


def test_what_is_written_and_read_at_once_comes_from_l2_and_what_is_too_large_does_not() -> None:
    size = 192 * MIB
    assert hot_shares([L2Access((), (("a", MIB),)), L2Access((("a", MIB),), ())], size)[1] == 1.0
    assert hot_shares([L2Access((), (("a", size),)), L2Access((("a", size),), ())], size)[1] == 0.0
    between = [L2Access((), (("a", MIB),)), L2Access((("b", size),), ()), L2Access((("a", MIB),), ())]
    assert hot_shares(between, size)[2] == 0.0


def test_kernels_of_a_profile_read_what_was_last_touched_that_is_like_what_they_read() -> None:
    """Two operands that are alike are two tensors, a view counts as what it is of, and what nobody touched is new."""
    wide, flat, half = Operand((4, 8), "float32"), Operand((32,), "float32"), Operand((32,), "float16")
    made = [
        Kernel("Fill", (), (wide,)),
        Kernel("Fill", (), (wide,)),
        Kernel("Add", (flat, flat), (flat,)),
        Kernel("Cast", (flat,), (half,)),
        Kernel("Abs", (half,), (half,)),
        Kernel("Abs", (Operand((7,), "float32"),), (half,)),
        Kernel("Neg", (Operand((7,), "float32"),), (half,)),
    ]
    first, second, added, cast, absolute, other, again = kernel_accesses(made)
    assert {key for key, _ in added.reads} == {first.writes[0][0], second.writes[0][0]}
    assert added.writes[0][0] not in {key for key, _ in added.reads}
    assert cast.reads == ((added.writes[0][0], 128),)
    assert absolute.reads == ((cast.writes[0][0], 64),)
    assert other.reads[0][0] not in {
        key for access in (first, second, added, cast, absolute) for key, _ in access.writes
    }
    assert again.reads == other.reads
    assert hot_shares(kernel_accesses(made), 1 << 20) == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0]


def decode_graph(layers: int) -> Graph:
    """Each layer: a long vector op that leaves HBM idle, then a thin matmul that waits for its weight."""
    tensors: list[Tensor] = []
    ops: list[Op] = []

    def tensor(shape: tuple[int, ...], kind: TensorKind, producer: int | None) -> int:
        tensors.append(
            Tensor(
                len(tensors),
                f"t{len(tensors)}",
                shape,
                "bfloat16",
                dense_bytes(shape, "bfloat16"),
                kind,
                len(tensors),
                producer,
            )
        )
        return len(tensors) - 1

    x = tensor((512, 4096), TensorKind.INPUT, None)
    for _ in range(layers):
        for op_type, extra in (("Sin", ()), ("MatMul", (tensor((4096, 4096), TensorKind.WEIGHT, None),))):
            out = tensor((512, 4096), TensorKind.ACTIVATION, len(ops))
            ops.append(Op(len(ops), f"op{len(ops)}", op_type, (x, *extra), (out,)))
            x = out
    return Graph("decode", tuple(ops), tuple(tensors), (0,), (x,), "", "")


def test_prefetches_are_of_weights_in_the_idle_time_of_the_step_before() -> None:
    graph = decode_graph(4)
    costs = [cost for cost in graph_costs(graph, B3) if cost is not None]
    advice = prefetches(graph, costs, B3)
    assert advice
    for item in advice:
        before, tensor = costs[item.during], graph.tensors[item.tensor]
        assert tensor.kind is TensorKind.WEIGHT
        assert graph.ops[item.before].inputs.count(item.tensor) == 1
        assert item.during < item.before
        assert 0 < item.size <= min(tensor.nbytes, 0.4 * B3.l2)
        idle = before.duration_ns - before.hbm_bytes / B3.hbm_bytes_per_second * 1e9
        assert item.size <= idle * 1e-9 * B3.hbm_bytes_per_second
        assert 0 < item.gain_ns < costs[item.before].duration_ns


def test_only_what_nothing_reads_again_soon_should_bypass_l2() -> None:
    graph = decode_graph(3)
    advised = {(item.tensor, item.step) for item in bypasses(graph, B3)}
    weights = {(op.inputs[1], op.index) for op in graph.ops if op.type == "MatMul"}
    # Weights are read once; every activation is read by the next op at most, and then by nothing.
    assert weights <= advised
    assert all(graph.tensors[tensor].nbytes >= MIB for tensor, _ in advised)


def test_an_op_after_its_producer_is_faster_than_a_cold_one() -> None:
    graph = decode_graph(2)
    costs = graph_costs(graph, B3)
    first, second = costs[0], costs[2]
    assert first is not None
    assert second is not None
    assert second.hbm_bytes < first.hbm_bytes


def test_tensors_without_bytes_push_nothing_out() -> None:
    """Went wrong once: a profile with an empty operand could not be calibrated on once L2 was full."""
    size = 192 * MIB
    empty, large = L2Access((("e", 0),), (("f", 0),)), [L2Access((), ((name, size),)) for name in "ab"]
    assert pushed_shares([empty, *large, L2Access((("c", size),), ()), empty], size) == [0.0, 0.0, 0.0, 1.0, 0.0]
