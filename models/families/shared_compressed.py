"""DeepSeek-V4.1: windows, compressed entries that a few layers keep for all, lookup tables of n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.core.sentence import Sentence
from memplan.models.architecture import HyperConnections, Layer, LookupTable, ModelConfig
from memplan.models.families.common import assemble, numbered_mtp
from memplan.models.families.compressed import entry_indexer, routed_experts, window_alone
from memplan.models.fields import MOST_ELEMENTS, Fields, layer_count
from memplan.models.mixers.compressed_attention import SharedCompressedAttention

_MOST_ROWS = MOST_ELEMENTS**2
_NOT_MODELLED = "the draft's projection, Markov and confidence heads are left out (DSpark)"


def deepseek_v41(fields: Fields) -> ModelConfig:
    """
    DeepSeek-V4.1-Flash.

    `compress_ratios` gives each layer's ratio, cut to the decoder's layers; a layer reads the entries of the last
    layer of `kv_source_layer_ids` up to itself and the choice of the last one of `index_source_layer_ids`.
    """
    layers = layer_count(fields)
    ratios = fields.list_of("compress_ratios", int, at_least=layers)
    sources = _ids(fields, "kv_source_layer_ids", layers)
    choosers = _ids(fields, "index_source_layer_ids", layers)
    window, indexer = window_alone(fields, SharedCompressedAttention), entry_indexer(fields)
    expert = replace(routed_experts(fields), router_biases=2)

    def mixer(index: int, ratio: int) -> SharedCompressedAttention:
        if not ratio:
            return window
        if ratio < 0:
            raise fields.wrong(f"compress_ratios[{index}]", Sentence("{} is no ratio of compression", (ratio,)))
        source = max((layer for layer in sources if layer <= index), default=None)
        if source is None or ratios[source] != ratio:
            raise fields.wrong(
                "kv_source_layer_ids", Sentence("no layer keeps entries of ratio {} for layer {}", (ratio, index))
            )
        if min(choosers, default=layers) > index:
            raise fields.wrong("index_source_layer_ids", Sentence("no layer chooses entries for layer {}", (index,)))
        return replace(
            window,
            ratio=ratio,
            source=source,
            owns_entries=source == index,
            top_k=indexer.topk,
            index_dim=indexer.head_dim,
            indexer=indexer if index in choosers else None,
        )

    tables = _tables(fields, layers)
    stack = [Layer(index, mixer(index, ratio), expert, lookup=tables.get(index)) for index, ratio in enumerate(ratios)]
    drafts = fields.count_or("num_nextn_predict_layers", 0)
    draft = replace(
        expert,
        experts=fields.count_or("dspark_n_routed_experts", expert.experts, least=1),
        per_token=fields.count_or("dspark_num_experts_per_tok", expert.per_token, least=1),
    )
    mtp = numbered_mtp(drafts, layers, Layer(layers, window, draft))
    notes = (_NOT_MODELLED,) if drafts else ()
    model = assemble(fields, family="deepseek_v41", layers=stack, tied=False, mtp_layers=mtp, notes=notes)
    return replace(model, hyper=HyperConnections(fields.count("hc_mult"), learnt_head=False))


def _ids(fields: Fields, name: str, layers: int) -> Sequence[int]:
    """The layers that the list `name` names."""
    found = fields.whole_list(name, int, required=True)
    for number, layer in enumerate(found):
        if not 0 <= layer < layers:
            raise fields.wrong(f"{name}[{number}]", Sentence("there is no layer {} among {}", (layer, layers)))
    return found


def _tables(fields: Fields, layers: int) -> dict[int, LookupTable]:
    """The lookup table of each layer that has one: `engram_n_heads` hashes of each n-gram of two tokens and more."""
    owners = _ids(fields, "engram_layer_ids", layers) if fields.has("engram_layer_ids") else ()
    if not owners:
        return {}
    rows = fields.list_of("engram_num_embeddings", int, at_least=len(owners))
    longest = fields.count("engram_max_ngram_size", least=2)
    heads = (longest - 1) * fields.count("engram_n_heads")
    for number, count in enumerate(rows):
        if not heads <= count <= _MOST_ROWS:
            raise fields.wrong(
                f"engram_num_embeddings[{number}]", Sentence("{} [row|rows] for {} [hash|hashes]", (count, heads))
            )
    width = fields.count("engram_head_dim")
    return {layer: LookupTable(count, width, heads) for layer, count in zip(owners, rows, strict=True)}
