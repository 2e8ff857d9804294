"""Known defects as they look in the field, among the noise of real machines: what they are, and what names them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from memplan.simulator.faults import field_device_faults as device
from memplan.simulator.faults import field_engine_faults as engine
from memplan.simulator.faults import field_host_faults as host
from memplan.simulator.faults import field_load_faults as load
from memplan.simulator.faults import field_step_faults as step
from memplan.simulator.faults.fault import Fault

_EXPOSED = ("communication.exposed", "communication.waiting")
_AICPU = (("Unique2", "AI_CPU", "INT64", 5.0), ("NonZero", "AI_CPU", "BOOL", 2.0), ("Sort", "AI_CPU", "DOUBLE", 1.0))
_LAYOUTS = (("TransData", "AI_VECTOR_CORE", "DT_BF16", 5.0), ("TransData", "AI_VECTOR_CORE", "FLOAT", 1.0))
_COMPILES = "AscendCL@aclopCompileAndExecuteV2"

FIELD_FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "slow-rank-cube": Fault(
            "one rank is slow at matrix work alone", ("rank.slow",), device.cube_of_one, ranks=2
        ),
        "slow-rank-warm": Fault(
            "one rank's clock falls step by step", ("device.clock", "rank.slow"), device.one_gets_warm, ranks=2
        ),
        "slow-link-large": Fault(
            "one link is slow with large messages", ("link.slow",), device.large_messages, ranks=3,
            without=device.many_sizes,
        ),
        "exposed-tail": Fault(
            "sharded gradients and weights are sent at a step's end", _EXPOSED, device.sharded_tail, ranks=2
        ),
        "missing-overlap-layers": Fault(
            "every layer waits for its sums", _EXPOSED, device.layers_wait, ranks=2, layout="tensor"
        ),
        "small-packets-many": Fault(
            "every gradient is reduced by itself", ("communication.small_packets",), device.tensor_by_tensor, ranks=2
        ),
        "bubble-few-batches": Fault(
            "a pipeline with few micro-batches", ("pipeline.bubble",), device.same, ranks=2, layout="pipeline",
            without=device.back_to_back, batches=lambda strength: max(round(1 / strength), 2),
        ),
        "bubble-uneven-stages": Fault(
            "the last pipeline stage has more to do", ("pipeline.uneven",), device.uneven_stages,
            ranks=2, layout="pipeline", without=device.evened_stages, batches=lambda _: 24,
        ),
        "expert-imbalance-layers": Fault(
            "each layer's experts are hot on another rank", ("rank.experts",), device.hot_experts, ranks=2,
            layout="expert", without=device.even_experts,
        ),
        "expert-imbalance-rank": Fault(
            "one rank has the experts that tokens want", ("rank.experts",), device.hot_rank, ranks=2, layout="expert",
            without=device.even_rank,
        ),
        "late-prefetch-deep": Fault(
            "weights of some layers come late from the host", ("copy.exposed",), device.deep_prefetch
        ),
        "hbm-slowdown-large": Fault(
            "long memory-bound kernels are slow", ("kernel.memory",), device.slow_streaming
        ),
        "clock-drop-slow": Fault("the clock falls step by step", ("device.clock",), device.all_get_warm),
        "aicpu-mixed": Fault(
            "several kinds of ops run on AI CPUs", ("kernel.aicpu",), device.strewn(_AICPU, 3)
        ),
        "format-conversion-mixed": Fault(
            "layouts are converted by long and short kernels", ("kernel.format",), device.strewn(_LAYOUTS, 8)
        ),
        "irregular-kernels-rare": Fault(
            "few runs of a kernel are very slow", ("kernel.irregular",), device.now_and_then
        ),
        "host-gaps-backward": Fault("the host launches backward late", ("idle.host",), host.host_in_backward),
        "synchronisation-uneven": Fault(
            "values are read on the host", ("idle.synchronise",), host.reads_values
        ),
        "recompile-once": Fault(
            "a new shape is compiled in one step", ("idle.compile",), host.in_step(_COMPILES, 2, (0.5, 0.3, 0.2))
        ),
        "dataloader-uneven": Fault(
            "loaders of some ranks stall now and then", ("idle.dataloader",), host.uneven_loader
        ),
        "garbage-in-turn": Fault(
            "ranks collect garbage one after another", ("idle.garbage",), host.one_after_another("GC")
        ),
        "checkpoint-one-rank": Fault(
            "one rank saves a checkpoint in one step", ("idle.checkpoint",),
            host.in_step("save_checkpoint", 2, (1.0,), rank=0),
        ),
        "allocation-at-first": Fault(
            "memory is allocated in the first steps", ("idle.allocate",), host.allocates_at_first
        ),
        "between-steps-uneven": Fault(
            "the host is busy between some steps", ("idle.between",), host.evaluates
        ),
        "dispatch-backward": Fault("kernels of backward start late", ("idle.dispatch",), host.late_starts),
        "leaked-tensors-mixed": Fault(
            "one rank keeps tensors of several sizes", ("memory.growth",), host.mixed_leak
        ),
        "growth": Fault(
            "every step needs more memory than the last", ("memory.growth",), host.memory_trouble(growth=0.5)
        ),
        "fragmented-pool-grown": Fault(
            "the pool grows while what is allocated doesn't", ("memory.fragmentation",),
            host.memory_trouble(cached=0.5, cached_growth=0.3),
        ),
        "outside-memory-grown": Fault(
            "buffers outside of the allocator grow", ("memory.outside",),
            host.memory_trouble(outside=0.7, outside_growth=0.15),
        ),
        "kv-over-commit": Fault(
            "more sequences run than the KV cache holds", ("kv.preemption",), engine.preempted
        ),
        "kv-page-ends": Fault(
            "large pages of the KV cache, and many short sequences", ("kv.pages",), engine.page_ends
        ),
        "kv-padding-layers": Fault(
            "the KV cache has layers that are not there", ("kv.padding",), engine.padding_layers
        ),
        "sleep-keeps-more": Fault(
            "an engine keeps more memory with each sleep", ("sleep.growth",), engine.sleep_keeps_more
        ),
        "sleep-frees-nothing": Fault(
            "an engine that sleeps frees nothing", ("sleep.kept",), engine.sleep_frees_nothing
        ),
        "oom-pieces": Fault(
            "a run ends for want of memory that is free in pieces", ("oom.fragmented",), engine.short_of_pieces
        ),
        "oom-room": Fault("a run ends for want of memory", ("oom.full",), engine.short_of_room),
        "oom-others": Fault(
            "a run ends for want of memory that another process holds", ("oom.outside",), engine.short_by_others
        ),
        "oom-leak": Fault(
            "a run ends by what its steps keep, and leaves a snapshot", ("oom.grown",), engine.exhausted_by_leak
        ),
        "oom-scattered": Fault(
            "a run ends for want of one piece, and leaves a snapshot", ("oom.fragmented",), engine.exhausted_in_pieces
        ),
        "oom-size": Fault(
            "a run needs more than there is, and leaves a snapshot", ("oom.full",), engine.exhausted_by_size
        ),
        "uneven-sequences": Fault(
            "another rank has the long sequences in every step", ("rank.uneven",), load.uneven_sequences, ranks=2,
            without=load.even_sequences, planned=False,
        ),
        "starved-host": Fault(
            "one rank's host has too few processors", ("idle.host", "rank.late"), load.starved_host, ranks=2
        ),
        "stands-still": Fault(
            "processes stand still and leave no event", ("idle.stalled", "idle.host"), load.stands_still
        ),
        "launch-blocking": Fault(
            "the host waits for every kernel", ("idle.synchronise",), load.launches_one_by_one
        ),
        "late-swap": Fault(
            "activations leave for the host too late", ("copy.exposed",), load.late_swap
        ),
        "unfused-chains": Fault(
            "chains of small kernels where one would do", ("kernel.chains",), load.unfused, without=load.fused
        ),
        "casts": Fault(
            "tensors are cast to float32 and back", ("kernel.cast",), load.cast_to_and_fro
        ),
        "read-back": Fault(
            "tensors are copied to the host in every step", ("copy.exposed", "idle.synchronise"), load.reads_back
        ),
        "needless-recompute": Fault(
            "layers are computed twice", ("recompute.layers",), load.computes_again, roomy=True
        ),
        "contended-transfers": Fault(
            "transfers beside computing are slow", ("communication.contention",), load.slowed_by_computing, ranks=2,
            without=load.at_full_rate,
        ),
        "lost-packets": Fault(
            "a network loses packets", ("link.retransmission",), load.sent_again, ranks=2, without=load.loses_nothing
        ),
        "slow-exchange": Fault(
            "what pipeline stages send takes long to move", _EXPOSED, load.slow_exchange, ranks=2, layout="pipeline"
        ),
        "slow-step": Fault("everything is slow in one step", ("step.slow",), step.slow_step),
        "prompts-among-tokens": Fault(
            "one step runs a prompt as well", ("step.more",), step.prompts_among_tokens
        ),
        "captured-again": Fault("a graph is captured in one step", ("idle.capture",), step.captures_again),
        "kernels-beside-transfers": Fault(
            "kernels beside transfers are slow", ("kernel.contended",), step.slowed_by_transfers, ranks=2,
            without=step.transferred_beside,
        ),
        "moved-anew": Fault(
            "a collective is tried again in one step", ("communication.irregular",), step.moved_anew, ranks=2
        ),
    }
)  # fmt: skip
"""Every fault as it looks in the field, by its kind."""
