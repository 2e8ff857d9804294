"""The caches of a model's layers as an engine would keep them on one rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.core.units import round_up
from memplan.kv.engine import Engine
from memplan.kv.entry_formats import CompressedLayout, EntryFormat, IndexFormat
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout, stage_spans

_STATE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2}
_FLOAT32_BYTES = 4
_HALF_BYTES = 2
PACKED_LATENT = "sfa_c8"
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
        packed = (PACKED_LATENT,) if engine.latent.packed_tile is not None else ()
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
        return _entry_keys(layout, engine, options).size(part.elements)
    kept = entry_format(layout.formats, engine, options, "compressed cache")
    if content is CacheContent.WINDOW and kept.window_bytes is not None:
        return kept.window_bytes
    return kept.size(part.elements)


def _latent_bytes(part: CachePart, engine: Engine, options: CacheOptions) -> int:
    """Bytes of the latent and the positions of one token."""
    layout, (latent, positions) = engine.latent, part.widths
    if options.kv == PACKED_LATENT:
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


def _entry_keys(layout: CompressedLayout, engine: Engine, options: CacheOptions) -> IndexFormat:
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


def _plain(layer: int, part: str, kind: CacheKind, size: int, payload: int, layout: tuple[object, ...]) -> CacheSpec:
    return CacheSpec(layer, part, kind, size, payload, payload, layout)


def _head_spec(
    layer: int, part: CachePart, size: int, engine: Engine, options: CacheOptions, ranks: Layout
) -> CacheSpec:
    layout = ("grouped", heads_of_rank(part.heads, ranks.tensor), *part.widths)
    kind = CacheKind.SLIDING if part.window else CacheKind.CHUNKED if part.chunk else CacheKind.FULL
    spec = _plain(layer, part.part, kind, size, size * entry_bytes(part, engine, options, ranks), layout)
    return replace(spec, window=part.window, chunk=part.chunk)


def _beside(layer: int, part: CachePart, size: int, engine: Engine, options: CacheOptions, ranks: Layout) -> CacheSpec:
    """Pages of an indexer's keys, one for every `ratio` tokens, or the ring of those whose pool is not full yet."""
    entry = entry_bytes(part, engine, options, ranks)
    if part.content is CacheContent.KEY_TAIL:
        # A rejected draft must not overwrite a key that the next step needs (get_kv_cache_spec of both caches).
        rows = round_up(part.ratio + options.speculative_tokens, part.ratio)
        return _plain(layer, part.part, CacheKind.RING, rows, rows * entry, ("ring", part.elements))
    if size % part.ratio:
        raise InputError("a block of {} tokens does not divide into pools of {}", size, part.ratio)
    return _plain(layer, part.part, CacheKind.LATENT, size, size // part.ratio * entry, ("index", entry, part.ratio))


def _latent_specs(
    layer: int, parts: Sequence[CachePart], size: int, engine: Engine, options: CacheOptions, ranks: Layout
) -> Iterator[CacheSpec]:
    """The latent of a layer and the keys of its indexer, in its pages or in pages of their own."""
    layout, (latent, *others) = engine.latent, parts
    entry = entry_bytes(latent, engine, options, ranks)
    keys = [part for part in others if part.content is not CacheContent.KEY_TAIL]
    kept = [part for part in keys if layout.index_kept_by_shared or not part.reused]
    pooled = [part for part in kept if part.ratio > 1]
    if pooled:
        yield _plain(layer, latent.part, CacheKind.LATENT, size, size * entry, ("latent", entry))
        for part in others:
            if part in pooled or part.content is CacheContent.KEY_TAIL:
                yield _beside(layer, part, size, engine, options, ranks)
        return
    key = sum(entry_bytes(part, engine, options, ranks) for part in kept)
    if layout.index_in_page or layout.index_repeated:
        # With context parallelism the latent is spread over the ranks and the indexer's keys are repeated on each.
        key *= ranks.context
    if layout.index_in_page:
        entry, key = entry + key, 0
    yield _plain(layer, latent.part, CacheKind.LATENT, size, size * entry, ("latent", entry))
    if key:
        yield _plain(layer, kept[0].part, CacheKind.LATENT, size, size * key, ("index", key))


def _compressed_specs(
    layer: int, parts: Sequence[CachePart], engine: Engine, options: CacheOptions, ranks: Layout
) -> Iterator[CacheSpec]:
    """The compressed entries of a layer with their keys, its window, and what its compressors have not used up."""
    layout = compressed_layout(engine)
    size = layout.page_tokens or options.block_size or engine.default_block_size
    kept = entry_format(layout.formats, engine, options, "compressed cache")
    blocks = layout.blocks[None] if None in layout.blocks else layout.blocks[size]
    for part in parts:
        entry = entry_bytes(part, engine, options, ranks)
        if part.content is CacheContent.WINDOW:
            spec = _window_spec(layer, part, blocks.window, entry, kept.alignment, blocks.window_pad)
            yield replace(spec, stride=kept.window_stride)
        elif part.content is CacheContent.COMPRESSOR and layout.ring_rows:
            yield _ring_spec(layer, part, layout, entry, options)
        elif part.content is CacheContent.COMPRESSOR:
            beside = blocks.main_pad if kept.state_bytes is None else blocks.window * kept.state_bytes
            pad = beside if part.part == "state" else blocks.index_pad
            yield _window_spec(layer, part, blocks.states[part.ratio], entry, kept.alignment, pad)
        else:
            if part.ratio not in layout.ratios:
                known = ", ".join(map(str, layout.ratios))
                raise InputError(
                    "{} keeps no compressed entries of ratio {}",
                    engine.name,
                    part.ratio,
                    remedy=Sentence("it knows {}", (known,)),
                )
            keys = part.content is CacheContent.ENTRY_KEYS
            alignment = max(_entry_keys(layout, engine, options).alignment, 1) if keys else kept.alignment
            spec = _entry_spec(layer, part, size, layout, entry, alignment)
            yield spec
            if keys and part.ratio == layout.folded_ratio:
                yield replace(spec, part=f"{part.part}_folded", layout=("folded", *spec.layout))


def _window_spec(layer: int, part: CachePart, rows: int, entry: int, alignment: int, pad: int | None) -> CacheSpec:
    payload = rows * entry
    return CacheSpec(
        layer,
        part.part,
        CacheKind.SLIDING_LATENT,
        rows,
        payload,
        round_up(payload, alignment) if pad is None else pad,
        ("window" if part.content is CacheContent.WINDOW else "state", part.elements),
        window=part.window,
        alignment=alignment,
    )


def _ring_spec(layer: int, part: CachePart, layout: CompressedLayout, entry: int, options: CacheOptions) -> CacheSpec:
    """The rows of one step with the one before, drafts and their bonus token included, as a power of two."""
    rows = max(layout.ring_rows, 1 << (options.speculative_tokens + 1).bit_length())
    payload = rows * entry
    return CacheSpec(layer, part.part, CacheKind.RING, rows, payload, payload, ("ring", part.elements))


def _entry_spec(
    layer: int, part: CachePart, size: int, layout: CompressedLayout, entry: int, alignment: int
) -> CacheSpec:
    """Compressed entries of one layer, or the indexer's keys to them."""
    if layout.counts_entries:
        rows, entry_tokens = size, part.ratio
    else:
        rows, entry_tokens = size // part.ratio, 1
        if not rows:
            raise InputError(
                "a block of {} tokens holds no entry of ratio {}", size, part.ratio, remedy="use a larger one"
            )
    read_at_once = math.gcd(layout.native_block or size, size)
    return CacheSpec(
        layer,
        part.part,
        CacheKind.LATENT,
        size,
        rows * entry,
        round_up(rows * entry, alignment),
        (part.part, entry, part.ratio),
        entry_tokens=entry_tokens,
        stride=1 if read_at_once == size else round_up(read_at_once // part.ratio * entry, alignment),
    )


def _layer_specs(
    layer: int, parts: Sequence[CachePart], length: int, engine: Engine, options: CacheOptions, ranks: Layout
) -> Iterator[CacheSpec]:
    """The pages of what one layer keeps: of attention first, then of the states beside it."""
    states = [part for part in parts if part.content is CacheContent.RECURRENT]
    parts = [part for part in parts if part.content is not CacheContent.RECURRENT]
    content = parts[0].content if parts else None
    size = options.block_size or engine.default_block_size
    if content is CacheContent.HEADS:
        yield _head_spec(layer, parts[0], size, engine, options, ranks)
        for part in parts[1:]:
            yield _beside(layer, part, size, engine, options, ranks)
    elif content is CacheContent.LATENT:
        yield from _latent_specs(layer, parts, size, engine, options, ranks)
    elif content is not None:
        yield from _compressed_specs(layer, parts, engine, options, ranks)
    for part in states:
        halves = recurrent_bytes(part, options, ranks)
        block = (options.state_block or size) if options.state_aligned else length
        yield _plain(layer, part.part, CacheKind.STATE, block, sum(halves), ("state", halves))


def _stateful_stages(model: ModelConfig, drafting: Sequence[Layer], ranks: Layout) -> set[int]:
    """
    The layers of pipeline stages that keep states alone, where other stages keep more; those `drafting` stand on the
    last stage.

    vllm 0.33.0 platforms/interface.py update_block_size_for_backend: a worker without attention aligns no pages.
    """
    stages = [model.layers[span.start : span.stop] for span in stage_spans(len(model.layers), ranks)]
    kept = [{part.content for layer in stage for part in model.layer_caches(layer)} for stage in stages]
    kept[-1] |= {part.content for layer in drafting for part in model.layer_caches(layer)}
    if all(contents == {CacheContent.RECURRENT} for contents in kept):
        return set()
    return {
        layer.index
        for stage, contents in zip(stages, kept, strict=True)
        if contents == {CacheContent.RECURRENT}
        for layer in stage
    }


def cache_specs(
    model: ModelConfig, engine: Engine, options: CacheOptions, length: int, ranks: Layout
) -> tuple[CacheSpec, ...]:
    """
    The caches of one rank of `ranks`, in the order of the layers, for `options` as the engine resolved them; `length`
    is the longest sequence.

    Raises `InputError` where the engine, the model and the options do not go together.
    """
    model, engine = as_kept(model, engine), engine_of(model, engine)
    drafting = model.mtp_layers if options.mtp else ()
    layers = [*model.layers, *drafting]
    specs: list[CacheSpec] = []
    alone = set() if options.stage_block is None else _stateful_stages(model, drafting, ranks)
    apart = replace(options, state_block=options.stage_block)
    for layer in layers:
        told = apart if layer.index in alone else options
        if options.draft_kv is not None and layer.index >= len(model.layers):
            told = replace(told, kv=options.draft_kv)
        specs += _layer_specs(layer.index, model.layer_caches(layer), length, engine, told, ranks)
    if options.state_page:
        # Keys of an indexer and rings lie beside those pages and are not padded to them.
        specs = [
            spec
            if spec.kind is CacheKind.RING
            or spec.layout[0] == "index"
            or spec.layer in alone
            or (spec.kind is not CacheKind.STATE and not engine.states.pads_attention)
            else replace(spec, page_bytes=max(spec.page_bytes, options.state_page))
            for spec in specs
        ]
    specs = [replace(spec, speculative=spec.layer >= len(model.layers)) for spec in specs]
    if not engine.hybrid and any(not spec.kind.grows for spec in specs):
        raise InputError("how {} keeps windows and states is not known; only full attention is", engine.name)
    return tuple(specs)
