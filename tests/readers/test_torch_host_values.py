"""Steps of PyTorch that read values on the host: what planning takes them for, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memplan.core.errors import InputError
from memplan.graph import Graph
from memplan.readers.pytorch.live import capture_torch

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")


def states(graph: Graph) -> int:
    return sum(tensor.name.startswith("exp_avg") for tensor in graph.tensors)


def test_a_step_with_a_gradient_scaler_updates_weights_and_leaves_the_scaler_as_it_was() -> None:
    net = torch.nn.Linear(8, 4)
    optimizer, scaler = torch.optim.Adam(net.parameters()), torch.amp.GradScaler("cpu")

    def step(x: torch.Tensor) -> float:
        optimizer.zero_grad()
        loss = net(x).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)
        scaler.step(optimizer)
        scaler.update()
        return float(loss.item())

    before = scaler.state_dict()
    first = capture_torch(step, torch.randn(3, 8))
    assert scaler.state_dict() == before
    assert states(first) == 4  # two of each of the weight and the bias
    assert len(first.notes) == 1
    assert "test_torch_host_values.py:" in first.notes[0]
    step(torch.randn(3, 8))
    before = scaler.state_dict()
    assert len(capture_torch(step, torch.randn(3, 8)).ops) == len(first.ops)
    assert scaler.state_dict() == before
    step(torch.randn(3, 8))


@pytest.mark.parametrize("check", ["isfinite", "isnan", "isinf"])
def test_what_is_checked_to_be_finite_is(check: str) -> None:
    net = torch.nn.Linear(8, 4)
    optimizer = torch.optim.Adam(net.parameters())

    def step(x: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss = net(x).square()
        loss.mean().backward()
        found = getattr(torch, check)(loss)
        if found.all() if check == "isfinite" else not found.any():
            optimizer.step()

    assert states(capture_torch(step, torch.randn(3, 8))) == 4


def test_a_size_or_a_branch_that_depends_on_data_is_refused() -> None:
    net = torch.nn.Linear(8, 4)

    def sized(lengths: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(net(torch.zeros(int(lengths.max().item()), 8)))

    def branched(x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(net(x)) if (x.sum() > 1).item() else x

    for step, given in ((sized, torch.tensor([2, 3])), (branched, torch.randn(3, 8))):
        with pytest.raises(InputError, match="can't be run on tensors without data"):
            capture_torch(step, given)
