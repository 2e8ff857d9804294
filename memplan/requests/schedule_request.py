"""The samples of a training step as asked for, and how ranks share them and the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memplan.core.errors import InputError
from memplan.core.options import option
from memplan.requests.layout_request import sequence_parallel_option

if TYPE_CHECKING:
    from memplan.models.parallel import Layout

_PANEL = "Recipe"


@dataclass(frozen=True, kw_only=True)
class ScheduleRequest:
    """In which parts and order a step runs, who holds what, and what ranks exchange."""

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
    forward_first: bool = option(
        "--forward-first",
        default=False,
        about="Interleaved: all forward passes first where micro-batches are as many as stages, as before Core 0.10.",
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
    variable_lengths: bool = option(
        "--variable-lengths",
        "--variable-seq-lengths",
        "--no-pad-to-seq-lengths",
        default=False,
        about="Samples are as long as their text: what the last one left isn't counted.",
        panel=_PANEL,
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
    etp: int | None = option(
        "--etp",
        "--expert-tensor-parallel-size",
        default=None,
        about="Ranks that split each expert; by default as many as --tp.",
        panel=_PANEL,
        least=1,
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

    def samples(self, data_ranks: int) -> int:
        """Samples of a step on all ranks."""
        return self.micro_batch * data_ranks if self.global_batch is None else self.global_batch

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

    def with_experts(self, layout: Layout) -> Layout:
        """`layout` with the experts split as the recipe has it."""
        return replace(layout, expert_tensor=self.etp)
