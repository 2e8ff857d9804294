"""What an engine makes of the settings it is started with: those left open, and those it overrules, each with why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.kv.engine import AttentionBackend, Engine
from memplan.kv.layers import CacheOptions, as_kept, block_sizes, cache_parts, engine_of, kv_types
from memplan.kv.runnable import NGRAM, check_drafts, check_float_cache, check_heads, check_runnable
from memplan.kv.sequence_lengths import sequence_lengths
from memplan.kv.state_pages import with_states_aligned
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent
from memplan.models.parallel import ONE_RANK, Layout, check_divides


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """
    How the engine is started: its caches, and how much it schedules at once; `None` leaves it to the engine.

    `length` is the longest sequence, `batched_tokens` the most tokens of one step, `asynchronous` whether steps are
    scheduled ahead, `prefix_caching` whether blocks are kept for later requests. `in_flight_tokens` sets directly what
    windows must hold beside their own tokens, as a planner is told it; the block size given with it is taken as it is.
    `hybrid` off keeps windows as if they were full attention. `blocks` overrides the number of blocks. `runner` is the
    model runner asked for (`V2`). `requests` are the most that may run
    at once, where the engine sizes memory for them. `fits_length` shortens the sequence to the longest that fits.
    """

    length: int
    caches: CacheOptions = field(default_factory=CacheOptions)
    batched_tokens: int | None = None
    asynchronous: bool | None = None
    prefix_caching: bool | None = None
    in_flight_tokens: int | None = None
    hybrid: bool = True
    blocks: int | None = None
    fits_length: bool = False
    runner: str | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting as the engine runs with it: its name, its value and why it has it."""

    setting: Sentence
    value: Text
    reason: Text


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """
    `options` with nothing left open, and what else follows from them.

    `batches` are under way at once, `state_blocks` states kept of a request, `None` one for each block.
    `block_outermost` says that layers lie side by side in a block, `own_layouts` that every stage must attend, for
    workers agree on the order of a cache. `choices` say what was chosen and why.
    """

    options: ServingOptions
    batches: int
    state_blocks: int | None
    block_outermost: bool
    own_layouts: bool
    choices: tuple[Choice, ...]


_GIVEN = Sentence("given")


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


def _asked_kv(model: ModelConfig, engine: Engine, options: CacheOptions) -> str:
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
    asked = _asked_kv(model, engine, options)
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


def _plain_type(asked: str | None, engine: Engine) -> str | None:
    """What other engines call a type, in the words of one whose kernels are not told apart."""
    if asked is None or asked == "auto":
        return None
    return _OTHER_TYPES.get(asked, asked) if asked not in engine.kv_bytes else asked


def _draft_type(model: ModelConfig, engine: Engine, backend: AttentionBackend, asked: str | None) -> str | None:
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


def _default_block(engine: Engine, backend: AttentionBackend | None) -> tuple[int, Text]:
    """The block size that the engine takes when none is asked for."""
    size = engine.default_block_size
    if backend is None or (backend.reads_block(size) and all(size % block == 0 for block in backend.beside)):
        return size, Sentence("the engine's default")
    least = min(math.lcm(block, *backend.beside) for block in backend.kernel_blocks)
    return least, Sentence("the smallest that {} reads", (backend.name,))


def _kernel_block(model: ModelConfig, backend: AttentionBackend | None) -> int:
    """
    The tokens of which blocks beside states are multiples: those the kernel reads, and whole pages of pooled keys
    (vllm 0.33.0 v1/attention/backends/mla/indexer.py Glm5NextIndexerBackend).
    """
    if backend is None:
        return 1
    keys = (CacheContent.INDEX_KEYS, CacheContent.BLOCK_KEYS)
    pools = {part.ratio for part in cache_parts(model) if part.content in keys and part.ratio > 1}
    return math.lcm(min(backend.kernel_blocks), *(pool * min(backend.beside, default=1) for pool in pools))


def _block_size(
    model: ModelConfig, engine: Engine, options: ServingOptions, backend: AttentionBackend | None
) -> tuple[int, Text]:
    asked = options.caches.block_size
    kind = attention_kind(model, engine_of(model, engine))
    hybrid = engine.states.hybrid(model)
    forced = kind in (None, "heads", "latent", "sparse_latent") or (kind == "shared_compressed" and asked is not None)
    # Tokens in flight given as such are what a planner was told: so is the block size then.
    if engine.forced_block is not None and forced and not hybrid and options.in_flight_tokens is None:
        return engine.forced_block, Sentence("forced with prefix caching and chunked prefill")
    size, reason = (asked, _GIVEN) if asked is not None else _default_block(engine, backend)
    allowed = block_sizes(model, engine) if kind == "compressed" or engine.forced_block is None else None
    if asked is not None and allowed is not None and size not in allowed and engine.compressed_block is not None:
        return engine.compressed_block, Sentence("in place of {}, which compressed caches can't have", (str(size),))
    if size < 1 or (allowed is not None and size not in allowed):
        names = ", ".join(map(str, allowed)) if allowed else "1 and more"
        raise InputError(
            "{} does not take a block size of {}", engine.name, size, remedy=Sentence("it takes {}", (names,))
        )
    return size, reason


def resolve(model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout = ONE_RANK) -> EngineSettings:
    """
    What `engine` makes of `options` for `model` in `layout`.

    Raises `InputError` where it would refuse them before it looks at memory.
    """
    if options.length < 1:
        raise InputError("a sequence of {} tokens can't be served", options.length)
    choices: list[Choice] = []
    model, asked = as_kept(model, engine), options.caches
    looked_up = asked.draft_method == NGRAM
    if asked.speculative_tokens:
        check_drafts(model, engine, layout, asked.draft_method)
    if asked.kv in engine.refused_kv:
        raise InputError("{} keeps no cache in {!r}: its chip has no 8-bit attention", engine.name, asked.kv)
    if asked.kv is not None and asked.kv in engine.unplanned_kv:
        raise InputError("caches in {!r} are not planned: {}", asked.kv, engine.unplanned_kv[asked.kv])
    if engine.kv_as_model:
        check_float_cache(model, engine, asked.kv)
    check_runnable(model, engine, layout, attention_kind(model, engine_of(model, engine)), options.runner)
    if engine.checks_heads and options.in_flight_tokens is None:
        headed = model.model_type in engine.context_headed
        check_heads(model, layout, latent=model.model_type in engine.context_unchecked, headed=headed)
        check_divides(model, layout)
    # A planner that is told what is in flight is told the block as well: no kernel was asked whether it takes it.
    told = asked if options.in_flight_tokens is None else replace(asked, block_size=None)
    backend = chosen_backend(model, engine, told, layout)
    kv, draft_kv = _plain_type(asked.kv, engine), None
    if model.draft is not None and asked.kv not in (None, "auto") and model.model_type not in engine.untyped:
        # A draft's layers look for a kernel of their own.
        chosen_backend(model.draft, engine, replace(told, attention=None), layout)
    if model.draft is not None and layout.pipeline > 1 and any(item.own_layouts for item in engine.backends):
        beside = chosen_backend(model.draft, engine, replace(told, attention=None), layout)
        if (beside is not None and beside.own_layouts) != (backend is not None and backend.own_layouts):
            # vllm 0.33.0 v1/attention/backends/utils.py resolve_kv_cache_layout: "Workers disagree".
            raise InputError(
                "{} does not draft for {} with pipeline parallelism: stages with and without the draft lay a cache out "
                "otherwise",
                engine.name,
                model.name,
            )
    if backend is not None:
        name = _asked_kv(model, engine, asked)
        kv = backend.kv[name]
        first = Sentence("the first of the engine's that takes the model and its cache type")
        reason = _GIVEN if asked.attention is not None and engine.named_kernels else first
        choices.append(Choice(Sentence("attention kernel"), backend.name, reason))
        if model.model_type in engine.untyped:
            draft_kv = _draft_type(model, engine, backend, asked.kv)
            why = Sentence("the model's class knows of no other")
            choices.append(Choice(Sentence("cache type"), kv, why))
        elif asked.kv in (None, "auto"):
            own = name != "auto"
            why = Sentence("the checkpoint's own") if own else Sentence("as {} keeps it by default", (backend.name,))
            choices.append(Choice(Sentence("cache type"), kv, why))
    size, why_size = _block_size(model, engine, options, backend)
    prefix, why_prefix = _prefix_caching(model, engine, options)
    asynchronous = options.asynchronous
    if asynchronous is None:
        kept_back = asked.speculative_tokens > 0 and asked.draft_method in engine.scheduling.not_with
        asynchronous = engine.scheduling.asynchronous and not kept_back
    batches = engine.scheduling.batches(model, asynchronous=asynchronous, pipeline=layout.pipeline)
    tokens = engine.step_tokens(model, options.batched_tokens)
    in_flight = options.in_flight_tokens
    if in_flight is None:
        in_flight = tokens * batches if engine.scheduling.in_flight_batches else tokens
    recurrences = [part.state for part in cache_parts(model) if part.state is not None]
    aligned = asked.state_aligned
    if aligned is None:
        aligned = prefix and bool(recurrences)
    checkpoints = [engine.states.checkpoint(model, state.recurrence) for state in recurrences] if aligned else []
    known = [tokens for tokens in checkpoints if tokens is not None]
    whole = aligned and (model.model_type in engine.states.whole or model.family in engine.states.whole)
    if whole and engine.states.rule == "equal_keys" and attention_kind(model, engine_of(model, engine)) is not None:
        aligned = whole = False
    # Without attention a class takes the block for states before the platform forces its own (MambaModelConfig).
    early = aligned and engine.forced_block is not None and not engine.states.hybrid(model)
    unaligned = asked.block_size or engine.default_block_size
    # Eight-bit latents have indexes in eight bits, where both have a page of their own.
    index_kv = asked.index_kv
    if engine.token_pools is not None and kv == "fp8_ds_mla":
        index_kv = "fp8"
    caches = replace(
        asked,
        block_size=size,
        kv=kv,
        index_kv=index_kv,
        draft_kv=draft_kv,
        state_aligned=aligned,
        state_block=unaligned if early else None,
        stage_block=unaligned if engine.states.by_stage and layout.pipeline > 1 else None,
        mtp=asked.mtp or (asked.speculative_tokens > 0 and not looked_up),
        checkpoint_tokens=_state_tokens(model, checkpoints, whole=whole),
        kernel_block=_kernel_block(model, backend),
    )
    if recurrences and engine.token_pools is None:
        caches, why_size = with_states_aligned(model, engine, caches, layout, why_size)
    most = sequence_lengths(model, engine.lengths).most
    if engine.lengths is not None and options.in_flight_tokens is None and options.length > most:
        why = Sentence("more than {}: refused without {}=1", (f"{most:,}", engine.lengths.variable))
        choices.append(Choice(Sentence("longest sequence"), f"{options.length:,}", why))
    choices += [
        Choice(Sentence("block size"), str(caches.block_size), why_size),
        Choice(Sentence("prefix caching"), Sentence("on" if prefix else "off"), why_prefix),
        Choice(
            Sentence("asynchronous scheduling"),
            Sentence("on" if asynchronous else "off"),
            _GIVEN if options.asynchronous is not None else Sentence("the engine's default"),
        ),
        Choice(
            Sentence("tokens in flight"),
            f"{in_flight:,}",
            _GIVEN
            if options.in_flight_tokens is not None
            else Sentence(
                "{} [batch|batches] of {} [token|tokens]", (str(batches if in_flight != tokens else 1), f"{tokens:,}")
            ),
        ),
    ]
    # vllm 0.33.0 config/vllm.py: its cache manager has no chunks beside layers that draft.
    chunked = any(part.chunk is not None for part in cache_parts(model)) and asked.draft_method in (
        "mtp",
        "eagle",
        "eagle3",
    )
    resolved = replace(
        options,
        hybrid=options.hybrid and not (chunked and asked.speculative_tokens > 0),
        caches=caches,
        batched_tokens=tokens,
        asynchronous=asynchronous,
        prefix_caching=prefix,
        in_flight_tokens=in_flight,
    )
    states = None if whole else 1 + asked.speculative_tokens + (1 if aligned else 0) + (1 if known else 0)
    # Rings of keys not pooled yet lie in blocks that hold all layers (KpoolTailBackend, QSAStateBackend).
    rings = any(part.content is CacheContent.KEY_TAIL for part in cache_parts(model))
    outermost = backend is not None and (backend.block_outermost or rings)
    attends = (
        backend if backend is not None or model.draft is None else chosen_backend(model.draft, engine, told, layout)
    )
    layouts = attends is not None and attends.own_layouts
    return EngineSettings(resolved, batches, states, outermost, layouts, tuple(choices))


def _state_tokens(model: ModelConfig, checkpoints: Sequence[int | None], *, whole: bool) -> int:
    """
    The tokens of which blocks beside states are multiples: those of checkpoints where every state has some, or where a
    state is kept for every block those that a recurrence computes at once.
    """
    if whole:
        return math.lcm(*(part.state.chunk for part in cache_parts(model) if part.state is not None))
    known = [tokens for tokens in checkpoints if tokens is not None]
    return math.lcm(*known) if known and len(known) == len(checkpoints) else 1


def _prefix_caching(model: ModelConfig, engine: Engine, options: ServingOptions) -> tuple[bool, Text]:
    if options.prefix_caching is not None:
        return options.prefix_caching, _GIVEN
    if all(part.content is not CacheContent.RECURRENT for part in cache_parts(model)):
        return engine.paged, Sentence("the engine's default")
    if not engine.states.hybrid(model):
        # vllm 0.23.0 and 0.33.0 config/model.py is_prefix_caching_supported
        return False, Sentence("off without attention")
    reason = (
        Sentence("the engine's default") if engine.states.prefix_caching else Sentence("off beside recurrent states")
    )
    return engine.states.prefix_caching, reason
