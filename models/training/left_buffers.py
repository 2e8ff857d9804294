"""Buffers that a framework's layers leave on a rank from the first step on, whatever the step itself keeps."""

from __future__ import annotations

from memplan.models.architecture import ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout
from memplan.models.training.phases import MemoryPart, linear_shapes
from memplan.models.training.step_recipe import Recipe

_HALF = 2
_WORKSPACE = 32 << 20
"""What cuBLAS is given to work in, on Hopper and later chips (TransformerEngine `get_cublas_workspace_size_bytes`)."""
_ALWAYS = 3
"""TransformerEngine's, and PyTorch's own of the threads that run forward and back (one for each handle and stream)."""
_GROUP_STREAMS, _OVERLAP_STREAMS = 4, 3
"""Streams that have one each: of grouped products, and of products that overlap exchanges (`_NUM_MAX_UB_STREAMS`)."""


def standing_buffers(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...], tokens: float
) -> list[MemoryPart]:
    """
    Buffers of a rank that holds the layers of `spans`, for micro-batches of `tokens` tokens a rank.

    Sequence parallelism gathers what a split projection reads into a buffer that stays (Megatron-Core's
    `GlobalMemoryBuffer`); TransformerEngine's layers gather into tensors of their own, so that only the head does.
    Where products add their gradients up themselves, autograd is handed a 16-bit tensor that nobody reads, one for
    each shape of weight (`get_dummy_wgrad`), by Megatron-Core for the head too. Fine-tuning of adapters, whose samples
    have lengths of their own, isn't told apart.
    """
    if recipe.lora_rank or recipe.variable_lengths:
        return []
    parts: list[MemoryPart] = []
    last = any(span.stop == len(model.layers) for span in spans)
    if recipe.sequence_parallel and layout.tensor > 1 and (last or not recipe.transformer_engine):
        formula = f"2 B x {tokens:,.0f} tokens x {model.hidden_size:,}, where a projection's input is gathered"
        parts.append(MemoryPart("gathered input", round(_HALF * tokens * model.hidden_size), formula))
    if not recipe.transformer_engine:
        return parts
    layers = [layer for span in spans for layer in model.layers[span.start : span.stop]]
    layers += model.mtp_layers if last else ()
    spaces = _ALWAYS + (_OVERLAP_STREAMS if recipe.overlap_tensor else 0)
    spaces += _GROUP_STREAMS if recipe.grouped_experts and any(isinstance(layer.ffn, MoeFfn) for layer in layers) else 0
    parts.append(MemoryPart("workspaces", spaces * _WORKSPACE, f"{spaces} x 32 MiB that cuBLAS works in"))
    if recipe.fused_gradients:
        shapes = linear_shapes(model, layout, spans)
        count = sum(rows * columns for rows, columns in shapes)
        formula = f"2 B x {count:,} of {len(shapes)} shapes of weights, whose gradients products add up themselves"
        parts.append(MemoryPart("gradients nobody reads", _HALF * count, formula))
    return parts
