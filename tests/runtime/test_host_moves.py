"""What leaves HBM in a plan, as layers keep it on the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan.runtime.host_moves import DueMoves, host_moves, layer_of, peaks
from memplan.schema import Placement, Tier, Transfer
from tests.small_plans import layered_plan


def moved(tensor: int, size: int) -> Transfer:
    return Transfer(tensor, Tier.HBM, Tier.HOST, size, "host", 0, 1, 0, None)


def test_an_activation_is_kept_by_the_layer_that_first_reads_it() -> None:
    plan = layered_plan(6)
    base = plan.tensors[0]
    kinds = ["weight", "weight", "weight", "activation", "activation", "activation", "optimizer_state"]
    names = ["model.layers.0.w", "model.layers.1.w", "model.head", "a", "b", "c", "step"]
    tensors = tuple(
        replace(base, index=index, name=name, kind=kind, nbytes=100 + index)
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True))
    )
    reads: list[tuple[int, ...]] = [(0,), (3,), (1, 3, 4), (2, 5), (0, 3), (6,)]
    ops = tuple(replace(op, reads=read) for op, read in zip(plan.ops, reads, strict=False))
    plan = replace(plan, tensors=tensors, ops=ops, transfers=tuple(moved(index, 8) for index in (3, 4, 5, 6)))
    layers = ["layers.0", "layers.1"]
    found = host_moves(plan, layers, lambda weight: layer_of(weight.removeprefix("model."), layers))
    assert found.layers == {"layers.0": {103: 1}, "layers.1": {104: 1}}
    assert found.left == {"activation": (1, 105), "optimizer_state": (1, 106)}
    assert found.tensors == {"layers.0": (3,), "layers.1": (4,), None: (5, 6)}
    assert DueMoves(found.layers).sizes == {103, 104}


def test_what_a_layer_is_due_may_be_saved_behind_it_but_not_behind_the_program() -> None:
    due = DueMoves({"a": {8: 2}, "b": {8: 1, 4: 1}})
    due.begin(None)
    assert not due.is_due(8)
    due.begin("a")
    due.settle(8)
    due.end("a")
    assert due.is_due(8)
    assert not due.is_due(4)
    due.begin("b")
    assert due.is_due(4)
    due.settle(8)
    due.begin("a")  # a layer that runs twice keeps no more than planned
    due.settle(8)
    assert not due.is_due(8)
    due.end(None)
    assert not due.is_due(4)
    due.begin("b")  # called without the whole program
    assert due.is_due(4)


def test_the_peak_with_what_stays_is_that_of_whole_lifetimes() -> None:
    plan = layered_plan(2)
    base, steps = plan.tensors[0], len(plan.ops)
    ops = (*plan.ops[:-1], replace(plan.ops[-1], name="Gradients/Mul-op0"))
    tensors = tuple(replace(base, index=index, start=0, end=steps, uses=(0, steps - 1)) for index in range(2))
    places = (
        Placement(0, Tier.HBM, 0, 10, 0, 1),
        Placement(0, Tier.HBM, 0, 10, steps - 1, steps),
        Placement(0, Tier.HOST, None, 10, 1, steps - 1),
        Placement(1, Tier.HBM, 0, 7, 1, steps - 1),
    )
    use = replace(next(use for use in plan.tiers if use.tier is Tier.HBM), peak=10)
    tensors = (tensors[0], replace(tensors[1], start=1, end=steps - 1, uses=(1, steps - 2)))
    plan = replace(plan, ops=ops, tensors=tensors, placements=places, tiers=(use,))
    assert peaks(plan, ()) == (10, 10)
    plan = replace(plan, transfers=(moved(0, 10),))
    assert peaks(plan, ()) == (10, 17)
    assert peaks(plan, (0,)) == (10, 10)
    # A copy that the plan has back early meets other tensors; hooks have it back when it is needed.
    early = (*places[:1], replace(places[1], start=steps - 2), *places[2:])
    assert peaks(replace(plan, placements=early, tiers=(replace(use, peak=17),)), (0,)) == (17, 10)


def test_what_only_comes_back_stays_where_no_layer_keeps_it() -> None:
    plan = layered_plan(1)
    batch = replace(plan.tensors[0], index=0, kind="input", nbytes=8)
    back = Transfer(0, Tier.HOST, Tier.HBM, 8, "host", 0, 1, None, 1)
    found = host_moves(replace(plan, tensors=(batch,), transfers=(back,)), ["layers.0"], lambda _: None)
    assert (found.left, found.tensors) == ({"input": (1, 8)}, {None: (0,)})


def gradients(torch: Any, moved: dict[int, int], *, again: bool) -> tuple[list[Any], list[Any], bool]:
    """Gradients of a small network, what its first layer saves, and whether all is as before at the end."""
    from memplan.readers.pytorch.module_recompute import recompute_module
    from memplan.runtime import saved_tensors

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    network = torch.nn.Sequential(torch.nn.Linear(32, 32), layer, torch.nn.Linear(32, 32))
    packed: list[Any] = []
    undo = [recompute_module(layer)] if again else []
    storages = saved_tensors.SavedStorages(DueMoves({"1": moved}))
    undo.append(saved_tensors.keep_saved_on_host(layer, "1", storages))
    unpack = saved_tensors._unpack

    def counted(packed_item: Any) -> Any:
        packed.append(packed_item)
        return unpack(packed_item)

    saved_tensors.__dict__["_unpack"] = counted
    try:
        for _ in range(2):  # what is counted is counted anew in each pass
            (network(torch.randn(4, 16, 32)).tanh() ** 2).sum().backward()
    finally:
        saved_tensors._unpack = unpack
    for take_back in reversed(undo):
        take_back()
    on_host = [item.storage for item in packed if isinstance(item, saved_tensors._Saved) and item.storage.on_host]
    return [parameter.grad for parameter in network.parameters()], on_host, "forward" not in layer.__dict__


@pytest.mark.parametrize("again", [False, True])
def test_gradients_are_equal_bit_by_bit_with_saved_tensors_on_the_host(again: bool) -> None:
    torch = pytest.importorskip("torch")
    plain, none, _ = gradients(torch, {}, again=again)
    size = 4 * 16 * 32 * 4
    kept, on_host, undone = gradients(torch, {size: 2}, again=again)
    assert not none
    storages = {id(item) for item in on_host}
    # In a checkpoint the layer saves what goes into it alone.
    assert len(storages) == (2 if again else 4)
    assert all(item.whole.untyped_storage().nbytes() == size for item in on_host)
    assert undone
    assert all(torch.equal(one, other) for one, other in zip(plain, kept, strict=True))


def test_the_batch_stays_where_what_a_layer_makes_is_as_large() -> None:
    """Went wrong: the first layer moved its batch, which its maker held all the same, and kept what was to leave."""
    torch = pytest.importorskip("torch")
    from memplan.runtime.saved_tensors import SavedStorages, keep_saved_on_host

    network = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 16))
    batch = torch.randn(8, 16)
    storages = SavedStorages(DueMoves({"0": {batch.nbytes: 1}}))
    undo = [keep_saved_on_host(network, None, storages), keep_saved_on_host(network[0], "0", storages)]
    made: list[Any] = []
    watch = network[0].register_forward_hook(
        lambda _module, _inputs, result: made.append(
            torch.multiprocessing.reductions.StorageWeakRef(result.untyped_storage())
        )
    )
    result = network(batch)
    assert made[0].expired()
    result.sum().backward()
    watch.remove()
    for take_back in reversed(undo):
        take_back()


def test_what_two_layers_save_leaves_once_one_of_them_moves_it() -> None:
    torch = pytest.importorskip("torch")
    from memplan.runtime.saved_tensors import SavedStorages, keep_saved_on_host

    layers = [torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh()) for _ in range(2)]
    size = 8 * 16 * 4
    storages = SavedStorages(DueMoves({"1": {size: 1}}))
    undo = [keep_saved_on_host(layer, name, storages) for layer, name in zip(layers, ("0", "1"), strict=True)]
    between = layers[0](torch.randn(8, 16))
    result = layers[1](between)
    reference = torch.multiprocessing.reductions.StorageWeakRef(between.untyped_storage())
    del between
    assert reference.expired()
    result.sum().backward()
    for take_back in undo:
        take_back()


def between(torch: Any) -> Any:
    """A network that does things between its layers, and keeps what it made there in sight."""

    class Between(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(2))
            self.kept: list[Any] = []

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = torch.tanh(layer(x))
                self.kept.append(torch.multiprocessing.reductions.StorageWeakRef(x.untyped_storage()))
                x = x * 2
            return x

    return Between()


def test_what_the_program_saves_between_layers_leaves_with_the_layer_before() -> None:
    torch = pytest.importorskip("torch")
    from memplan.runtime.saved_tensors import SavedStorages, keep_saved_on_host

    network = between(torch)
    storages = SavedStorages(DueMoves({"layers.0": {8 * 16 * 4: 1}}))
    undo = [keep_saved_on_host(network.layers[0], "layers.0", storages), keep_saved_on_host(network, None, storages)]
    result = network(torch.randn(8, 16, requires_grad=True)).sum()
    # The first layer's input is a leaf and stays: the tanh behind it is what goes, that of the next layer stays.
    assert [reference.expired() for reference in network.kept] == [True, False]
    result.backward()
    for take_back in undo:
        take_back()


def test_gates_of_a_recurrent_cell_come_back_as_they_were() -> None:
    torch = pytest.importorskip("torch")
    from memplan.runtime.saved_tensors import SavedStorages, keep_saved_on_host

    def gradients_of_cell(moved: dict[int, int]) -> list[Any]:
        torch.manual_seed(0)
        cell = torch.nn.GRUCell(12, 12)
        # The gates lie in one storage and are written in place one after another.
        keep_saved_on_host(cell, "0", SavedStorages(DueMoves({"0": moved})))
        state = torch.zeros(5, 12)
        for x in torch.randn(3, 5, 12):
            state = cell(x, state)
        state.square().sum().backward()
        return [parameter.grad for parameter in cell.parameters()]

    sizes = dict.fromkeys((5 * 12 * 4, 5 * 3 * 12 * 4), 9)
    assert all(torch.equal(*pair) for pair in zip(gradients_of_cell({}), gradients_of_cell(sizes), strict=True))


def test_a_layer_that_only_holds_others_is_hooked_where_those_run() -> None:
    torch = pytest.importorskip("torch")
    from memplan.runtime.module_knobs import _callable_parts

    inner = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Sequential(torch.nn.Tanh())})
    layer = torch.nn.ModuleDict({"inner": inner, "c": torch.nn.ReLU()})
    assert list(_callable_parts(layer)) == [inner["a"], inner["b"], layer["c"]]
    assert list(_callable_parts(inner["b"])) == [inner["b"]]
