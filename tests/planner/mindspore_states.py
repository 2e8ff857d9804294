"""
Exports MindSpore graphs that change tensors in place: optimisers, running statistics, KV caches, control flow.

Started as a process of its own by the tests: `mindspore_states.py FOLDER [NAME...]`; MindSpore keeps its configuration
per process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

OPTIMIZERS = ("Adam", "AdamWeightDecay", "Momentum", "SGD", "RMSProp", "Lamb")
NETWORKS = ("mlp", "mlp_batch_norm", "conv_batch_norm", "layer_norm", "embedding", "tied")
RARER = ("layer_norm_FTRL", "conv_batch_norm_Adagrad", "mlp_AdaMax", "mlp_batch_norm_Rprop", "embedding_Adadelta")
OTHERS = ("paged_decode", "paged_layers", "while_update", "if_update", "nested_update", "scatter", "counter",
          "running_mean")  # fmt: skip
NAMES = tuple(f"{network}_{optimizer}" for network in NETWORKS for optimizer in OPTIMIZERS) + RARER + OTHERS
FAST = ("mlp_batch_norm_Momentum", "tied_Adam", "paged_layers", "if_update")


def export(folder: Path, names: tuple[str, ...]) -> None:
    """Write `<name>.mindir` into `folder` for each of `names`."""
    import mindspore as ms
    import numpy as np
    from mindspore import Parameter, Tensor, nn, ops

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")

    def floats(*shape: int) -> Any:
        return Tensor(np.zeros(shape, np.float32))

    def halves(*shape: int) -> Any:
        return Tensor(np.zeros(shape, np.float16))

    def whole(*shape: int) -> Any:
        return Tensor(np.zeros(shape, np.int32))

    class Net(nn.Cell):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind
            if kind in ("embedding", "tied"):
                self.table = Parameter(floats(256, 64), name="table")
            self.conv = nn.Conv2d(3, 16, 3) if kind == "conv_batch_norm" else None
            self.norm2d = nn.BatchNorm2d(16) if kind == "conv_batch_norm" else None
            self.first = nn.Dense(16 * 64 if kind == "conv_batch_norm" else 64, 256)
            if kind == "mlp_batch_norm":
                self.norm = nn.BatchNorm1d(256)
            elif kind == "layer_norm":
                self.norm = nn.LayerNorm((256,))
            self.second = nn.Dense(256, 256)
            self.last = nn.Dense(256, 64 if kind == "tied" else 10)

        def construct(self, x: Any, y: Any) -> Any:
            if self.kind == "conv_batch_norm":
                x = ops.relu(self.norm2d(self.conv(x))).reshape(x.shape[0], -1)
            if self.kind in ("embedding", "tied"):
                x = ops.gather(self.table, x, 0)
            x = self.first(x)
            if self.kind in ("mlp_batch_norm", "layer_norm"):
                x = self.norm(x)
            x = self.last(ops.relu(self.second(ops.relu(x))))
            if self.kind == "tied":
                x = ops.matmul(x, self.table.T)
            return ops.cross_entropy(x, y)

    def training(name: str) -> tuple[Any, tuple[Any, ...]]:
        network, _, optimizer = name.rpartition("_")
        net = Net(network)
        extra = {"Momentum": (0.1, 0.9), "Lamb": (0.01,)}.get(optimizer, ())
        keywords = {"SGD": {"momentum": 0.9}}.get(optimizer, {})
        update = getattr(nn, optimizer)(net.trainable_params(), *extra, **keywords)
        shape = (8, 3, 8, 8) if network == "conv_batch_norm" else (8, 64)
        first = whole(8) if network in ("embedding", "tied") else floats(*shape)
        return nn.TrainOneStepCell(net, update).set_train(), (first, whole(8))

    class Decode(nn.Cell):
        def __init__(self, layers: int) -> None:
            super().__init__()
            self.write = ops.auto_generate.ReshapeAndCache()
            self.attend = ops.auto_generate.PagedAttention(4, 0.125, 4)
            self.weights = ms.ParameterTuple([Parameter(halves(256, 256), name=f"w{i}") for i in range(layers)])
            self.keys = ms.ParameterTuple([Parameter(halves(64, 16, 4, 64), name=f"k{i}") for i in range(layers)])
            self.values = ms.ParameterTuple([Parameter(halves(64, 16, 4, 64), name=f"v{i}") for i in range(layers)])
            self.layers = layers

        def construct(self, x: Any, slots: Any, table: Any, lengths: Any) -> Any:
            for i in range(self.layers):
                q = ops.matmul(x, self.weights[i])
                x = ops.depend(q, self.write(q, q, self.keys[i], self.values[i], slots))
                x = self.attend(x, self.keys[i], self.values[i], table, lengths)
            return x

    class Other(nn.Cell):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind
            self.state = Parameter(floats(256, 256), name="state", requires_grad=False)
            self.weights = ms.ParameterTuple([Parameter(floats(256, 256), name=f"w{i}") for i in range(6)])

        def construct(self, x: Any, n: Any) -> Any:
            for i in range(3):
                x = ops.relu(ops.matmul(x, self.weights[i]))
            if self.kind == "if_update":
                if n > 3:
                    ops.assign(self.state, ops.matmul(x, self.weights[3]))
                else:
                    x = ops.matmul(x, self.state)
            elif self.kind == "while_update":
                while n > 0:
                    x = ops.matmul(x, self.weights[3])
                    ops.assign_add(self.state, x)
                    n = n - 1
            elif self.kind == "nested_update":
                while n > 0:
                    if n > 2:
                        x = ops.matmul(x, self.weights[3])
                        ops.assign(self.state, self.state * 0.5 + x)
                    else:
                        x = ops.matmul(self.state, self.weights[3])
                    n = n - 1
            elif self.kind == "scatter":
                ops.scatter_update(self.state, whole(4), x[:4])
            elif self.kind == "counter":
                ops.assign_add(self.state, x)
                ops.assign_sub(self.state, ops.matmul(x, self.weights[3]))
            else:
                ops.assign(self.state, self.state * 0.9 + x * 0.1)
            for i in range(4, 6):
                x = ops.relu(ops.matmul(x, self.weights[i]))
            return x + self.state

    def other(name: str) -> tuple[Any, tuple[Any, ...]]:
        return Other(name), (floats(256, 256), Tensor(4, ms.int32))

    makers: dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {}
    for name in OTHERS:
        makers[name] = partial(other, name)
    tokens = (halves(8, 256), whole(8), whole(8, 8), whole(8))
    makers["paged_decode"] = lambda: (Decode(1), tokens)
    makers["paged_layers"] = lambda: (Decode(8), tokens)
    for name in names:
        cell, inputs = makers[name]() if name in makers else training(name)
        ms.export(cell, *inputs, file_name=str(folder / name), file_format="MINDIR")


if __name__ == "__main__":
    export(Path(sys.argv[1]), tuple(sys.argv[2:]) or NAMES)
