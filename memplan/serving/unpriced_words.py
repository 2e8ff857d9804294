"""Words of a recipe that change how long a step takes, for which the kernels of its predicted time don't change."""

from __future__ import annotations

from memplan.models.training.step_recipe import Recipe, option_of, told_words

_UNPRICED = (
    "loss",
    "foreach_optimizer",
    "clip_copies",
    "swap_inputs",
    "lora_fused",
    "weighted_activation",
    "copied_attention",
    "silu_in_steps",
    "gelu_in_steps",
    "capped_logits",
    "window_masks",
    "legacy_layers",
    "fused_indexer",
    "fused_indexer_loss",
    "transformer_engine",
    "fused_gradients",
    "overlap_tensor",
    "softmax_in_steps",
    "scan_in_steps",
    "gated_norm_in_steps",
    "padded_scan",
    "overlap_gather",
    "variable_lengths",
    "gathered_experts",
    "expert_capacity",
)
"""
Other kernels, fewer or more of them, or exchanges beside others.

Words that are about what is kept alone (`held_logits`, `cublas_workspace`, `gpu`, `forward_first`, `deferred_head` of a
single stage, `frozen_vision`, whose tower no graph has) are none of these.
"""


def unpriced_words(recipe: Recipe) -> tuple[str, ...]:
    """The options by which `recipe` differs from the step that is timed, in the order in which they are listed here."""
    told = told_words(recipe)
    return tuple(option_of(name) for name in _UNPRICED if name in told)
