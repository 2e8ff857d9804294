"""What a training step is asked to keep: states and activations, in how many bits and where, and what is made anew."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.options import option

_PANEL = "Recipe: what is kept"


@dataclass(frozen=True, kw_only=True)
class KeptRequest:
    """What is kept of a step's activations, weights, gradients and moments, and the workspaces beside them."""

    recompute_layers: int = option(
        "--recompute-layers", default=0, about="Layers of a stage that keep their input only.", panel=_PANEL, least=0
    )
    recompute_cheap: bool = option(
        "--recompute-cheap", default=False, about="Recompute norms and activation functions.", panel=_PANEL
    )
    recompute_norms: bool = option(
        "--recompute-norms", "--recompute-norm", default=False, about="Recompute norms alone.", panel=_PANEL
    )
    recompute_activations: bool = option(
        "--recompute-activations",
        "--recompute-activation-function",
        default=False,
        about="Recompute activation functions alone.",
        panel=_PANEL,
    )
    recompute_attention: bool = option(
        "--recompute-attention", default=False, about="Run attention again on the way back.", panel=_PANEL
    )
    recompute_heads: bool = option(
        "--recompute-heads",
        "--recompute-mla-up-proj",
        default=False,
        about="Make queries, keys and values anew of their latents.",
        panel=_PANEL,
    )
    recompute_dense: bool = option(
        "--recompute-dense",
        "--recompute-mlp",
        default=False,
        about="Make dense feed-forward parts anew as a whole.",
        panel=_PANEL,
    )
    recompute_experts: bool = option(
        "--recompute-experts",
        "--recompute-moe",
        default=False,
        about="Make experts anew as a whole, router and shared ones within.",
        panel=_PANEL,
    )
    recompute_shared: bool = option(
        "--recompute-shared",
        "--recompute-shared-experts",
        default=False,
        about="Make shared experts anew as a whole.",
        panel=_PANEL,
    )
    recompute_products: bool = option(
        "--recompute-products",
        default=False,
        about="Layers keep every second matrix product, as torchtitan's selective checkpoints do.",
        panel=_PANEL,
    )
    zero_memory_layers: int = option(
        "--zero-memory-layers",
        "--moe-zero-memory-num-layers",
        default=0,
        about="So many layers of a stage make their experts anew (--moe-zero-memory level1).",
        panel=_PANEL,
        least=0,
    )
    swap_optimizer: bool = option(
        "--swap-optimizer", default=False, about="Optimiser states on the host.", panel=_PANEL
    )
    swap_attention: bool = option(
        "--swap-attention", default=False, about="What attention keeps waits on the host.", panel=_PANEL
    )
    swap_inputs: bool = option(
        "--swap-inputs", default=False, about="Inputs of layers made anew wait on the host.", panel=_PANEL
    )
    swap_attended: bool = option(
        "--swap-attended",
        "--mla-swap-core-attn-out",
        default=False,
        about="What attention makes waits on the host.",
        panel=_PANEL,
    )
    reuse_fp32: bool = option(
        "--reuse-fp32",
        "--reuse-fp32-param",
        default=False,
        about="No 16-bit copy of weights whose float32 originals the rank has.",
        panel=_PANEL,
    )
    half_gradients: bool = option(
        "--half-gradients",
        "--grad-reduce-in-bf16",
        default=False,
        about="Gradients added up in 16 bits, as with fp16.",
        panel=_PANEL,
    )
    half_moments: bool = option(
        "--half-moments", default=False, about="Adam's moments in 16 bits, its weights in float32.", panel=_PANEL
    )
    byte_moments: bool = option(
        "--byte-moments",
        "--adamw-8bit",
        default=False,
        about="Adam's moments in 8 bits with scales, as bitsandbytes keeps them.",
        panel=_PANEL,
    )
    half_weights: bool = option(
        "--half-weights",
        "--pure-bf16",
        default=False,
        about="Weights in 16 bits alone, as their gradients and Adam's moments are.",
        panel=_PANEL,
    )
    foreach_optimizer: bool = option(
        "--foreach-optimizer",
        "--adamw-torch",
        default=False,
        about="Adam steps over lists of all parameters, with a list of temporaries.",
        panel=_PANEL,
    )
    muon: bool = option(
        "--muon",
        default=False,
        about="Muon for matrices of layers, with one moment; Adam elsewhere.",
        panel=_PANEL,
    )
    float32: bool = option(
        "--float32",
        default=False,
        about="Weights and activations in float32, as of Megatron without --bf16 and --fp16.",
        panel=_PANEL,
    )
    fp8: bool = option(
        "--fp8",
        default=False,
        about="Products in 8 bits, with copies of their weights.",
        panel=_PANEL,
    )
    fp8_weights: bool = option(
        "--fp8-weights",
        "--fp8-param-gather",
        default=False,
        about="With --fp8: the weights themselves are in 8 bits, without copies beside them.",
        panel=_PANEL,
    )
    clip_copies: bool = option(
        "--clip-copies", default=False, about="Gradients are clipped into copies, as before 2026.", panel=_PANEL
    )
    dropout: bool = option("--dropout", default=False, about="Hidden dropout, whose masks are kept.", panel=_PANEL)
    gpu: str = option(
        "--gpu",
        default="none",
        about="none, ampere, ada, hopper or blackwell: whose cuBLAS keeps workspaces.",
        panel=_PANEL,
    )
    cublas_workspace: int = option(
        "--cublas-workspace",
        default=0,
        about="KiB of each of PyTorch's workspaces, if CUBLAS_WORKSPACE_CONFIG says so.",
        panel=_PANEL,
        least=0,
    )
