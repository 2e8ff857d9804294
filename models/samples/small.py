"""MindSpore models: a perceptron, convolutional networks, and one with data-dependent control flow."""

from __future__ import annotations

from typing import Any


def perceptron(features: int = 64, hidden: int = 256, classes: int = 10) -> Any:
    """Two dense layers with a ReLU between them, from `(batch, features)` float32 to `(batch, classes)`."""
    from mindspore import nn, ops

    class Perceptron(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
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

    class Convolutional(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
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


def alexnet(classes: int = 1000) -> Any:
    """AlexNet in one column (arXiv:1404.5997), from `(batch, 3, 224, 224)` float32 to `(batch, classes)`."""
    from mindspore import nn, ops

    class AlexNet(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 11, stride=4, padding=2, pad_mode="pad", has_bias=True)
            self.conv2 = nn.Conv2d(64, 192, 5, padding=2, pad_mode="pad", has_bias=True)
            self.conv3 = nn.Conv2d(192, 384, 3, padding=1, pad_mode="pad", has_bias=True)
            self.conv4 = nn.Conv2d(384, 256, 3, padding=1, pad_mode="pad", has_bias=True)
            self.conv5 = nn.Conv2d(256, 256, 3, padding=1, pad_mode="pad", has_bias=True)
            self.pool1, self.pool2, self.pool5 = (nn.MaxPool2d(3, 2) for _ in range(3))
            self.drop6, self.drop7 = nn.Dropout(p=0.5), nn.Dropout(p=0.5)
            self.fc6 = nn.Dense(256 * 6 * 6, 4096)
            self.fc7 = nn.Dense(4096, 4096)
            self.fc8 = nn.Dense(4096, classes)

        def construct(self, x: Any) -> Any:
            x = self.pool1(ops.relu(self.conv1(x)))
            x = self.pool2(ops.relu(self.conv2(x)))
            x = ops.relu(self.conv4(ops.relu(self.conv3(x))))
            x = self.pool5(ops.relu(self.conv5(x)))
            x = ops.relu(self.fc6(self.drop6(x.reshape(x.shape[0], -1))))
            return self.fc8(ops.relu(self.fc7(self.drop7(x))))

    return AlexNet()


def branching(width: int = 64) -> Any:
    """A branch and a loop that depend on the data, over `(width, width)` float32 and an int32 count."""
    from mindspore import Parameter, Tensor, nn, ops
    from mindspore import dtype as mstype

    class Branching(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__()
            self.scale = Parameter(Tensor(0.5, mstype.float32), name="scale")
            self.bias = Parameter(ops.ones((width,), mstype.float32), name="bias")

        def construct(self, x: Any, count: Any) -> Any:
            if ops.reduce_sum(x) > 0:  # noqa: SIM108 - a branch is what it is for
                x = ops.matmul(x, x) * self.scale
            else:
                x = ops.relu(x) + self.bias
            while count > 0:
                x = ops.tanh(ops.matmul(x, x))
                count = count - 1
            return x + self.bias

    return Branching()


def classifier_step(network: Any, learning_rate: float = 1e-3, momentum: float | None = None) -> Any:
    """`network` as one training step on class labels: cross entropy, its gradient and Adam, or SGD with `momentum`."""
    from mindspore import nn

    loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    weights = network.trainable_params()
    if momentum is None:
        return nn.TrainOneStepCell(loss, nn.Adam(weights, learning_rate=learning_rate))
    return nn.TrainOneStepCell(loss, nn.Momentum(weights, learning_rate, momentum, weight_decay=1e-4))
