"""Training steps of PyTorch of kinds that language models don't have, for `benchmarks.network_runs`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Step = tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]
"""What trains, and the batch that it is called with."""


def _step(model: nn.Module, optimizer: Any, loss: Callable[..., torch.Tensor], clip: Any = None) -> Any:
    """A step that lowers `loss` of a batch; `clip` is called with the weights of `model` before they are updated."""

    def step(*batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        lost = loss(*batch)
        lost.backward()
        if clip is not None:
            clip(model.parameters(), 1.0)
        optimizer.step()
        return lost.detach()

    return step


def _against(model: nn.Module, loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The loss of a batch whose last part `model` makes of the others."""
    return lambda *batch: loss(model(*batch[:-1]), batch[-1])


class _CrossAttention(nn.Module):
    """Attention to `kv`, and a perceptron, each behind norms of its own."""

    def __init__(self, wide: int, kv: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_kv, self.norm = nn.LayerNorm(wide), nn.LayerNorm(kv), nn.LayerNorm(wide)
        self.q, self.k, self.v, self.o = (nn.Linear(size, wide) for size in (wide, kv, kv, wide))
        self.up, self.down = nn.Linear(wide, 2 * wide), nn.Linear(2 * wide, wide)

    def forward(self, x: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        batch, tokens, wide = x.shape
        query, kv = self.q(self.norm_q(x)), self.norm_kv(kv)
        query, key, value = (
            part.view(batch, -1, self.heads, wide // self.heads).transpose(1, 2)
            for part in (query, self.k(kv), self.v(kv))
        )
        scores = (query @ key.transpose(-1, -2) * (wide // self.heads) ** -0.5).softmax(-1)
        x = x + self.o((scores @ value).transpose(1, 2).reshape(batch, tokens, wide))
        return x + self.down(functional.gelu(self.up(self.norm(x))))


class _Perceiver(nn.Module):
    """Latents that look at the input twice, and at themselves `layers` times behind each."""

    def __init__(self, inputs: int, wide: int, latents: int, layers: int, classes: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, wide) * 0.02)
        self.cross = nn.ModuleList(_CrossAttention(wide, inputs, 4) for _ in range(2))
        self.own = nn.ModuleList(nn.ModuleList(_CrossAttention(wide, wide, 4) for _ in range(layers)) for _ in range(2))
        self.head = nn.Linear(wide, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = self.latents.expand(len(x), -1, -1)
        for cross, layers in zip(self.cross, self.own, strict=True):
            held = cross(held, x)
            for layer in layers:
                held = layer(held, held)
        return self.head(held.mean(1))


def perceiver() -> Step:
    model = _Perceiver(48, 128, 64, 3, 10)
    step = _step(model, torch.optim.NAdam(model.parameters(), 1e-3), _against(model, functional.cross_entropy))
    return step, (torch.randn(8, 400, 48), torch.randint(0, 10, (8,)))


class _RadianceField(nn.Module):
    """Positions in sines, a perceptron with a skip, colours blended along rays."""

    def __init__(self, wide: int, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.first = nn.ModuleList(nn.Linear(size, wide) for size in (6 * bands, wide, wide))
        self.second = nn.ModuleList(nn.Linear(size, wide) for size in (wide + 6 * bands, wide))
        self.density, self.feature = nn.Linear(wide, 1), nn.Linear(wide, wide)
        self.seen, self.colour = nn.Linear(wide + 6 * bands, wide // 2), nn.Linear(wide // 2, 3)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        angles = (x[..., None] * (2.0 ** torch.arange(self.bands))).flatten(-2)
        return torch.cat((angles.sin(), angles.cos()), -1)

    def forward(self, origin: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        at = torch.linspace(0.1, 2.0, 32)
        where = self.encode(origin[:, None] + way[:, None] * at[:, None])
        ways = self.encode(way)[:, None].expand(-1, 32, -1)
        x = where
        for layer in self.first:
            x = functional.relu(layer(x))
        x = torch.cat((x, where), -1)
        for layer in self.second:
            x = functional.relu(layer(x))
        density = functional.softplus(self.density(x)).squeeze(-1)
        seen = functional.relu(self.seen(torch.cat((self.feature(x), ways), -1)))
        opaque = 1 - torch.exp(-density * 0.06)
        passed = torch.cat((torch.ones_like(opaque[:, :1]), 1 - opaque[:, :-1] + 1e-6), 1)
        return ((opaque * torch.cumprod(passed, 1))[..., None] * torch.sigmoid(self.colour(seen))).sum(1)


def radiance_field() -> Step:
    model = _RadianceField(192, 6)
    step = _step(model, torch.optim.Adam(model.parameters(), 5e-4), _against(model, functional.mse_loss))
    return step, (torch.randn(128, 3), torch.randn(128, 3), torch.rand(128, 3))


class _Coupling(nn.Module):
    """One half scales and moves the other; returns both, changed about, and the logarithm of the determinant."""

    def __init__(self, size: int, wide: int) -> None:
        super().__init__()
        self.half = size // 2
        self.net = nn.Sequential(
            nn.Linear(self.half, wide), nn.LeakyReLU(0.1), nn.Linear(wide, wide), nn.LeakyReLU(0.1),
            nn.Linear(wide, size),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.zeros(self.half))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept, changed = x[:, : self.half], x[:, self.half :]
        scale, move = self.net(kept).chunk(2, 1)
        scale = torch.tanh(scale) * self.scale.exp()
        return torch.cat((changed * scale.exp() + move, kept), 1), scale.sum(1)


class _Flow(nn.Module):
    """Coupling layers behind norms of activations; the loss of each sample."""

    def __init__(self, size: int, wide: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Coupling(size, wide) for _ in range(layers))
        self.shift, self.log = nn.Parameter(torch.zeros(layers, size)), nn.Parameter(torch.zeros(layers, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.new_zeros(len(x))
        for at, layer in enumerate(self.layers):
            x, volume = layer((x + self.shift[at]) * self.log[at].exp())
            total = total + volume + self.log[at].sum()
        return 0.5 * (x * x).sum(1) - total


def coupling_flow() -> Step:
    model = _Flow(64, 256, 8)
    optimizer = torch.optim.Adamax(model.parameters(), 1e-3)
    step = _step(model, optimizer, lambda x: model(x).mean(), nn.utils.clip_grad_value_)
    return step, (torch.randn(512, 64),)


class _Capsules(nn.Module):
    """Capsules with three rounds of routing by agreement; the loss by margins and the image made again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.primary = nn.Conv2d(1, 64, 9), nn.Conv2d(64, 64, 9, stride=2)
        self.weight = nn.Parameter(torch.randn(1, 10, 288, 16, 8) * 0.1)
        self.decode = nn.Sequential(nn.Linear(160, 256), nn.ReLU(), nn.Linear(256, 784), nn.Sigmoid())

    def squash(self, x: torch.Tensor) -> torch.Tensor:
        square = (x * x).sum(-1, keepdim=True)
        return square / (1 + square) * x / (square + 1e-8).sqrt()

    def forward(self, x: torch.Tensor, digit: torch.Tensor) -> torch.Tensor:
        parts = self.primary(functional.relu(self.conv(x)))
        parts = self.squash(parts.view(len(x), 8, -1).transpose(1, 2))
        votes = (self.weight @ parts[:, None, :, :, None]).squeeze(-1)
        agreed = votes.new_zeros(votes.shape[:3])
        for _ in range(3):
            whole = self.squash((agreed.softmax(1)[..., None] * votes).sum(2))
            agreed = agreed + (votes * whole[:, :, None]).sum(-1)
        length, is_digit = whole.norm(dim=-1), functional.one_hot(digit, 10).float()
        short, long = functional.relu(0.9 - length) ** 2, functional.relu(length - 0.1) ** 2
        margin = (is_digit * short + 0.5 * (1 - is_digit) * long).sum(1).mean()
        again = self.decode((whole * is_digit[..., None]).flatten(1))
        return margin + 5e-4 * functional.mse_loss(again, x.flatten(1), reduction="sum")


def capsules() -> Step:
    model = _Capsules()
    step = _step(model, torch.optim.Adam(model.parameters(), 1e-3), model)
    return step, (torch.rand(8, 1, 28, 28), torch.randint(0, 10, (8,)))


class _Window(nn.Module):
    """Attention within windows of `size` x `size`, moved by `shift`, with biases by how far apart two places are."""

    def __init__(self, wide: int, heads: int, size: int, shift: int) -> None:
        super().__init__()
        self.heads, self.size, self.shift = heads, size, shift
        self.norm1, self.norm2 = nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.qkv, self.out = nn.Linear(wide, 3 * wide), nn.Linear(wide, wide)
        self.up, self.down = nn.Linear(wide, 4 * wide), nn.Linear(4 * wide, wide)
        self.bias = nn.Parameter(torch.zeros((2 * size - 1) ** 2, heads))
        places = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).flatten(1)
        apart = places[:, :, None] - places[:, None] + size - 1
        self.register_buffer("apart", apart[0] * (2 * size - 1) + apart[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, high, across, wide = x.shape
        size, square, head = self.size, self.size**2, wide // self.heads
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = y.view(batch, high // size, size, across // size, size, wide).transpose(2, 3).reshape(-1, square, wide)
        query, key, value = self.qkv(y).view(len(y), square, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        scores = (query * head**-0.5) @ key.transpose(-2, -1)
        scores = scores + self.bias[self.apart.view(-1)].view(square, square, self.heads).permute(2, 0, 1)
        y = self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, square, wide))
        y = y.view(batch, high // size, across // size, size, size, wide).transpose(2, 3).reshape(x.shape)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class _ShiftedWindows(nn.Module):
    """Two pairs of windows, four patches merged into one between them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 48, 4, 4)
        self.fine = nn.Sequential(_Window(48, 3, 4, 0), _Window(48, 3, 4, 2))
        self.merge_norm, self.merge = nn.LayerNorm(192), nn.Linear(192, 96, bias=False)
        self.coarse = nn.Sequential(_Window(96, 6, 4, 0), _Window(96, 6, 4, 2))
        self.norm, self.head = nn.LayerNorm(96), nn.Linear(96, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fine(self.patch(x).permute(0, 2, 3, 1))
        x = torch.cat((x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]), -1)
        x = self.coarse(self.merge(self.merge_norm(x)))
        return self.head(self.norm(x).mean((1, 2)))


def shifted_windows() -> Step:
    model = _ShiftedWindows(20)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    step = _step(model, torch.optim.AdamW(model.parameters(), 1e-3), _against(model, loss), nn.utils.clip_grad_norm_)
    return step, (torch.randn(6, 3, 64, 64), torch.randint(0, 20, (6,)))


class _Conformer(nn.Module):
    """Half a perceptron, attention, a convolution over time, the other half."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Sequential(
                nn.LayerNorm(wide), nn.Linear(wide, 4 * wide), nn.SiLU(), nn.Dropout(0.1), nn.Linear(4 * wide, wide)
            )
            for _ in range(2)
        )
        self.attend_norm, self.attend = nn.LayerNorm(wide), nn.MultiheadAttention(wide, 4, batch_first=True)
        self.conv_norm, self.gate = nn.LayerNorm(wide), nn.Conv1d(wide, 2 * wide, 1)
        self.conv, self.batch_norm = nn.Conv1d(wide, wide, 15, padding=7, groups=wide), nn.BatchNorm1d(wide)
        self.out, self.norm = nn.Conv1d(wide, wide, 1), nn.LayerNorm(wide)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + 0.5 * self.first(x)
        y = self.attend_norm(x)
        x = x + self.attend(y, y, y, need_weights=False)[0]
        y = functional.glu(self.gate(self.conv_norm(x).transpose(1, 2)), 1)
        x = x + self.out(functional.silu(self.batch_norm(self.conv(y)))).transpose(1, 2)
        return self.norm(x + 0.5 * self.second(x))


class _Speech(nn.Module):
    """Letters of a quarter of as many moments as go in (batch, moments, 80)."""

    def __init__(self, wide: int, layers: int, letters: int) -> None:
        super().__init__()
        self.less = nn.Sequential(nn.Conv2d(1, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 32, 3, 2), nn.ReLU())
        self.into, self.head = nn.Linear(32 * 19, wide), nn.Linear(wide, letters)
        self.layers = nn.Sequential(*(_Conformer(wide) for _ in range(layers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.less(x[:, None]).transpose(1, 2).flatten(2)
        return self.head(self.layers(self.into(y)))


def conformer() -> Step:
    model = _Speech(96, 3, 40)

    def loss(letters: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(letters.flatten(0, 1), target.flatten())

    step = _step(model, torch.optim.RAdam(model.parameters(), 1e-3), _against(model, loss))
    return step, (torch.randn(4, 160, 80), torch.randint(0, 40, (4, 39)))


class _Slots(nn.Module):
    """Slots that compete for pixels, three rounds through one recurrent cell."""

    def __init__(self, wide: int, slots: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, wide, 5, padding=2), nn.ReLU(), nn.Conv2d(wide, wide, 5, stride=2, padding=2), nn.ReLU()
        )
        self.mean, self.log = nn.Parameter(torch.randn(1, 1, wide)), nn.Parameter(torch.zeros(1, 1, wide))
        self.norm_x, self.norm_slot, self.norm = nn.LayerNorm(wide), nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.q, self.k, self.v = (nn.Linear(wide, wide, bias=False) for _ in range(3))
        self.cell = nn.GRUCell(wide, wide)
        self.perceptron = nn.Sequential(nn.Linear(wide, 2 * wide), nn.ReLU(), nn.Linear(2 * wide, wide))
        self.decode = nn.Sequential(nn.Linear(wide, 128), nn.ReLU(), nn.Linear(128, 4 * 256))
        self.slots, self.wide = slots, wide

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = self.norm_x(self.encode(x).flatten(2).transpose(1, 2))
        key, value = self.k(pixels), self.v(pixels)
        slot = self.mean + self.log.exp() * torch.randn(len(x), self.slots, self.wide)
        for _ in range(3):
            share = (self.q(self.norm_slot(slot)) @ key.transpose(1, 2) * self.wide**-0.5).softmax(1) + 1e-8
            share = share / share.sum(-1, keepdim=True)
            moved = self.cell((share @ value).flatten(0, 1), slot.flatten(0, 1)).view_as(slot)
            slot = moved + self.perceptron(self.norm(moved))
        out = self.decode(slot).view(len(x), self.slots, 4, 256)
        return (out[:, :, :3] * out[:, :, 3:].softmax(1)).sum(1)


def slot_attention() -> Step:
    model = _Slots(64, 5)
    step = _step(model, torch.optim.Adam(model.parameters(), 4e-4), _against(model, functional.mse_loss))
    return step, (torch.rand(6, 3, 32, 32), torch.rand(6, 3, 256))


def second_derivatives() -> Step:
    """A perceptron that obeys a differential equation: second derivatives by its inputs are in the loss."""
    sizes = (2, 160, 160, 160)
    hidden = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.Tanh())]
    net = nn.Sequential(*hidden, nn.Linear(160, 1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def step(inside: torch.Tensor, edge: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        x = inside.detach().requires_grad_(True)
        u = net(x)
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        bend = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)[0][:, 0]
        off = slope[:, 1] + u[:, 0] * slope[:, 0] - 0.01 * bend
        loss = (off**2).mean() + functional.mse_loss(net(edge), value)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, (torch.rand(800, 2), torch.rand(200, 2), torch.rand(200, 1))


class _Forecast(nn.Module):
    """Residual perceptrons over time: each takes what it explains off the series and adds to the forecast."""

    def __init__(self, length: int, ahead: int, wide: int, blocks: int) -> None:
        super().__init__()
        sizes = ((length, wide), (wide, wide), (wide, length), (wide, ahead))
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Linear(*size) for size in sizes) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ahead: Any = 0
        for first, second, back, fore in self.blocks:
            y = functional.relu(second(functional.relu(first(x))))
            x, ahead = x - back(y), ahead + fore(y)
        return ahead


def residual_perceptrons() -> Step:
    model = _Forecast(120, 24, 256, 6)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9, nesterov=True, weight_decay=1e-4)
    step = _step(model, optimizer, _against(model, functional.huber_loss))
    return step, (torch.randn(256, 120), torch.randn(256, 24))
