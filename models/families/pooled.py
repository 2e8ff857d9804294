"""GLM-5.3-Flash: Kimi delta attention beside latent attention over tokens that an indexer picks by pools."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import HyperConnections, Layer, ModelConfig
from memplan.models.families.common import assemble, choose, expert_ffn, indexed_layers, moe_layers, numbered_mtp
from memplan.models.families.latent import latent_mixer
from memplan.models.fields import Fields, layer_count
from memplan.models.mixers.latent_attention import Indexer, LatentAttention
from memplan.models.mixers.recurrent_mixers import KimiDelta

_PATTERN = {"F": "full", "S": "shared"}


def _indexes(fields: Fields, layers: int) -> list[bool]:
    """Which layers have an indexer of their own: by `indexer_types`, a pattern of letters, or every so many-th."""
    if fields.has("indexer_types"):
        kinds = list(fields.list_of("indexer_types", str, at_least=layers))
    elif isinstance(fields.values.get("index_topk_pattern"), str):
        letters = fields.text_or_none("index_topk_pattern") or ""
        kinds = [_PATTERN.get(letter, letter) for letter in letters]
    else:
        every = fields.count_or("index_topk_freq", 1, least=1)
        offset = fields.count_or("index_skip_topk_offset", 2)
        kinds = ["shared" if max(index - offset + 1, 0) % every else "full" for index in range(layers)]
    if len(kinds) < layers:
        raise fields.wrong("index_topk_pattern", Sentence("names {} of {} [layer|layers]", (len(kinds), layers)))
    for number, kind in enumerate(kinds):
        if kind not in ("full", "shared"):
            raise fields.wrong(f"indexer_types[{number}]", Sentence("{!r:.40} is neither 'full' nor 'shared'", (kind,)))
    return [kind == "full" for kind in kinds[:layers]]


def _delta(fields: Fields) -> KimiDelta:
    """The linear attention, under its own names or in an object as Kimi-Linear has it."""
    if fields.has("linear_attn_config"):
        own = fields.within("linear_attn_config")
        sizes = own.count("num_heads"), own.count("head_dim"), own.count("short_conv_kernel_size", least=2)
    else:
        sizes = (
            fields.count("linear_num_heads"),
            fields.count("linear_head_dim"),
            fields.count("linear_conv_kernel_dim", least=2),
        )
    return KimiDelta(*sizes, state_dtype="float32")


def glm5_next(fields: Fields) -> ModelConfig:
    """
    GLM-5.3-Flash: delta attention, in every fourth layer latent attention without positions, whose indexer keeps one
    key for `index_kpool` tokens; several residual streams.
    """
    layers = layer_count(fields)
    width, pool = fields.count("index_head_dim"), fields.count_or("index_kpool", 16, least=1)
    # Of a token whose pool is not full its key and the score that weighs it are kept.
    indexer = Indexer(fields.count("index_n_heads"), width, fields.count("index_topk"), pool, 2 * width)
    positioned = fields.count("qk_rope_head_dim", least=0)
    if positioned:
        raise fields.wrong(
            "qk_rope_head_dim", Sentence("{} is not modelled for {}, which turns no key", (positioned, fields.family))
        )
    fields.count("q_lora_rank")
    attends, owns, delta = indexed_layers(fields, layers), _indexes(fields, layers), _delta(fields)
    full = latent_mixer(fields, indexer)
    mixers: list[LatentAttention | KimiDelta] = []
    known = False
    for index in range(layers):
        if not attends[index]:
            mixers.append(delta)
            continue
        if not owns[index] and not known:
            raise fields.wrong(f"indexer_types[{index}]", "no earlier layer has an indexer to share")
        known = True
        mixers.append(full if owns[index] else replace(full, indexer=None, shared_indexer=indexer))
    dense = 0 if fields.has("mlp_layer_types") else fields.count_or("first_k_dense_replace", 3)
    ffns = choose(moe_layers(fields, layers, dense), expert_ffn(fields, fields.count("n_shared_experts")), None, fields)
    stack = [Layer(index, mixer, ffn) for index, (mixer, ffn) in enumerate(zip(mixers, ffns, strict=True))]
    drafts = fields.count_or("num_nextn_predict_layers", 0)
    mtp = numbered_mtp(drafts, layers, Layer(layers, full, ffns[-1]))
    model = assemble(fields, family=fields.family, layers=stack, tied=False, mtp_layers=mtp)
    return replace(model, hyper=HyperConnections(fields.count_or("hc_mult", 4, least=1), learnt_head=False))
