"""What a recipe may say that the graph of a training step has not, so that a plan of it would be of another step."""

from __future__ import annotations

from memplan.core.errors import InputError
from memplan.models.training.step_recipe import Recipe, option_of, told_words

_TIMES = ("fused_exchanges", "exchange_pieces", "whole_attention")
"""What changes times alone."""
_KEPT = (
    "ulysses", "qk_norm", "repeat_kv", "weighted_activation", "copied_attention", "silu_in_steps", "gelu_in_steps",
    "window_masks", "legacy_layers", "norms_in_steps", "padded_heads", "expert_capacity", "scan_in_steps",
    "gated_norm_in_steps", "padded_scan", "attention_in_steps", "grouped_experts", "compiled_layers", "swap_inputs",
)  # fmt: skip
"""What makes layers keep more, or other things, than the kernels of a graph do."""
_BESIDE = (
    "float32",
    "loss",
    "capped_logits",
    "clip_copies",
    "foreach_optimizer",
    "transformer_engine",
    "gathered_experts",
    "overlap_tensor",
    "overlap_gather",
    "gpu",
    "cublas_workspace",
)
"""
What is alive beside layers: of the loss, of clipped gradients and of lists of parameters, and buffers that frameworks
keep.
"""


def refuse_unplanned(recipe: Recipe) -> None:
    """Raise `InputError` naming what `recipe` says that the graph of a training step has not."""
    told = told_words(recipe)
    if any(name in _TIMES for name in told):
        raise InputError(
            "products that run with their exchanges and attention of every pair are in no graph of training",
            remedy="memplan step counts their time",
        )
    for name in told:
        if name in (*_KEPT, *_BESIDE):
            raise InputError(
                "{} is in no graph of training", option_of(name), remedy="memplan train-memory counts its memory"
            )
