"""Decoders that `decoders.json` describes by the traits of a family: parts of known kinds under names of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import assemble, choose, head_dim, named_moe_layers, numbered_mtp
from memplan.models.families.latent import latent_mixer
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm

Traits = Mapping[str, Any]


def described_families() -> tuple[str, ...]:
    """Every `model_type` that `decoders.json` describes."""
    return tuple(table("memplan.models.families", "decoders.json")["families"])


def family_traits(model_type: str) -> Traits:
    """The traits of a family, those that it has from the one it is `like` included."""
    families = table("memplan.models.families", "decoders.json")["families"]
    own = families[model_type]
    return {**family_traits(own["like"]), **own} if "like" in own else own


def described(fields: Fields) -> ModelConfig:
    """The decoder of a family in `decoders.json`."""
    traits = family_traits(fields.family)
    fields = _renamed(fields, traits)
    layers = layer_count(fields)
    mixers: Sequence[TokenMixer] = (
        [latent_mixer(fields)] * layers if traits.get("latent") else _attention(fields, traits, layers)
    )
    ffns = _feed_forward(fields, traits, layers)
    when = traits.get("norms_where")
    norms = when["norms"] if when is not None and fields.flag(when["flag"], False) else traits.get("norms", 2)
    for name, value in traits.get("refused", {}).items():
        if fields.values.get(name) == value:
            raise fields.wrong(name, Sentence("{!r} is not modelled for {}", (value, fields.family)))
    sparse_norms = traits.get("norms_of_experts", norms)
    stack = [
        Layer(index, mixer, ffn, sparse_norms if isinstance(ffn, MoeFfn) else norms)
        for index, (mixer, ffn) in enumerate(zip(mixers, ffns, strict=True))
    ]
    drafts = fields.count_or(traits["drafts"], 0) if "drafts" in traits else 0
    model = assemble(
        fields,
        family=fields.family,
        layers=stack,
        tied=traits.get("tied", False),
        mtp_layers=numbered_mtp(drafts, layers, stack[-1]),
    )
    rows = fields.count(traits["positions"]) + traits.get("positions_before", 0) if "positions" in traits else 0
    return replace(
        model,
        norm_bias=_flag(fields, traits, "norm_bias"),
        final_norm=norms > 0,
        head_bias=_flag(fields, traits, "head_bias") and not model.tied_embeddings,
        position_rows=rows,
        embedding_norm=traits.get("embedding_norm", False),
    )


def _renamed(fields: Fields, traits: Traits) -> Fields:
    """The fields under the names that most families use, lists of one value for all layers as that value."""
    values = dict(fields.values)
    for name, other in traits.get("names", {}).items():
        for candidate in [other] if isinstance(other, str) else other:
            found: Any = values
            for step in candidate.split("."):
                found = found.get(step) if isinstance(found, Mapping) else None
            if values.get(name) is None and found is not None:
                values[name] = found
    for name in traits.get("alike", ()):
        found = values.get(name)
        if isinstance(found, list) and found:
            if any(item != found[0] for item in found):
                raise fields.wrong(
                    name, Sentence("differs from layer to layer, which is not modelled for {}", (fields.family,))
                )
            values[name] = found[0]
    known = Fields(
        values,
        family=fields.family,
        path=fields.path,
        prefix=fields.prefix,
        defaults=traits.get("defaults"),
        defaults_source=table("memplan.models.families", "decoders.json")["source"],
    )
    known.noted = fields.noted
    return known


def _flag(fields: Fields, traits: Traits, name: str) -> bool:
    """A trait that holds always or never, or as one of its fields says; without it its default."""
    trait = traits.get(name, False)
    if isinstance(trait, bool):
        return trait
    *names, default = trait
    return any(fields.flag(name, default) for name in names)


def _windows(fields: Fields, traits: Traits, layers: int) -> list[int | None]:
    """
    The window of every layer: by `layer_types`, else in all layers but every so many-th, else in all or none.

    Of a family without a rule of its own engines give the window of the file to all layers, unless it lists kinds of
    layers or has a switch for it (vllm 0.33.0 engine/arg_utils.py create_engine_config).
    """
    rule = traits.get("window")
    switched = any(name in fields.values for name in ("layer_types", "use_sliding_window"))
    if not fields.has("sliding_window") or (rule is None and switched):
        return [None] * layers
    rule = "all" if rule is None else rule
    window = fields.count("sliding_window", least=0) or None
    if window is None or rule == "all":
        return [window] * layers
    if fields.has("layer_types"):
        kinds = fields.list_of("layer_types", str, at_least=layers)
        for number, kind in enumerate(kinds):
            if kind not in ("sliding_attention", "full_attention"):
                raise fields.wrong(
                    f"layer_types[{number}]", Sentence("{!r} is not an attention of {}", (kind, fields.family))
                )
        return [window if kind == "sliding_attention" else None for kind in kinds]
    if rule == "types":
        return [None] * layers
    every = rule if isinstance(rule, int) else fields.count(rule)
    return [window if (index + 1) % every else None for index in range(layers)]


def _attention(fields: Fields, traits: Traits, layers: int) -> list[GroupedAttention]:
    heads = fields.count("num_attention_heads")
    one_head = _flag(fields, traits, "one_kv_head")
    kv_heads = 1 if one_head else fields.count_or("num_key_value_heads", heads, least=1)
    if heads % kv_heads:
        raise fields.wrong(
            "num_key_value_heads", Sentence("{} does not divide num_attention_heads = {}", (kv_heads, heads))
        )
    dim = head_dim(fields, computed=True)
    one = GroupedAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dim,
        head_dim_v=dim,
        qk_norm=QkNorm(traits.get("qk_norm", "none")) if _flag(fields, traits, "qk_normed") else QkNorm.NONE,
        qkv_bias=_flag(fields, traits, "qkv_bias"),
        out_bias=_flag(fields, traits, "out_bias"),
        gated=_flag(fields, traits, "gated_attention"),
    )
    sinks = traits.get("sinks", "none")
    return [
        replace(one, window=window, sinks=sinks == "all" or (sinks == "window" and window is not None))
        for window in _windows(fields, traits, layers)
    ]


def _feed_forward(fields: Fields, traits: Traits, layers: int) -> list[Ffn]:
    moe = traits.get("experts")
    if moe is not None and fields.has(moe["count"]) and fields.count(moe["count"], least=0) > 1:
        width = fields.count(moe["width"]) if fields.has(moe["width"]) else fields.count("intermediate_size")
        shared = moe.get("shared_width")
        shared_width = fields.count_or(shared, 0) if shared is not None else 0
        if "shared" in moe:
            times = fields.count_or(moe["shared"], moe.get("shared_default", 0))
            shared_width = times * (shared_width or width)
        expert = MoeFfn(
            experts=fields.count(moe["count"]),
            per_token=fields.count(moe["per_token"]),
            intermediate=width,
            shared_intermediate=shared_width,
            router_biases=int(bool(moe.get("router_bias", False))),
        )
        sparse = _sparse(fields, moe, layers)
        dense = None if all(sparse) else _dense(fields, traits)
        return choose(sparse, expert, dense, fields)
    return [_dense(fields, traits)] * layers


def _dense(fields: Fields, traits: Traits) -> DenseFfn:
    times = traits.get("ffn_times_width")
    if times is not None and not fields.has("intermediate_size"):
        width = times * fields.count("hidden_size")
    else:
        width = fields.count(traits.get("dense_width", "intermediate_size"))
    return DenseFfn(
        width,
        gated=traits.get("gated_ffn", True),
        bias=_flag(fields, traits, "ffn_bias"),
        activation=traits.get("activation", 0),
    )


def _sparse(fields: Fields, moe: Traits, layers: int) -> list[bool]:
    """Which layers hold experts: a list in the file, else from the first behind the dense ones, every so many-th."""
    named = named_moe_layers(fields, layers)
    if named is not None:
        return named
    if isinstance(fields.values.get("moe_layer_freq"), list):
        return [flag == 1 for flag in fields.list_of("moe_layer_freq", int, at_least=layers)]
    first = fields.count_or(moe["dense_first"], moe.get("dense_first_default", 0)) if "dense_first" in moe else 0
    last = fields.count_or(moe["last"], layers - 1) if "last" in moe else layers - 1
    every = fields.count_or(moe["every"], 1, least=1) if "every" in moe else 1
    after = moe.get("every_after", 0)
    return [first <= index <= last and (index + after) % every == 0 for index in range(layers)]
