"""How PyNative mode has to run a recomputed cell again, from the ops that the plan has of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from memplan.readers.mindspore.cell_recompute import RecomputeWay
from memplan.runtime.cell_knobs import _way
from memplan.schema import Plan

CELL = "network.layers.0"
SCOPE = "Default/network-Net/layers-CellList/0-Block"


def planned(*made: tuple[str, int], again: tuple[tuple[str, int], ...] = ()) -> Plan:
    """Ops of the cell by type and number of outputs, a gradient behind them, and what the cell runs `again`."""
    rows = [(f"{SCOPE}/{kind}-op{at}", kind, outputs) for at, (kind, outputs) in enumerate(made)]
    rows.append(("Gradients/Default/network-Net/head-Dense/Grad_MatMul/MatMul-op9", "MatMul", 1))
    rows += [(f"{SCOPE}/{kind}-op{at + 20}", kind, outputs) for at, (kind, outputs) in enumerate(again)]
    ops = [
        SimpleNamespace(index=at, name=name, type=kind, launches=True, kernel=at)
        for at, (name, kind, _) in enumerate(rows)
    ]
    kernels = [SimpleNamespace(outputs=("out",) * outputs) for _, _, outputs in rows]
    return cast("Plan", cast("Any", SimpleNamespace(ops=ops, kernels=kernels)))


@pytest.mark.parametrize(
    ("made", "way"),
    [
        ((("LayerNorm", 3), ("MatMul", 1), ("GeLU", 1), ("MatMul", 1), ("Add", 1)), RecomputeWay.NEEDED),
        ((("MatMul", 1), ("ReLU", 1)), RecomputeWay.NEEDED),
        ((("MatMul", 1), ("Add", 1), ("LayerNorm", 3)), RecomputeWay.WHOLE),
        ((("Conv2D", 1), ("BatchNorm", 5), ("ReLU", 1)), RecomputeWay.WHOLE),
        ((("MatMul", 1), ("Dropout", 2), ("MatMul", 1)), RecomputeWay.DRAWN),
    ],
)
def test_a_cell_runs_again_as_the_kernels_in_it_allow(made: tuple[tuple[str, int], ...], way: RecomputeWay) -> None:
    """Went wrong once: a layer that ends with a norm ended the step with an error, and dropout drew other numbers."""
    assert _way(planned(*made), CELL) is way


def test_what_runs_again_does_not_say_where_the_forward_pass_ends() -> None:
    made = (("MatMul", 1), ("LayerNorm", 3))
    assert _way(planned(*made, again=(("MatMul", 1),)), CELL) is RecomputeWay.WHOLE


def test_ops_of_other_cells_do_not_count() -> None:
    assert _way(planned(("Dropout", 2)), "network.layers.1") is RecomputeWay.NEEDED
