"""MiniMax-M3: grouped-query attention that in most layers looks only at the blocks of tokens that an indexer picks."""

from __future__ import annotations

from dataclasses import replace

from memplan.models.architecture import ModelConfig
from memplan.models.families.described import described
from memplan.models.fields import Fields
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import Indexer

_SPARSE = "minimax_m3_sparse"


def minimax_m3(fields: Fields) -> ModelConfig:
    """MiniMax-M3: which layers pick blocks is said by `sparse_attention_config`, or by `layer_types` in newer files."""
    model = described(fields)
    count = len(model.layers)
    if fields.has("sparse_attention_config"):
        sparse = fields.within("sparse_attention_config")
        picked = [flag == 1 for flag in sparse.list_of("sparse_attention_freq", int, at_least=count)]
        blocks = sparse.count("sparse_topk_blocks") * sparse.count("sparse_block_size")
        index = Indexer(sparse.count("sparse_num_index_heads"), sparse.count("sparse_index_dim"), blocks)
    elif fields.has("layer_types"):
        picked = [kind == _SPARSE for kind in fields.list_of("layer_types", str, at_least=count)]
        blocks = fields.count("index_topk_blocks") * fields.count("index_block_size") if any(picked) else 1
        heads = fields.count_or("index_n_heads", 1, least=1)
        index = Indexer(heads, fields.count_or("index_head_dim", 128, least=1), blocks)
    else:
        return model
    layers = tuple(
        replace(layer, mixer=replace(layer.mixer, indexer=index))
        if chosen and isinstance(layer.mixer, GroupedAttention)
        else layer
        for layer, chosen in zip(model.layers, picked, strict=True)
    )
    return replace(model, layers=layers)
