"""What leaves HBM in a plan, as layers keep it on the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan.runtime.host_moves import host_moves, layer_of, peaks
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
    assert found.sizes == {103, 104}


def test_the_peak_with_what_stays_is_that_of_whole_lifetimes() -> None:
    plan = layered_plan(2)
    base, steps = plan.tensors[0], len(plan.ops)
    tensors = tuple(replace(base, index=index, start=0, end=steps) for index in range(2))
    places = (
        Placement(0, Tier.HBM, 0, 10, 0, 1),
        Placement(0, Tier.HBM, 0, 10, steps - 1, steps),
        Placement(0, Tier.HOST, None, 10, 1, steps - 1),
        Placement(1, Tier.HBM, 0, 7, 1, steps - 1),
    )
    use = replace(next(use for use in plan.tiers if use.tier is Tier.HBM), peak=10)
    plan = replace(plan, tensors=tensors, placements=places, tiers=(use,))
    assert peaks(plan, ()) == (10, 10)
    plan = replace(plan, transfers=(moved(0, 10),))
    assert peaks(plan, ()) == (10, 17)
    assert peaks(plan, (0,)) == (10, 10)


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
    undo.append(saved_tensors.keep_saved_on_host(layer, moved, saved_tensors.SavedStorages(moved)))
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


def test_what_two_layers_save_leaves_once_one_of_them_moves_it() -> None:
    torch = pytest.importorskip("torch")
    from memplan.runtime.saved_tensors import SavedStorages, keep_saved_on_host

    layers = [torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh()) for _ in range(2)]
    size = 8 * 16 * 4
    storages = SavedStorages({size})
    undo = [keep_saved_on_host(layers[0], {}, storages), keep_saved_on_host(layers[1], {size: 1}, storages)]
    between = layers[0](torch.randn(8, 16))
    result = layers[1](between)
    reference = torch.multiprocessing.reductions.StorageWeakRef(between.untyped_storage())
    del between
    assert reference.expired()
    result.sum().backward()
    for take_back in undo:
        take_back()
