"""
MindSpore cells as people write them, small: what the readers' tests export, run and measure.

`CELLS` names them; each is made with its inputs' shapes, and where it makes sense with dimensions that an export
leaves open (-1). For processes of their own: this imports MindSpore.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mindspore import nn, ops
from mindspore.ops.auto_generate import MoeGatingTopKSoftmax

F32, I32, I64, BOOL = "float32", "int32", "int64", "bool_"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class FieldCell:
    """
    A cell to be made, its inputs as (shape, dtype) and the shapes with open dimensions, if it is exported with any.

    `optimizer` makes a training step of it with cross entropy (`labels`) or mean squares; `runs` is false for ops that
    the CPU build has no kernel for. `high` is one more than the largest integer that it may be given.
    """

    make: Callable[[], Any]
    inputs: tuple[tuple[Shape, str], ...]
    opened: tuple[Shape, ...] = ()
    runs: bool = True
    high: int = 2


def _net(*layers: Any) -> Any:
    return nn.SequentialCell(*layers)


def _function(body: Callable[..., Any], **parts: Any) -> Any:
    """A cell that runs `body(parts..., inputs...)`."""
    names = tuple(parts)

    class Body(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.body = body
            for name, part in parts.items():
                setattr(self, name, part)

        if len(names) == 0:

            def construct(self, *inputs: Any) -> Any:
                return self.body(*inputs)

        elif len(names) == 1:

            def construct(self, *inputs: Any) -> Any:
                return self.body(self.a, *inputs)

        else:

            def construct(self, *inputs: Any) -> Any:
                return self.body(self.a, self.b, *inputs)

    return Body()


def _trained(net: Any, loss: Callable[..., Any], optimizer: str, **options: Any) -> Any:
    """A training step of `net` with `loss(net, inputs..., target)` and the optimiser of this name."""

    class WithLoss(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.loss = loss

        def construct(self, *inputs: Any) -> Any:
            return self.loss(self.net, *inputs)

    with_loss = WithLoss()
    return nn.TrainOneStepCell(with_loss, getattr(nn, optimizer)(with_loss.trainable_params(), **options)).set_train()


def _cross_entropy(net: Any, x: Any, y: Any) -> Any:
    return ops.cross_entropy(net(x), y)


def _squares(net: Any, x: Any, y: Any) -> Any:
    return ops.mse_loss(net(x), y)


def _token_loss(net: Any, x: Any, y: Any) -> Any:
    out = net(x)
    return ops.cross_entropy(out.reshape((-1, out.shape[-1])), y.reshape((-1,)))


def _trained_mlp(optimizer: str, options: Mapping[str, float]) -> Any:
    return _trained(mlp(64, 2), _cross_entropy, optimizer, **options)


def mlp(width: int = 128, depth: int = 3, classes: int = 10) -> Any:
    """Dense layers with GELU."""
    layers = []
    for _ in range(depth):
        layers += [nn.Dense(width, width), nn.GELU()]
    return _net(*layers, nn.Dense(width, classes))


def block(width: int = 64, heads: int = 4, *, norm_first: bool = True) -> Any:
    """A transformer block: attention written out, then an MLP."""

    class Block(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm((width,)), nn.LayerNorm((width,))
            self.qkv, self.out = nn.Dense(width, 3 * width), nn.Dense(width, width)
            self.up, self.down = nn.Dense(width, 4 * width), nn.Dense(4 * width, width)

        def attend(self, x: Any) -> Any:
            b, s, _ = x.shape
            q, k, v = ops.split(self.qkv(x), width, 2)
            q = q.reshape((b, s, heads, width // heads)).swapaxes(1, 2)
            k = k.reshape((b, s, heads, width // heads)).swapaxes(1, 2)
            v = v.reshape((b, s, heads, width // heads)).swapaxes(1, 2)
            scores = ops.softmax(ops.matmul(q, k.swapaxes(2, 3)) * 0.25, -1)
            return self.out(ops.matmul(scores, v).swapaxes(1, 2).reshape((b, s, width)))

        def construct(self, x: Any) -> Any:
            if norm_first:
                x = x + self.attend(self.n1(x))
                return x + self.down(ops.gelu(self.up(self.n2(x))))
            x = self.n1(x + self.attend(x))
            return self.n2(x + self.down(ops.relu(self.up(x))))

    return Block()


def language_model(layers: int = 2, width: int = 64, vocabulary: int = 100) -> Any:
    """Embedding, blocks, head; from tokens to scores of each next token."""
    return _net(nn.Embedding(vocabulary, width), *(block(width) for _ in range(layers)), nn.Dense(width, vocabulary))


def encoder_decoder_convolutions() -> Any:
    """A small U-Net: strided convolutions down, transposed ones up, what is skipped concatenated."""

    class UNet(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.d1 = nn.Conv2d(3, 8, 3, pad_mode="same")
            self.d2 = nn.Conv2d(8, 16, 3, stride=2, pad_mode="pad", padding=1)
            self.pool = nn.MaxPool2d(2, 2)
            self.d3 = nn.Conv2d(16, 32, 3, pad_mode="same")
            self.u1 = nn.Conv2dTranspose(32, 16, 2, stride=2)
            self.u2 = nn.Conv2dTranspose(32, 8, 2, stride=2)
            self.end = nn.Conv2d(16, 2, 1)

        def construct(self, x: Any) -> Any:
            a = ops.relu(self.d1(x))
            b = ops.relu(self.d2(a))
            c = ops.relu(self.d3(self.pool(b)))
            c = ops.cat((self.u1(c), b), 1)
            return self.end(ops.cat((self.u2(c), a), 1))

    return UNet()


def residual() -> Any:
    """Convolutions with batch norm and a shortcut, average over the picture, a dense layer."""

    class Residual(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.b0 = nn.Conv2d(3, 16, 7, stride=2, pad_mode="pad", padding=3), nn.BatchNorm2d(16)
            self.pool = nn.MaxPool2d(3, 2, pad_mode="same")
            self.c1, self.b1 = nn.Conv2d(16, 16, 3, pad_mode="same"), nn.BatchNorm2d(16)
            self.c2, self.b2 = nn.Conv2d(16, 16, 3, pad_mode="same"), nn.BatchNorm2d(16)
            self.fc = nn.Dense(16, 10)

        def construct(self, x: Any) -> Any:
            x = self.pool(ops.relu(self.b0(self.stem(x))))
            y = self.b2(self.c2(ops.relu(self.b1(self.c1(x)))))
            return self.fc(ops.relu(x + y).mean((2, 3)))

    return Residual()


def _swap(a: Any, x: Any) -> Any:
    return a(x).swapaxes(0, 1) * 2


def _mixer(a: Any, b: Any, x: Any) -> Any:
    return b(ops.gelu(a(x)).swapaxes(1, 2)).swapaxes(1, 2) + x


def _norms(a: Any, x: Any) -> Any:
    return ops.relu(a(x)) + x


def _unstacked(x: Any) -> Any:
    parts = ops.unstack(x, 1)
    return ops.stack(parts[:2], 0) + 1


def _one_hot(x: Any) -> Any:
    return ops.one_hot(x, 16).astype("float32").cumsum(1)


def _indices(x: Any) -> Any:
    values, places = ops.topk(x, 4)
    return (ops.gather_elements(x, 1, places) + values) * ops.expand_dims(ops.argmax(x, 1), 1)


def _sliced(x: Any) -> Any:
    return x[:, 2:-2:2] + x[:, 1:-3:2] + x[:1, 2:-2:2]


def _padded(x: Any) -> Any:
    return ops.pad(x, (1, 2)) * 3


def _split(x: Any) -> Any:
    a, b = ops.chunk(x, 2, 1)
    return ops.cat((ops.cat((b, a), 1), ops.tile(a, (1, 2))), 0)


def _norm_means(x: Any) -> Any:
    return (x - x.mean(-1, keep_dims=True)) / ops.sqrt(x.var(-1, keepdims=True) + 1e-5) * x.max(0)


def _similarity(x: Any, y: Any) -> Any:
    a, b = ops.L2Normalize(1)(x), ops.L2Normalize(1)(y)
    return ops.softmax(ops.matmul(a, b.T) * 10, 1)


def _masked(x: Any, y: Any) -> Any:
    return ops.masked_fill(x, y, -1e9).exp() + ops.where(y, x, x * 2)


def _broadcast(x: Any) -> Any:
    return ops.broadcast_to(x, (4, -1, -1)).sum(0) * ops.ones_like(x) + ops.expand_dims(x, 1).squeeze(1)


def _einsum(x: Any, y: Any) -> Any:
    return ops.bmm(ops.tanh(ops.bmm(y, x)), y)


def _flipped(x: Any) -> Any:
    return ops.flip(x, (1,)) + ops.roll(x, 1, 1)


def _scatter(x: Any, y: Any) -> Any:
    return ops.scatter(ops.zeros_like(x), 1, y, x)


def _fft(x: Any) -> Any:
    return ops.rfft(x).abs()


def _resized(x: Any) -> Any:
    return ops.interpolate(x, scale_factor=2.0, mode="nearest", recompute_scale_factor=True)


def _nonzero(x: Any) -> Any:
    return ops.nonzero(x) + 1


def _swiglu(x: Any) -> Any:
    return ops.swiglu(x, -1) * 2


def _flash(q: Any, k: Any, v: Any) -> Any:
    return ops.flash_attention_score(q, k, v, 4, input_layout="BSH") * 2


def _rms(x: Any, y: Any) -> Any:
    return ops.rms_norm(x, y)[0] * 2


_GATING = MoeGatingTopKSoftmax()


def _gates(x: Any) -> Any:
    values, experts, rows = _GATING(x, None, 2)
    return values * 2, experts, rows


def _sizes(*shapes: Shape, kind: str = F32) -> tuple[tuple[Shape, str], ...]:
    return tuple((shape, kind) for shape in shapes)


def _cells() -> dict[str, FieldCell]:
    def layer(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
        def made() -> Any:
            return getattr(nn, name)(*arguments, **options)

        return made

    images = _sizes((4, 3, 32, 32))
    open_images = ((-1, 3, -1, -1),)
    labels = ((4,), I32)
    found: dict[str, FieldCell] = {
        "mlp": FieldCell(mlp, _sizes((32, 128)), ((-1, 128),)),
        "deep_mlp": FieldCell(lambda: mlp(64, 12), _sizes((64, 64)), ((-1, 64),)),
        "block": FieldCell(block, _sizes((4, 32, 64)), ((-1, -1, 64),)),
        "block_post_norm": FieldCell(lambda: block(norm_first=False), _sizes((2, 48, 64)), ((-1, 48, 64),)),
        "language_model": FieldCell(language_model, (((4, 32), I32),), ((-1, -1),)),
        "unet": FieldCell(encoder_decoder_convolutions, images, open_images),
        "residual": FieldCell(residual, images, open_images),
        "swap": FieldCell(lambda: _function(_swap, a=layer("Dense", 32, 48)()), _sizes((16, 32)), ((-1, 32),)),
        "mixer": FieldCell(
            lambda: _function(_mixer, a=layer("Dense", 64, 64)(), b=layer("Dense", 16, 16)()),
            _sizes((8, 16, 64)),
            ((-1, 16, 64),),
        ),
        "unstack": FieldCell(lambda: _function(_unstacked), _sizes((64, 3, 16)), ((-1, 3, 16),)),
        "one_hot": FieldCell(lambda: _function(_one_hot), (((64,), I32),), ((-1,),)),
        "indices": FieldCell(lambda: _function(_indices), _sizes((32, 64)), ((-1, 64),)),
        "sliced": FieldCell(lambda: _function(_sliced), _sizes((16, 64)), ((-1, 64),)),
        "padded": FieldCell(lambda: _function(_padded), _sizes((16, 64)), ((-1, -1),)),
        "split": FieldCell(lambda: _function(_split), _sizes((16, 64)), ((-1, 64),)),
        "norm_means": FieldCell(lambda: _function(_norm_means), _sizes((16, 64)), ((-1, 64),)),
        "similarity": FieldCell(lambda: _function(_similarity), _sizes((16, 64), (32, 64)), ((-1, 64), (-1, 64))),
        "masked": FieldCell(lambda: _function(_masked), (((16, 64), F32), ((16, 64), BOOL)), ((-1, -1), (-1, -1))),
        "broadcast": FieldCell(lambda: _function(_broadcast), _sizes((16, 64)), ((-1, 64),)),
        "products": FieldCell(
            lambda: _function(_einsum), _sizes((4, 16, 32), (4, 32, 16)), ((-1, 16, 32), (-1, 32, 16))
        ),
        "flipped": FieldCell(lambda: _function(_flipped), _sizes((16, 64)), ((-1, 64),)),
        "scatter": FieldCell(lambda: _function(_scatter), (((16, 64), F32), ((16, 64), I32)), ((-1, 64), (-1, 64))),
        "fft": FieldCell(lambda: _function(_fft), _sizes((16, 256)), ((-1, 256),)),
        "resized": FieldCell(lambda: _function(_resized), _sizes((2, 3, 16, 16))),
        "nonzero": FieldCell(lambda: _function(_nonzero), _sizes((8, 16)), ((-1, 16),)),
        "swiglu": FieldCell(lambda: _function(_swiglu), _sizes((16, 1024)), ((-1, 1024),), runs=False),
        "flash": FieldCell(lambda: _function(_flash), _sizes(*[(2, 256, 128)] * 3), ((-1, -1, 128),) * 3, runs=False),
        "rms_norm": FieldCell(lambda: _function(_rms), _sizes((16, 64), (64,)), ((-1, 64), (64,))),
        "gates": FieldCell(lambda: _function(_gates), _sizes((64, 8)), ((-1, 8),), runs=False),
        "lstm": FieldCell(
            lambda: _function(_first, a=layer("LSTM", 32, 48, batch_first=True)()),
            _sizes((4, 10, 32)),
        ),
    }
    for name, part, shape, opened in (
        ("conv1d", layer("Conv1d", 8, 16, 5, pad_mode="pad", padding=2), (4, 8, 128), (-1, 8, -1)),
        ("conv2d_valid", layer("Conv2d", 3, 8, 3, stride=2, pad_mode="valid"), (4, 3, 33, 32), (-1, 3, -1, -1)),
        ("conv2d_dilated", layer("Conv2d", 3, 8, 3, dilation=2, pad_mode="same"), (4, 3, 32, 32), (-1, 3, -1, -1)),
        ("conv2d_grouped", layer("Conv2d", 8, 8, 3, group=8, pad_mode="pad", padding=1), (2, 8, 17, 19),
         (-1, 8, -1, -1)),
        ("conv3d", layer("Conv3d", 3, 8, 3, pad_mode="same"), (2, 3, 8, 16, 16), (-1, 3, 8, 16, 16)),
        ("conv_transposed", layer("Conv2dTranspose", 8, 4, 3, stride=2, pad_mode="pad", padding=1), (2, 8, 9, 9),
         (-1, 8, -1, -1)),
        ("max_pool", layer("MaxPool2d", 3, 2, pad_mode="valid"), (2, 8, 17, 16), (-1, 8, -1, -1)),
        ("average_pool", layer("AvgPool2d", 3, 2, pad_mode="same"), (2, 8, 17, 16), (-1, 8, -1, -1)),
        ("group_norm", layer("GroupNorm", 4, 16), (4, 16, 32, 32), (-1, 16, 32, 32)),
        ("batch_norm", layer("BatchNorm2d", 16), (4, 16, 8, 8), (-1, 16, -1, -1)),
        ("layer_norm", layer("LayerNorm", (64,)), (4, 16, 64), (-1, -1, 64)),
        ("prelu", layer("PReLU", 8), (4, 8, 8), (-1, 8, 8)),
        ("softmax", layer("Softmax"), (32, 100), (-1, 100)),
        ("silu", layer("SiLU"), (32, 100), (-1, 100)),
        ("leaky", layer("LeakyReLU"), (32, 100), (-1, 100)),
        ("hard_swish", layer("HSwish"), (32, 100), (-1, 100)),
        ("flatten", layer("Flatten"), (8, 4, 5, 6), (-1, 4, 5, 6)),
    ):  # fmt: skip
        found[name] = FieldCell(part, _sizes(shape), (opened,))
        found[f"{name}_twice"] = FieldCell(partial(_twice, part), _sizes(shape), (opened,))
    for optimizer, options in (
        ("SGD", {"learning_rate": 0.1}), ("Momentum", {"learning_rate": 0.1, "momentum": 0.9}), ("Adam", {}),
        ("AdamWeightDecay", {}), ("Lamb", {"learning_rate": 0.1}), ("RMSProp", {}), ("Adagrad", {}), ("AdaMax", {}),
    ):  # fmt: skip
        found[f"mlp_{optimizer}"] = FieldCell(
            partial(_trained_mlp, optimizer, options),
            (((16, 64), F32), ((16,), I32)),
            ((-1, 64), (-1,)),
            high=10,
        )
    found |= {
        "unet_trained": FieldCell(
            lambda: _trained(encoder_decoder_convolutions(), _squares, "Momentum", learning_rate=0.1, momentum=0.9),
            (*images, ((4, 2, 32, 32), F32)), ((-1, 3, 32, 32), (-1, 2, 32, 32)),
        ),
        "residual_trained": FieldCell(
            lambda: _trained(residual(), _cross_entropy, "SGD", learning_rate=0.1), (*images, labels),
            ((-1, 3, 32, 32), (-1,)), high=10,
        ),
        "block_trained": FieldCell(
            lambda: _trained(block(), _squares, "Adam"), _sizes((4, 32, 64), (4, 32, 64)), ((-1, 32, 64), (-1, 32, 64)),
        ),
        "language_model_trained": FieldCell(
            lambda: _trained(language_model(), _token_loss, "AdamWeightDecay"), (((4, 32), I32), ((4, 32), I32)),
            ((-1, 32), (-1, 32)), high=100,
        ),
        "conv1d_trained": FieldCell(
            lambda: _trained(_net(layer("Conv1d", 8, 16, 5, pad_mode="same")(), layer("ReLU")(), layer("Flatten")(),
                                  layer("Dense", 16 * 64, 10)()), _cross_entropy, "RMSProp"),
            (((4, 8, 64), F32), labels), ((-1, 8, 64), (-1,)), high=10,
        ),
        "autoencoder_trained": FieldCell(
            lambda: _trained(mlp(128, 4, 128), _squares, "Adam"), _sizes((32, 128), (32, 128)), ((-1, 128), (-1, 128)),
        ),
    }  # fmt: skip
    return found


def _first(a: Any, x: Any) -> Any:
    return a(x)[0] * 2


def _added(a: Any, x: Any) -> Any:
    return a(x + 1) * 2


def _twice(part: Callable[[], Any]) -> Any:
    return _function(_added, a=part())


CELLS: Mapping[str, FieldCell] = _cells()
