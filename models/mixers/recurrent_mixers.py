"""Mixers with a state of fixed size: gated delta nets, Mamba, Mamba-2, Kimi delta attention, short convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.models.cache_parts import CacheContent, CachePart, RecurrentShape
from memplan.models.mixers.base import TokenMixer
from memplan.models.weight_shapes import Split, Weight, WeightGroup, matrix_weight, vector_weight


@dataclass(frozen=True, slots=True)
class GatedDeltaNet(TokenMixer):
    """Linear attention of Qwen3-Next and Qwen3.5: a convolution window and a matrix state per value head."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int
    state_dtype: str

    @property
    def conv_dim(self) -> int:
        """Channels of the causal convolution: queries, keys and values."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, heads = WeightGroup.ATTENTION, self.value_heads
        inner = heads * self.value_dim
        yield matrix_weight("in_proj_qkv", group, self.conv_dim, hidden, Split.HEADS, self.key_heads)
        yield matrix_weight("in_proj_z", group, inner, hidden, Split.HEADS, heads)
        yield matrix_weight("in_proj_ba", group, 2 * heads, hidden, Split.HEADS, heads)
        yield Weight("conv1d", group, (self.conv_dim, self.conv_kernel), Split.HEADS, self.key_heads)
        yield vector_weight("dt_bias", group, heads, Split.HEADS, heads)
        yield vector_weight("A_log", group, heads, Split.HEADS, heads)
        yield vector_weight("norm", WeightGroup.NORM, self.value_dim)
        yield matrix_weight("out_proj", group, hidden, inner, Split.HEADS, heads)

    def caches(self) -> tuple[CachePart, ...]:
        """The last inputs of the convolution, and a matrix for each value head."""
        shape = RecurrentShape(
            recurrence="gated_delta",
            heads=self.value_heads,
            heads_name="value heads of linear attention",
            matrix=self.value_dim * self.key_dim,
            dtype=self.state_dtype,
            kernel=self.conv_kernel,
            channels=self.conv_dim,
        )
        return (CachePart("state", CacheContent.RECURRENT, (), state=shape),)


@dataclass(frozen=True, slots=True)
class Mamba2(TokenMixer):
    """
    State-space mixer of Nemotron-H: a convolution window and a `head_dim x state` matrix per head.

    The way out has a bias as the way in has, unless `out_bias` says otherwise; its input is `normed` or multiplied by
    the gate alone (Falcon-H1). Prompts are computed in chunks of `chunk` tokens.
    """

    heads: int
    head_dim: int
    groups: int
    state: int
    conv_kernel: int
    conv_bias: bool
    proj_bias: bool
    state_dtype: str
    out_bias: bool | None = None
    normed: bool = True
    chunk: int = 256

    @property
    def inner(self) -> int:
        """Width of the mixer."""
        return self.heads * self.head_dim

    @property
    def conv_dim(self) -> int:
        """Channels of the causal convolution: the inner width and both projections of the state."""
        return self.inner + 2 * self.groups * self.state

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, heads = WeightGroup.ATTENTION, self.heads
        projected = self.inner + self.conv_dim + heads
        yield matrix_weight("in_proj", group, projected, hidden, Split.HEADS, heads)
        yield Weight("conv1d", group, (self.conv_dim, self.conv_kernel), Split.HEADS, heads)
        if self.conv_bias:
            yield vector_weight("conv1d.bias", group, self.conv_dim, Split.HEADS, heads)
        for name in ("dt_bias", "A_log", "D"):
            yield vector_weight(name, group, heads, Split.HEADS, heads)
        if self.normed:
            yield vector_weight("norm", WeightGroup.NORM, self.inner, Split.HEADS, heads)
        yield matrix_weight("out_proj", group, hidden, self.inner, Split.HEADS, heads)
        if self.proj_bias:
            yield vector_weight("in_proj.bias", group, projected, Split.HEADS, heads)
        if self.proj_bias if self.out_bias is None else self.out_bias:
            yield vector_weight("out_proj.bias", group, hidden)

    def caches(self) -> tuple[CachePart, ...]:
        """The last inputs of the convolution, and a matrix for each head."""
        shape = RecurrentShape(
            recurrence="mamba2",
            heads=self.heads,
            heads_name="state-space heads",
            matrix=self.head_dim * self.state,
            dtype=self.state_dtype,
            kernel=self.conv_kernel,
            channels=self.inner,
            groups=self.groups,
            group_channels=2 * self.state,
            chunk=self.chunk,
        )
        return (CachePart("state", CacheContent.RECURRENT, (), state=shape),)


@dataclass(frozen=True, slots=True)
class KimiDelta(TokenMixer):
    """
    Kimi delta attention (KDA): convolutions over queries, keys and values and a square state per head.

    The output gate is a product of two narrow matrices, or with `full_rank_gate` one of the mixer's width.
    """

    heads: int
    head_dim: int
    conv_kernel: int
    state_dtype: str
    full_rank_gate: bool = False

    @property
    def width(self) -> int:
        """Channels of each of queries, keys and values."""
        return self.heads * self.head_dim

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, heads, width, dim = WeightGroup.ATTENTION, self.heads, self.width, self.head_dim
        for name in ("q", "k", "v"):
            yield matrix_weight(f"{name}_proj", group, width, hidden, Split.HEADS, heads)
            yield Weight(f"{name}_conv1d", group, (width, self.conv_kernel), Split.HEADS, heads)
        # Checkpoints with the full-rank gate hold as many decay rates as a head has elements (Kimi-K3: 128 for 96
        # heads).
        yield (
            vector_weight("A_log", group, dim)
            if self.full_rank_gate
            else vector_weight("A_log", group, heads, Split.HEADS, heads)
        )
        for name in ("f",) if self.full_rank_gate else ("f", "g"):
            yield matrix_weight(f"{name}_a_proj", group, dim, hidden)
            yield matrix_weight(f"{name}_b_proj", group, width, dim, Split.HEADS, heads)
        if self.full_rank_gate:
            yield matrix_weight("g_proj", group, width, hidden, Split.HEADS, heads)
        yield vector_weight("dt_bias", group, width, Split.HEADS, heads)
        yield matrix_weight("b_proj", group, heads, hidden, Split.HEADS, heads)
        yield vector_weight("o_norm", WeightGroup.NORM, dim)
        yield matrix_weight("o_proj", group, hidden, width, Split.HEADS, heads)

    def caches(self) -> tuple[CachePart, ...]:
        """The last inputs of three convolutions, and a float32 matrix for each head."""
        shape = RecurrentShape(
            recurrence="kimi_delta",
            heads=self.heads,
            heads_name="heads of linear attention",
            matrix=self.head_dim**2,
            dtype="float32",
            kernel=self.conv_kernel,
            channels=3 * self.width,
            drafts=False,
        )
        return (CachePart("state", CacheContent.RECURRENT, (), state=shape),)


@dataclass(frozen=True, slots=True)
class Mamba1(TokenMixer):
    """
    Mamba's first kind: every one of `inner` channels has `state` numbers of its own, scanned with a step that comes
    through a low rank (Gu and Dao, arXiv 2312.00752). `small_norms` normalises step and projections (Jamba).
    """

    inner: int
    state: int
    step_rank: int
    conv_kernel: int
    conv_bias: bool
    proj_bias: bool
    state_dtype: str
    small_norms: bool = False

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, inner, rank = WeightGroup.ATTENTION, self.inner, self.step_rank
        yield matrix_weight("in_proj", group, 2 * inner, hidden, Split.WIDTH, inner)
        yield Weight("conv1d", group, (inner, self.conv_kernel), Split.WIDTH, inner)
        if self.conv_bias:
            yield vector_weight("conv1d.bias", group, inner, Split.WIDTH, inner)
        yield matrix_weight("x_proj", group, rank + 2 * self.state, inner, Split.WIDTH, inner)
        yield matrix_weight("dt_proj", group, inner, rank, Split.WIDTH, inner)
        yield vector_weight("dt_proj.bias", group, inner, Split.WIDTH, inner)
        yield Weight("A_log", group, (inner, self.state), Split.WIDTH, inner)
        yield vector_weight("D", group, inner, Split.WIDTH, inner)
        yield matrix_weight("out_proj", group, hidden, inner, Split.WIDTH, inner)
        if self.proj_bias:
            yield vector_weight("in_proj.bias", group, 2 * inner, Split.WIDTH, inner)
            yield vector_weight("out_proj.bias", group, hidden)
        if self.small_norms:
            for name, size in (("dt_norm", rank), ("b_norm", self.state), ("c_norm", self.state)):
                yield vector_weight(name, WeightGroup.NORM, size)

    def caches(self) -> tuple[CachePart, ...]:
        """The last inputs of the convolution, and the numbers of every channel."""
        shape = RecurrentShape(
            recurrence="mamba1",
            heads=self.inner,
            heads_name="channels of the state space",
            matrix=self.state,
            dtype=self.state_dtype,
            kernel=self.conv_kernel,
            channels=self.inner,
            drafts=False,
        )
        return (CachePart("state", CacheContent.RECURRENT, (), state=shape),)


@dataclass(frozen=True, slots=True)
class ShortConvolution(TokenMixer):
    """A gated convolution over the last `conv_kernel` tokens of each channel in the place of attention (LFM2)."""

    channels: int
    conv_kernel: int
    bias: bool

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, width = WeightGroup.ATTENTION, self.channels
        yield matrix_weight("in_proj", group, 3 * width, hidden, Split.WIDTH, width)
        yield Weight("conv1d", group, (width, self.conv_kernel), Split.WIDTH, width)
        yield matrix_weight("out_proj", group, hidden, width, Split.WIDTH, width)
        if self.bias:
            yield vector_weight("in_proj.bias", group, 3 * width, Split.WIDTH, width)
            yield vector_weight("conv1d.bias", group, width, Split.WIDTH, width)
            yield vector_weight("out_proj.bias", group, hidden)

    def caches(self) -> tuple[CachePart, ...]:
        """The last inputs of the convolution, no state beside them."""
        shape = RecurrentShape(
            recurrence="short_convolution",
            heads=self.channels,
            heads_name="channels of convolution",
            matrix=0,
            dtype="auto",
            kernel=self.conv_kernel,
            channels=self.channels,
            drafts=False,
        )
        return (CachePart("state", CacheContent.RECURRENT, (), state=shape),)
