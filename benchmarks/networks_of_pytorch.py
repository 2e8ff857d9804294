"""Networks that scripts of PyTorch train: a U-Net of a diffusion model, a language model of selective scans."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class _Block(nn.Module):
    """Two convolutions, told the time of the noise between them."""

    def __init__(self, inputs: int, out: int, time: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, inputs), nn.GroupNorm(4, out)
        self.conv1, self.conv2 = nn.Conv2d(inputs, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.time = nn.Linear(time, out)
        self.skip = nn.Identity() if inputs == out else nn.Conv2d(inputs, out, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.conv1(functional.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.conv2(functional.silu(self.norm2(y))) + self.skip(x)


class DiffusionUNet(nn.Module):
    """Says which noise (batch, 3, side, side) is in an image; `depth` times to half the side and back."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        wide = [channels * 2**at for at in range(depth + 1)]
        self.time = nn.Sequential(nn.Linear(1, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.stem, self.head = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 3, 3, padding=1)
        self.down = nn.ModuleList(_Block(wide[at], wide[at + 1], channels) for at in range(depth))
        self.up = nn.ModuleList(_Block(2 * wide[at + 1], wide[at], channels) for at in reversed(range(depth)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        time = self.time(image.new_full((len(image), 1), 0.5))
        x, kept = self.stem(image), []
        for block in self.down:
            kept.append(block(x, time))
            x = functional.avg_pool2d(kept[-1], 2)
        for block in self.up:
            x = block(torch.cat((functional.interpolate(x, scale_factor=2.0), kept.pop()), 1), time)
        return self.head(x)


class _Scan(nn.Module):
    """A selective state space: each token decays what the state holds and adds to it."""

    def __init__(self, wide: int, state: int) -> None:
        super().__init__()
        self.norm, self.into, self.back = nn.LayerNorm(wide), nn.Linear(wide, 2 * wide), nn.Linear(wide, wide)
        self.select, self.state = nn.Linear(wide, 1 + 2 * state), state
        self.decay = nn.Parameter(-torch.rand(wide, state))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner, gate = self.into(self.norm(x)).chunk(2, -1)
        step, write, read = self.select(inner).split((1, self.state, self.state), -1)
        step = functional.softplus(step)
        held, results = inner.new_zeros(len(x), inner.shape[-1], self.state), []
        for at in range(x.shape[1]):
            held = held * torch.exp(step[:, at, :, None] * self.decay) + inner[:, at, :, None] * write[:, at, None, :]
            results.append((held * read[:, at, None, :]).sum(-1))
        return x + self.back(torch.stack(results, 1) * functional.silu(gate))


class ScanLanguage(nn.Module):
    """A language model of selective scans whose last product has the weights of the first one's words."""

    def __init__(self, words: int, wide: int, state: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, wide)
        self.layers = nn.Sequential(*(_Scan(wide, state) for _ in range(layers)))
        self.head = nn.Linear(wide, words, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embedding(tokens)))
