"""The vision tower beside a decoder, from `vision_config`."""

from __future__ import annotations

from memplan.models.architecture import VisionTower
from memplan.models.fields import Fields


def read_vision(fields: Fields) -> VisionTower | None:
    """The tower described by `vision_config` of `fields`, or `None` where the model has none."""
    if not fields.has("vision_config"):
        return None
    vision = fields.within("vision_config")
    model_type = vision.text_or_none("model_type") or fields.family
    if model_type.startswith(("qwen3_vl", "qwen3_5")):
        return VisionTower(model_type, _qwen3_vl(vision), vision.count("depth"), vision.count("hidden_size"))
    layers = next((name for name in ("num_hidden_layers", "vt_num_hidden_layers", "depth") if vision.has(name)), None)
    width = next((name for name in ("hidden_size", "vt_hidden_size") if vision.has(name)), None)
    return VisionTower(
        model_type,
        None,
        0 if layers is None else vision.count(layers),
        0 if width is None else vision.count(width),
    )


def _qwen3_vl(vision: Fields) -> int:
    """
    Parameters of the Qwen3-VL tower: patch embedding, positions, blocks with biases, one merger and one more for each
    of `deepstack_visual_indexes`.
    """
    hidden, width, depth = vision.count("hidden_size"), vision.count("intermediate_size"), vision.count("depth")
    patch = vision.count("temporal_patch_size") * vision.count("patch_size") ** 2 * vision.count("in_channels")
    merged = hidden * vision.count("spatial_merge_size") ** 2
    out = vision.count("out_hidden_size")
    block = 2 * 2 * hidden + 3 * hidden * hidden + 3 * hidden + hidden * hidden + hidden
    block += hidden * width + width + width * hidden + hidden
    merger = merged * merged + merged + merged * out + out
    deep = vision.values.get("deepstack_visual_indexes") or ()
    return (
        patch * hidden
        + hidden
        + vision.count("num_position_embeddings") * hidden
        + depth * block
        + merger
        + 2 * hidden
        + len(deep) * (merger + 2 * merged)
    )
