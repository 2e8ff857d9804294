"""A serving engine of one version: how it lays out pages, what blocks it takes, which planning rules it follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.kv.entry_formats import CompressedLayout, LatentLayout
from memplan.kv.loaded_weights import AllocatorRules, MxExpertRules
from memplan.kv.sequence_lengths import LengthRules
from memplan.kv.token_rules import TokenPoolRules
from memplan.models import ModelConfig
from memplan.models.architecture import RotaryTable
from memplan.models.cache_parts import CacheContent
from memplan.models.mixers.compressed_attention import WindowedLatent
from memplan.models.parallel import Layout

DEFAULT_SEQUENCES = 256
"""Sequences the engine samples at once unless told otherwise (vllm 0.23.0 max_num_seqs)."""


@dataclass(frozen=True, slots=True)
class AttentionBackend:
    """
    One of an engine's attention kernels: what it takes, and what follows for the cache.

    `attention` is what it computes: `heads`, `latent`, `sparse_latent`, `compressed` or `shared_compressed`. `kv`
    maps every type that can be asked for to the format kept. It takes models of `families`, heads of `head_sizes`
    or up to `most_head` elements, up to `most_heads` of them on a rank, where those are given; with context
    parallelism only the types in `context_parallel`, and all ranks of tensor parallelism where it is
    `context_whole`. `kernel_blocks` are the blocks of tokens its kernels read, of which blocks of the cache are
    multiples, unless it takes `any_block`; those of indexers that come with it are in `beside`. `windows_first`
    says whether the model's first layer must keep a window alone. `media` says whether it takes `any` model, `none`
    whose media attend in both directions, or `only` such. with `own_layouts` it takes few orders of a cache, which
    workers without attention do not say. `block_outermost` says that layers lie side by side in a
    block.
    """

    name: str
    attention: str
    kv: Mapping[str, str]
    kernel_blocks: tuple[int, ...]
    beside: tuple[int, ...] = ()
    families: tuple[str, ...] = ()
    head_sizes: tuple[int, ...] = ()
    most_head: int | None = None
    most_heads: int | None = None
    context_parallel: tuple[str, ...] | None = None
    context_whole: bool = False
    any_block: bool = False
    windows_first: bool | None = None
    media: str = "any"
    block_outermost: bool = False
    own_layouts: bool = False

    def reads_block(self, size: int) -> bool:
        """Whether its kernels read blocks of `size` tokens."""
        return any(size % block == 0 for block in self.kernel_blocks)

    def takes_block(self, size: int) -> bool:
        """Whether it can be asked for blocks of `size` tokens."""
        return self.any_block or self.reads_block(size)


@dataclass(frozen=True, slots=True)
class StateRules:
    """
    How pages of recurrent states are made as large as those of attention.

    `rule` `cover` grows attention blocks in steps of `alignment` tokens (`latent_alignment` beside latent caches) or of
    what is asked for until they cover a state, `cover_aligned` in steps of `alignment` whatever is asked, `equal_keys`
    makes the keys of a block exactly as large as a state. `prefix_caching` says that states are kept for prefixes
    unless told otherwise; then blocks are multiples of `checkpoints` tokens for the recurrences named there, and one
    more state is held for each request, except by models of `unmarked` types. Models of `whole` types keep a state for
    every block instead, whose tokens are multiples of what a recurrence computes at once; beside attention with
    `equal_keys` that block is the whole sequence. `by_stage` says that every worker does so for the layers it holds:
    on a pipeline stage without attention states are not padded. Classes of `alone` types know of states only; those of
    others with states are hybrids, also where no layer of a config attends. `pads_attention` says that attention with a
    smaller page, such as a draft's, is padded to that of the states too; classes of `undrafted` types size that page
    for states without drafts.
    """

    rule: str
    alignment: int
    latent_alignment: int | None
    prefix_caching: bool
    checkpoints: Mapping[str, int]
    unmarked: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    by_stage: bool = False
    pads_attention: bool = False
    undrafted: tuple[str, ...] = ()

    def hybrid(self, model: ModelConfig) -> bool:
        """Whether the engine runs `model` as attention beside states (vllm 0.33.0 config/model.py is_hybrid)."""
        return model.model_type not in self.alone and any(
            part.content is CacheContent.RECURRENT for layer in model.layers for part in model.layer_caches(layer)
        )

    def checkpoint(self, model: ModelConfig, recurrence: str) -> int | None:
        """Tokens between the states that `model` keeps of a prefill; `None` where it keeps none."""
        return None if model.model_type in self.unmarked else self.checkpoints.get(recurrence)


@dataclass(frozen=True, slots=True)
class DraftRules:
    """
    How models draft for others, and where.

    With pipeline parallelism run layers of multi-token prediction of the `pipelined` families, `None` for all, and
    `models` of their own unless it is false. Layers of drafts by the methods `counted_by_stage` are numbered on from
    those of the last stage instead of all, so they get the name of another layer, except of models whose layers are
    `named_apart`. Models of some types know `methods` only.
    """

    pipelined: tuple[str, ...] | None
    models: bool
    counted_by_stage: tuple[str, ...]
    named_apart: tuple[str, ...]
    methods: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class PlannerRules:
    """
    Which of the rules that versions differ in a planner follows.

    `block_bytes` is what a block takes of memory: `tuples` of pages (`group size x page`, packed pools summed by page
    size) or the `widest` group's pages. `concurrency` divides blocks by those of each group (`groups`) or by all
    groups' bytes in one division (`bytes`). `null_block_checked` keeps the null block out of what one request may take.
    `pads_pages` pads pages that do not divide the largest. `buffers_by_layer` shrinks the memory found
    by what all groups' pages are more than one block's, for buffers are kept for each layer; groups of `shared_buffers`
    lie in the same ones, and all groups of models of `shared_types`. `drafts_beside_states` gives the layers of a draft
    and the attention of a model with pictures and recurrent states one group.
    """

    block_bytes: str = "tuples"
    concurrency: str = "bytes"
    null_block_checked: bool = False
    pads_pages: bool = False
    buffers_by_layer: bool = False
    shared_buffers: str = "hybrids"
    shared_types: tuple[str, ...] = ()
    drafts_beside_states: bool = False


@dataclass(frozen=True, slots=True)
class SchedulingRules:
    """
    How far ahead an engine schedules.

    `asynchronous` is the default, but not with drafts by one of `not_with` methods. `in_flight_batches` says that
    windows must hold the tokens of every batch under way, not of one; `ahead_in_pipelines` that a pipeline, too,
    has one more batch under way than stages: of all models, or of unquantised ones of the types listed.
    """

    asynchronous: bool
    in_flight_batches: bool
    ahead_in_pipelines: bool | tuple[str, ...] = False
    not_with: tuple[str, ...] = ()

    def batches(self, model: ModelConfig, *, asynchronous: bool, pipeline: int) -> int:
        """Most batches of `model` under way at once."""
        ahead = self.ahead_in_pipelines
        if isinstance(ahead, tuple):
            ahead = model.model_type in ahead and model.quantization is None
        if asynchronous and (pipeline == 1 or ahead):
            return pipeline + 1
        return pipeline


@dataclass(frozen=True, slots=True)
class HeldRules:
    """
    What a worker holds beside the weights as they are stored.

    A table of rotary positions is kept in `copies` by the kind of its positions, once for others; beside compressed
    entries an element of it takes `compressed_bytes`, cosines and sines together. Groups named in `twice` are held a
    second time, in another layout. `streams` says when the residual streams of a step's tokens are kept for drafts,
    `always` or with `drafts`. `allocator` says what blocks weights lie in, `experts` how those of MXFP4 are kept;
    `None` where they take what their formats say.
    """

    copies: Mapping[str, int]
    compressed_bytes: int
    twice: tuple[str, ...] = ()
    streams: str | None = None
    allocator: AllocatorRules | None = None
    experts: MxExpertRules | None = None

    def step_bytes(self, model: ModelConfig, tokens: int, *, drafts: bool, last: bool) -> int:
        """
        Bytes that a model's class keeps for the `tokens` of a step: what its indexer picks for each, in 32 bits, and of
        compressed attention the residual streams on the `last` pipeline stage, in 16.
        """
        mixers = {layer.mixer for layer in model.layers}
        picked = max((mixer.picks for mixer in mixers if mixer is not None), default=0)
        streams = 0
        if last and model.hyper is not None and any(isinstance(mixer, WindowedLatent) for mixer in mixers):
            kept = self.streams == "always" or (self.streams == "drafts" and drafts)
            streams = model.hyper.streams * model.hidden_size if kept else 0
        return tokens * (picked * 4 + streams * 2)

    def rotary_bytes(self, table: RotaryTable) -> int:
        """Bytes of `table` on one rank: 16 bits an element."""
        if table.kind == "compressed":
            return table.positions * table.width * self.compressed_bytes
        return table.positions * table.width * 2 * self.copies.get(table.kind, 1)


@dataclass(frozen=True, slots=True)
class RuntimeRules:
    """
    Bytes that the runtime takes outside the framework: on a rank `alone`, and `joined` with others by collectives.

    The second was measured `on` one kind of card and link, whose workers see a memory within `device`; workers on
    others have logged anything within `seen`.
    """

    alone: int
    joined: int
    on: str
    device: tuple[int, int]
    seen: tuple[int, int]

    def taken(self, ranks: int, device: int) -> int | None:
        """Bytes on one of `ranks` on a card of `device` bytes; `None` where no such card was measured."""
        if ranks == 1:
            return self.alone
        least, most = self.device
        return self.joined if least <= device <= most else None


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """
    What an engine finds taken when it runs the model once before it sizes the cache, beside the peak of the ops.

    Of every sequence a token is sampled: `logit_bytes` are alive for each logit, `vocabulary_bytes` once for each word,
    and `hidden_copies` of all tokens' hidden states. `runtime` is what is taken outside the framework, `None` where
    HCCL's documented buffers are all that is known. Those of data parallelism have `data_buffer_mb` units of 2**20
    bytes where the engine sets them.
    """

    logit_bytes: int = 6
    vocabulary_bytes: int = 0
    hidden_copies: int = 0
    runtime: RuntimeRules | None = None
    data_buffer_mb: int | None = None

    def sampling_bytes(self, model: ModelConfig, tokens: int, sequences: int) -> int:
        """Bytes alive when the tokens of `sequences` are sampled behind a prefill of `tokens` tokens."""
        hidden = tokens * model.hidden_size * 2 * self.hidden_copies
        return model.vocab_size * (sequences * self.logit_bytes + self.vocabulary_bytes) + hidden


@dataclass(frozen=True, slots=True)
class StepDefaults:
    """The `tokens` and `sequences` of a step that a server starts with on devices of `least` bytes and more."""

    least: int
    tokens: int
    sequences: int


@dataclass(frozen=True, slots=True)
class TowerRules:
    """Models whose class asserts that the heads of its vision tower divide, and those that ranks can hold `whole`."""

    divided: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Engine:
    """
    One engine, version and generation of chip; `usual` is the version meant where none is named.

    `utilization` is the share of the chip's memory the engine plans with. `hybrid` is false where only full
    attention is known to be kept, `paged` where there are no pages at all. `dispatch_tokens` is the most tokens of a
    rank that expert dispatch keeps buffers for, `None` where the engine has no such buffers. `forced_block` is the
    block size whatever is asked for, except with recurrent states and compressed entries; `compressed_block` that with
    compressed entries where another is asked for than they can have. `compressed` are the ways
    to keep compressed entries, told apart by their ratios. `checkpoint_kv` says that a cache whose type is left open
    has the one that the checkpoint brings scales for. `drafting` says how models draft. `unpiped` are the families that
    do not run with pipeline parallelism at all (`unnamed_unpiped`: unless the file names a class). It has no class
    for models of `unserved` types or whose file names an `unserved` class, and keeps keys and values of `expanded`
    ones in place of their latents.
    `checks_heads` says that query heads must divide among the ranks of tensor parallelism, of which those that
    share tokens are some; ranks that share tokens are not asked to repeat key/value heads of `context_unchecked`
    types, which it takes for latents there, and asked to repeat heads of `context_headed` types, whose latents it
    does not know. `towers` says the same of vision towers.
    `plain_experts` says that experts need not be gated. `workspace_share` is the share of the memory left that is kept
    from the cache for kernels. `token_pools` are the rules of an engine that deals memory out in tokens, `None` of one
    that has one pool of blocks. `held` says what is held beside weights, `None` where that is not known.
    `named_kernels` says that an attention kernel can be asked for by name; others take their own whatever is asked for.
    `lengths` says how long sequences are when nothing is asked for, `None` as long as the model has positions.
    `kv_as_model` says that a float type asked for must be the model's own.
    `kv_bytes` are those of an element of keys and values by type, `kv_scale_bytes` those beside each vector of a head.
    Caches of `refused_kv` types are asked for in vain, whatever the model; those of `unplanned_kv` types the engine
    keeps in a way that is not planned, each with the reason. Classes of `untyped` models keep the
    default type whatever is asked for. `media_tokens` are the tokens of the largest item of a model whose media
    attend in both directions, which a step must hold. `counts_used` says that what is in use on the device before
    the start is taken off once more. `step_defaults` are those of large devices, the largest first; a planner that
    is not told of a device takes `batched_tokens`. `profile` is what its run before the cache is sized finds.
    """

    name: str
    engine: str
    version: str
    source: str
    usual: bool
    families: tuple[str, ...]
    default_block_size: int
    forced_block: int | None
    compressed_block: int | None
    block_sizes: tuple[int, ...] | None
    utilization: float
    batched_tokens: int
    step_defaults: tuple[StepDefaults, ...]
    media_tokens: Mapping[str, int]
    untyped: tuple[str, ...]
    kv_bytes: Mapping[str, float]
    kv_scale_bytes: Mapping[str, int]
    default_kv: str
    refused_kv: tuple[str, ...]
    kv_as_model: bool
    lengths: LengthRules | None
    unplanned_kv: Mapping[str, str]
    checkpoint_kv: bool
    drafting: DraftRules
    unpiped: tuple[str, ...]
    unnamed_unpiped: tuple[str, ...]
    unserved: tuple[str, ...]
    expanded: tuple[str, ...]
    context_unchecked: tuple[str, ...]
    context_headed: tuple[str, ...]
    checks_heads: bool
    towers: TowerRules
    plain_experts: bool
    workspace_share: float
    token_pools: TokenPoolRules | None
    latent: LatentLayout
    states: StateRules
    compressed: tuple[CompressedLayout, ...]
    backends: tuple[AttentionBackend, ...]
    planner: PlannerRules
    scheduling: SchedulingRules
    hybrid: bool
    paged: bool
    dispatch_tokens: int | None
    held: HeldRules | None
    named_kernels: bool
    counts_used: bool
    profile: ProfileRules

    def dies(self, layout: Layout) -> int:
        """Dies that `layout` takes: where heads are divided, ranks that share tokens are some of tensor parallelism."""
        return layout.ranks // layout.context if self.checks_heads else layout.ranks

    def step_default(self, device: int) -> StepDefaults:
        """What servers start with on a device of so many bytes (vllm 0.33.0 engine/arg_utils.py get_batch_defaults)."""
        usual = StepDefaults(0, self.batched_tokens, DEFAULT_SEQUENCES)
        return next((row for row in self.step_defaults if device >= row.least), usual)

    def step_tokens(self, model: ModelConfig, asked: int | None = None, device: int = 0) -> int:
        """
        The most tokens of one step: as `asked`, else the default on a `device` of so many bytes or as many as the
        largest picture or video of `model` (vllm 0.33.0 engine/arg_utils.py `_get_min_mm_batched_tokens`).
        """
        least = self.media_tokens.get(model.model_type, 0) if model.media_prefix else 0
        return asked or max(self.step_default(device).tokens, least)
