"""
Training scripts of PyTorch, as they are or with the two lines that plan them and apply the plan; writes JSON.

Started as a process of its own by the tests: PyTorch's profiler counts memory rightly from a process's first use on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STEPS = 3


def train(kind: str, share: float | None, recompute: str) -> dict[str, Any]:
    """Losses, state and peaks of a small model of `kind`, planned for `share` of its peak (`None`: as it is)."""
    import torch

    import memplan
    from memplan.placement.recompute_policy import RecomputePolicy
    from memplan.readers import Target

    torch.manual_seed(0)
    model = {"transformer": transformer, "convolutions": convolutions}[kind](torch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    batch = torch.randint(0, 512, (4, 256)) if kind == "transformer" else torch.rand(4, 24, 24, 24)
    targets = batch.flatten() if kind == "transformer" else torch.randint(0, 9, (4,))

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss.detach()

    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = memplan.plan(step, batch, chip="910B3", kernels=Target.CPU)
    whole = peak(plan)
    untouched = (
        all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        and all(parameter.grad is None for parameter in model.parameters())
        and not optimizer.state
        and scheduler.last_epoch == 0
    )
    report, refused = "", {}
    if share is not None:
        policy = RecomputePolicy(recompute)
        hbm = int(whole * share)
        plan = memplan.plan(step, batch, chip="910B3", hbm=hbm, kernels=Target.CPU, recompute=policy)
        refused = refusals(torch, plan) if kind == "transformer" else {}
        report = str(plan.apply(model))
    torch.manual_seed(1)  # of dropout, whatever was drawn before
    losses = [float(step(batch)) for _ in range(STEPS - 1)]
    # Gradients of the step before go before its peak comes, and so are left out.
    held = [
        *model.parameters(),
        *model.buffers(),
        batch,
        *(value for state in optimizer.state.values() for value in state.values()),
    ]
    state = sum(int(value.nbytes) for value in held)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with told_host_copies(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        losses.append(float(step(batch)))
    return {
        "losses": losses,
        "state": {name: value.double().sum().item() for name, value in model.state_dict().items()},
        "planned": peak(plan),
        "measured": state + most_allocated(profile),
        "fits": plan.fits,
        "recomputed": [] if plan.program is None else list(plan.program.recomputed),
        "report": report,
        "refused": refused,
        "untouched": untouched,
    }


def transformer(torch: Any, layers: int = 4, width: int = 128) -> Any:
    """A small transformer of the framework's own layers."""

    class Transformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(512, width)
            self.layers = torch.nn.ModuleList(
                torch.nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True)
                for _ in range(layers)
            )
            self.head = torch.nn.Linear(width, 512)

        def forward(self, tokens: Any) -> Any:
            hidden = self.embedding(tokens)
            for layer in self.layers:
                hidden = layer(hidden)
            return self.head(hidden).flatten(0, 1)

    return Transformer()


def convolutions(torch: Any) -> Any:
    """Convolutions with batch norms, whose running statistics are buffers that every forward pass writes."""
    nn = torch.nn
    layers = (nn.Sequential(nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24), nn.GELU()) for _ in range(5))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 9))


def peak(plan: Any) -> int:
    """Bytes of HBM at the plan's peak."""
    return int(next(use.peak for use in plan.tiers if use.tier.value == "HBM"))


_HOST_COPY = "copy that waits on the host"


@contextmanager
def told_host_copies() -> Iterator[None]:
    """Within it, `most_allocated` tells copies that wait on the host from what a device would have allocated."""
    from memplan.runtime import saved_tensors

    copy = saved_tensors._copy

    def marked(whole: Any) -> Any:
        import torch

        with torch.profiler.record_function(_HOST_COPY):
            return copy(whole)

    saved_tensors._copy = marked
    try:
        yield
    finally:
        saved_tensors._copy = copy


def most_allocated(profile: Any) -> int:
    """
    The most bytes that the allocator handed out beyond what it had before the profile.

    On a CPU the host's memory is the device's: copies that wait on the host are left out by their addresses.
    """
    events: list[tuple[int, int, int, bool]] = []

    def visit(node: Any, copied: bool) -> None:
        copied = copied or node.name == _HOST_COPY
        size = getattr(node.extra_fields, "alloc_size", None)
        if size is not None:
            events.append((node.start_time_ns, int(size), int(node.extra_fields.ptr or 0), copied))
        for child in node.children:
            visit(child, copied)

    for root in profile.profiler.kineto_results.experimental_event_tree():
        visit(root, False)
    held = most = 0
    on_host: set[int] = set()
    for _, size, address, copied in sorted(events, key=lambda event: event[0]):
        if copied and size > 0:
            on_host.add(address)
        elif size < 0 and address in on_host:
            on_host.discard(address)
        else:
            held += size
            most = max(most, held)
    return most


def refusals(torch: Any, plan: Any) -> dict[str, str]:
    """What applying the plan elsewhere is refused with."""
    from memplan.core.errors import InputError

    def answer(program: Any, chip: str | None = None) -> str:
        try:
            plan.apply(program, chip=chip)
        except InputError as error:
            return str(error)
        return ""

    return {
        "fewer layers": answer(transformer(torch, layers=3)),
        "other width": answer(transformer(torch, width=64)),
        "chip": answer(transformer(torch), "910C"),
        "no module": answer(object()),
    }


if __name__ == "__main__":
    wanted = None if sys.argv[2] == "plain" else float(sys.argv[2])
    Path(sys.argv[3]).write_text(json.dumps(train(sys.argv[1], wanted, sys.argv[4])))
