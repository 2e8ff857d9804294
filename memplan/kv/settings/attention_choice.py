"""Which attention kernel of an engine takes a model, and the type of its cache."""

from __future__ import annotations

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.kv.engine import AttentionBackend, Engine
from memplan.kv.kept_entries import CacheOptions, as_kept, cache_parts, engine_of, kv_types
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent
from memplan.models.parallel import ONE_RANK, Layout


def attention_kind(model: ModelConfig, engine: Engine) -> str | None:
    """What `AttentionBackend.attention` calls the attention of `model`; `None` for a model without any."""
    contents = {part.content for part in cache_parts(model)}
    if CacheContent.WINDOW in contents:
        ring = bool(engine.compressed) and engine.compressed[0].ring_rows > 0
        return "shared_compressed" if ring else "compressed"
    if CacheContent.INDEX_KEYS in contents:
        return "sparse_latent"
    if CacheContent.LATENT in contents:
        return "latent"
    return "heads" if CacheContent.HEADS in contents else None


def _takes(backend: AttentionBackend, model: ModelConfig, asked: str, layout: Layout, block: int | None) -> bool:
    parts = cache_parts(model)
    window_alone = bool(parts) and parts[0].content is CacheContent.WINDOW
    widths = {part.widths[0] for part in parts if part.content is CacheContent.HEADS}
    heads = max((part.heads for part in parts), default=0)
    return (
        asked in backend.kv
        and (not backend.families or model.model_type in backend.families or model.family in backend.families)
        and (not backend.head_sizes or widths <= set(backend.head_sizes))
        and (backend.most_head is None or max(widths, default=0) <= backend.most_head)
        and (backend.most_heads is None or -(-heads // layout.tensor) <= backend.most_heads)
        and (layout.context == 1 or backend.context_parallel is None or asked in backend.context_parallel)
        and (not backend.context_whole or layout.context in (1, layout.tensor))
        and (block is None or backend.takes_block(block))
        and backend.windows_first in (None, window_alone)
        and backend.media in (("any", "only") if model.media_prefix else ("any", "none"))
    )


def asked_kv(model: ModelConfig, engine: Engine, options: CacheOptions) -> str:
    """The type asked for; where none is, that of the checkpoint if the engine goes by it. Some classes know of none."""
    if model.model_type in engine.untyped:
        return "auto"
    if options.kv is not None and options.kv != "auto":
        return options.kv
    own = None if model.quantization is None else model.quantization.kv
    return own if own is not None and engine.checkpoint_kv else "auto"


def chosen_backend(
    model: ModelConfig, engine: Engine, options: CacheOptions, layout: Layout = ONE_RANK
) -> AttentionBackend | None:
    """
    The first of the engine's kernels that takes the model; `None` where the engine's are not told apart.

    Raises `InputError` where none does.
    """
    kind = attention_kind(model, engine_of(model, engine))
    offered = [backend for backend in engine.backends if backend.attention == kind]
    if not offered:
        if kind is not None and engine.backends:
            raise InputError("{} has no attention kernel for {}", engine.name, model.name)
        return None
    if options.attention is not None and engine.named_kernels:
        named = [backend for backend in offered if backend.name.casefold() == options.attention.casefold()]
        if not named:
            known = ", ".join(dict.fromkeys(backend.name for backend in offered))
            raise InputError(
                "{} has no attention kernel {!r:.40} for {}",
                engine.name,
                options.attention,
                model.name,
                remedy=Sentence("it has {}", (known,)),
            )
        offered = named
    asked = asked_kv(model, engine, options)
    if options.kv is not None and not any(options.kv in backend.kv for backend in engine.backends):
        # A class that keeps the default does not make the engine know the type.
        asked = options.kv
    for backend in offered:
        if _takes(backend, model, asked, layout, options.block_size):
            return backend
    what = f"the attention of {model.name}"
    types = sorted({name for backend in offered for name in backend.kv})
    if asked not in types:
        raise InputError(
            "{} keeps no cache of {} in {!r}",
            engine.name,
            what,
            asked,
            remedy=Sentence("it has {}", (", ".join(types),)),
        )
    if layout.context > 1:
        raise InputError("{} does not spread {} in {!r} over context-parallel ranks", engine.name, what, asked)
    raise InputError("{} has no attention kernel that takes {} in {!r}", engine.name, what, asked)


_OTHER_TYPES = {"bfloat16": "bf16", "float16": "bf16", "half": "bf16", "fp8_e4m3": "fp8"}


def plain_type(asked: str | None, engine: Engine) -> str | None:
    """What other engines call a type, in the words of one whose kernels are not told apart."""
    if asked is None or asked == "auto":
        return None
    return _OTHER_TYPES.get(asked, asked) if asked not in engine.kv_bytes else asked


def draft_type(model: ModelConfig, engine: Engine, backend: AttentionBackend, asked: str | None) -> str | None:
    """The type of a draft's cache beside a class that keeps the default: the one asked for, `None` where none is."""
    if model.draft is None or asked in (None, "auto"):
        return None
    if asked not in backend.kv:
        raise InputError("{} keeps no cache of {} in {!r}", engine.name, "the draft", asked)
    return backend.kv[asked]


def cache_types(model: ModelConfig, engine: Engine) -> tuple[str, ...]:
    """The types that can be asked for of the caches of `model`."""
    model = as_kept(model, engine)
    kind = attention_kind(model, engine_of(model, engine))
    names = [name for item in engine.backends if item.attention == kind for name in item.kv if name != "auto"]
    return tuple(dict.fromkeys(names)) if engine.backends else kv_types(model, engine)
