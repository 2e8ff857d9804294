"""A training script of PyTorch that plans itself: the two lines are marked."""

import torch

import memplan

torch.manual_seed(0)
model = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.GELU()) for _ in range(6)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
samples = torch.randn(2048, 256)


def step(batch: torch.Tensor) -> torch.Tensor:
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(batch), batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


plan = memplan.plan(step, samples, chip="910B3", hbm=28 * 2**20)  # <-
applied = plan.apply(model)  # <-

print(plan)
print(applied)
watch = memplan.MemoryWatch(plan)
for number in range(3):
    with watch.step():
        print(f"step {number}: loss {float(step(samples)):.4f}")
