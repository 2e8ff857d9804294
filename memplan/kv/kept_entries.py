"""What an engine keeps of a model's layers, in which types, and how many bytes an entry of it has on one rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.kv.engine import Engine
from memplan.kv.entry_formats import CompressedLayout, EntryFormat, IndexFormat
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout

_STATE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2}
_FLOAT32_BYTES = 4
_HALF_BYTES = 2
_PACKED_LATENT = "sfa_c8"
"""The name of the latent format that packs latent, positions and scales into bytes of one entry."""


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """
    How the engine is started, as far as its caches go.

    `block_size` `None` takes the engine's default, `kv` `None` its default type (`bf16`, `fp8`, `int8`, `fp8_ds_mla`,
    `sfa_c8`). `attention` is the attention kernel asked for by its name. `index_c8` keeps the indexer's keys in 8 bits,
    `index_kv` in a type by name, `state_type` recurrent states in one. `speculative_tokens` lengthen the windows of
    convolutions and add states; they are drafted by `draft_method`, which needs no layers if it is `ngram`. `mtp` keeps
    the caches of the layers of multi-token prediction. `state_aligned` keeps states at the granularity of blocks, for
    prefix caching.

    The others follow from the engine: layers that draft keep `draft_kv` where that differs, a state that is kept for
    every block spans `state_block` tokens where that is not
    the block size, and `stage_block` on a pipeline stage without attention, where its page stays as it is; blocks
    beside states are multiples of `checkpoint_tokens` and of `kernel_block`, pages of states and attention have
    `state_page` bytes.
    """

    block_size: int | None = None
    kv: str | None = None
    attention: str | None = None
    index_c8: bool = False
    index_kv: str | None = None
    state_type: str | None = None
    speculative_tokens: int = 0
    mtp: bool = False
    draft_method: str = "mtp"
    state_aligned: bool | None = None
    draft_kv: str | None = None
    state_block: int | None = None
    stage_block: int | None = None
    checkpoint_tokens: int = 1
    kernel_block: int = 1
    state_page: int = 0


def cache_parts(model: ModelConfig) -> list[CachePart]:
    """What all layers of the decoder keep."""
    return [part for layer in model.layers for part in model.layer_caches(layer)]


def _holds(model: ModelConfig, *contents: CacheContent) -> bool:
    return any(part.content in contents for part in cache_parts(model))


def keeps_index_keys(model: ModelConfig) -> bool:
    """Whether layers keep keys of an indexer, which engines may store in 8 bits."""
    return _holds(model, CacheContent.INDEX_KEYS, CacheContent.ENTRY_KEYS)


def as_kept(model: ModelConfig, engine: Engine) -> ModelConfig:
    """`model` as `engine` keeps its caches: some have the keys and values of every head in place of a latent."""
    if model.model_type not in engine.expanded:
        return model
    layers = tuple(
        replace(layer, mixer=replace(layer.mixer, expanded=True)) if isinstance(layer.mixer, LatentAttention) else layer
        for layer in model.layers
    )
    return replace(model, layers=layers)


def engine_of(model: ModelConfig, engine: Engine) -> Engine:
    """`engine` with the way it keeps the compressed entries of `model`, if any, as the only one."""
    if len(engine.compressed) < 2:
        return engine
    ratios = {part.ratio for part in cache_parts(model) if part.content is CacheContent.ENTRIES}
    fitting = [layout for layout in engine.compressed if ratios <= set(layout.ratios)]
    return replace(engine, compressed=tuple(fitting or engine.compressed)[:1])


def block_sizes(model: ModelConfig, engine: Engine) -> tuple[int, ...] | None:
    """The block sizes that the engine takes for `model`, `None` for any."""
    compressed = engine_of(model, engine).compressed
    if compressed and None not in compressed[0].blocks and _holds(model, CacheContent.WINDOW):
        return tuple(sorted(key for key in compressed[0].blocks if key is not None))
    if engine.forced_block is not None and not _holds(model, CacheContent.RECURRENT):
        return (engine.forced_block,)
    return engine.block_sizes


def kv_types(model: ModelConfig, engine: Engine) -> tuple[str, ...]:
    """The types that the engine keeps the caches of `model` in."""
    if _holds(model, CacheContent.WINDOW):
        return tuple(name for layout in engine_of(model, engine).compressed for name in layout.formats)
    if _holds(model, CacheContent.LATENT):
        packed = (_PACKED_LATENT,) if engine.latent.packed_tile is not None else ()
        return (*engine.latent.formats, *packed)
    return tuple(engine.kv_bytes)


def entry_format(formats: Mapping[str, EntryFormat], engine: Engine, options: CacheOptions, what: str) -> EntryFormat:
    """The format asked for, the engine's default, or the only one it knows; `what` it is for is named in errors."""
    # An engine that knows a single format uses it whatever type is asked for elsewhere.
    name = options.kv or (engine.default_kv if engine.default_kv in formats else next(iter(formats)))
    if name not in formats:
        raise InputError(
            "{} keeps no {} in {!r}", engine.name, what, name, remedy=Sentence("it has {}", (", ".join(formats),))
        )
    return formats[name]


def head_bytes(part: CachePart, engine: Engine, options: CacheOptions) -> tuple[float, float]:
    """Bytes of one head's keys of one token, and of all it keeps."""
    element, scale = kv_bytes(engine, options), engine.kv_scale_bytes.get(options.kv or engine.default_kv, 0)
    return part.widths[0] * element + scale, part.elements * element + len(part.widths) * scale


def kv_bytes(engine: Engine, options: CacheOptions) -> float:
    """Bytes of one element of keys and values."""
    name = options.kv or engine.default_kv
    if name not in engine.kv_bytes:
        raise InputError(
            "{} keeps no keys and values in {!r}",
            engine.name,
            name,
            remedy=Sentence("it has {}", (", ".join(engine.kv_bytes),)),
        )
    return engine.kv_bytes[name]


def heads_of_rank(heads: int, ranks: int) -> int:
    """Heads of one rank: all ranks have as many, or there are fewer heads than ranks and every rank repeats one."""
    if heads >= ranks:
        if heads % ranks:
            raise InputError("{} key/value heads can't be divided among {} ranks of tensor parallelism", heads, ranks)
        return heads // ranks
    if ranks % heads:
        raise InputError("{} key/value heads can't be repeated evenly on {} ranks of tensor parallelism", heads, ranks)
    return 1


def compressed_layout(engine: Engine) -> CompressedLayout:
    """How the engine keeps windows and compressed entries; raises `InputError` where it has no way known."""
    if not engine.compressed:
        raise InputError("{} has no known layout for compressed attention", engine.name)
    return engine.compressed[0]


def entry_bytes(part: CachePart, engine: Engine, options: CacheOptions, ranks: Layout) -> int:
    """
    Bytes of one entry of `part` on one rank: of a token or of `ratio` of them, or of the whole state of a sequence.

    Raises `InputError` where the engine does not keep it in the type asked for, or heads can't be divided.
    """
    content = part.content
    if content is CacheContent.HEADS:
        return int(heads_of_rank(part.heads, ranks.tensor) * head_bytes(part, engine, options)[1])
    if content is CacheContent.LATENT:
        return _latent_bytes(part, engine, options)
    if content is CacheContent.INDEX_KEYS:
        return _index_format(engine.latent.indexes, engine, options).size(part.elements)
    if content is CacheContent.BLOCK_KEYS:
        # vllm 0.33.0 models/minimax_m3/common/indexer.py: bf16 unless attention_config.indexer_kv_dtype says fp8.
        return part.elements * _HALF_BYTES
    if content is CacheContent.KEY_TAIL:
        # vllm 0.33.0 models/glm5next/common/attention.py, models/qwen4_exp/common/qsa_cache.py: bf16 whatever is asked.
        return part.elements * _HALF_BYTES
    if content is CacheContent.COMPRESSOR:
        return part.elements * _FLOAT32_BYTES
    if content is CacheContent.RECURRENT:
        return sum(recurrent_bytes(part, options, ranks))
    layout = compressed_layout(engine)
    if content is CacheContent.ENTRY_KEYS:
        return entry_keys_format(layout, engine, options).size(part.elements)
    kept = entry_format(layout.formats, engine, options, "compressed cache")
    if content is CacheContent.WINDOW and kept.window_bytes is not None:
        return kept.window_bytes
    return kept.size(part.elements)


def _latent_bytes(part: CachePart, engine: Engine, options: CacheOptions) -> int:
    """Bytes of the latent and the positions of one token."""
    layout, (latent, positions) = engine.latent, part.widths
    if options.kv == _PACKED_LATENT:
        if layout.packed_tile is None or latent % layout.packed_tile:
            raise InputError("{} has no packed latent cache for this model", engine.name)
        return latent + 2 * positions + latent // layout.packed_tile * _FLOAT32_BYTES
    return entry_format(layout.formats, engine, options, "latent cache").size(part.elements)


def _index_format(formats: Mapping[str, IndexFormat], engine: Engine, options: CacheOptions) -> IndexFormat:
    """The format asked for or the default one, which has no name."""
    name = options.index_kv or ("c8" if options.index_c8 else "")
    if name not in formats:
        others = ", ".join(sorted(filter(None, formats))) or "no other than its default"
        raise InputError(
            "{} does not keep the indexer's keys in {!r}", engine.name, name, remedy=Sentence("it has {}", (others,))
        )
    return formats[name]


def entry_keys_format(layout: CompressedLayout, engine: Engine, options: CacheOptions) -> IndexFormat:
    """The format of the indexer's keys to compressed entries, which may be in 8 bits without being asked."""
    if options.index_kv is None and "c8" not in layout.indexes:
        return layout.indexes[""]
    return _index_format(layout.indexes, engine, options)


def recurrent_bytes(part: CachePart, options: CacheOptions, ranks: Layout) -> tuple[int, int]:
    """Bytes of the convolution window and of the recurrent state of one layer on one rank."""
    shape = part.state
    if shape is None:
        return 0, 0
    kept = options.state_type or shape.dtype
    if kept not in _STATE_BYTES:
        raise InputError(
            "recurrent states of type {!r:.40} are not supported",
            kept,
            remedy=Sentence("there are {}", (", ".join(_STATE_BYTES),)),
        )
    window, state = shape.on_rank(ranks.tensor, options.speculative_tokens)
    return window * 2, state * _STATE_BYTES[kept]
