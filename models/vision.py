"""The vision tower beside a decoder, from `vision_config`."""

from __future__ import annotations

from dataclasses import replace

from memplan.models.architecture import VisionTower
from memplan.models.fields import Fields, layer_count


def read_vision(fields: Fields) -> VisionTower | None:
    """The tower described by `vision_config` of `fields`, or `None` where the model has none."""
    if not fields.has("vision_config"):
        return None
    vision = fields.within("vision_config")
    tower = _tower(fields, vision)
    name = next(
        (name for name in ("num_heads", "num_attention_heads", "vt_num_attention_heads") if vision.has(name)), ""
    )
    return replace(tower, heads=vision.count(name, least=0)) if name else tower


def _tower(fields: Fields, vision: Fields) -> VisionTower:
    model_type = vision.text_or_none("model_type") or fields.family
    if model_type.startswith(("qwen3_vl", "qwen3_5")):
        hidden = vision.count("hidden_size")
        repeated = (vision.count("num_position_embeddings") + 1) * hidden + _qwen2_patch(vision, hidden)
        deep = len(vision.whole_list("deepstack_visual_indexes", int))
        made = _qwen3_vl(vision, deep)
        return VisionTower(model_type, made, vision.count("depth"), hidden, repeated=repeated, deep_states=deep)
    if model_type == "qwen2_vl" and vision.has("embed_dim"):
        return VisionTower(model_type, _qwen2_vl(vision), vision.count("depth"), vision.count("embed_dim"))
    if model_type == "qwen2_5_vl" and vision.has("out_hidden_size"):
        return VisionTower(model_type, _qwen2_5_vl(vision), vision.count("depth"), vision.count("hidden_size"))
    if model_type == "deepseek_v41_vision":
        made = _deepseek_v41(vision, fields.within("text_config"))
        return VisionTower(model_type, made, layer_count(vision), vision.count("hidden_size"))
    if vision.has("vt_hidden_size"):
        made = _moonvit_k3(vision) if vision.text_or_none("norm_type") == "rmsnorm" else _moonvit(vision)
        return VisionTower(model_type, made, vision.count("vt_num_hidden_layers"), vision.count("vt_hidden_size"))
    layers = next((name for name in ("num_hidden_layers", "vt_num_hidden_layers", "depth") if vision.has(name)), None)
    width = next((name for name in ("hidden_size", "vt_hidden_size") if vision.has(name)), None)
    return VisionTower(
        model_type,
        None,
        0 if layers is None else vision.count(layers),
        0 if width is None else vision.count(width),
    )


def _qwen3_vl(vision: Fields, deep: int) -> int:
    """
    Parameters of the Qwen3-VL tower: patch embedding, positions, blocks with biases, one merger and one more for each
    of the `deep` blocks whose states the decoder takes as well.
    """
    hidden, width, depth = vision.count("hidden_size"), vision.count("intermediate_size"), vision.count("depth")
    patch = vision.count("temporal_patch_size") * vision.count("patch_size") ** 2 * vision.count("in_channels")
    merged = hidden * vision.count("spatial_merge_size") ** 2
    out = vision.count("out_hidden_size")
    block = 2 * 2 * hidden + 3 * hidden * hidden + 3 * hidden + hidden * hidden + hidden
    block += hidden * width + width + width * hidden + hidden
    merger = merged * merged + merged + merged * out + out
    return (
        patch * hidden
        + hidden
        + vision.count("num_position_embeddings") * hidden
        + depth * block
        + merger
        + 2 * hidden
        + deep * (merger + 2 * merged)
    )


def _qwen2_patch(vision: Fields, hidden: int) -> int:
    channels = vision.count_or("in_channels", vision.count_or("in_chans", 3, least=1), least=1)
    frames = vision.count_or("temporal_patch_size", 2, least=1)
    return frames * vision.count_or("patch_size", 14, least=1) ** 2 * channels * hidden


def _qwen2_vl(vision: Fields) -> int:
    """Parameters of the Qwen2-VL tower: layer norms, biases but on the patches, a merger of a square of patches."""
    hidden, out = vision.count("embed_dim"), vision.count("hidden_size")
    width = hidden * vision.count_or("mlp_ratio", 4, least=1)
    merged = hidden * vision.count_or("spatial_merge_size", 2, least=1) ** 2
    block = 4 * hidden + 4 * (hidden * hidden + hidden) + 2 * hidden * width + width + hidden
    merger = 2 * hidden + merged * merged + merged + merged * out + out
    return _qwen2_patch(vision, hidden) + vision.count("depth") * block + merger


def _qwen2_5_vl(vision: Fields) -> int:
    """Parameters of the Qwen2.5-VL tower: RMS norms, a gated feed-forward part with biases, the same merger."""
    hidden, width, out = vision.count("hidden_size"), vision.count("intermediate_size"), vision.count("out_hidden_size")
    merged = hidden * vision.count_or("spatial_merge_size", 2, least=1) ** 2
    block = 2 * hidden + 4 * (hidden * hidden + hidden) + 3 * hidden * width + 2 * width + hidden
    merger = hidden + merged * merged + merged + merged * out + out
    return _qwen2_patch(vision, hidden) + vision.count("depth") * block + merger


def _deepseek_v41(vision: Fields, text: Fields) -> int:
    """
    Parameters of DeepSeek-V4.1's tower and aligner (vllm 0.33.0 models/deepseek_v4/common/vision.py): biases on the
    patch embedding, on attention and in the aligner, which merges a square of patches; three learnt image marks.
    """
    hidden, width, out = vision.count("hidden_size"), vision.count("intermediate_size"), text.count("hidden_size")
    patch = 3 * vision.count("patch_size") ** 2
    block = 4 * (hidden * hidden + hidden) + 3 * hidden * width + 2 * hidden
    merged = hidden * vision.count("downsample_ratio") ** 2
    aligner = merged * out + out + out * out + out
    return patch * hidden + hidden + layer_count(vision) * block + hidden + aligner + 3 * out


def _moonvit_sizes(vision: Fields) -> tuple[int, int, int, int, int, int]:
    """Width, feed-forward width, layers, elements of the patch embedding, of the positions, and of a merged patch."""
    hidden = vision.count("vt_hidden_size")
    patch = 3 * vision.count("patch_size") ** 2 * hidden
    positions = vision.count("init_pos_emb_height") * vision.count("init_pos_emb_width") * hidden
    rows, columns = vision.list_of("merge_kernel_size", int, at_least=2)
    layers = vision.count("vt_num_hidden_layers")
    return hidden, vision.count("vt_intermediate_size"), layers, patch, positions, hidden * rows * columns


def _moonvit(vision: Fields) -> int:
    """Parameters of MoonViT and its projector (Kimi-K2.5): layer norms and biases throughout."""
    hidden, width, layers, patch, positions, merged = _moonvit_sizes(vision)
    out = vision.count("text_hidden_size")
    block = 4 * hidden + 4 * (hidden * hidden + hidden) + 2 * hidden * width + width + hidden
    projector = 2 * hidden + merged * merged + merged + merged * out + out
    return patch + hidden + positions + layers * block + 2 * hidden + projector


def _moonvit_k3(vision: Fields) -> int:
    """Parameters of Kimi-K3's tower and projector: RMS norms, no biases, attention of a width of its own."""
    hidden, width, layers, patch, positions, merged = _moonvit_sizes(vision)
    out, inner = vision.count("text_hidden_size"), vision.count("qkv_hidden_size")
    block = 2 * hidden + 4 * inner * hidden + 2 * hidden * width
    return patch + positions + layers * block + hidden + merged * merged + merged * out + out
