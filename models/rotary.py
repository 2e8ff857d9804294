"""Tables of rotary positions: cosines and sines of every position, which engines keep beside the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memplan.core.resources import table
from memplan.models.architecture import ModelConfig, RotaryTable
from memplan.models.fields import Fields
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.compressed_attention import WindowedLatent
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.mixers.parallel_mixer import ParallelMixer

_PICTURE_POSITIONS = 4
"""Positions of models that see are that many times as many (vllm 0.23.0 rotary_embedding/mrope.py)."""
_MOST = 2**40
"""No number of positions or factor of a published model comes near this."""
_STRETCHED = ("yarn", "linear", "dynamic")
"""Scalings whose table has `factor` times the positions they start from (vllm 0.23.0 rotary_embedding/*.py)."""


def read_rotary(fields: Fields, model: ModelConfig) -> tuple[RotaryTable, ...]:
    """
    The tables of `model`, whose decoder `fields` describe: one for each width and base frequency.

    A file without the fields that this needs has none: what can be planned must not fail over it.
    """
    rules = table("memplan.models.families", "rotary.json")
    if model.position_rows or model.family in rules["none"] or fields.values.get("position_embedding_type") == "nope":
        return ()
    found: dict[tuple[object, ...], RotaryTable] = {}
    for layer in model.layers:
        for name, mixer in _turned(layer.mixer):
            scaling = _scaling(fields.values, name)
            width = _width(fields, model, mixer, scaling, rules["partial"])
            kind, positions = _positions(scaling, model.max_positions)
            if isinstance(mixer, LatentAttention) and kind == "yarn":
                kind = "deepseek_yarn"
            if isinstance(mixer, WindowedLatent):
                kind = "compressed"
            apart = name if model.family in rules["apart"] else None
            key = (width, positions, str(_base(fields.values, scaling, name)), apart)
            if width and positions:
                found.setdefault(key, RotaryTable(positions, width, kind))
    return tuple(found.values())


def _turned(mixer: TokenMixer | None) -> Iterator[tuple[str, TokenMixer]]:
    """The mixer with the name that files have for its kind of layer, if it turns queries and keys."""
    if isinstance(mixer, WindowedLatent):
        yield "compressed" if mixer.ratio else "full_attention", mixer
    elif isinstance(mixer, ParallelMixer):
        yield "full_attention", mixer.attention
    elif isinstance(mixer, GroupedAttention):
        yield "sliding_attention" if mixer.window else "full_attention", mixer
    elif isinstance(mixer, LatentAttention):
        yield "full_attention", mixer


def _scaling(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object that describes the positions of layers of the kind `name`."""
    for field in ("rope_parameters", "rope_scaling"):
        found = values.get(field)
        if isinstance(found, Mapping):
            inner = found.get(name)
            if isinstance(inner, Mapping):
                return inner
            # Frequencies of windows that a file gives apart are not scaled.
            return {} if name == "sliding_attention" and "rope_local_base_freq" in values else found
    return {}


def _base(values: Mapping[str, Any], scaling: Mapping[str, Any], name: str) -> object:
    named = {
        "sliding_attention": ("rope_local_base_freq", "local_rope_theta", "swa_rope_theta"),
        "compressed": ("compress_rope_theta",),
    }
    own = next((values[field] for field in named.get(name, ()) if field in values), None)
    return scaling.get("rope_theta", values.get("rope_theta")) if own is None else own


def _number(value: object) -> float | None:
    """A number of the file that can be computed with: no text, no truth value, nothing beyond all bounds."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST
    return float(value) if known and isinstance(value, (int, float)) else None


def _width(
    fields: Fields, model: ModelConfig, mixer: TokenMixer, scaling: Mapping[str, Any], partial: Mapping[str, float]
) -> int:
    if isinstance(mixer, (LatentAttention, WindowedLatent)):
        return mixer.rope_dim
    if not isinstance(mixer, GroupedAttention):
        return 0
    whole = _number(fields.values.get("rotary_dim") or scaling.get("rope_dim"))
    if whole is not None and 0 < whole <= mixer.head_dim:
        return int(whole)
    names = ("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction", "rope_pct")
    given = (_number(place.get(name)) for place in (scaling, fields.values) for name in names)
    share = next((found for found in given if found is not None), partial.get(model.family, 1.0))
    return int(mixer.head_dim * share) if 0 < share <= 1 else mixer.head_dim


def _positions(scaling: Mapping[str, Any], longest: int) -> tuple[str, int]:
    """The kind of scaling and how many positions the table has, by the rules of vllm 0.23.0 rotary_embedding."""
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    factor, first = _number(scaling.get("factor")), _number(scaling.get("original_max_position_embeddings"))
    if "mrope_section" in scaling:
        return "mrope", _PICTURE_POSITIONS * longest
    if kind == "longrope" and first is not None:
        return kind, int(first) + longest
    if kind == "yarn" and first is not None and factor is not None:
        return kind, int(first * factor)
    if kind in _STRETCHED and factor is not None and "alpha" not in scaling:
        return kind, int(longest * factor)
    return kind, longest
