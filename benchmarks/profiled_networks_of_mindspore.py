"""Training steps of MindSpore of kinds that language models don't have, for `benchmarks.network_runs`."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

Step = tuple[Any, tuple[Any, ...]]
"""A cell that trains, and the batch that it is called with; MindSpore is set up before it is made."""


def _normal(*shape: int) -> Any:
    return ms.Tensor(np.random.default_rng(1).normal(size=shape).astype(np.float32))


def _labels(count: int, classes: int) -> Any:
    return ms.Tensor(np.random.default_rng(2).integers(0, classes, count).astype(np.int32))


def _classifier(net: Any, optimizer: Any) -> Any:
    return nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss()), optimizer).set_train()


class _GatedCell(nn.Cell):
    """A gated recurrent unit, its six products apart."""

    def __init__(self, inputs: int, wide: int) -> None:
        super().__init__()
        self.reset_x, self.update_x, self.new_x = (nn.Dense(inputs, wide) for _ in range(3))
        self.reset_h, self.update_h, self.new_h = (nn.Dense(wide, wide) for _ in range(3))

    def construct(self, x: Any, held: Any) -> Any:
        reset = ops.sigmoid(self.reset_x(x) + self.reset_h(held))
        update = ops.sigmoid(self.update_x(x) + self.update_h(held))
        new = ops.tanh(self.new_x(x) + reset * self.new_h(held))
        return (1 - update) * new + update * held


class _Unrolled(nn.Cell):
    """Two recurrent layers, token by token."""

    def __init__(self, inputs: int, wide: int, tokens: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = _GatedCell(inputs, wide), _GatedCell(wide, wide)
        self.head, self.tokens, self.wide = nn.Dense(wide, classes), tokens, wide

    def construct(self, x: Any) -> Any:
        first = ops.zeros((x.shape[0], self.wide), ms.float32)
        second = first
        for at in range(self.tokens):
            first = self.first(x[:, at], first)
            second = self.second(first, second)
        return self.head(second)


def unrolled_gru() -> Step:
    net = _Unrolled(64, 256, 6, 10)
    return _classifier(net, nn.Adam(net.trainable_params(), 1e-3)), (_normal(64, 6, 64), _labels(64, 10))


class _Layer(nn.Cell):
    """Attention and a perceptron, each behind a norm."""

    def __init__(self, wide: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm((wide,)), nn.LayerNorm((wide,))
        self.qkv, self.out = nn.Dense(wide, 3 * wide), nn.Dense(wide, wide)
        self.up, self.down, self.act = nn.Dense(wide, 4 * wide), nn.Dense(4 * wide, wide), nn.GELU()

    def construct(self, x: Any) -> Any:
        batch, tokens, wide = x.shape
        head = wide // self.heads
        parts = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, head)
        query, key, value = parts.transpose(2, 0, 3, 1, 4)
        scores = ops.softmax(ops.matmul(query, key.swapaxes(-1, -2)) * head**-0.5, -1)
        x = x + self.out(ops.matmul(scores, value).transpose(0, 2, 1, 3).reshape(batch, tokens, wide))
        return x + self.down(self.act(self.up(self.norm2(x))))


class _VisionTransformer(nn.Cell):
    """Patches by one convolution, a learnt token before them, learnt positions."""

    def __init__(self, side: int, patch: int, wide: int, heads: int, layers: int, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, wide, patch, patch, pad_mode="valid", has_bias=True)
        tokens = (side // patch) ** 2 + 1
        self.token = ms.Parameter(_normal(1, 1, wide) * 0.02, name="token")
        self.places = ms.Parameter(_normal(1, tokens, wide) * 0.02, name="places")
        self.layers = nn.CellList([_Layer(wide, heads) for _ in range(layers)])
        self.norm, self.head, self.wide = nn.LayerNorm((wide,)), nn.Dense(wide, classes), wide

    def construct(self, x: Any) -> Any:
        batch = x.shape[0]
        x = self.patch(x).reshape(batch, self.wide, -1).swapaxes(1, 2)
        x = ops.cat((ops.broadcast_to(self.token, (batch, 1, self.wide)), x), 1) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


def vision_transformer() -> Step:
    net = _VisionTransformer(64, 8, 128, 4, 4, 10)
    optimizer = nn.AdamWeightDecay(net.trainable_params(), 1e-3)
    return _classifier(net, optimizer), (_normal(8, 3, 64, 64), _labels(8, 10))


class _PointNet(nn.Cell):
    """A perceptron over each point, a transform learnt from all of them, the largest over points."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.turn1, self.turn2, self.turn3 = nn.Dense(3, 64), nn.Dense(64, 128), nn.Dense(128, 9)
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv1d(inputs, out, 1, has_bias=True) for inputs, out in ((3, 64), (64, 128), (128, 512))
        )
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(out) for out in (64, 128, 512))
        self.dense1, self.dense2, self.head = nn.Dense(512, 256), nn.Dense(256, 128), nn.Dense(128, classes)

    def normed(self, norm: Any, x: Any) -> Any:
        return norm(x.expand_dims(-1)).squeeze(-1)

    def construct(self, x: Any) -> Any:
        turn = self.turn3(ops.relu(self.turn2(ops.relu(self.turn1(x)))).max(1)).reshape(-1, 3, 3)
        x = ops.bmm(x, turn).swapaxes(1, 2)
        x = ops.relu(self.normed(self.norm1, self.conv1(x)))
        x = ops.relu(self.normed(self.norm2, self.conv2(x)))
        x = self.normed(self.norm3, self.conv3(x)).max(2)
        return self.head(ops.relu(self.dense2(ops.relu(self.dense1(x)))))


def points() -> Step:
    net = _PointNet(12)
    return _classifier(net, nn.Adam(net.trainable_params(), 1e-3)), (_normal(8, 512, 3), _labels(8, 12))


class _DenseLayer(nn.Cell):
    """What comes in, joined with `grow` channels made from it."""

    def __init__(self, inputs: int, grow: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * grow, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * grow), nn.Conv2d(4 * grow, grow, 3)

    def construct(self, x: Any) -> Any:
        y = self.conv2(ops.relu(self.norm2(self.conv1(ops.relu(self.norm1(x))))))
        return ops.cat((x, y), 1)


class _DenseNet(nn.Cell):
    """Two stages of four dense layers, half the channels and a quarter of the pixels between them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3)
        self.first = nn.SequentialCell([_DenseLayer(24 + 12 * at, 12) for at in range(4)])
        self.less_norm, self.less, self.pool = nn.BatchNorm2d(72), nn.Conv2d(72, 36, 1), nn.AvgPool2d(2, 2)
        self.second = nn.SequentialCell([_DenseLayer(36 + 12 * at, 12) for at in range(4)])
        self.norm, self.head = nn.BatchNorm2d(84), nn.Dense(84, classes)

    def construct(self, x: Any) -> Any:
        x = self.pool(self.less(ops.relu(self.less_norm(self.first(self.stem(x))))))
        return self.head(ops.relu(self.norm(self.second(x))).mean((2, 3)))


def densenet() -> Step:
    net = _DenseNet(10)
    optimizer = nn.Momentum(net.trainable_params(), 0.1, 0.9, 1e-4)
    return _classifier(net, optimizer), (_normal(4, 3, 32, 32), _labels(4, 10))


class _Causal(nn.Cell):
    """Two dilated convolutions that see no later moment, beside a skip."""

    def __init__(self, inputs: int, out: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv1d(size, out, 3, pad_mode="pad", padding=2 * dilation, dilation=dilation, has_bias=True)
            for size in (inputs, out)
        )
        self.later = 2 * dilation
        self.skip = nn.Conv1d(inputs, out, 1, has_bias=True) if inputs != out else None

    def construct(self, x: Any) -> Any:
        y = ops.relu(self.conv1(x)[:, :, : -self.later])
        y = ops.relu(self.conv2(y)[:, :, : -self.later])
        return ops.relu(y + (x if self.skip is None else self.skip(x)))


class _Temporal(nn.Cell):
    """Dilated causal convolutions over time; the last moment is classified."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((16, 48, 1), (48, 48, 2), (48, 48, 4), (48, 48, 8))
        self.layers, self.head = nn.SequentialCell([_Causal(*size) for size in sizes]), nn.Dense(48, 5)

    def construct(self, x: Any) -> Any:
        return self.head(self.layers(x)[:, :, -1])


def temporal_convolutions() -> Step:
    net = _Temporal()
    return _classifier(net, nn.RMSProp(net.trainable_params(), 1e-3)), (_normal(16, 16, 200), _labels(16, 5))


class _GraphLayer(nn.Cell):
    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.dense = nn.Dense(inputs, out, has_bias=False)
        self.bias = ms.Parameter(ops.zeros((out,), ms.float32), name="bias")

    def construct(self, edges: Any, x: Any) -> Any:
        return ops.matmul(edges, self.dense(x)) + self.bias


class _GraphConvolutions(nn.Cell):
    """Convolutions over a graph given as a matrix, all layers joined for the head; the loss."""

    def __init__(self, inputs: int, wide: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.CellList([_GraphLayer(size, wide) for size in (inputs, wide, wide)])
        self.head, self.loss = nn.Dense(3 * wide, classes), nn.CrossEntropyLoss()

    def construct(self, edges: Any, x: Any, label: Any) -> Any:
        kept = []
        for layer in self.layers:
            x = ops.elu(layer(edges, x))
            kept.append(x)
        return self.loss(self.head(ops.cat(kept, -1)), label)


def graph_convolutions() -> Step:
    net = _GraphConvolutions(100, 128, 7)
    step = nn.TrainOneStepCell(net, nn.Adagrad(net.trainable_params(), 1e-2)).set_train()
    return step, (_normal(600, 600) / 600, _normal(600, 100), _labels(600, 7))


class _Slope(nn.Cell):
    def __init__(self, wide: int) -> None:
        super().__init__()
        self.up, self.down = nn.Dense(wide, 2 * wide), nn.Dense(2 * wide, wide)

    def construct(self, time: float, x: Any) -> Any:
        return self.down(ops.tanh(self.up(x + time)))


class _Equation(nn.Cell):
    """A differential equation whose right side is learnt, by four steps of Runge and Kutta."""

    def __init__(self, inputs: int, wide: int, classes: int) -> None:
        super().__init__()
        self.into, self.slope = nn.Dense(inputs, wide), _Slope(wide)
        self.norm, self.head = nn.LayerNorm((wide,)), nn.Dense(wide, classes)

    def construct(self, x: Any) -> Any:
        x, step = self.into(x), 0.25
        for at in range(4):
            time = at * step
            first = self.slope(time, x)
            second = self.slope(time + step / 2, x + step / 2 * first)
            third = self.slope(time + step / 2, x + step / 2 * second)
            fourth = self.slope(time + step, x + step * third)
            x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
        return self.head(self.norm(x))


def differential_equation() -> Step:
    net = _Equation(40, 128, 6)
    return _classifier(net, nn.AdaMax(net.trainable_params(), 1e-3)), (_normal(256, 40), _labels(256, 6))


class _Squeezed(nn.Cell):
    """A residual whose channels are weighed by their means."""

    def __init__(self, wide: int, less: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(wide, wide, 3), nn.BatchNorm2d(wide)
        self.conv2, self.norm2 = nn.Conv2d(wide, wide, 3), nn.BatchNorm2d(wide)
        self.down, self.up = nn.Dense(wide, less), nn.Dense(less, wide)

    def construct(self, x: Any) -> Any:
        y = self.norm2(self.conv2(ops.relu(self.norm1(self.conv1(x)))))
        gate = ops.sigmoid(self.up(ops.relu(self.down(y.mean((2, 3))))))
        return ops.relu(x + y * gate.reshape(x.shape[0], -1, 1, 1))


class _SqueezedResiduals(nn.Cell):
    def __init__(self, wide: int, layers: int, classes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, wide, 3, 2), nn.Dense(wide, classes)
        self.layers = nn.SequentialCell([_Squeezed(wide, wide // 4) for _ in range(layers)])

    def construct(self, x: Any) -> Any:
        return self.head(self.layers(self.stem(x)).mean((2, 3)))


def squeezed_residuals() -> Step:
    net = _SqueezedResiduals(32, 4, 10)
    optimizer = nn.SGD(net.trainable_params(), 0.05, momentum=0.9)
    return _classifier(net, optimizer), (_normal(4, 3, 48, 48), _labels(4, 10))


class _Tower(nn.Cell):
    def __init__(self, inputs: int, wide: int) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Dense(inputs, wide), nn.Dense(wide, wide), nn.Dense(wide, 64)
        self.norm = nn.LayerNorm((wide,))

    def construct(self, x: Any) -> Any:
        y = self.third(ops.gelu(self.second(ops.gelu(self.norm(self.first(x))))))
        return y / ops.sqrt((y * y).sum(-1, keepdims=True) + 1e-6)


class _Triplet(nn.Cell):
    """One tower for an anchor, what is like it and what is not; the loss by a margin between them."""

    def __init__(self, inputs: int, wide: int) -> None:
        super().__init__()
        self.tower = _Tower(inputs, wide)

    def construct(self, anchor: Any, like: Any, other: Any) -> Any:
        anchor, like, other = self.tower(anchor), self.tower(like), self.tower(other)
        near, far = ((anchor - like) ** 2).sum(-1), ((anchor - other) ** 2).sum(-1)
        return ops.relu(near - far + 0.3).mean()


def one_tower() -> Step:
    net = _Triplet(80, 200)
    step = nn.TrainOneStepCell(net, nn.AdamWeightDecay(net.trainable_params(), 1e-3)).set_train()
    return step, (_normal(300, 80), _normal(300, 80) * 2, _normal(300, 80) + 1)
