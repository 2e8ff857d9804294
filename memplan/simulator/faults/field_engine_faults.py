"""
Memory that engines waste and runs lack, as users report it: pages and padding, sleep that frees nothing, failures.

From vllm#54458 (a page for each tiny prompt), vllm-ascend#9563 (each sleep keeps 240 MB more), ms-swift#6636 and
vllm#11743 (with expandable segments sleep frees nothing), and the out-of-memory reports of torch_npu.
"""

from __future__ import annotations

from dataclasses import replace

from memplan.simulator.faults.field_device_faults import each_rank
from memplan.simulator.job_program import Doing, Item, RankProgram, computing_ns, spread_out
from memplan.simulator.job_settings import EngineTrouble, FaultyJob, MemoryExhaustion, MemoryShortage


def preempted(job: FaultyJob, strength: float) -> FaultyJob:
    """More sequences run than the KV cache holds: some are thrown out, and their prompts are computed again."""

    def change(_: int, program: RankProgram) -> RankProgram:
        length = round(strength * computing_ns(program) / 6)
        return spread_out(program, Item(Doing.KERNEL, "PromptFlashAttention", "PromptFlashAttention", length,
                                        core="MIX_AIC"), 6)  # fmt: skip

    return replace(
        each_rank(job, change),
        settings=replace(job.settings, engine=EngineTrouble(preempted=max(round(40 * strength), 1))),
    )


_TOKENS = 262_144
_CONTEXT = 0.02
"""What the process holds outside of its allocator, as a share of its peak."""


def _engine(job: FaultyJob, trouble: EngineTrouble) -> FaultyJob:
    return replace(job, settings=replace(job.settings, engine=trouble))


def page_ends(job: FaultyJob, strength: float) -> FaultyJob:
    """Many short sequences in large pages, as hybrid models need them: each leaves part of its last page empty."""
    sequences = 96
    page = round(2 * (0.1 + strength) * _TOKENS / sequences / 128) * 128
    return _engine(job, EngineTrouble(sequences=sequences, page_tokens=page))


def padding_layers(job: FaultyJob, strength: float) -> FaultyJob:
    """Groups of layers are made alike by layers that are not there."""
    return _engine(job, EngineTrouble(layer_padding=0.1 + strength))


def sleep_keeps_more(job: FaultyJob, strength: float) -> FaultyJob:
    """Each sleep leaves more memory in use than the last: workspaces that nobody gives back."""
    return _engine(job, EngineTrouble(sleeps=True, kept=strength / 10))


def sleep_frees_nothing(job: FaultyJob, _: float) -> FaultyJob:
    """Weights and cache stay where they are while the engine sleeps."""
    return _engine(job, EngineTrouble(sleeps=True, frees=False))


def short_of_pieces(job: FaultyJob, strength: float) -> FaultyJob:
    """As much as is asked for is reserved and free, but in pieces."""
    cached = 0.1 + strength
    reserved = 1 + cached
    shortage = MemoryShortage(cached / 2, cached / 10, 1.0, reserved, device=reserved + cached / 10 + _CONTEXT)
    return _short(job, shortage, cached=cached)


def short_of_room(job: FaultyJob, strength: float) -> FaultyJob:
    """A step needs more than the device has: nothing is wasted."""
    return _short(job, MemoryShortage(strength, strength / 5, 1.0, 1.005, device=1.005 + strength / 5 + _CONTEXT))


def short_by_others(job: FaultyJob, strength: float) -> FaultyJob:
    """Another process holds much of the device."""
    others = 0.2 + 2 * strength
    return _short(job, MemoryShortage(strength, strength / 10, 1.0, 1.005, device=1.005 + strength / 10 + others))


def exhausted_by_leak(job: FaultyJob, strength: float) -> FaultyJob:
    """Every step keeps what it logs, until nothing is left."""
    return _exhausted(job, MemoryExhaustion(leak=strength / 2))


def exhausted_in_pieces(job: FaultyJob, strength: float) -> FaultyJob:
    """Batches of many lengths leave pieces between which something stays."""
    return _exhausted(job, MemoryExhaustion(pieces=0.1 + strength))


def exhausted_by_size(job: FaultyJob, strength: float) -> FaultyJob:
    """A step asks for more than weights and states leave: nothing is wasted."""
    return _exhausted(job, MemoryExhaustion(missing=strength))


def _exhausted(job: FaultyJob, exhaustion: MemoryExhaustion) -> FaultyJob:
    return replace(job, settings=replace(job.settings, exhaustion=exhaustion))


def _short(job: FaultyJob, shortage: MemoryShortage, *, cached: float = 0.0) -> FaultyJob:
    memory = replace(job.settings.memory, cached=job.settings.memory.cached + cached)
    return replace(job, settings=replace(job.settings, shortage=shortage, memory=memory))
