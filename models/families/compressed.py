"""DeepSeek-V4: sliding window plus compressed attention by layer, hyper-connections."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from memplan.core.sentence import Sentence
from memplan.models.architecture import HyperConnections, Layer, ModelConfig
from memplan.models.families.common import assemble, numbered_mtp
from memplan.models.feed_forward import MoeFfn
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.compressed_attention import CompressedAttention, WindowedLatent
from memplan.models.mixers.latent_attention import Indexer

_WINDOW_ONLY, _CSA = 0, 4


Windowed = TypeVar("Windowed", bound=WindowedLatent)


def window_alone(fields: Fields, kind: type[Windowed]) -> Windowed:
    """A mixer of `kind` that looks at its window alone."""
    heads, groups = fields.count("num_attention_heads"), fields.count("o_groups")
    if (heads * fields.count("head_dim")) % groups:
        raise fields.wrong("o_groups", Sentence("{} does not divide num_attention_heads x head_dim", (groups,)))
    return kind(
        heads=heads,
        head_dim=fields.count("head_dim"),
        rope_dim=fields.count("qk_rope_head_dim"),
        q_lora_rank=fields.count("q_lora_rank"),
        out_groups=groups,
        out_lora_rank=fields.count("o_lora_rank"),
        window=fields.count("sliding_window"),
        ratio=_WINDOW_ONLY,
    )


def entry_indexer(fields: Fields) -> Indexer:
    """What chooses compressed entries."""
    return Indexer(fields.count("index_n_heads"), fields.count("index_head_dim"), fields.count("index_topk"))


def routed_experts(fields: Fields) -> MoeFfn:
    """The experts of every layer, and the shared one."""
    intermediate = fields.count("moe_intermediate_size")
    return MoeFfn(
        experts=fields.count("n_routed_experts"),
        per_token=fields.count("num_experts_per_tok"),
        intermediate=intermediate,
        shared_intermediate=intermediate * fields.count("n_shared_experts", least=0),
    )


def deepseek_v4(fields: Fields) -> ModelConfig:
    """
    DeepSeek-V4 Pro and Flash.

    The kind of each layer is read from `compress_ratios`, cut to the decoder's layers: the entries behind them
    belong to multi-token prediction and to draft models.
    """
    layers = layer_count(fields)
    ratios = fields.list_of("compress_ratios", int, at_least=layers)
    window, indexer, expert = window_alone(fields, CompressedAttention), entry_indexer(fields), routed_experts(fields)
    for index, ratio in enumerate(ratios):
        if ratio != _WINDOW_ONLY and ratio < 2:
            raise fields.wrong(f"compress_ratios[{index}]", Sentence("{} is no ratio of compression", (ratio,)))
    mixers = [replace(window, ratio=ratio, indexer=indexer if ratio == _CSA else None) for ratio in ratios]
    stack = [Layer(index, mixer, expert) for index, mixer in enumerate(mixers)]
    drafts = fields.count_or("num_nextn_predict_layers", 0)
    mtp = numbered_mtp(drafts, layers, Layer(layers, window, expert))
    model = assemble(fields, family="deepseek_v4", layers=stack, tied=False, mtp_layers=mtp)
    return replace(model, hyper=HyperConnections(fields.count("hc_mult")))
