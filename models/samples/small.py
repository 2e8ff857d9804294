"""Small MindSpore models: a perceptron, a convolutional network, and one with data-dependent control flow."""

from __future__ import annotations

from typing import Any


def perceptron(features: int = 64, hidden: int = 256, classes: int = 10) -> Any:
    """Two dense layers with a ReLU between them, from `(batch, features)` float32 to `(batch, classes)`."""
    from mindspore import nn, ops

    class Perceptron(nn.Cell):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Dense(features, hidden)
            self.fc2 = nn.Dense(hidden, classes)

        def construct(self, x: Any) -> Any:
            return self.fc2(ops.relu(self.fc1(x)))

    return Perceptron()


def convolutional(classes: int = 10) -> Any:
    """Two convolutions with batch normalisation and pooling, then a dense layer; input `(batch, 3, 32, 32)` float32."""
    from mindspore import nn, ops

    class Convolutional(nn.Cell):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, pad_mode="same", has_bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.conv2 = nn.Conv2d(16, 32, 3, stride=2, pad_mode="same", has_bias=False)
            self.bn2 = nn.BatchNorm2d(32)
            self.pool = nn.MaxPool2d(2, 2)
            self.fc = nn.Dense(32 * 8 * 8, classes)

        def construct(self, x: Any) -> Any:
            x = ops.relu(self.bn1(self.conv1(x)))
            x = self.pool(ops.relu(self.bn2(self.conv2(x))))
            return self.fc(x.reshape(x.shape[0], -1))

    return Convolutional()


def branching(width: int = 64) -> Any:
    """A branch and a loop that depend on the data, over `(width, width)` float32 and an int32 count."""
    from mindspore import Parameter, Tensor, nn, ops
    from mindspore import dtype as mstype

    class Branching(nn.Cell):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.scale = Parameter(Tensor(0.5, mstype.float32), name="scale")
            self.bias = Parameter(ops.ones((width,), mstype.float32), name="bias")

        def construct(self, x: Any, count: Any) -> Any:
            if ops.reduce_sum(x) > 0:  # noqa: SIM108
                x = ops.matmul(x, x) * self.scale
            else:
                x = ops.relu(x) + self.bias
            while count > 0:
                x = ops.tanh(ops.matmul(x, x))
                count = count - 1
            return x + self.bias

    return Branching()


def classifier_step(network: Any, learning_rate: float = 1e-3) -> Any:
    """`network` as one training step on class labels: cross entropy, its gradient and Adam."""
    from mindspore import nn

    loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    return nn.TrainOneStepCell(loss, nn.Adam(network.trainable_params(), learning_rate=learning_rate))
