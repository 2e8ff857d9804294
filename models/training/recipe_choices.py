"""What a recipe chooses among: sharing of states, the loss, the order of micro-batches, and GPUs."""

from __future__ import annotations

from enum import Enum


class Sharding(str, Enum):
    """
    Which states data-parallel ranks share.

    `none` and `distributed` are Megatron's: 16-bit weights, float32 gradients, and 12 bytes of float32 master weight
    and Adam moments, the latter divided by the ranks with the distributed optimiser. `zero1` to `zero3` are
    DeepSpeed's, with 16-bit gradients: stage 1 divides the states, 2 the gradients too, 3 the weights too. `fsdp` is
    Megatron-FSDP's `optim_grads_params`, which divides all of them and adds gradients up in float32 (its
    `main_grads_dtype`). `fsdp2` is PyTorch's `fully_shard` of float32 weights, gathered in 16 bits: shares of gradients
    are float32 too, and let go when a step is over.
    """

    NONE = "none"
    DISTRIBUTED = "distributed"
    ZERO1 = "zero1"
    ZERO2 = "zero2"
    ZERO3 = "zero3"
    FSDP = "fsdp"
    FSDP2 = "fsdp2"

    @property
    def gathers(self) -> bool:
        """Whether weights are divided, and gathered layer by layer."""
        return self in (Sharding.ZERO3, Sharding.FSDP, Sharding.FSDP2)

    @property
    def of_megatron(self) -> bool:
        """Whether Megatron has the states."""
        return self in (Sharding.NONE, Sharding.DISTRIBUTED, Sharding.FSDP)

    @property
    def of_deepspeed(self) -> bool:
        """Whether DeepSpeed has the states."""
        return self in (Sharding.ZERO1, Sharding.ZERO2, Sharding.ZERO3)


class Loss(str, Enum):
    """
    How the cross entropy is computed, which decides what lives of a token's logits.

    `in_place` is Megatron's: logits in 16 bits, a float32 copy that becomes the softmax, and a 16-bit gradient that
    takes the logits' place. `copied` is MindSpeed's before August 2025, which takes the largest logit off in a second
    float32 copy. `compiled` is Megatron's `--cross-entropy-fusion-impl native`, whose compiled gradient is made in a
    second one too, and whose kernels are timed in the first step where no earlier run has left its choice. `te` is
    TransformerEngine's kernel before July 2026 (`--cross-entropy-fusion-impl te`), which makes the gradient in the
    logits' place and no float32 copy; its later one makes a float32 gradient, as large as the copy of `in_place`.
    `eager` is PyTorch's `cross_entropy` on a float32 copy: logarithms of the softmax, their gradient and the copy's are
    there at once, beside the logits where a loop holds them. `inductor` is the same compiled with its copy
    (`torch.compile`), whose kernels make that copy value by value: logits in 16 bits are kept, and their gradient is
    made beside them. `chunked` makes it of one piece of the tokens at a time, of which it keeps the logits (torchtune's
    chunked losses, compiled where layers are); `pieces` sends each piece back through the head before the next one
    (torchtitan's since 2026). `fused` works through the head's product in small pieces and keeps none.
    """

    IN_PLACE = "in-place"
    COPIED = "copied"
    COMPILED = "compiled"
    TE = "te"
    EAGER = "eager"
    INDUCTOR = "inductor"
    CHUNKED = "chunked"
    PIECES = "pieces"
    FUSED = "fused"


class Schedule(str, Enum):
    """Order of micro-batches in a pipeline."""

    ONE_F_ONE_B = "1f1b"
    INTERLEAVED = "interleaved"
    DUALPIPE_V = "dualpipe-v"
    GPIPE = "gpipe"


class Gpu(str, Enum):
    """Generations of NVIDIA's GPUs, whose cuBLAS keeps workspaces of different sizes (workspaces.json)."""

    NONE = "none"
    AMPERE = "ampere"
    ADA = "ada"
    HOPPER = "hopper"
    BLACKWELL = "blackwell"
