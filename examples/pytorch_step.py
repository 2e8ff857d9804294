"""A module and a training step of PyTorch, planned for one Ascend die: `python pytorch_step.py`."""

import torch

import memplan

module = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 10))
x, y = torch.randn(512, 256), torch.randint(0, 10, (512,))

plan = memplan.plan(
    module, x
)  # as it would be called: module.eval() for inference, train() to keep what gradients need
step = memplan.TrainingStep(module, torch.nn.functional.cross_entropy, torch.optim.AdamW)
plan = memplan.plan(step, x, y, chip="910B3")
print(plan)
