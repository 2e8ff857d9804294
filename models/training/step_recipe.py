"""How a training step is done: schedule, sharing of states, what is recomputed, the loss."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType

from memplan.core.errors import InputError
from memplan.models.training.recipe_choices import Gpu, Loss, Schedule, Sharding

_HALF, _SINGLE = 2, 4
_OPTIONS = MappingProxyType(
    {
        "alibi_masks": "--alibi",
        "four_bit_base": "--qlora",
        "fused_gradients": "--split-gradients",
        "grouped_experts": "--split-experts",
    }
)
"""Options that say a word of a recipe by another name or its opposite."""


def option_of(name: str) -> str:
    """The option by which commands are told the word `name` of a recipe."""
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")


def told_words(recipe: Recipe) -> tuple[str, ...]:
    """The words by which `recipe` differs from one of which nothing is told, in the order of its fields."""
    return tuple(field.name for field in fields(Recipe) if getattr(recipe, field.name) != field.default)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a step is trained: what each field says beside the model and the layout."""

    sequence: int
    """Tokens a sample."""
    micro_batch: int = 1
    """Samples a micro-batch."""
    micro_batches: int = 1
    """Micro-batches of a step on each data-parallel rank."""
    sharding: Sharding = Sharding.DISTRIBUTED
    """Which states data-parallel ranks share."""
    optimizer_instances: int = 1
    """
    Groups of data-parallel ranks, each of which divides the states of the distributed optimiser among its own
    (Megatron's `--num-distributed-optimizer-instances`).
    """
    schedule: Schedule = Schedule.ONE_F_ONE_B
    """The order of micro-batches in a pipeline."""
    chunks: int = 1
    """How many parts of the model an interleaved rank holds."""
    chunk_group: int = 0
    """
    How many micro-batches an interleaved rank runs through one part before the next, 0 for as many as there are stages
    (`--microbatch-group-size-per-virtual-pipeline-stage`).
    """
    run_layers: tuple[int, ...] = ()
    """
    Layers of each run of a pipeline, in the order in which a token meets them (`--pipeline-model-parallel-layout`,
    whose runs without any are layers that do nothing).
    """
    sequence_parallel: bool = False
    """Whether tensor-parallel ranks share the tokens of what is not split among them."""
    recompute_layers: int = 0
    """How many layers of a stage keep only their input."""
    swap_inputs: bool = False
    """
    Keeps the inputs of those layers on the host until their way back (torchtune's `enable_activation_offloading` with
    checkpoints, axolotl's `gradient_checkpointing: offload`).
    """
    recompute_cheap: bool = False
    """Drops what costs no matrix product."""
    recompute_norms: bool = False
    """Drops of that the outputs of norms alone (MindSpeed's `--recompute-norm`, Megatron's module `layernorm`)."""
    recompute_activations: bool = False
    """Drops of that the outputs of activation functions alone (`--recompute-activation-function`)."""
    recompute_attention: bool = False
    """Drops what attention alone needs of its forward run, which is repeated."""
    recompute_dense: bool = False
    """
    Drops all that a dense feed-forward part keeps but its input, with TransformerEngine's layers the norm before it too
    (Megatron's module `mlp`).
    """
    recompute_experts: bool = False
    """
    Drops all that a layer's experts keep but their input: the router, what was dispatched and shared experts among it
    (Megatron's module `moe`).
    """
    recompute_shared: bool = False
    """Drops of that what shared experts keep alone (Megatron's module `shared_experts`)."""
    swap_optimizer: bool = False
    """Keeps the 12 bytes of float32 states on the host."""
    reuse_fp32: bool = False
    """Keeps no 16-bit copy of the weights whose float32 originals the rank has."""
    half_gradients: bool = False
    """
    Adds gradients up in 16 bits (Megatron's fp16, `--grad-reduce-in-bf16`, MindSpeed's `--o2-gradient`, Megatron-FSDP's
    `--megatron-fsdp-main-grads-dtype auto`), with `float32` those of weights in 8 bits alone.
    """
    half_moments: bool = False
    """Keeps Adam's two moments in 16 bits (`--o2-optimizer`, `--exp-avg-dtype`)."""
    byte_moments: bool = False
    """Keeps Adam's two moments in 8 bits with a scale for every block (bitsandbytes' AdamW8bit)."""
    half_weights: bool = False
    """
    Trains weights that are there in 16 bits alone: PyTorch's optimiser works on them, so that gradients and moments
    have as many and gradients are let go when a step is over (a model in bfloat16 without autocast: torchtune's
    `dtype: bf16`, LLaMA-Factory's `pure_bf16`). Beside adapters the weights that stand still have 16 bits then too.
    """
    foreach_optimizer: bool = False
    """
    Has Adam step over all parameters at once, with a list of temporaries as large as one of the moments (PyTorch's
    AdamW without `fused=True`: `_multi_tensor_adam` of torch/optim/adam.py; transformers' `adamw_torch`).
    """
    muon: bool = False
    """Keeps one moment of matrices within layers (`--optimizer muon`) and Adam's two of all else."""
    loss: Loss = Loss.IN_PLACE
    """How the cross entropy is computed."""
    held_logits: int = 0
    """
    Bytes a value of logits that a training loop holds beside an `eager` loss until the way back is over: 2 where it
    keeps the 16-bit output of a model, 4 where models hand float32 on (transformers before 4.45, torchtitan before June
    2024); 0 lets them go before (transformers' Trainer, torchtitan's and torchtune's loops since).
    """
    dropout: bool = False
    """Keeps a mask behind every residual."""
    lora_rank: int = 0
    """
    Trains adapters of that rank beside the projections of attention and dense feed-forward parts, and nothing else.
    """
    lora_targets: tuple[str, ...] = ()
    """
    Has adapters beside those projections alone, by the names that a layer's weights end with (`q_proj`; PEFT's
    `target_modules`).
    """
    lora_fused: tuple[tuple[str, ...], ...] = ()
    """Projections that are one layer with one adapter (`qkv_proj`, `query_key_value`)."""
    lora_dropout: bool = False
    """
    Drops values of what each adapter reads, of which it keeps a copy of its own and a mask (PEFT's `lora_dropout`).
    """
    lora_float32: bool = False
    """
    Has adapters in float32 beside weights in 16 bits, each with a float32 copy of what it reads (PEFT unless
    `autocast_adapter_dtype=False`).
    """
    lora_experts: bool = False
    """Has adapters beside those of each expert too."""
    lora_gathered: bool = False
    """
    Has adapters keep the whole of what sequence-parallel ranks gather for them, beside their own part of it
    (Megatron-Bridge without `sequence_parallel_input_regather`).
    """
    four_bit_base: bool = False
    """Has the weights of linear layers beside adapters stand there in 4 bits (QLoRA)."""
    float32: bool = False
    """
    Keeps weights and activations in float32 (Megatron without `--bf16` and `--fp16`), but for what products in 8 bits
    have copies of.
    """
    fp8: bool = False
    """
    Computes products in 8 bits, each with copies of its own of its input and of its weight and that one's transpose,
    which stay (TransformerEngine's `--fp8-format`).
    """
    fp8_weights: bool = False
    """Has those copies be the weights (`--fp8-param-gather`)."""
    reference_model: bool = False
    """A second model of 16-bit weights that stands still (DPO)."""
    frozen_vision: bool = False
    """The vision tower's weights stand still, so that nothing is kept of its activations."""
    clip_copies: bool = False
    """
    Scales each gradient into a copy before it is clipped, as Megatron-LM's and MindSpeed's optimisers did before 2026.
    """
    forward_first: bool = False
    """
    Has an interleaved pipeline with as many micro-batches as stages run all of its forward passes before the first
    backward one, as Megatron-Core did before 0.10.
    """
    ulysses: bool = False
    """
    Has context-parallel ranks exchange heads for tokens around attention, whose output is then kept on both sides of
    the exchange.
    """
    repeat_kv: bool = False
    """
    Repeats keys and values for every head of the queries before that exchange (MindSpeed's
    `--kv-head-repeat-before-uly-alltoall`).
    """
    grouped_experts: bool = True
    """Keeps the weights of a rank's experts in one parameter (`--moe-grouped-gemm`)."""
    weighted_activation: bool = False
    """
    Has one kernel for an activation function without a gate and the router's weights
    (`--use-fused-weighted-squared-relu`).
    """
    copied_attention: bool = False
    """
    Copies what attention makes before its projection (Megatron-LM's layers of 2023 around FlashAttention:
    `rearrange(...).contiguous()`).
    """
    silu_in_steps: bool = False
    """
    Computes SwiGLU in two ops, the first of which is kept (Megatron-LM without `bias_swiglu_fusion`, MindSpeed without
    `--use-fused-swiglu`).
    """
    gelu_in_steps: bool = False
    """Computes the activation function of dense parts op by op (MindSpeed-LLM's `--gelu-tanh`)."""
    capped_logits: bool = False
    """Bounds the logits by a tanh that is kept for the way back (`--output-logit-softcapping`)."""
    window_masks: bool = False
    """
    Makes each layer with a sliding window a mask of its own, a byte for each pair of tokens
    (`--interleave-sliding-window`).
    """
    legacy_layers: bool = False
    """
    Layers are MindSpeed-LLM's before Megatron-Core: each keeps a causal mask of its own and the joint projection of
    queries, keys and values, whose parts are rotated as views of it.
    """
    alibi_masks: bool = False
    """
    Adds a bias of every head and pair of tokens for attention to read, and such masks, in the place of rotary positions
    (`--position-embedding-type alibi` with `--square-alibi-mask`).
    """
    swap_attention: bool = False
    """
    Keeps what layers need of their attention on the host until their way back (MindSpeed's `--swap-attention`, of
    Megatron-Core attention alone).
    """
    zero_memory_layers: int = 0
    """How many layers of a stage make their experts anew, tokens exchanged included (`--moe-zero-memory level1`)."""
    noop_layers: tuple[int, ...] = ()
    """Numbers of layers that do nothing (`--noop-layers`)."""
    qk_norm: bool = False
    """
    Norms queries and keys of every head before they meet, where a model's config says nothing of it (`--qk-layernorm`).
    """
    mtp_layers: int = 0
    """
    How many layers predict further tokens, each with a loss of its own, on the last stage (Megatron's
    `--mtp-num-layers`).
    """
    fused_indexer: bool = False
    """
    Picks tokens in one kernel, which keeps no scores of every pair (MindSpeed-LLM's `--use-fused-lightning-indexer`).
    """
    fused_indexer_loss: bool = False
    """Has one kernel for what the indexer learns from (`--use-fused-lightning-indexer-loss`)."""
    transformer_engine: bool = False
    """Has layers be TransformerEngine's, with buffers of their own."""
    fused_gradients: bool = True
    """
    Has TransformerEngine's products add their gradients up, where autograd is handed a buffer beside (Megatron's
    `--no-gradient-accumulation-fusion` has them not).
    """
    overlap_tensor: bool = False
    """Has workspaces of TransformerEngine's products that run beside exchanges (`--tp-comm-overlap`)."""
    norms_in_steps: bool = False
    """Computes RMSNorm op by op in float32 (MindSpeed without `--use-fused-rmsnorm`)."""
    padded_heads: int = 0
    """
    The width that heads of latent attention are padded to for flash attention (MindSpeed-LLM without
    `--mla-fa-without-pad`: that of the queries with `--shape-order BNSD`, else the next multiple of 128).
    """
    recompute_products: bool = False
    """
    Keeps of each layer its input, what attention makes and every second matrix product alone (torchtitan's selective
    activation checkpointing by operators).
    """
    compiled_layers: bool = False
    """
    Has layers be compiled one by one (`torch.compile` with its Inductor): norms, rotary positions and activation
    functions are fused, products keep what they read and what attention makes is kept once.
    """
    recompute_heads: bool = False
    """Makes queries, keys and values anew of their latents (`--recompute-mla-up-proj`)."""
    swap_attended: bool = False
    """Keeps what attention makes on the host until its way back (`--mla-swap-core-attn-out`)."""
    attention_in_steps: bool = False
    """
    Multiplies, masks and normalises scores of every pair of tokens op by op, without flash attention
    (TransformerEngine's `--attention-backend unfused`).
    """
    softmax_in_steps: bool = False
    """
    Has that softmax in float32, which is kept beside its 16-bit copy (transformers' eager attention, and Megatron-LM
    without its fused kernel).
    """
    scan_in_steps: bool = False
    """Runs Mamba-2's scan op by op (MindSpeed-LLM's, which lacks the kernels of mamba_ssm)."""
    gated_norm_in_steps: bool = False
    """Computes the norm of that scan's gated output op by op as well (releases before June 2025)."""
    padded_scan: bool = False
    """
    Pads every sample of that scan by the tokens that its last chunk lacks, by a whole one where it lacks none (before
    20 May 2025).
    """
    gpu: Gpu = Gpu.NONE
    """
    What is trained on, whose cuBLAS keeps workspaces: with `none` there are none, but of `transformer_engine` those of
    Hopper.
    """
    cublas_workspace: int = 0
    """The KiB of each of PyTorch's workspaces where CUBLAS_WORKSPACE_CONFIG says it (32,768 with `:4096:8`)."""
    deferred_head: int = 0
    """
    Micro-batches that keep the head's input and its outputs' gradient until the pipeline drains
    (`--defer-embedding-wgrad-compute`, `--wgrad-deferral-limit`).
    """
    overlap_gather: bool = False
    """Has Megatron-FSDP gather the next step's first weights at the end of a step (`--overlap-param-gather`)."""
    fused_exchanges: bool = False
    """
    Has products and the exchanges of tensor-parallel ranks that belong to them be one kernel each (MindSpeed's
    `--use-ascend-mc2`, or `--use-ascend-coc` with `--coc-fused-kernel`).
    """
    exchange_pieces: int = 0
    """
    Cuts them into that many kernels that take turns (`--use-ascend-coc` with `--coc-parallel-num`); experts' products
    stay apart from theirs.
    """
    whole_attention: bool = False
    """
    Has attention compute every pair of tokens and mask what may not be seen (MindSpeed's `--attention-mask-type
    general`).
    """
    variable_lengths: bool = False
    """
    Samples are as long as their text, `sequence` at most (`--variable-seq-lengths`): of what the last one left nothing
    is counted between steps.
    """
    gathered_experts: bool = False
    """
    Has ranks that share experts gather each other's tokens whole, into the buffer of sequence parallelism
    (`--moe-token-dispatcher-type allgather`, Megatron's own default).
    """
    expert_capacity: float = 0.0
    """
    Has experts be DeepSpeed's, with as many places as their even share of tokens times that much, to which tokens are
    sent by products with masks (MindSpeed's `--moe-train-capacity-factor` before September 2024); 0 sends them by
    index.
    """

    def __post_init__(self) -> None:
        for name in ("sequence", "micro_batch", "micro_batches", "chunks", "optimizer_instances"):
            if getattr(self, name) < 1:
                raise InputError("{} must be at least 1, found {}", name, getattr(self, name))
        least = ("lora_rank", "mtp_layers", "chunk_group", "deferred_head", "cublas_workspace", "exchange_pieces")
        for name in (*least, "expert_capacity"):
            if getattr(self, name) < 0:
                raise InputError("{} must not be negative, found {}", name, getattr(self, name))
        if self.fused_exchanges and self.exchange_pieces:
            raise InputError("products are either fused with their exchanges or cut into pieces beside them")
        if self.fused_exchanges and not self.sequence_parallel:
            raise InputError("products fused with their exchanges go with --sequence-parallel (MindSpeed)")
        if self.byte_moments and (self.half_moments or self.muon or self.swap_optimizer):
            raise InputError("moments in 8 bits are those of an Adam that stays on the device")
        if self.foreach_optimizer:
            self._check_foreach()
        if self.held_logits and self.loss is not Loss.EAGER:
            raise InputError("logits that a loop holds go with --loss eager")
        if self.held_logits not in (0, self.each, _SINGLE):
            raise InputError(
                "logits that a loop holds have 2 bytes a value or 4, with float32 weights 4, found {}", self.held_logits
            )
        if self.muon and self.lora_rank:
            raise InputError("adapters that Muon trains are not modelled")
        if self.fp8_weights and not self.fp8:
            raise InputError("weights in 8 bits go with products in 8 bits (--fp8)")
        if (self.lora_experts or self.four_bit_base) and not self.lora_rank:
            raise InputError("adapters of experts and weights in 4 bits go with --lora-rank")
        if (self.lora_targets or self.lora_dropout) and not self.lora_rank:
            raise InputError("projections with adapters and dropout before them go with --lora-rank")
        if self.lora_float32 and not (self.lora_rank and self.half_weights):
            raise InputError("adapters in float32 go with --lora-rank and --half-weights")
        if self.lora_gathered and not (self.lora_rank and self.sequence_parallel):
            raise InputError("gathered inputs of adapters go with --lora-rank and --sequence-parallel")
        if self.half_weights:
            self._check_half_weights()
        if self.four_bit_base and self.sharding in (Sharding.ZERO3, Sharding.FSDP):
            raise InputError("weights in 4 bits that zero3 or fsdp gathers are not modelled")
        if self.lora_rank and self.mtp_layers:
            raise InputError("adapters and layers that predict further tokens together are not modelled")
        if self.attention_in_steps and self.alibi_masks:
            raise InputError("the bias of positions (ALiBi) and attention in steps together are not modelled")
        if self.softmax_in_steps and not self.attention_in_steps:
            raise InputError("a softmax in steps goes with attention in steps (--attention-in-steps)")
        if self.float32:
            self._check_float32()
        if self.swap_inputs and not self.recompute_layers:
            raise InputError("inputs of layers made anew go to the host with --recompute-layers")
        if self.compiled_layers:
            self._check_compiled()
        if self.swap_optimizer and self.reuse_fp32:
            raise InputError("swap-optimizer and reuse-fp32-param exclude each other (MindSpeed)")

    def _check_foreach(self) -> None:
        if not (self.half_weights or self.sharding is Sharding.FSDP2):
            raise InputError("an optimiser that steps over lists of parameters goes with --half-weights or fsdp2")
        for name in ("byte_moments", "half_moments", "muon", "swap_optimizer"):
            if getattr(self, name):
                raise InputError("lists of parameters and {} together are not modelled", option_of(name))

    def _check_half_weights(self) -> None:
        if self.sharding not in (Sharding.NONE, Sharding.FSDP2):
            raise InputError("weights in 16 bits alone go with --sharding none or fsdp2")
        states = ("half_gradients", "half_moments", "reuse_fp32", "swap_optimizer", "muon")
        for name in (*states, "fp8_weights", "float32"):
            if getattr(self, name):
                raise InputError("weights in 16 bits alone and {} together are not modelled", option_of(name))

    def _check_float32(self) -> None:
        if self.half_gradients and not (self.fp8_weights and self.sharding is Sharding.FSDP):
            raise InputError("float32 weights and {} together are not modelled", option_of("half_gradients"))
        for name in ("half_moments", "reuse_fp32", "swap_optimizer", "muon", "lora_rank"):
            if getattr(self, name):
                raise InputError("float32 weights and {} together are not modelled", option_of(name))
        for name in ("expert_capacity", "recompute_products", "legacy_layers", "alibi_masks", "zero_memory_layers"):
            if getattr(self, name):
                raise InputError("float32 activations and {} together are not modelled", option_of(name))
        if self.sharding.of_deepspeed:
            raise InputError("float32 weights that DeepSpeed divides (zero1, zero2, zero3) are not modelled")

    def _check_compiled(self) -> None:
        for name in ("norms_in_steps", "silu_in_steps", "gelu_in_steps", "attention_in_steps", "copied_attention"):
            if getattr(self, name):
                raise InputError("{} is about ops that layers which are compiled fuse", option_of(name))
        for name in ("transformer_engine", "legacy_layers", "alibi_masks", "float32", "fp8"):
            if getattr(self, name):
                raise InputError("layers that are compiled and {} together are not modelled", option_of(name))

    @property
    def each(self) -> int:
        """Bytes of a value of a weight or an activation."""
        return _SINGLE if self.float32 else _HALF

    @property
    def of_megatron(self) -> bool:
        """Whether Megatron's layers and optimiser train: weights in 16 bits alone are PyTorch's."""
        return self.sharding.of_megatron and not self.half_weights

    @property
    def lets_gradients_go(self) -> bool:
        """Whether gradients are PyTorch's own, which a step of one micro-batch makes layer by layer and lets go."""
        return self.half_weights or self.sharding is Sharding.FSDP2

    @property
    def sums_in_halves(self) -> bool:
        """Whether gradients are added up in 16 bits: DeepSpeed's are."""
        return self.half_gradients or self.sharding.of_deepspeed

    def forward_passes_first(self, stages: int) -> bool:
        """Whether every micro-batch of a pipeline of `stages` has run forward before the first one runs back."""
        if self.schedule is Schedule.GPIPE:
            return True
        return self.schedule is Schedule.INTERLEAVED and self.forward_first and self.micro_batches == stages

    def group_of(self, stages: int) -> int:
        """Micro-batches that an interleaved pipeline of `stages` runs through one part of a rank before the next."""
        return self.chunk_group or stages

    @property
    def makes_parts_anew(self) -> bool:
        """Whether feed-forward parts of some kind are made anew as a whole, products included."""
        return self.recompute_dense or self.recompute_experts or self.recompute_shared

    def makes_anew(self, *, norm: bool) -> bool:
        """Whether outputs of norms, or of activation functions, are made anew on the way back."""
        return self.recompute_cheap or (self.recompute_norms if norm else self.recompute_activations)
