"""Small training scripts of MindSpore as users write them, sizes by seed; MindSpore is set up before they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

INT, FLOAT = np.int32, np.float32


@dataclass(frozen=True)
class Training:
    """What is planned, what the plan is applied to, and a step: loss by the callbacks that `Model.train` gets."""

    planned: Any
    target: Any
    step: Callable[[list[Any]], float]


@dataclass(frozen=True)
class Script:
    """A batch, and how a network and its optimiser become something that trains."""

    batch: tuple[Any, ...]
    make: Callable[[], Training]


class _Block(nn.Cell):
    def __init__(self, wide: int, out: int, norm: bool, dropout: float) -> None:
        super().__init__()
        self.dense, self.act = nn.Dense(wide, out), nn.ReLU() if norm else nn.Tanh()
        self.norm = nn.LayerNorm((out,)) if norm else None
        self.dropout = nn.Dropout(p=dropout) if dropout else None

    def construct(self, x: Any) -> Any:
        x = self.dense(x)
        x = self.act(x if self.norm is None else self.norm(x))
        return x if self.dropout is None else self.dropout(x)


class _Perceptron(nn.Cell):
    def __init__(self, inputs: int, wide: int, layers: int, classes: int, norm: bool, dropout: float) -> None:
        super().__init__()
        widths = [inputs, *[wide] * (layers - 1)]
        self.net = nn.SequentialCell(*(_Block(width, wide, norm, dropout) for width in widths))
        self.head = nn.Dense(wide, classes)

    def construct(self, x: Any) -> Any:
        return self.head(self.net(x))


class _Stage(nn.Cell):
    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(inputs, out, 3), nn.BatchNorm2d(out), nn.ReLU()

    def construct(self, x: Any) -> Any:
        return self.relu(self.norm(self.conv(x)))


class _Convolutions(nn.Cell):
    def __init__(self, channels: int, stages: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3)
        self.stages = nn.SequentialCell(*(_Stage(channels, channels) for _ in range(stages)))
        self.pool, self.head = nn.MaxPool2d(2, 2), nn.Dense(channels, classes)

    def construct(self, x: Any) -> Any:
        return self.head(ops.mean(self.pool(self.stages(self.stem(x))), (2, 3)))


class _Layer(nn.Cell):
    def __init__(self, wide: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads, self.wide, self.length = heads, wide, length
        self.norm1, self.norm2 = nn.LayerNorm((wide,)), nn.LayerNorm((wide,))
        self.qkv, self.out = nn.Dense(wide, 3 * wide), nn.Dense(wide, wide)
        self.up, self.down, self.act = nn.Dense(wide, 4 * wide), nn.Dense(4 * wide, wide), nn.GELU()
        self.mask = ms.Tensor(np.triu(np.full((length, length), -6e4, FLOAT), 1))

    def construct(self, x: Any) -> Any:
        parts = self.qkv(self.norm1(x)).reshape(-1, self.length, 3, self.heads, self.wide // self.heads)
        query, key, value = parts.transpose(2, 0, 3, 1, 4)
        scores = ops.matmul(query, key.transpose(0, 1, 3, 2)) * (self.wide // self.heads) ** -0.5
        mixed = ops.matmul(ops.softmax(scores + self.mask, -1), value)
        x = x + self.out(mixed.transpose(0, 2, 1, 3).reshape(-1, self.length, self.wide))
        return x + self.down(self.act(self.up(self.norm2(x))))


class _Language(nn.Cell):
    """A language model of layers written out, or of the framework's own with `dropout`."""

    def __init__(
        self, words: int, wide: int, heads: int, length: int, layers: int, own: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, wide)
        self.layers = nn.CellList(
            [
                _Layer(wide, heads, length)
                if own
                else nn.TransformerEncoderLayer(wide, heads, 4 * wide, dropout, batch_first=True)
                for _ in range(layers)
            ]
        )
        self.head, self.words = nn.Dense(wide, words), words

    def construct(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x).reshape(-1, self.words)


def _cells(network: Any, loss: Any, optimizer: Any, batch: tuple[Any, ...]) -> Training:
    """A training step as a cell."""
    step = nn.TrainOneStepCell(nn.WithLossCell(network, loss), optimizer).set_train()
    return Training(step, step, lambda _: float(step(*batch)))


def _function(network: Any, loss: Any, optimizer: Any, batch: tuple[Any, ...], jit: bool = False) -> Training:
    """A function of gradients, as the framework's tutorials write it."""
    network.set_train()

    def forward(data: Any, label: Any) -> Any:
        return loss(network(data), label)

    gradients = ms.value_and_grad(forward, None, optimizer.parameters)

    def train_step(data: Any, label: Any) -> Any:
        found, grads = gradients(data, label)
        optimizer(grads)
        return found

    step = ms.jit(train_step) if jit else train_step
    return Training(step, network, lambda _: float(step(*batch)))


def _accumulated(network: Any, loss: Any, optimizer: Any, batch: tuple[Any, ...]) -> Training:
    """A function that adds the gradients of two halves of the batch."""
    network.set_train()

    def forward(data: Any, label: Any) -> Any:
        return loss(network(data), label)

    gradients = ms.value_and_grad(forward, None, optimizer.parameters)
    half = batch[0].shape[0] // 2

    def step(data: Any, label: Any) -> Any:
        first, grads = gradients(data[:half], label[:half])
        second, more = gradients(data[half:], label[half:])
        optimizer(tuple(ops.add(one, other) for one, other in zip(grads, more)))  # noqa: B905 - the compiler knows no other zip
        return first + second

    return Training(step, network, lambda _: float(step(*batch)))


def _compiled(network: Any, loss: Any, optimizer: Any, batch: tuple[Any, ...]) -> Training:
    """The same under `ms.jit`."""
    return _function(network, loss, optimizer, batch, jit=True)


def _model(network: Any, loss: Any, optimizer: Any, batch: tuple[Any, ...]) -> Training:
    """`mindspore.train.Model` with callbacks."""
    model = ms.train.Model(network, loss, optimizer)
    losses: list[float] = []

    class Kept(ms.train.Callback):
        def on_train_step_end(self, run: Any) -> None:
            losses.append(float(run.original_args().net_outputs))

    data = ms.dataset.NumpySlicesDataset(tuple(part.asnumpy() for part in batch), shuffle=False)
    data = data.batch(len(batch[0]))

    def step(callbacks: list[Any]) -> float:
        model.train(1, data, callbacks=[Kept(), *callbacks], dataset_sink_mode=False)
        return losses[-1]

    return Training(model, model, step)


_Way = Callable[[Any, Any, Any, tuple[Any, ...]], Training]


def _perceptron(
    way: _Way, optimizer: Callable[..., Any], norm: bool, dropout: float = 0.0
) -> Callable[[np.random.Generator], Script]:
    def script(draw: np.random.Generator) -> Script:
        rows, inputs, classes = (int(draw.integers(*span)) for span in ((200, 900), (40, 200), (5, 30)))
        wide, layers = int(draw.integers(100, 400)), int(draw.integers(4, 8))
        batch = (
            ms.Tensor(draw.normal(size=(rows, inputs)).astype(FLOAT)),
            ms.Tensor(draw.integers(0, classes, rows).astype(INT)),
        )

        def make() -> Training:
            network = _Perceptron(inputs, wide, layers, classes, norm, dropout)
            return way(network, nn.CrossEntropyLoss(), optimizer(network.trainable_params()), batch)

        return Script(batch, make)

    return script


def _mixed(network: Any, amp: str) -> Any:
    return network if amp == "O0" else ms.amp.auto_mixed_precision(network, amp)


def _convolutions(way: _Way, optimizer: Callable[..., Any], amp: str = "O0") -> Callable[[np.random.Generator], Script]:
    def script(draw: np.random.Generator) -> Script:
        images, side, classes = (int(draw.integers(*span)) for span in ((3, 9), (16, 40), (5, 30)))
        channels, stages = int(draw.integers(8, 24)), int(draw.integers(3, 7))
        batch = (
            ms.Tensor(draw.normal(size=(images, 3, side, side)).astype(FLOAT)),
            ms.Tensor(draw.integers(0, classes, images).astype(INT)),
        )

        def make() -> Training:
            network = _mixed(_Convolutions(channels, stages, classes), amp)
            return way(network, nn.CrossEntropyLoss(), optimizer(network.trainable_params()), batch)

        return Script(batch, make)

    return script


def _language(
    way: _Way, optimizer: Callable[..., Any], own: bool = True, dropout: float = 0.0, amp: str = "O0"
) -> Callable[[np.random.Generator], Script]:
    def script(draw: np.random.Generator) -> Script:
        words, length, rows = (int(draw.integers(*span)) for span in ((200, 900), (40, 120), (2, 6)))
        heads, layers = int(draw.integers(2, 6)), int(draw.integers(3, 6))
        wide = heads * 8 * int(draw.integers(2, 4))
        tokens = draw.integers(0, words, (rows, length)).astype(INT)
        batch = (ms.Tensor(tokens), ms.Tensor(draw.integers(0, words, rows * length).astype(INT)))
        if way is _model:  # a dataset has as many labels as samples
            length = rows = int(length**0.5) * 2
            tokens = draw.integers(0, words, (rows, length)).astype(INT)
            batch = (ms.Tensor(tokens), ms.Tensor(draw.integers(0, words, (rows, length)).astype(INT)))

        def make() -> Training:
            network = _mixed(_Language(words, wide, heads, length, layers, own, dropout), amp)
            loss = nn.CrossEntropyLoss()
            flat = _Flat(loss) if way is _model else loss
            return way(network, flat, optimizer(network.trainable_params()), batch)

        return Script(batch, make)

    return script


class _Flat(nn.Cell):
    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss

    def construct(self, found: Any, label: Any) -> Any:
        return self.loss(found, label.reshape(-1))


def _adam(parameters: Any) -> Any:
    return nn.Adam(parameters, 1e-3)


def _decayed(parameters: Any) -> Any:
    return nn.AdamWeightDecay(parameters, 1e-3)


def _rms(parameters: Any) -> Any:
    return nn.RMSProp(parameters, 1e-4)


def _momentum(parameters: Any) -> Any:
    return nn.Momentum(parameters, 0.05, 0.9)


SCRIPTS: dict[str, Callable[[np.random.Generator], Script]] = {
    "perceptron, TrainOneStepCell, Adam": _perceptron(_cells, _adam, True),
    "perceptron, value_and_grad, Momentum": _perceptron(_function, _momentum, False),
    "perceptron, value_and_grad in jit, Adam": _perceptron(_compiled, _adam, True),
    "convolutions, TrainOneStepCell, Momentum": _convolutions(_cells, _momentum),
    "convolutions, Model.train, Adam": _convolutions(_model, _adam),
    "convolutions, value_and_grad, Momentum": _convolutions(_function, _momentum),
    "transformer, TrainOneStepCell, AdamWeightDecay": _language(_cells, _decayed),
    "transformer, value_and_grad, Adam": _language(_function, _adam),
    "transformer, value_and_grad in jit, Momentum": _language(_compiled, _momentum),
    "transformer, Model.train, Adam": _language(_model, _adam),
    "nn.TransformerEncoderLayer, TrainOneStepCell, Adam": _language(_cells, _adam, own=False),
    "nn.TransformerEncoderLayer with dropout, value_and_grad, Adam": _language(_function, _adam, False, 0.1),
    "transformer, mixed precision O1, TrainOneStepCell, Momentum": _language(_cells, _momentum, amp="O1"),
    "transformer, mixed precision O2, value_and_grad, Adam": _language(_function, _adam, amp="O2"),
    "nn.TransformerEncoderLayer with dropout, mixed precision O1, TrainOneStepCell, Adam": _language(
        _cells, _adam, False, 0.1, "O1"
    ),
    "convolutions, mixed precision O1, TrainOneStepCell, RMSProp": _convolutions(_cells, _rms, "O1"),
    "perceptron with dropout, value_and_grad, RMSProp": _perceptron(_function, _rms, True, 0.2),
    "perceptron, accumulated gradients, Adam": _perceptron(_accumulated, _adam, True),
}
