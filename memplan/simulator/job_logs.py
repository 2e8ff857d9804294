"""Logs beside the profiles of a simulated job: what its serving engine says, and how a run ends that lacks memory."""

from __future__ import annotations

from memplan.core.units import GIB, KIB, MIB
from memplan.schema import Plan
from memplan.simulator.job_memory import peak_of
from memplan.simulator.job_settings import EngineTrouble, MemoryShortage
from memplan.simulator.noise import Chance

_CACHE_BYTES, _CACHE_TOKENS = 8 * GIB, 262_144
_CONTEXT_BYTES = 1_700 * MIB
"""What an engine's process keeps on the device while it sleeps, round: context, HCCL, workspaces."""


def engine_log(engine: EngineTrouble, plan: Plan, steps: int) -> str:
    """
    The log of a vLLM engine: the size of its cache at the start, and a line of figures a step.

    It may sleep after each step, as reinforcement learning has it between rollout and training. Lines are those of vLLM
    0.23 and 0.33 and vllm-ascend 0.18; sleeping as reported in vllm-ascend#9563 and ms-swift#6636.
    """
    lines = [f"INFO [worker.py:651] Available KV cache memory: {_CACHE_BYTES / GIB:.2f} GiB",
             f"INFO [kv_cache_utils.py:864] NPU KV cache size: {_CACHE_TOKENS:,} tokens",
             "INFO [kv_cache_utils.py:868] Maximum concurrency for 8,192 tokens per request: 32.00x"]  # fmt: skip
    if engine.page_tokens:
        lines.append(f"INFO [interface.py:1109] Setting attention block size to {engine.page_tokens} tokens to ensure"
                     " that attention page size is >= mamba page size.")  # fmt: skip
    if engine.layer_padding:
        lines.append("WARNING [kv_cache_utils.py:1175] Add 3 padding layers, may waste at most"
                     f" {100 * engine.layer_padding:.2f}% KV cache memory")  # fmt: skip
    if engine.sleeps:
        lines.append(f"INFO [model_runner.py:120] Loading model weights took {_weights(plan) / GIB:.4f} GB")
    usage = 99.7 if engine.preempted else 61.3
    for number in range(steps):
        lines.append(
            "INFO [loggers.py:259] Engine 000: Avg prompt throughput: 2100.4 tokens/s, Avg generation throughput: 912.6"
            f" tokens/s, Running: {engine.sequences} reqs, Waiting: {9 + number if engine.preempted else 0} reqs,"
            f"{f' Preemptions: {engine.preempted},' if engine.preempted else ''} GPU KV cache usage: {usage}%,"
            " Prefix cache hit rate: 0.0%"
        )
        if engine.sleeps:
            whole = _weights(plan) + _CACHE_BYTES
            kept = _CONTEXT_BYTES + round(engine.kept * peak_of(plan)) * number + (0 if engine.frees else whole)
            lines.append(
                f"(Worker pid=4711) INFO [worker.py:246] Sleep mode freed {whole / GIB if engine.frees else 0:.2f} GiB"
                f" memory, {kept / GIB:.2f} GiB memory is still in use."
            )
    return "\n".join((*lines, ""))


def engine_bytes(engine: EngineTrouble, plan: Plan, steps: int, seed: int) -> int:
    """Bytes that `engine` wastes: of pages at the ends of its sequences, of padding, or while it sleeps."""
    if engine.page_tokens:
        # Any length is as likely as another, so what the last page of each holds is drawn, not reckoned.
        lengths = 1 + (Chance(seed).uniform(engine.sequences) * 8 * engine.page_tokens).astype(int)
        empty = int((-lengths % engine.page_tokens).sum())
        return empty * _CACHE_BYTES // _CACHE_TOKENS
    if engine.layer_padding:
        return round(engine.layer_padding * _CACHE_BYTES)
    if not engine.frees:
        return _weights(plan) + _CACHE_BYTES
    return round(engine.kept * peak_of(plan)) * (steps - 1)


def _weights(plan: Plan) -> int:
    return peak_of(plan) // 4


def shortage_log(shortage: MemoryShortage, plan: Plan, rank: int) -> str:
    """The end of a run whose last allocation fails, as torch_npu says it."""
    peak = peak_of(plan)
    figures = (shortage.asked * peak, shortage.device * peak, shortage.allocated * peak, shortage.free * peak,
               shortage.reserved * peak)  # fmt: skip
    asked, device, allocated, free, reserved = map(_torch_size, figures)
    return (
        "Traceback (most recent call last):\n  in forward\n"
        f"RuntimeError: NPU out of memory. Tried to allocate {asked} (NPU {rank}; {device} total capacity;"
        f" {allocated} already allocated; {allocated} current active; {free} free; {reserved} reserved in total by"
        " PyTorch) If reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation.\n"
    )


def _torch_size(size: float) -> str:
    """Bytes as PyTorch's allocator writes them (`format_size` of c10)."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size > unit:
            return f"{size / unit:.2f} {name}"
    return f"{size:.0f} bytes"


def shortage_bytes(shortage: MemoryShortage, plan: Plan) -> int:
    """Bytes that the last allocation lacked: all of it where as much is free, in pieces."""
    in_pieces = shortage.reserved - shortage.allocated >= shortage.asked
    return round((shortage.asked if in_pieces else shortage.asked - shortage.free) * peak_of(plan))
