"""A Llama-style decoder written in MindSpore: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Sizes of a decoder; the defaults make one that compiles in seconds and still has every kind of op."""

    layers: int = 2
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 256
    vocabulary: int = 512
    sequence: int = 64
    batch: int = 1


def decoder(shape: DecoderShape, *, lazy_inline: bool = False) -> Any:
    """
    The decoder as a `mindspore.nn.Cell` from token ids `(batch, sequence)` int32 to logits
    `(batch, sequence, vocabulary)` float32.

    With `lazy_inline` every block is compiled once and called once per layer.
    """
    import mindspore as ms
    import numpy as np
    from mindspore import Parameter, Tensor, nn, ops

    head = shape.hidden // shape.heads
    generator = np.random.default_rng(0)

    def weight(*dims: int) -> Tensor:
        return Tensor((generator.standard_normal(dims) * 0.02).astype(np.float32))

    class RMSNorm(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__()
            self.weight = Parameter(ops.ones((shape.hidden,), ms.float32), name="weight")

        def construct(self, x: Any) -> Any:
            return x * ops.rsqrt(ops.mean(x * x, -1, True) + 1e-5) * self.weight

    class Attention(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Dense(
                shape.hidden, shape.heads * head, has_bias=False, weight_init=weight(shape.hidden, shape.hidden)
            )
            self.k = nn.Dense(shape.hidden, shape.kv_heads * head, has_bias=False)
            self.v = nn.Dense(shape.hidden, shape.kv_heads * head, has_bias=False)
            self.o = nn.Dense(shape.heads * head, shape.hidden, has_bias=False)
            angle = np.outer(np.arange(shape.sequence), 10000.0 ** (-np.arange(0, head, 2) / head))
            angle = np.concatenate([angle, angle], axis=-1)
            self.cos = Tensor(np.cos(angle).astype(np.float32))
            self.sin = Tensor(np.sin(angle).astype(np.float32))
            self.mask = Tensor(np.triu(np.full((shape.sequence, shape.sequence), -1e4, np.float32), 1))

        def rotate(self, x: Any) -> Any:
            half = ops.concat((-x[..., head // 2 :], x[..., : head // 2]), -1)
            return x * self.cos + half * self.sin

        def construct(self, x: Any) -> Any:
            b, s = shape.batch, shape.sequence
            q = self.q(x).reshape(b, s, shape.heads, head).transpose(0, 2, 1, 3)
            k = self.k(x).reshape(b, s, shape.kv_heads, head).transpose(0, 2, 1, 3)
            v = self.v(x).reshape(b, s, shape.kv_heads, head).transpose(0, 2, 1, 3)
            q, k = self.rotate(q), self.rotate(k)
            k = ops.repeat_interleave(k, shape.heads // shape.kv_heads, 1)
            v = ops.repeat_interleave(v, shape.heads // shape.kv_heads, 1)
            score = ops.matmul(q, k.transpose(0, 1, 3, 2)) * (head**-0.5) + self.mask
            context = ops.matmul(ops.softmax(score, -1), v)
            return self.o(context.transpose(0, 2, 1, 3).reshape(b, s, shape.hidden))

    class SwiGLU(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Dense(shape.hidden, shape.intermediate, has_bias=False)
            self.up = nn.Dense(shape.hidden, shape.intermediate, has_bias=False)
            self.down = nn.Dense(shape.intermediate, shape.hidden, has_bias=False)

        def construct(self, x: Any) -> Any:
            return self.down(ops.silu(self.gate(x)) * self.up(x))

    class Block(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__()
            self.attention_norm = RMSNorm()
            self.attention = Attention()
            self.mlp_norm = RMSNorm()
            self.mlp = SwiGLU()

        if lazy_inline:
            __init__ = ms.lazy_inline(__init__)

        def construct(self, x: Any) -> Any:
            x = x + self.attention(self.attention_norm(x))
            return x + self.mlp(self.mlp_norm(x))

    class Decoder(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
            self.layers = nn.CellList([Block() for _ in range(shape.layers)])
            self.norm = RMSNorm()
            self.head = nn.Dense(shape.hidden, shape.vocabulary, has_bias=False)

        def construct(self, tokens: Any) -> Any:
            x = self.embedding(tokens)
            for layer in self.layers:
                x = layer(x)
            return self.head(self.norm(x))

    return Decoder()


def train_step(network: Any, vocabulary: int) -> Any:
    """`network` as one training step: cross entropy over all positions, its gradient and Adam."""
    from mindspore import nn, ops

    class LanguageModelLoss(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
        def __init__(self, net: Any) -> None:
            super().__init__()
            self.net = net

        def construct(self, tokens: Any, labels: Any) -> Any:
            logits = self.net(tokens)
            return ops.cross_entropy(logits.reshape(-1, vocabulary), labels.reshape(-1))

    loss = LanguageModelLoss(network)
    return nn.TrainOneStepCell(loss, nn.Adam(loss.trainable_params(), learning_rate=1e-3))
