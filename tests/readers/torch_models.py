"""Ten small models of PyTorch, as people write them, with the peak that PyTorch's own allocator has when they run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, w = x.shape
        q, k, v = self.qkv(x).view(b, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(
            functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, s, w)
        )


class Block(nn.Module):
    def __init__(self, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.n1(x))
        return x + self.mlp(self.n2(x))


class Gpt(nn.Module):
    def __init__(self, layers: int = 4, *, checkpointed: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, 128)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.head = nn.Linear(128, 500, bias=False)
        self.checkpointed = checkpointed

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed and self.training else block(x)
        return self.head(x).flatten(0, 1)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1, self.c2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.b1, self.b2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.b2(self.c2(functional.relu(self.b1(self.c1(x))))))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.d1, self.d2, self.d3 = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.Conv2d(32, 64, 3, 2, 1),
        )
        self.u1, self.u2 = nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(64, 16, 2, 2)
        self.end = nn.Conv2d(32, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = functional.relu(self.d1(x))
        b = functional.relu(self.d2(a))
        c = self.u1(functional.relu(self.d3(b)))
        return self.end(torch.cat([self.u2(torch.cat([c, b], 1)), a], 1))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(300, 64), nn.LSTM(64, 96, batch_first=True), nn.Linear(96, 12)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.embed(tokens))[0]).flatten(0, 1)


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks, self.head = (
            nn.Conv2d(3, 128, 8, 8),
            nn.Sequential(Block(), Block()),
            nn.Linear(128, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, 64)) for _ in range(4))
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.gate(x).softmax(-1)
        return self.out(sum(weights[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts)))


class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.dense = nn.Embedding(400, 32), nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 32))
        self.top = nn.Sequential(nn.Linear(7 * 32, 128), nn.Sigmoid(), nn.Linear(128, 1))

    def forward(self, kinds: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return self.top(torch.cat([self.embed(kinds).flatten(1), self.dense(numbers)], 1))


@dataclass(frozen=True)
class TorchModel:
    """A model, what it is called with, the target of its loss, and its optimiser."""

    make: Callable[[], Any]
    inputs: Callable[[], tuple[torch.Tensor, ...]]
    target: Callable[[], torch.Tensor]
    optimizer: Callable[..., Any]

    @property
    def loss(self) -> Callable[..., torch.Tensor]:
        """Cross entropy for classes, mean squares for numbers."""
        found: Callable[..., torch.Tensor] = functional.mse_loss
        return found if self.target().is_floating_point() else functional.cross_entropy


def _classes(count: int, most: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randint(0, most, (count,))


def _picture() -> tuple[torch.Tensor, ...]:
    return (torch.randn(8, 3, 32, 32),)


def _tokens() -> tuple[torch.Tensor, ...]:
    return (torch.randint(0, 300, (8, 64)),)


def momentum(parameters: Any) -> Any:
    """SGD with momentum."""
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


class Unrolled(nn.Module):
    """A recurrent cell that is called once for each step: its gradients are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(48, 96), nn.Linear(96, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = x.new_zeros(x.shape[0], 96)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        result: torch.Tensor = self.head(state)
        return result


class Messages(nn.Module):
    """Nodes of a graph that add up what their neighbours send."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(40, 40) for _ in range(3)])
        self.norms = nn.ModuleList([nn.LayerNorm(40) for _ in range(3)])
        self.head = nn.Linear(40, 10)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            sent = torch.nn.functional.gelu(layer(x))[edges[0]]
            x = norm(x + torch.zeros_like(x).index_add(0, edges[1], sent))
        result: torch.Tensor = self.head(x)
        return result


class Spectral(nn.Module):
    """Weights in the frequency domain."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.out = nn.Linear(3, 48), nn.Linear(48, 1)
        self.weight = nn.Parameter(torch.randn(48, 48, dtype=torch.cfloat) * 0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.einsum("bkc,cd->bkd", torch.fft.rfft(self.lift(x), dim=1), self.weight)
        result: torch.Tensor = self.out(torch.nn.functional.gelu(torch.fft.irfft(found, n=x.shape[1], dim=1)))
        return result


class Detector(nn.Module):
    """Features that are made larger again, with in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1, inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1), nn.PReLU(24),
        )  # fmt: skip
        self.head = nn.Conv2d(24, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = torch.nn.functional.interpolate(self.body(x), scale_factor=2, mode="bilinear", align_corners=False)
        result: torch.Tensor = self.head(torch.nn.functional.pad(wide, (1, 1, 1, 1))).softmax(1).amax((2, 3))
        return result


class CrossAttention(nn.Module):
    """An encoder's result is looked at while another sequence is read; embedding and head share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(300, 48)
        self.own = nn.MultiheadAttention(48, 4, batch_first=True)
        self.other = nn.MultiheadAttention(48, 4, batch_first=True)
        self.norm, self.head = nn.RMSNorm(48), nn.Linear(48, 300, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        memory = self.embedding(source)
        memory = memory + self.own(memory, memory, memory, need_weights=False)[0]
        y = self.embedding(target)
        y = y + self.other(y, memory, memory, need_weights=True)[0]
        result: torch.Tensor = self.head(self.norm(y)).transpose(1, 2)
        return result


class Denoiser(nn.Module):
    """A U-Net that is told the time, with attention between pixels whose channels are not next to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.start = nn.Linear(16, 48), nn.Conv2d(3, 24, 3, padding=1)
        self.down, self.up = nn.Conv2d(24, 48, 3, 2, 1), nn.Conv2d(48, 24, 3, padding=1)
        self.norm, self.qkv, self.out = nn.GroupNorm(8, 48), nn.Conv2d(48, 144, 1), nn.Conv2d(48, 48, 1)
        self.end = nn.Conv2d(48, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        wide = functional.silu(self.start(x))
        deep = self.down(wide) + self.time(time)[:, :, None, None]
        b, c, h, w = deep.shape
        q, k, v = self.qkv(self.norm(deep)).view(b, 3, 3, c // 3, h * w).transpose(-1, -2).unbind(1)
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, h, w)
        up = self.up(functional.interpolate(deep + self.out(seen), scale_factor=2))
        result: torch.Tensor = self.end(torch.cat([up, wide], 1))
        return result


TORCH_MODELS: Mapping[str, TorchModel] = {
    "mlp": TorchModel(
        lambda: nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512), nn.Tanh(),
                              nn.Linear(512, 10)),
        lambda: (torch.randn(128, 256),), _classes(128, 10), torch.optim.AdamW,
    ),
    "cnn": TorchModel(
        lambda: nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
                              nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
                              nn.Linear(1024, 10)),
        _picture, _classes(8, 10), momentum,
    ),
    "residual": TorchModel(
        lambda: nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), *(Residual(32) for _ in range(4)),
                              nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
        _picture, _classes(8, 10), momentum,
    ),
    "unet": TorchModel(UNet, _picture, lambda: torch.randn(8, 3, 32, 32), torch.optim.Adam),
    "autoencoder": TorchModel(
        lambda: nn.Sequential(nn.Linear(512, 128), nn.GELU(), nn.Linear(128, 16), nn.Linear(16, 128), nn.GELU(),
                              nn.Linear(128, 512)),
        lambda: (torch.randn(256, 512),), lambda: torch.randn(256, 512), torch.optim.RMSprop,
    ),
    "gpt": TorchModel(Gpt, _tokens, _classes(512, 500), torch.optim.AdamW),
    "gpt_checkpointed": TorchModel(lambda: Gpt(checkpointed=True), _tokens, _classes(512, 500), torch.optim.AdamW),
    "vision_transformer": TorchModel(Patches, _picture, _classes(8, 10), torch.optim.Adam),
    "experts": TorchModel(Experts, lambda: (torch.randn(128, 64),), _classes(128, 10), torch.optim.NAdam),
    "recommender": TorchModel(
        Recommender, lambda: (torch.randint(0, 400, (256, 6)), torch.randn(256, 13)), lambda: torch.randn(256, 1),
        torch.optim.Adagrad,
    ),
    "unrolled": TorchModel(Unrolled, lambda: (torch.randn(12, 15, 48),), _classes(12, 10), momentum),
    "messages": TorchModel(
        Messages, lambda: (torch.randn(700, 40), torch.randint(0, 700, (2, 2500))), _classes(700, 10),
        torch.optim.RMSprop,
    ),
    "spectral": TorchModel(
        Spectral, lambda: (torch.randn(6, 96, 3),), lambda: torch.randn(6, 96, 1), torch.optim.Adamax,
    ),
    "detector": TorchModel(Detector, lambda: (torch.randn(3, 3, 48, 48),), _classes(3, 12), torch.optim.Adadelta),
    "cross_attention": TorchModel(
        CrossAttention, lambda: (torch.randint(0, 300, (4, 40)), torch.randint(0, 300, (4, 32))),
        lambda: torch.randint(0, 300, (4, 32)), torch.optim.Adagrad,
    ),
    "denoiser": TorchModel(
        Denoiser, lambda: (torch.randn(2, 3, 30, 30), torch.randn(2, 16)), lambda: torch.randn(2, 3, 30, 30),
        torch.optim.AdamW,
    ),
}  # fmt: skip

CPU_SPECIALS: Mapping[str, TorchModel] = {
    "encoder": TorchModel(
        lambda: nn.Sequential(nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), nn.Flatten(),
                              nn.Linear(64 * 32, 10)),
        lambda: (torch.randn(8, 32, 64),), _classes(8, 10), torch.optim.Adagrad,
    ),
    "tagger": TorchModel(Tagger, _tokens, _classes(512, 12), torch.optim.Adam),
}  # fmt: skip
"""Models that PyTorch's CPU build runs by fused kernels of its own: the encoder when it infers, recurrent layers."""


def measured_peak(run: Callable[[], Any]) -> int:
    """
    Most bytes that PyTorch's allocator had out at once during `run`, beside what was there before.

    What was there before and is freed meanwhile counts as there: the profiler doesn't see it go.
    """
    for _ in range(2):
        result = run()
        del result
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        first = run()
        del first
        second = run()
    del second
    memory = [event for event in prof.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(memory, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
