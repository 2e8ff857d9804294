"""Feed-forward parts: dense, mixtures of experts, and the linear layer that stands in their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.models.weight_shapes import Split, Weight, WeightGroup, matrix_weight, vector_weight


@dataclass(frozen=True, slots=True)
class DenseFfn:
    """
    Feed-forward layer; `gated` has a gate and an up projection (SwiGLU), otherwise one up projection.

    `activation` is how many learnt numbers the activation function has (xIELU: 2).
    """

    intermediate: int
    gated: bool = True
    bias: bool = False
    activation: int = 0

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        yield from _dense(WeightGroup.DENSE_FFN, "", self.intermediate, hidden, gated=self.gated, bias=self.bias)
        if self.activation:
            yield vector_weight("activation", WeightGroup.DENSE_FFN, self.activation)


@dataclass(frozen=True, slots=True)
class LinearFfn:
    """A plain linear layer in the place of the feed-forward part (NAS-pruned models)."""

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the one matrix."""
        yield matrix_weight("linear_mlp", WeightGroup.DENSE_FFN, hidden, hidden, Split.WIDTH, hidden)


@dataclass(frozen=True, slots=True)
class MoeFfn:
    """
    Mixture of experts: `per_token` of `experts` routed experts of width `intermediate`, and one shared expert.

    `shared_intermediate` is the shared expert's whole width, 0 for none; `shared_gate` weighs it by a learnt gate.
    `latent` is the width the routed experts work in when it is not the model's, `latent_norm` that tokens are
    normalised in it. `dense_intermediate` is a dense part that runs beside the experts, 0 for none. `router_scales`
    are learnt factors of the router's input and of each expert, `router_biases` how many learnt biases of the experts
    the choice is made by (DeepSeek-V4.1 has one for text and one for images). `idle_experts` can be chosen as well and
    do nothing (LongCat-Flash).
    """

    experts: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    shared_gate: bool = False
    gated: bool = True
    router_biases: int = 0
    expert_bias: bool = False
    latent: int | None = None
    latent_norm: bool = False
    dense_intermediate: int = 0
    router_scales: bool = False
    idle_experts: int = 0

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        working = self.latent or hidden
        ups = 2 if self.gated else 1
        width = self.intermediate
        yield matrix_weight("router", WeightGroup.ROUTER, self.experts + self.idle_experts, hidden)
        if self.router_biases:
            yield vector_weight("router.bias", WeightGroup.ROUTER, self.router_biases * self.experts)
        if self.router_scales:
            yield vector_weight("router.scale", WeightGroup.ROUTER, hidden)
            yield vector_weight("router.per_expert_scale", WeightGroup.ROUTER, self.experts)
        for name, shape in (("up", (ups * width, working)), ("down", (working, width))):
            yield Weight(
                f"experts.{name}_proj",
                WeightGroup.EXPERTS,
                shape,
                Split.EXPERT,
                width,
                copies=self.experts,
                linear=True,
            )
            if self.expert_bias:
                yield Weight(
                    f"experts.{name}_proj.bias",
                    WeightGroup.EXPERTS,
                    shape[:1],
                    Split.EXPERT,
                    width,
                    copies=self.experts,
                )
        if self.latent is not None:
            yield matrix_weight("fc1_latent_proj", WeightGroup.SHARED_EXPERTS, self.latent, hidden)
            yield matrix_weight("fc2_latent_proj", WeightGroup.SHARED_EXPERTS, hidden, self.latent)
            if self.latent_norm:
                yield vector_weight("latent_norm", WeightGroup.NORM, self.latent)
        if self.dense_intermediate:
            yield from _dense(WeightGroup.DENSE_FFN, "", self.dense_intermediate, hidden, gated=self.gated)
        if self.shared_intermediate:
            yield from _dense(
                WeightGroup.SHARED_EXPERTS, "shared_experts.", self.shared_intermediate, hidden, gated=self.gated
            )
        if self.shared_gate:
            yield matrix_weight("shared_expert_gate", WeightGroup.SHARED_EXPERTS, 1, hidden)


Ffn = DenseFfn | MoeFfn | LinearFfn


def _dense(
    group: WeightGroup, prefix: str, width: int, hidden: int, *, gated: bool, bias: bool = False
) -> Iterator[Weight]:
    names = ("gate_proj", "up_proj") if gated else ("up_proj",)
    for name in names:
        yield matrix_weight(f"{prefix}{name}", group, width, hidden, Split.WIDTH, width)
        if bias:
            yield vector_weight(f"{prefix}{name}.bias", group, width, Split.WIDTH, width)
    yield matrix_weight(f"{prefix}down_proj", group, hidden, width, Split.WIDTH, width)
    if bias:
        yield vector_weight(f"{prefix}down_proj.bias", group, hidden)
