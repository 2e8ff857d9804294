"""The caches of a model's layers as an engine would keep them on one rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.kv.engine import CompressedBlocks, CompressedLayout, Engine, EntryFormat
from memplan.kv.specs import CacheKind, CacheSpec
from memplan.models import ModelConfig
from memplan.models.architecture import (
    CompressedAttention,
    GatedDeltaNet,
    GroupedAttention,
    Indexer,
    KimiDelta,
    LatentAttention,
    Layer,
    Mamba2,
    SharedCompressedAttention,
)
from memplan.core.units import round_up

_STATE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "auto": 2}
_FLOAT32_BYTES = 4
PACKED_LATENT = "sfa_c8"
"""The name of the latent format that packs latent, positions and scales into bytes of one entry."""

State = GatedDeltaNet | Mamba2 | KimiDelta


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """
    How the engine is started, as far as its caches go.

    `block_size` `None` takes the engine's default, `kv` `None` its default type (`bf16`, `fp8`, `int8`,
    `fp8_ds_mla`, `sfa_c8`). `index_c8` keeps the indexer's keys in 8 bits. `speculative_tokens` lengthen the windows
    of convolutions and add states. `mtp` keeps the caches of the layers of multi-token prediction. `state_aligned`
    keeps states at the granularity of blocks, for prefix caching.
    """

    tensor_parallel: int = 1
    context_parallel: int = 1
    block_size: int | None = None
    kv: str | None = None
    index_c8: bool = False
    speculative_tokens: int = 0
    mtp: bool = False
    state_aligned: bool = False


def share(count: int, ranks: int, what: str) -> int:
    """Heads of one rank: all ranks have as many, or there are fewer heads than ranks and every rank repeats one."""
    if count >= ranks:
        if count % ranks:
            raise InputError(f"{count} {what} can't be divided among {ranks} ranks of tensor parallelism")
        return count // ranks
    if ranks % count:
        raise InputError(f"{count} {what} can't be repeated evenly on {ranks} ranks of tensor parallelism")
    return 1


def _whole(count: int, ranks: int, what: str) -> int:
    if count % ranks:
        raise InputError(f"{count} {what} can't be divided among {ranks} ranks of tensor parallelism")
    return count // ranks


def block_sizes(model: ModelConfig, engine: Engine) -> tuple[int, ...] | None:
    """The block sizes that the engine takes for `model`, `None` for any."""
    compressed = engine.compressed
    if model.family == "deepseek_v4" and compressed is not None and None not in compressed.blocks:
        return tuple(sorted(key for key in compressed.blocks if key is not None))
    return engine.block_sizes


def kv_types(model: ModelConfig, engine: Engine) -> tuple[str, ...]:
    """The types that the engine keeps the caches of `model` in."""
    mixers = [layer.mixer for layer in model.layers]
    if any(isinstance(mixer, CompressedAttention | SharedCompressedAttention) for mixer in mixers):
        return () if engine.compressed is None else tuple(engine.compressed.formats)
    if any(isinstance(mixer, LatentAttention) for mixer in mixers):
        packed = (PACKED_LATENT,) if engine.latent.packed_tile is not None else ()
        return (*engine.latent.formats, *packed)
    return tuple(engine.kv_bytes)


def block_size(model: ModelConfig, engine: Engine, options: CacheOptions) -> int:
    """The block size asked for or the engine's default, refused where the engine does not take it."""
    size = engine.default_block_size if options.block_size is None else options.block_size
    allowed = block_sizes(model, engine)
    if size < 1 or (allowed is not None and size not in allowed):
        names = ", ".join(map(str, allowed)) if allowed else "1 and more"
        raise InputError(f"{engine.name} does not take a block size of {size}", remedy=f"it takes {names}")
    return size


def entry_format(formats: Mapping[str, EntryFormat], engine: Engine, options: CacheOptions, what: str) -> EntryFormat:
    """The format asked for, the engine's default, or the only one it knows; `what` it is for is named in errors."""
    # An engine that knows a single format uses it whatever type is asked for elsewhere.
    name = options.kv or (engine.default_kv if engine.default_kv in formats else next(iter(formats)))
    if name not in formats:
        raise InputError(f"{engine.name} keeps no {what} in {name!r}", remedy=f"it has {', '.join(formats)}")
    return formats[name]


def kv_bytes(engine: Engine, options: CacheOptions) -> int:
    """Bytes of one element of keys and values."""
    name = options.kv or engine.default_kv
    if name not in engine.kv_bytes:
        raise InputError(
            f"{engine.name} keeps no keys and values in {name!r}", remedy=f"it has {', '.join(engine.kv_bytes)}"
        )
    return engine.kv_bytes[name]


def _plain(layer: int, part: str, kind: CacheKind, size: int, payload: int, layout: tuple[object, ...]) -> CacheSpec:
    return CacheSpec(layer, part, kind, size, payload, payload, layout)


def _grouped(
    layer: Layer, mixer: GroupedAttention, size: int, engine: Engine, options: CacheOptions
) -> Iterator[CacheSpec]:
    if mixer.shares_kv_of is not None:
        return
    heads = share(mixer.kv_heads, options.tensor_parallel, "key/value heads")
    width = mixer.head_dim + mixer.head_dim_v
    layout = ("grouped", heads, mixer.head_dim, mixer.head_dim_v)
    kind = CacheKind.SLIDING if mixer.window else CacheKind.CHUNKED if mixer.chunk else CacheKind.FULL
    spec = _plain(layer.index, "attn", kind, size, size * heads * width * kv_bytes(engine, options), layout)
    yield replace(spec, window=mixer.window, chunk=mixer.chunk)


def latent_entry_bytes(mixer: LatentAttention, engine: Engine, options: CacheOptions) -> int:
    """Bytes of the latent and the positions of one token in one layer."""
    layout = engine.latent
    if options.kv == PACKED_LATENT:
        if layout.packed_tile is None or mixer.kv_lora_rank % layout.packed_tile:
            raise InputError(f"{engine.name} has no packed latent cache for this model")
        return mixer.kv_lora_rank + 2 * mixer.rope_dim + mixer.kv_lora_rank // layout.packed_tile * _FLOAT32_BYTES
    kept = entry_format(layout.formats, engine, options, "latent cache")
    return kept.size(mixer.kv_lora_rank + mixer.rope_dim)


def _latent(
    layer: Layer, mixer: LatentAttention, shared: Indexer | None, size: int, engine: Engine, options: CacheOptions
) -> Iterator[CacheSpec]:
    layout = engine.latent
    entry = latent_entry_bytes(mixer, engine, options)
    index = mixer.indexer or (shared if mixer.shares_index and layout.index_kept_by_shared else None)
    key = 0
    if index is not None:
        index_format = layout.index
        if options.index_c8:
            if layout.index_c8 is None:
                raise InputError(f"{engine.name} has no 8-bit option for the indexer's keys")
            index_format = layout.index_c8
        key = index_format.size(index.head_dim)
    if key and layout.index_in_page:
        # With context parallelism the latent is spread over the ranks and the indexer's keys are repeated on each.
        entry += key * options.context_parallel
        key = 0
    yield _plain(layer.index, "attn", CacheKind.LATENT, size, size * entry, ("latent", entry))
    if key:
        yield _plain(layer.index, "indexer", CacheKind.LATENT, size, size * key, ("index", key))


def _compressed(
    layer: Layer, mixer: CompressedAttention, size: int, engine: Engine, options: CacheOptions
) -> Iterator[CacheSpec]:
    layout = engine.compressed
    if layout is None:
        raise InputError(f"{engine.name} has no known layout for compressed attention")
    kept = entry_format(layout.formats, engine, options, "compressed cache")
    blocks = layout.blocks[None] if None in layout.blocks else layout.blocks[size]
    if mixer.ratio:
        yield from _entries(layer, mixer, size, layout, kept)
    window = blocks.window * kept.size(mixer.head_dim)
    yield CacheSpec(
        layer.index,
        "window",
        CacheKind.SLIDING_LATENT,
        blocks.window,
        window,
        round_up(window, kept.alignment),
        ("window", mixer.head_dim),
        window=mixer.window,
        alignment=kept.alignment,
    )
    if mixer.ratio:
        yield from _states(layer, mixer, blocks, kept, engine)


def _entries(
    layer: Layer, mixer: CompressedAttention, size: int, layout: CompressedLayout, kept: EntryFormat
) -> Iterator[CacheSpec]:
    """Compressed entries of one layer and the indexer's keys to them."""
    if layout.counts_entries:
        rows, entry_tokens = size, mixer.ratio
    else:
        rows, entry_tokens = size // mixer.ratio, 1
        if not rows:
            raise InputError(
                f"a block of {size} tokens holds no entry of ratio {mixer.ratio}", remedy="use a larger one"
            )
    parts: list[tuple[str, int, int]] = [("attn", kept.size(mixer.head_dim), kept.alignment)]
    if mixer.indexer is not None:
        parts.append(("indexer", layout.index.size(mixer.indexer.head_dim), layout.index.alignment))
    for part, entry, alignment in parts:
        yield CacheSpec(
            layer.index,
            part,
            CacheKind.LATENT,
            size,
            rows * entry,
            round_up(rows * entry, alignment),
            (part, entry, mixer.ratio),
            entry_tokens=entry_tokens,
        )


def _states(
    layer: Layer, mixer: CompressedAttention, blocks: CompressedBlocks, kept: EntryFormat, engine: Engine
) -> Iterator[CacheSpec]:
    """What compressors keep of the tokens not yet compressed: keys and scores in float32, for a window of tokens."""
    if mixer.ratio not in blocks.states:
        known = ", ".join(map(str, blocks.states))
        raise InputError(
            f"{engine.name} keeps no state for compression ratio {mixer.ratio}", remedy=f"it knows {known}"
        )
    rows = blocks.states[mixer.ratio]
    parts = [("state", 2 * mixer.overlap * mixer.head_dim, blocks.main_pad)]
    if mixer.indexer is not None:
        parts.append(("index_state", 2 * mixer.overlap * mixer.indexer.head_dim, blocks.index_pad))
    for part, elements, pad in parts:
        payload = rows * elements * _FLOAT32_BYTES
        yield CacheSpec(
            layer.index,
            part,
            CacheKind.SLIDING_LATENT,
            rows,
            payload,
            round_up(payload, kept.alignment) if pad is None else pad,
            ("state", elements),
            window=mixer.overlap * mixer.ratio,
            alignment=kept.alignment,
        )


def state_parts(mixer: State, options: CacheOptions) -> tuple[int, int]:
    """Bytes of the convolution window and of the recurrent state of one layer on one rank."""
    ranks = options.tensor_parallel
    if isinstance(mixer, KimiDelta):
        heads = _whole(mixer.heads, ranks, "heads of linear attention")
        window = (mixer.conv_kernel - 1) * _whole(3 * mixer.width, ranks, "channels of convolution")
        return window * 2, heads * mixer.head_dim**2 * _STATE_BYTES["float32"]
    if isinstance(mixer, GatedDeltaNet):
        heads = _whole(mixer.value_heads, ranks, "value heads of linear attention")
        channels = _whole(mixer.conv_dim, ranks, "channels of convolution")
        matrix = mixer.value_dim * mixer.key_dim
    else:
        # Groups are extended where they are fewer than ranks, so that each rank has those of its heads.
        groups = mixer.groups if mixer.groups % ranks == 0 else ranks
        heads = _whole(mixer.heads, ranks, "state-space heads")
        channels = _whole(mixer.inner + 2 * groups * mixer.state, ranks, "channels of convolution")
        matrix = mixer.head_dim * mixer.state
    if mixer.state_dtype not in _STATE_BYTES:
        raise InputError(f"recurrent states of type {mixer.state_dtype!r} are not supported")
    window = (mixer.conv_kernel - 1 + options.speculative_tokens) * channels
    return window * 2, heads * matrix * _STATE_BYTES[mixer.state_dtype]


def _key_bytes(mixer: GroupedAttention | LatentAttention, engine: Engine, options: CacheOptions) -> tuple[int, int]:
    """Bytes of one token's keys alone and of all it caches, in one layer of attention."""
    if isinstance(mixer, LatentAttention):
        element = entry_format(engine.latent.formats, engine, options, "latent cache").size(1)
        return mixer.kv_lora_rank * element, (mixer.kv_lora_rank + mixer.rope_dim) * element
    heads = share(mixer.kv_heads, options.tensor_parallel, "key/value heads")
    element = kv_bytes(engine, options)
    return heads * mixer.head_dim * element, heads * (mixer.head_dim + mixer.head_dim_v) * element


def _align_with_states(model: ModelConfig, size: int, engine: Engine, options: CacheOptions) -> tuple[int, int]:
    """The block size of attention beside recurrent states, and the page both are padded to."""
    states = [state_parts(layer.mixer, options) for layer in model.layers if isinstance(layer.mixer, State)]
    attention = [layer.mixer for layer in model.layers if isinstance(layer.mixer, (GroupedAttention, LatentAttention))]
    window, state = max(states)
    if not attention:
        return size, window + state
    keys, token = _key_bytes(attention[0], engine, options)
    if engine.state_rule == "cover":
        step = max(size, engine.state_alignment)
        size = max(size, step * -(-(window + state) // (step * token)))
        return size, max(size * token, window + state)
    larger, smaller = max(state, window), min(state, window)
    aligned = engine.state_alignment * -(-larger // (engine.state_alignment * keys))
    if keys * aligned != larger:
        raise InputError(
            f"{engine.name} refuses this model: Cannot align ssm_page_size and attn_page_size. ({larger} B of state, "
            f"{keys} B of keys per token)",
            remedy="another tensor parallelism changes both",
        )
    size = max(size, aligned)
    return size, size * token + smaller


def cache_specs(model: ModelConfig, engine: Engine, options: CacheOptions, length: int) -> tuple[CacheSpec, ...]:
    """
    The caches of one rank, in the order of the layers; `length` is the longest sequence.

    Raises `InputError` where the engine, the model and the options do not go together.
    """
    size = block_size(model, engine, options)
    layers = [*model.layers, *(model.mtp_layers if options.mtp else ())]
    has_states = any(isinstance(layer.mixer, State) for layer in layers)
    page = 0
    if has_states:
        size, page = _align_with_states(model, size, engine, options)
    mixers = [layer.mixer for layer in layers]
    shared = next((mixer.indexer for mixer in mixers if isinstance(mixer, LatentAttention) and mixer.indexer), None)
    specs: list[CacheSpec] = []
    for layer in layers:
        mixer = layer.mixer
        if isinstance(mixer, GroupedAttention):
            specs += _grouped(layer, mixer, size, engine, options)
        elif isinstance(mixer, LatentAttention):
            specs += _latent(layer, mixer, shared, size, engine, options)
        elif isinstance(mixer, CompressedAttention):
            specs += _compressed(layer, mixer, size, engine, options)
        elif isinstance(mixer, SharedCompressedAttention):
            raise InputError(
                f"{engine.name} does not know compressed entries that layers share (DeepSeek-V4.1)",
                remedy="vLLM 0.30 and vllm-ascend 0.30 are the first that do",
            )
        elif isinstance(mixer, State):
            parts = state_parts(mixer, options)
            block = size if options.state_aligned else length
            specs.append(_plain(layer.index, "state", CacheKind.STATE, block, sum(parts), ("state", parts)))
    if has_states:
        specs = [replace(spec, page_bytes=max(spec.page_bytes, page)) for spec in specs]
    specs = [replace(spec, speculative=spec.layer >= len(model.layers)) for spec in specs]
    if not engine.hybrid and any(not spec.kind.grows for spec in specs):
        raise InputError(f"how {engine.name} keeps windows and states is not known; only full attention is")
    return tuple(specs)
