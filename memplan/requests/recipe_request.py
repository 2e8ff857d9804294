"""A training recipe as asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from memplan.core.errors import InputError
from memplan.core.options import option
from memplan.core.sentence import Sentence
from memplan.requests.layout_request import sequence_parallel_option
from memplan.requests.words import member_named, numbers_of

if TYPE_CHECKING:
    from memplan.models.architecture import ModelConfig
    from memplan.models.parallel import Layout
    from memplan.models.training.step_recipe import Recipe

_PANEL = "Recipe"


@dataclass(frozen=True, kw_only=True)
class RecipeRequest:
    """How a step is trained."""

    micro_batch: int = option("--micro-batch", default=1, about="Samples of a micro-batch.", panel=_PANEL, least=1)
    global_batch: int | None = option(
        "--global-batch",
        default=None,
        about="Samples of a step; by default one micro-batch a rank.",
        panel=_PANEL,
        least=1,
    )
    sharding: str = option(
        "--sharding",
        default="distributed",
        about="none, distributed, zero1, zero2, zero3, fsdp or fsdp2.",
        panel=_PANEL,
    )
    schedule: str = option("--schedule", default="1f1b", about="1f1b, interleaved, dualpipe-v or gpipe.", panel=_PANEL)
    chunks: int = option("--chunks", default=1, about="Parts of an interleaved rank.", panel=_PANEL, least=1)
    chunk_group: int = option(
        "--chunk-group",
        "--microbatch-group-size-per-virtual-pipeline-stage",
        default=0,
        about="Micro-batches that an interleaved rank runs through one part before the next; 0 for one a stage.",
        panel=_PANEL,
        least=0,
    )
    run_layers: str = option(
        "--run-layers",
        default="",
        about="Layers of each run of a pipeline, in the order of the model, as 3,2,2,1.",
        panel=_PANEL,
    )
    optimizer_instances: int = option(
        "--optimizer-instances",
        "--num-distributed-optimizer-instances",
        default=1,
        about="Groups of replicas, each of which shares the optimiser's states for itself.",
        panel=_PANEL,
        least=1,
    )
    sequence_parallel: bool = sequence_parallel_option()
    recompute_layers: int = option(
        "--recompute-layers", default=0, about="Layers of a stage that keep their input only.", panel=_PANEL, least=0
    )
    recompute_cheap: bool = option(
        "--recompute-cheap", default=False, about="Recompute norms and activation functions.", panel=_PANEL
    )
    recompute_norms: bool = option(
        "--recompute-norms", "--recompute-norm", default=False, about="Recompute norms alone.", panel=_PANEL
    )
    recompute_activations: bool = option(
        "--recompute-activations",
        "--recompute-activation-function",
        default=False,
        about="Recompute activation functions alone.",
        panel=_PANEL,
    )
    recompute_attention: bool = option(
        "--recompute-attention", default=False, about="Run attention again on the way back.", panel=_PANEL
    )
    swap_optimizer: bool = option(
        "--swap-optimizer", default=False, about="Optimiser states on the host.", panel=_PANEL
    )
    reuse_fp32: bool = option(
        "--reuse-fp32",
        "--reuse-fp32-param",
        default=False,
        about="No 16-bit copy of weights whose float32 originals the rank has.",
        panel=_PANEL,
    )
    half_gradients: bool = option(
        "--half-gradients",
        "--grad-reduce-in-bf16",
        default=False,
        about="Gradients added up in 16 bits, as with fp16.",
        panel=_PANEL,
    )
    half_moments: bool = option(
        "--half-moments", default=False, about="Adam's moments in 16 bits, its weights in float32.", panel=_PANEL
    )
    half_weights: bool = option(
        "--half-weights",
        "--pure-bf16",
        default=False,
        about="Weights in 16 bits alone, as their gradients and Adam's moments are.",
        panel=_PANEL,
    )
    muon: bool = option(
        "--muon",
        default=False,
        about="Muon for matrices of layers, with one moment; Adam elsewhere.",
        panel=_PANEL,
    )
    dropout: bool = option("--dropout", default=False, about="Hidden dropout, whose masks are kept.", panel=_PANEL)
    clip_copies: bool = option(
        "--clip-copies", default=False, about="Gradients are clipped into copies, as before 2026.", panel=_PANEL
    )
    forward_first: bool = option(
        "--forward-first",
        default=False,
        about="Interleaved: all forward passes first where micro-batches are as many as stages, as before Core 0.10.",
        panel=_PANEL,
    )
    ulysses: bool = option(
        "--ulysses", default=False, about="Context-parallel ranks exchange heads for tokens.", panel=_PANEL
    )
    repeat_kv: bool = option(
        "--repeat-kv",
        "--kv-head-repeat-before-uly-alltoall",
        default=False,
        about="Keys and values are repeated for every head before that.",
        panel=_PANEL,
    )
    weighted_activation: bool = option(
        "--weighted-activation",
        "--use-fused-weighted-squared-relu",
        default=False,
        about="One kernel for the router's weights and an activation function without a gate.",
        panel=_PANEL,
    )
    float32: bool = option(
        "--float32",
        default=False,
        about="Weights and activations in float32, as of Megatron without --bf16 and --fp16.",
        panel=_PANEL,
    )
    fp8: bool = option(
        "--fp8",
        default=False,
        about="Products in 8 bits, with copies of their weights.",
        panel=_PANEL,
    )
    fp8_weights: bool = option(
        "--fp8-weights",
        "--fp8-param-gather",
        default=False,
        about="With --fp8: the weights themselves are in 8 bits, without copies beside them.",
        panel=_PANEL,
    )
    split_experts: bool = option(
        "--split-experts", default=False, about="Each expert's weights are parameters of their own.", panel=_PANEL
    )
    alibi: bool = option(
        "--alibi", default=False, about="Positions are a bias of every head and pair of tokens (ALiBi).", panel=_PANEL
    )
    legacy_layers: bool = option(
        "--legacy-layers", default=False, about="Layers are MindSpeed-LLM's before Megatron-Core.", panel=_PANEL
    )
    swap_attention: bool = option(
        "--swap-attention", default=False, about="What attention keeps waits on the host.", panel=_PANEL
    )
    zero_memory_layers: int = option(
        "--zero-memory-layers",
        "--moe-zero-memory-num-layers",
        default=0,
        about="So many layers of a stage make their experts anew (--moe-zero-memory level1).",
        panel=_PANEL,
        least=0,
    )
    noop_layers: str = option(
        "--noop-layers", default="", about="Numbers of layers that do nothing, as 61,62,63.", panel=_PANEL
    )
    mtp_layers: int = option(
        "--mtp-layers",
        "--mtp-num-layers",
        default=0,
        about="So many layers predict further tokens, on the last stage.",
        panel=_PANEL,
        least=0,
    )
    fused_indexer: bool = option(
        "--fused-indexer",
        "--use-fused-lightning-indexer",
        default=False,
        about="Indexers of sparse attention pick their tokens in one kernel.",
        panel=_PANEL,
    )
    fused_indexer_loss: bool = option(
        "--fused-indexer-loss",
        "--use-fused-lightning-indexer-loss",
        default=False,
        about="One kernel makes what they learn from, without a score of every pair.",
        panel=_PANEL,
    )
    transformer_engine: bool = option(
        "--transformer-engine",
        default=False,
        about="Layers are TransformerEngine's, with buffers of their own.",
        panel=_PANEL,
    )
    split_gradients: bool = option(
        "--split-gradients",
        "--no-gradient-accumulation-fusion",
        default=False,
        about="There, products hand gradients over and don't add them up.",
        panel=_PANEL,
    )
    overlap_tensor: bool = option(
        "--overlap-tensor",
        "--tp-comm-overlap",
        default=False,
        about="There, products run beside tensor parallelism's exchanges.",
        panel=_PANEL,
    )
    norms_in_steps: bool = option(
        "--norms-in-steps",
        default=False,
        about="RMSNorm op by op, as MindSpeed's without --use-fused-rmsnorm.",
        panel=_PANEL,
    )
    padded_heads: int = option(
        "--padded-heads",
        default=0,
        about="Width that heads of latent attention are padded to, as without --mla-fa-without-pad.",
        panel=_PANEL,
        least=0,
    )
    recompute_heads: bool = option(
        "--recompute-heads",
        "--recompute-mla-up-proj",
        default=False,
        about="Make queries, keys and values anew of their latents.",
        panel=_PANEL,
    )
    swap_attended: bool = option(
        "--swap-attended",
        "--mla-swap-core-attn-out",
        default=False,
        about="What attention makes waits on the host.",
        panel=_PANEL,
    )
    attention_in_steps: bool = option(
        "--attention-in-steps",
        default=False,
        about="Attention op by op, which keeps a softmax of every pair of tokens.",
        panel=_PANEL,
    )
    softmax_in_steps: bool = option(
        "--softmax-in-steps",
        default=False,
        about="With --attention-in-steps: a float32 softmax is kept beside its 16-bit copy, as of transformers.",
        panel=_PANEL,
    )
    silu_in_steps: bool = option(
        "--silu-in-steps",
        default=False,
        about="SwiGLU in two ops, as MindSpeed's without --use-fused-swiglu.",
        panel=_PANEL,
    )
    gelu_in_steps: bool = option(
        "--gelu-in-steps",
        "--gelu-tanh",
        default=False,
        about="The activation function of dense parts op by op (MindSpeed-LLM).",
        panel=_PANEL,
    )
    copied_attention: bool = option(
        "--copied-attention",
        default=False,
        about="What attention makes is copied before its projection, as in Megatron-LM of 2023.",
        panel=_PANEL,
    )
    window_masks: bool = option(
        "--window-masks",
        default=False,
        about="Layers with a sliding window make a mask of every pair of tokens each.",
        panel=_PANEL,
    )
    capped_logits: bool = option(
        "--capped-logits", default=False, about="Logits are bounded by a tanh, which is kept.", panel=_PANEL
    )
    expert_capacity: float = option(
        "--expert-capacity",
        default=0.0,
        about="Places of an expert over its even share, filled by products with masks, as DeepSpeed's; 0 for none.",
        panel=_PANEL,
        least=0,
    )
    scan_in_steps: bool = option(
        "--scan-in-steps",
        default=False,
        about="Mamba-2's scan op by op (MindSpeed-LLM), which keeps decays of every pair of tokens of a chunk.",
        panel=_PANEL,
    )
    gated_norm_in_steps: bool = option(
        "--gated-norm-in-steps",
        default=False,
        about="With --scan-in-steps: the norm of the gated output too (releases before June 2025).",
        panel=_PANEL,
    )
    padded_scan: bool = option(
        "--padded-scan",
        default=False,
        about="With --scan-in-steps: samples are padded by a chunk (releases before 20 May 2025).",
        panel=_PANEL,
    )
    variable_lengths: bool = option(
        "--variable-lengths",
        "--variable-seq-lengths",
        "--no-pad-to-seq-lengths",
        default=False,
        about="Samples are as long as their text: what the last one left isn't counted.",
        panel=_PANEL,
    )
    recompute_products: bool = option(
        "--recompute-products",
        default=False,
        about="Layers keep every second matrix product, as torchtitan's selective checkpoints do.",
        panel=_PANEL,
    )
    gpu: str = option(
        "--gpu",
        default="none",
        about="none, ampere, ada, hopper or blackwell: whose cuBLAS keeps workspaces.",
        panel=_PANEL,
    )
    cublas_workspace: int = option(
        "--cublas-workspace",
        default=0,
        about="KiB of each of PyTorch's workspaces, if CUBLAS_WORKSPACE_CONFIG says so.",
        panel=_PANEL,
        least=0,
    )
    overlap_gather: bool = option(
        "--overlap-gather",
        "--overlap-param-gather",
        default=False,
        about="Megatron-FSDP gathers the next step's first weights when one ends.",
        panel=_PANEL,
    )
    fused_exchanges: bool = option(
        "--fused-exchanges",
        "--use-ascend-mc2",
        "--coc-fused-kernel",
        default=False,
        about="Products and the exchanges of tensor-parallel ranks around them are one kernel each.",
        panel=_PANEL,
    )
    exchange_pieces: int = option(
        "--exchange-pieces",
        "--coc-parallel-num",
        default=0,
        about="Pieces of products, each exchanged while the next one is multiplied.",
        panel=_PANEL,
        least=0,
    )
    whole_attention: bool = option(
        "--whole-attention",
        default=False,
        about="Attention computes every pair of tokens, then masks (attention-mask-type general).",
        panel=_PANEL,
    )
    deferred_head: int = option(
        "--deferred-head",
        "--wgrad-deferral-limit",
        default=0,
        about="Micro-batches whose part of the head's gradient waits until the pipeline drains.",
        panel=_PANEL,
        least=0,
    )
    loss: str = option("--loss", default="in-place", about="in-place, copied, compiled, eager or fused.", panel=_PANEL)
    lora_rank: int = option(
        "--lora-rank", "--lora-r", default=0, about="Train adapters of this rank alone.", panel=_PANEL, least=0
    )
    lora_experts: bool = option("--lora-experts", default=False, about="Each expert has adapters too.", panel=_PANEL)
    lora_gathered: bool = option(
        "--lora-gathered",
        default=False,
        about="Adapters keep what sequence-parallel ranks gather for them, as Megatron-Bridge's do by default.",
        panel=_PANEL,
    )
    qlora: bool = option(
        "--qlora", default=False, about="Weights beside adapters stand in 4 bits where a layer is linear.", panel=_PANEL
    )
    reference_model: bool = option(
        "--reference-model",
        default=False,
        about="A second model of 16-bit weights stands beside, as in DPO.",
        panel=_PANEL,
    )
    frozen_vision: bool = option(
        "--frozen-vision",
        "--freeze-vision-tower",
        default=False,
        about="The vision tower is not trained: its weights stand in 16 bits.",
        panel=_PANEL,
    )
    etp: int | None = option(
        "--etp",
        "--expert-tensor-parallel-size",
        default=None,
        about="Ranks that split each expert; by default as many as --tp.",
        panel=_PANEL,
        least=1,
    )

    def samples(self, data_ranks: int) -> int:
        """Samples of a step on all ranks."""
        return self.micro_batch * data_ranks if self.global_batch is None else self.global_batch

    def recipe(self, sequence: int, micro_batches: int = 1) -> Recipe:
        """
        The recipe for samples of `sequence` tokens; raises `InputError` for words that are not known.

        `micro_batches` of a step are for a layout to say: `micro_batches_of`.
        """
        from memplan.models.training.step_recipe import Gpu, Loss, Recipe, Schedule, Sharding

        mine, whole = ({item.name for item in fields(kind)} for kind in (RecipeRequest, Recipe))
        given = {name: getattr(self, name) for name in mine & whole}
        # Those that are words, or have other names than the recipe's.
        given |= {
            "sequence": sequence,
            "micro_batches": micro_batches,
            "sharding": member_named(Sharding, self.sharding, "sharding"),
            "schedule": member_named(Schedule, self.schedule, "schedule"),
            "gpu": member_named(Gpu, self.gpu, "gpu"),
            "loss": member_named(Loss, self.loss, "loss"),
            "run_layers": numbers_of(self.run_layers, "--run-layers"),
            "noop_layers": numbers_of(self.noop_layers, "--noop-layers"),
            "four_bit_base": self.qlora,
            "grouped_experts": not self.split_experts,
            "alibi_masks": self.alibi,
            "fused_gradients": not self.split_gradients,
        }
        return Recipe(**given)

    def check_parts(self, model: ModelConfig) -> None:
        """Raise `InputError` for options about parts that `model` lacks, which would change nothing."""
        from memplan.models.feed_forward import MoeFfn
        from memplan.models.mixers.compressed_attention import CompressedAttention
        from memplan.models.mixers.grouped_attention import GroupedAttention
        from memplan.models.mixers.latent_attention import LatentAttention
        from memplan.models.mixers.recurrent_mixers import Mamba2

        experts = [layer.ffn for layer in model.layers if isinstance(layer.ffn, MoeFfn)]
        mixers = [layer.mixer for layer in model.layers]
        scans = any(isinstance(mixer, Mamba2) for mixer in mixers)
        latent = any(isinstance(mixer, LatentAttention) for mixer in mixers)
        sparse = [mixer for mixer in mixers if isinstance(mixer, LatentAttention | CompressedAttention)]
        indexed = any(mixer.indexer is not None for mixer in sparse)
        windows = any(isinstance(mixer, GroupedAttention) and mixer.window is not None for mixer in mixers)
        for name, there, part in (
            ("lora_experts", bool(experts), "experts"),
            ("split_experts", bool(experts), "experts"),
            ("zero_memory_layers", bool(experts), "experts"),
            ("weighted_activation", any(not ffn.gated for ffn in experts), "experts without a gate"),
            ("scan_in_steps", scans, "layers of Mamba-2"),
            ("gated_norm_in_steps", scans, "layers of Mamba-2"),
            ("padded_scan", scans, "layers of Mamba-2"),
            ("window_masks", windows, "sliding windows"),
            ("expert_capacity", bool(experts), "experts"),
            ("padded_heads", latent, "latent attention"),
            ("recompute_heads", latent, "latent attention"),
            ("fused_indexer", indexed, "indexers"),
            ("fused_indexer_loss", indexed, "indexers"),
            ("frozen_vision", model.vision is not None, "a vision tower"),
        ):
            if getattr(self, name) and not there:
                flag = f"--{name.replace('_', '-')}"
                what = Sentence("{} is about {}, which {} lacks", (flag, Sentence(part), model.name))
                raise InputError(what, remedy="leave it out")

    def with_experts(self, layout: Layout) -> Layout:
        """`layout` with the experts split as the recipe has it."""
        return replace(layout, expert_tensor=self.etp)

    def micro_batches_of(self, data_ranks: int) -> int:
        """Micro-batches of a step on each of `data_ranks`; raises `InputError` where they can't be shared evenly."""
        samples = self.samples(data_ranks)
        count, rest = divmod(samples, self.micro_batch * data_ranks)
        if rest or not count:
            raise InputError(
                "{} samples a step can't be divided among {} ranks in micro-batches of {}",
                samples,
                data_ranks,
                self.micro_batch,
            )
        return count
