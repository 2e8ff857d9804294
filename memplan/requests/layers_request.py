"""How layers of a training step are asked to compute: in which kernels, or op by op."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.options import option

_PANEL = "Recipe: layers"


@dataclass(frozen=True, kw_only=True)
class LayersRequest:
    """Whose layers they are, and which of their ops are fused, in steps, padded or masked."""

    split_experts: bool = option(
        "--split-experts", default=False, about="Each expert's weights are parameters of their own.", panel=_PANEL
    )
    weighted_activation: bool = option(
        "--weighted-activation",
        "--use-fused-weighted-squared-relu",
        default=False,
        about="One kernel for the router's weights and an activation function without a gate.",
        panel=_PANEL,
    )
    qk_norm: bool = option(
        "--qk-norm",
        "--qk-layernorm",
        default=False,
        about="Norms queries and keys of every head, which a model's config doesn't say.",
        panel=_PANEL,
    )
    gathered_experts: bool = option(
        "--gathered-experts",
        default=False,
        about="Ranks that share experts gather all their tokens (--moe-token-dispatcher-type allgather).",
        panel=_PANEL,
    )
    expert_capacity: float = option(
        "--expert-capacity",
        default=0.0,
        about="Places of an expert over its even share, filled by products with masks, as DeepSpeed's; 0 for none.",
        panel=_PANEL,
        least=0,
    )
    alibi: bool = option(
        "--alibi", default=False, about="Positions are a bias of every head and pair of tokens (ALiBi).", panel=_PANEL
    )
    legacy_layers: bool = option(
        "--legacy-layers", default=False, about="Layers are MindSpeed-LLM's before Megatron-Core.", panel=_PANEL
    )
    transformer_engine: bool = option(
        "--transformer-engine",
        default=False,
        about="Layers are TransformerEngine's, with buffers of their own.",
        panel=_PANEL,
    )
    split_gradients: bool = option(
        "--split-gradients",
        "--no-gradient-accumulation-fusion",
        default=False,
        about="There, products hand gradients over and don't add them up.",
        panel=_PANEL,
    )
    overlap_tensor: bool = option(
        "--overlap-tensor",
        "--tp-comm-overlap",
        default=False,
        about="There, products run beside tensor parallelism's exchanges.",
        panel=_PANEL,
    )
    norms_in_steps: bool = option(
        "--norms-in-steps",
        default=False,
        about="RMSNorm op by op, as MindSpeed's without --use-fused-rmsnorm.",
        panel=_PANEL,
    )
    attention_in_steps: bool = option(
        "--attention-in-steps",
        default=False,
        about="Attention op by op, which keeps a softmax of every pair of tokens.",
        panel=_PANEL,
    )
    softmax_in_steps: bool = option(
        "--softmax-in-steps",
        default=False,
        about="With --attention-in-steps: a float32 softmax is kept beside its 16-bit copy, as of transformers.",
        panel=_PANEL,
    )
    whole_attention: bool = option(
        "--whole-attention",
        default=False,
        about="Attention computes every pair of tokens, then masks (attention-mask-type general).",
        panel=_PANEL,
    )
    copied_attention: bool = option(
        "--copied-attention",
        default=False,
        about="What attention makes is copied before its projection, as in Megatron-LM of 2023.",
        panel=_PANEL,
    )
    window_masks: bool = option(
        "--window-masks",
        default=False,
        about="Layers with a sliding window make a mask of every pair of tokens each.",
        panel=_PANEL,
    )
    padded_heads: int = option(
        "--padded-heads",
        default=0,
        about="Width that heads of latent attention are padded to, as without --mla-fa-without-pad.",
        panel=_PANEL,
        least=0,
    )
    fused_indexer: bool = option(
        "--fused-indexer",
        "--use-fused-lightning-indexer",
        default=False,
        about="Indexers of sparse attention pick their tokens in one kernel.",
        panel=_PANEL,
    )
    fused_indexer_loss: bool = option(
        "--fused-indexer-loss",
        "--use-fused-lightning-indexer-loss",
        default=False,
        about="One kernel makes what they learn from, without a score of every pair.",
        panel=_PANEL,
    )
    silu_in_steps: bool = option(
        "--silu-in-steps",
        default=False,
        about="SwiGLU in two ops, as MindSpeed's without --use-fused-swiglu.",
        panel=_PANEL,
    )
    compiled_layers: bool = option(
        "--compiled-layers",
        default=False,
        about="Layers are compiled one by one by torch.compile, as torchtitan's and torchtune's are.",
        panel=_PANEL,
    )
    gelu_in_steps: bool = option(
        "--gelu-in-steps",
        "--gelu-tanh",
        default=False,
        about="The activation function of dense parts op by op (MindSpeed-LLM).",
        panel=_PANEL,
    )
    capped_logits: bool = option(
        "--capped-logits", default=False, about="Logits are bounded by a tanh, which is kept.", panel=_PANEL
    )
    scan_in_steps: bool = option(
        "--scan-in-steps",
        default=False,
        about="Mamba-2's scan op by op (MindSpeed-LLM), which keeps decays of every pair of tokens of a chunk.",
        panel=_PANEL,
    )
    gated_norm_in_steps: bool = option(
        "--gated-norm-in-steps",
        default=False,
        about="With --scan-in-steps: the norm of the gated output too (releases before June 2025).",
        panel=_PANEL,
    )
    padded_scan: bool = option(
        "--padded-scan",
        default=False,
        about="With --scan-in-steps: samples are padded by a chunk (releases before 20 May 2025).",
        panel=_PANEL,
    )
