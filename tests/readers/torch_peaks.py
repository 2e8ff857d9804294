"""
Planned and measured peak of one model of `torch_models.py`, forward or training: `python torch_peaks.py NAME MODE`.

A process of its own for each: PyTorch's profiler remembers blocks of earlier sessions and would count them out again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from memplan.graph import live_curve
from memplan.readers import Target
from memplan.readers.pytorch.live import TrainingStep, capture_torch
from tests.readers.torch_models import CPU_SPECIALS, TORCH_MODELS, measured_peak


def peaks(name: str, mode: str) -> tuple[int, int]:
    """Bytes beside parameters, states and inputs: as planned from fake tensors, and as the allocator gave them out."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = {**TORCH_MODELS, **CPU_SPECIALS}[name]
    net, inputs, target = model.make(), model.inputs(), model.target()
    if mode == "train":
        net.train()
        graph = capture_torch(TrainingStep(net, model.loss, model.optimizer), *inputs, target, target=Target.CPU)
        optimizer = model.optimizer(net.parameters())

        def run() -> Any:
            optimizer.zero_grad()
            loss = model.loss(net(*inputs), target)
            loss.backward()
            optimizer.step()
            return loss.detach()
    else:
        net.eval()
        graph = capture_torch(net, *inputs, target=Target.CPU)

        def run() -> Any:
            with torch.no_grad():
                return net(*inputs)

    return int(live_curve(graph, persistent=False).max()), measured_peak(run)


if __name__ == "__main__":
    print(json.dumps(peaks(*sys.argv[1:3])))
