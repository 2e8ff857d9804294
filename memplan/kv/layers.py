"""The caches of a model's layers as an engine would keep them on one rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.core.units import round_up
from memplan.kv.engine import Engine
from memplan.kv.entry_formats import CompressedLayout
from memplan.kv.kept_entries import (
    CacheOptions,
    as_kept,
    compressed_layout,
    engine_of,
    entry_bytes,
    entry_format,
    entry_keys_format,
    heads_of_rank,
    recurrent_bytes,
)
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.models import ModelConfig
from memplan.models.architecture import Layer
from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.parallel import Layout, stage_spans


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
            alignment = max(entry_keys_format(layout, engine, options).alignment, 1) if keys else kept.alignment
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
