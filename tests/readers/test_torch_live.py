"""Modules and training steps of PyTorch, planned without data, have the peak of PyTorch's own allocator on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memplan.core.errors import InputError
from memplan.graph import TensorKind, bytes_by_kind
from memplan.readers import Target
from memplan.readers.pytorch.live import TrainingStep, capture_torch, is_torch

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")
NAMES = (
    "mlp", "cnn", "residual", "unet", "autoencoder", "gpt", "gpt_checkpointed", "vision_transformer", "experts",
    "recommender", "unrolled", "messages", "spectral", "detector", "cross_attention", "denoiser",
)  # fmt: skip


def planned_and_measured(name: str, mode: str) -> tuple[int, int]:
    command = [sys.executable, "-m", "tests.readers.torch_peaks", name, mode]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    planned, measured = json.loads(done.stdout.splitlines()[-1])
    return planned, measured


@pytest.mark.parametrize("name", ["gpt_checkpointed"])
def test_a_checkpointed_training_step_has_the_measured_peak(name: str) -> None:
    planned, measured = planned_and_measured(name, "train")
    assert planned == pytest.approx(measured, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("name", NAMES)
def test_the_planned_peak_is_the_measured_one(name: str, mode: str) -> None:
    planned, measured = planned_and_measured(name, mode)
    print(f"{name} {mode}: planned {planned:,}, measured {measured:,}, {planned / measured - 1:+.2%}")
    assert planned == pytest.approx(measured, rel=0.03)


def small() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))


def test_weights_are_neither_changed_nor_counted_twice() -> None:
    net, x, y = small(), torch.randn(5, 8), torch.randint(0, 4, (5,))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    graph = capture_torch(TrainingStep(net, torch.nn.functional.cross_entropy, torch.optim.Adam), x, y)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    weights = 4 * (8 * 16 + 16 + 16 * 4 + 4)
    kinds = bytes_by_kind(graph)
    assert kinds[TensorKind.WEIGHT] == weights
    assert kinds[TensorKind.OPTIMIZER_STATE] == 2 * weights + 4 * 4  # and a step count for each
    assert {tensor.name for tensor in graph.tensors} >= {"0.weight", "2.bias", "inputs0"}


def test_modules_on_the_meta_device_and_functions_of_theirs() -> None:
    with torch.device("meta"):
        net = small()
        x = torch.empty(5, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def train_step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    forward = capture_torch(net.eval(), x)
    assert [op.type for op in forward.ops if op.launches] == ["Addmm", "Relu", "Addmm"]
    step = capture_torch(train_step, x)
    assert bytes_by_kind(step)[TensorKind.WEIGHT] == bytes_by_kind(forward)[TensorKind.WEIGHT]
    assert bytes_by_kind(step)[TensorKind.OPTIMIZER_STATE] == bytes_by_kind(step)[TensorKind.WEIGHT]


def test_a_module_that_trains_keeps_what_the_way_back_needs() -> None:
    net = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU()) for _ in range(6)))
    x = torch.randn(32, 64)
    training, inference = (capture_torch(net.train(mode), x) for mode in (True, False))
    size = 32 * 64 * 4
    peaks = [int(max(peak_of(graph))) for graph in (training, inference)]
    # Two results of each layer; without gradients one, and what the caller of the inner layers still holds.
    assert peaks == [12 * size, 3 * size]


def peak_of(graph: object) -> list[int]:
    from memplan.graph import Graph, live_curve

    assert isinstance(graph, Graph)
    curve: list[int] = live_curve(graph, persistent=False).tolist()
    return curve


def test_what_needs_data_is_refused_in_one_line() -> None:
    class Picks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0] if x.sum() > 0 else x

    with pytest.raises(InputError, match="Picks can't be run on tensors without data") as caught:
        capture_torch(Picks(), torch.randn(4))
    assert "\n" not in str(caught.value)


def test_sources_of_pytorch_are_told_apart() -> None:
    assert is_torch(small())
    assert is_torch(len, (torch.randn(1),))
    assert not is_torch("file.mindir")


def test_layers_that_run_as_one_kernel_are_named() -> None:
    (note,) = capture_torch(torch.nn.LSTM(8, 16).eval(), torch.randn(3, 2, 8)).notes
    assert "mkldnn_rnn_layer" in note
    assert capture_torch(small(), torch.randn(2, 8)).notes == ()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "name",
    [
        "mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "binary_cross_entropy", "l1_loss", "kl_div",
        "poisson_nll_loss", "multilabel_soft_margin_loss", "binary_cross_entropy_with_logits",
    ],
)  # fmt: skip
def test_a_loss_keeps_as_many_bytes_as_it_does_in_a_run(name: str, reduction: str) -> None:
    function = getattr(torch.nn.functional, name)
    net, x, y = torch.nn.Sequential(torch.nn.Linear(8, 24), torch.nn.Sigmoid()), torch.randn(40, 8), torch.rand(40, 24)
    stored = function(net(x), y, reduction=reduction).untyped_storage().nbytes()
    step = TrainingStep(net, lambda made, wanted: function(made, wanted, reduction=reduction), torch.optim.SGD)
    graph = capture_torch(step, x, y, target=Target.CPU)
    gradients = [4 * parameter.numel() for parameter in net.parameters()]
    assert [graph.tensors[graph.tensors[result].storage].nbytes for result in graph.outputs] == [stored, *gradients]
