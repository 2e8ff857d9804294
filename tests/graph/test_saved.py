"""What layers save for the way back, and where it has to be in HBM."""

from __future__ import annotations

from memplan.graph import TensorKind
from memplan.graph.builder import GraphBuilder
from memplan.graph.saved import SavedTensors, first_readers, saved_by_layers


def test_what_is_saved_is_needed_within_each_pass_and_nowhere_between() -> None:
    saved = SavedTensors(turn=10, tensors=frozenset({1}))
    assert saved.needed(1, (2, 4, 12, 15)) == (2, 3, 4, 12, 13, 14, 15)
    assert saved.needed(1, (2, 4)) == (2, 3, 4)
    assert saved.needed(1, (11, 13)) == (11, 12, 13)
    assert saved.needed(2, (2, 12)) == tuple(range(2, 13))
    assert saved.needed(2, ()) == ()


def test_a_layer_reads_from_its_first_weight_to_that_of_what_comes_behind() -> None:
    owners = {0: "a", 1: "a", 2: "b", 3: None}
    reads = [(9,), (0, 5), (5, 6), (1, 7), (2, 7), (8,), (3, 4), (0, 2)]
    assert first_readers(owners, reads) == {
        9: None, 0: "a", 5: "a", 6: "a", 1: "a", 7: "a", 2: "b", 8: "b", 3: None, 4: None,
    }  # fmt: skip


def test_weights_and_what_is_outside_of_layers_stay() -> None:
    builder = GraphBuilder()
    x = builder.tensor("x", (4,), "float32", 16, TensorKind.INPUT)
    layer = builder.tensor("net.layers.0.weight", (4,), "float32", 16, TensorKind.WEIGHT)
    head = builder.tensor("net.head", (4,), "float32", 16, TensorKind.WEIGHT)
    made = [builder.tensor(f"made{number}", (4,), "float32", 16) for number in range(4)]
    builder.op("first", "Mul", [x, layer], [made[0]])
    builder.op("inside", "Gelu", [made[0]], [made[1]])
    builder.op("head", "Mul", [made[1], head], [made[2]])
    builder.op("Gradients/back", "Mul", [made[2], made[1], made[0]], [made[3]])
    graph = builder.finish("step", [x], [made[3]], origin="step", producer="test")
    saved = saved_by_layers(graph, lambda name: "layers.0" if "layers.0" in name else None, turn=3)
    assert saved == SavedTensors(3, frozenset({made[0]}))
