"""Small training scripts of PyTorch as users write them, sizes by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.networks_of_pytorch import DiffusionUNet, ScanLanguage


@dataclass(frozen=True)
class Training:
    """The model that a plan is applied to, what a step takes, and the step."""

    model: nn.Module
    batch: tuple[Any, ...]
    step: Callable[..., Any]
    optimizer: torch.optim.Optimizer


def _span(draw: np.random.Generator, low: int, high: int) -> int:
    return int(draw.integers(low, high))


class _Perceptron(nn.Module):
    def __init__(self, inputs: int, wide: int, layers: int, classes: int) -> None:
        super().__init__()
        sizes = [inputs, *[wide] * layers]
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU(), nn.Dropout(0.1)) for a, b in pairwise(sizes))
        )
        self.head = nn.Linear(wide, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x))


class _Residual(nn.Module):
    def __init__(self, inputs: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        same = stride == 1 and inputs == out
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(kept)) + self.skip(x))


class _Residuals(nn.Module):
    def __init__(self, channels: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        wide = channels + 8
        self.blocks = nn.Sequential(
            *(_Residual(channels, channels, 1) for _ in range(blocks)),
            _Residual(channels, wide, 2),
            *(_Residual(wide, wide, 1) for _ in range(blocks - 1)),
        )
        self.head = nn.Linear(wide, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class _Encoder(nn.Module):
    def __init__(self, words: int, wide: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, wide)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(wide, heads, 3 * wide, dropout=0.1, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(wide, words)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.head(x)


class _RmsNorm(nn.Module):
    def __init__(self, wide: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class _Gated(nn.Module):
    def __init__(self, wide: int, inner: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = (
            nn.Linear(a, b, bias=False) for a, b in ((wide, inner), (wide, inner), (inner, wide))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class _Experts(nn.Module):
    """A mixture of experts whose tokens are gathered expert by expert."""

    def __init__(self, wide: int, inner: int, experts: int, used: int) -> None:
        super().__init__()
        self.router, self.used = nn.Linear(wide, experts, bias=False), used
        self.experts = nn.ModuleList(_Gated(wide, inner) for _ in range(experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.router(x).softmax(-1)
        kept, _ = weights.topk(self.used, -1)
        weights = weights.masked_fill(weights < kept[..., -1:], 0.0)
        return sum(weights[..., at : at + 1] * expert(x) for at, expert in enumerate(self.experts))


class _Decoder(nn.Module):
    def __init__(self, wide: int, heads: int, groups: int, mixed: nn.Module) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, wide // heads
        self.norm1, self.norm2 = _RmsNorm(wide), _RmsNorm(wide)
        self.query, self.out = nn.Linear(wide, wide, bias=False), nn.Linear(wide, wide, bias=False)
        self.key, self.value = (nn.Linear(wide, groups * self.size, bias=False) for _ in range(2))
        self.mixed = mixed

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, wide = x.shape
        y = self.norm1(x)
        query = self.query(y).view(rows, length, self.heads, self.size).transpose(1, 2)
        key, value = (
            part(y).view(rows, length, self.groups, self.size).transpose(1, 2) for part in (self.key, self.value)
        )
        query, key = _turned(query, cos, sin), _turned(key, cos, sin)
        key, value = (part.repeat_interleave(self.heads // self.groups, 1) for part in (key, value))
        found = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(found.transpose(1, 2).reshape(rows, length, wide))
        return x + self.mixed(self.norm2(x))


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class _Llama(nn.Module):
    def __init__(self, words: int, heads: int, size: int, layers: int, length: int, experts: int) -> None:
        super().__init__()
        wide = heads * size
        self.embedding = nn.Embedding(words, wide)
        self.layers = nn.ModuleList(
            _Decoder(
                wide, heads, heads // 2, _Experts(wide, 2 * wide, experts, 2) if experts else _Gated(wide, 3 * wide)
            )
            for _ in range(layers)
        )
        self.norm, self.head = _RmsNorm(wide), nn.Linear(wide, words, bias=False)
        angles = torch.outer(torch.arange(length), 1e4 ** (-torch.arange(0, size, 2) / size)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return self.head(self.norm(x))


class _Wide(nn.Module):
    """A block of ConvNeXt: a convolution of each channel by itself, then two products over channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(functional.gelu(self.up(y)))).permute(0, 3, 1, 2)


class _ConvNext(nn.Module):
    def __init__(self, channels: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, channels, 4, stride=4), nn.Linear(channels, classes)
        self.blocks = nn.Sequential(*(_Wide(channels) for _ in range(blocks)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class _Recurrent(nn.Module):
    def __init__(self, words: int, wide: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, wide)
        self.layers = nn.ModuleList(nn.GRU(wide, wide, batch_first=True) for _ in range(layers))
        self.head = nn.Linear(wide, words)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + layer(x)[0]
        return self.head(x)


class _Vision(nn.Module):
    def __init__(self, wide: int, heads: int, layers: int, patches: int, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, wide, 8, stride=8)
        self.token = nn.Parameter(torch.zeros(1, 1, wide))
        self.place = nn.Parameter(torch.randn(1, patches + 1, wide) * 0.02)
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(wide, heads, 4 * wide, 0.0, "gelu", batch_first=True) for _ in range(layers))
        )
        self.head = nn.Linear(wide, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat((self.token.expand(len(y), -1, -1), y), 1) + self.place
        return self.head(self.layers(y)[:, 0])


class _LowRank(nn.Module):
    """A product whose weight is frozen beside two narrow ones that learn."""

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.into, self.back = nn.Linear(frozen.in_features, rank, False), nn.Linear(rank, frozen.out_features, False)
        nn.init.zeros_(self.back.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(x) + self.back(self.into(x))


def _convnext(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    classes, images, side = _span(draw, 5, 40), _span(draw, 3, 9), 4 * _span(draw, 10, 20)
    model = _ConvNext(_span(draw, 16, 48), _span(draw, 3, 7), classes)
    return model, (torch.randn(images, 3, side, side), torch.randint(0, classes, (images,)))


def _recurrent(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    words = _span(draw, 200, 900)
    model = _Recurrent(words, 16 * _span(draw, 2, 6), _span(draw, 3, 6))
    return model, (torch.randint(0, words, (_span(draw, 4, 12), _span(draw, 20, 60))),)


def _vision(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    classes, images, heads, side = _span(draw, 5, 40), _span(draw, 3, 9), _span(draw, 2, 6), _span(draw, 5, 10)
    model = _Vision(heads * 16, heads, _span(draw, 3, 6), side * side, classes)
    return model, (torch.randn(images, 3, 8 * side, 8 * side), torch.randint(0, classes, (images,)))


def _low_rank(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    model, batch = _llama(draw)
    model.requires_grad_(False)
    rank = _span(draw, 4, 12)
    for layer in model.layers:
        layer.query, layer.value = _LowRank(layer.query, rank), _LowRank(layer.value, rank)
    return model, batch


def _perceptron(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    inputs, classes = _span(draw, 40, 200), _span(draw, 5, 40)
    model = _Perceptron(inputs, _span(draw, 120, 400), _span(draw, 4, 8), classes)
    rows = _span(draw, 300, 900)
    return model, (torch.randn(rows, inputs), torch.randint(0, classes, (rows,)))


def _residuals(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    classes, images, side = _span(draw, 5, 40), _span(draw, 3, 9), _span(draw, 20, 44)
    model = _Residuals(_span(draw, 10, 32), _span(draw, 2, 4), classes)
    return model, (torch.randn(images, 3, side, side), torch.randint(0, classes, (images,)))


def _encoder(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    words, heads = _span(draw, 200, 900), _span(draw, 2, 6)
    model = _Encoder(words, heads * 8 * _span(draw, 2, 5), heads, _span(draw, 3, 6))
    return model, (torch.randint(0, words, (_span(draw, 2, 6), _span(draw, 60, 160))),)


def _llama(draw: np.random.Generator, experts: int = 0) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    words, length = _span(draw, 200, 900), _span(draw, 60, 160)
    model = _Llama(words, 2 * _span(draw, 1, 4), 8 * _span(draw, 2, 5), _span(draw, 3, 6), length, experts)
    return model, (torch.randint(0, words, (_span(draw, 2, 5), length)),)


def _mixture(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return _llama(draw, experts=_span(draw, 3, 6))


def _loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    if len(batch) == 2 and batch[1].is_floating_point():
        return functional.mse_loss(model(batch[0]), batch[1])
    if len(batch) == 2:
        return functional.cross_entropy(model(batch[0]), batch[1])
    found = model(batch[0])[:, :-1]
    return functional.cross_entropy(found.reshape(-1, found.shape[-1]), batch[0][:, 1:].reshape(-1))


def _plain(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> Training:
    def step(*batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = _loss(model, batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Training(model, batch, step, optimizer)


def _clipped(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> Training:
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    def step(*batch: torch.Tensor) -> torch.Tensor:
        loss = _loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        return loss.detach()

    return Training(model, batch, step, optimizer)


def _autocast(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> Training:
    def step(*batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = _loss(model, batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Training(model, batch, step, optimizer)


def _scaled(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> Training:
    scaler = torch.amp.GradScaler("cpu")

    def step(*batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = _loss(model, batch)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return Training(model, batch, step, optimizer)


def _accumulated(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> Training:
    def step(*batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        total = torch.zeros(())
        for micro in zip(*(part.chunk(2) for part in batch), strict=True):
            loss = _loss(model, micro) / 2
            loss.backward()
            total += loss.detach()
        optimizer.step()
        return total

    return Training(model, batch, step, optimizer)


_Make = Callable[[np.random.Generator], Training]


def _script(
    model: Callable[[np.random.Generator], tuple[nn.Module, tuple[torch.Tensor, ...]]],
    way: Callable[[nn.Module, torch.optim.Optimizer, tuple[torch.Tensor, ...]], Training],
    optimizer: Callable[[Any], torch.optim.Optimizer],
) -> _Make:
    def make(draw: np.random.Generator) -> Training:
        made, batch = model(draw)
        return way(made, optimizer([one for one in made.parameters() if one.requires_grad]), batch)

    return make


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.05, momentum=0.9)


def _fused(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, fused=True)


def _unet(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    images, side, depth = _span(draw, 2, 6), 8 * _span(draw, 3, 7), _span(draw, 2, 4)
    model = DiffusionUNet(8 * _span(draw, 1, 3), depth)
    return model, (torch.randn(images, 3, side, side), torch.randn(images, 3, side, side))


def _scan(draw: np.random.Generator) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    words = _span(draw, 200, 900)
    model = ScanLanguage(words, 16 * _span(draw, 2, 5), _span(draw, 4, 9), _span(draw, 3, 6))
    return model, (torch.randint(0, words, (_span(draw, 2, 6), _span(draw, 16, 40))),)


SCRIPTS: dict[str, _Make] = {
    "perceptron, Adam": _script(_perceptron, _plain, torch.optim.Adam),
    "perceptron, accumulated gradients, SGD": _script(_perceptron, _accumulated, _sgd),
    "convolutions, SGD": _script(_residuals, _plain, _sgd),
    "convolutions, autocast, AdamW": _script(_residuals, _autocast, torch.optim.AdamW),
    "transformer, clipped gradients, AdamW": _script(_encoder, _clipped, torch.optim.AdamW),
    "transformer, accumulated gradients, Adam": _script(_encoder, _accumulated, torch.optim.Adam),
    "llama, AdamW": _script(_llama, _plain, torch.optim.AdamW),
    "llama, autocast, clipped, SGD": _script(_llama, _autocast, _sgd),
    "mixture of experts, AdamW": _script(_mixture, _clipped, torch.optim.AdamW),
    "ConvNeXt, AdamW": _script(_convnext, _plain, torch.optim.AdamW),
    "recurrent, clipped, Adam": _script(_recurrent, _clipped, torch.optim.Adam),
    "vision transformer, autocast, AdamW": _script(_vision, _autocast, torch.optim.AdamW),
    "low-rank adapters, AdamW": _script(_low_rank, _plain, torch.optim.AdamW),
    "diffusion U-Net, fused AdamW": _script(_unet, _plain, _fused),
    "scan with tied words, clipped, AdamW": _script(_scan, _clipped, torch.optim.AdamW),
    "transformer, GradScaler, AdamW": _script(_encoder, _scaled, torch.optim.AdamW),
}
