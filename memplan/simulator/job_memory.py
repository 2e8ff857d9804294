"""Memory of a simulated job: the tables of one rank, with what is kept, reserved or held outside by a fault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.units import KIB, MIB, microseconds
from memplan.hardware import chip as find_chip
from memplan.schema import Plan, Tier
from memplan.simulator.job_run import RankRun
from memplan.simulator.job_settings import MemoryTrouble
from memplan.simulator.noise import Chance
from memplan.simulator.profile_tables import MEMORY_RECORD, OPERATOR_MEMORY, write_table
from memplan.simulator.simulation import EPOCH_NS

_SAMPLES = 40
_TOP = _SAMPLES // 2
"""The sample of a step at which most is held."""
_PASSING = ("aten::empty", "aten::mm", "aten::add", "aten::cat", "aten::empty_strided", "npu::npu_fusion_attention")


def peak_of(plan: Plan) -> int:
    """Device memory that the plan needs at most, bytes."""
    return max((use.peak for use in plan.tiers if use.tier is Tier.HBM), default=0) or 64 * MIB


def planted_bytes(plan: Plan, memory: MemoryTrouble, steps: int) -> int:
    """Bytes that `memory` costs after `steps` steps: what has grown, or is reserved or held outside in vain."""
    peak = peak_of(plan)
    if memory.leaks or memory.growth:
        return round((sum(share for _, share in memory.leaks) + memory.growth) * peak) * (steps - 1)
    outside = memory.outside + memory.outside_growth * (steps - 1)
    cached = _beyond(memory.cached + memory.cached_growth * (steps - 1))
    if outside > MemoryTrouble().outside:
        return round(_beyond(outside) * peak * (1.01 + cached))
    return round(peak * (0.01 + cached))


def room_share(plan: Plan, memory: MemoryTrouble, steps: int = 1) -> float | None:
    """
    What a job of so many steps leaves free of its chip's memory at its fullest, as a share: below 0 where it lacks
    some, `None` of a chip that is not known.
    """
    try:
        chip = find_chip(plan.chip)
    except InputError:
        return None
    if not chip.hbm_bytes:
        return None
    usable = chip.hbm_bytes - (chip.hbm_reserved_bytes or 0)
    kept = (sum(share for _, share in memory.leaks) + memory.growth) * (steps - 1)
    cached = _beyond(memory.cached + memory.cached_growth * (steps - 1))
    outside = _beyond(memory.outside + memory.outside_growth * (steps - 1))
    return 1 - peak_of(plan) * (1.01 + kept + cached) * (1 + outside) / usable


def _beyond(share: float) -> float:
    """What is added to a whole so that it is `share` of the sum."""
    return share / (1 - min(share, 0.9))


def write_job_memory(output: Path, plan: Plan, memory: MemoryTrouble, rank: int, run: RankRun) -> None:
    """Memory that rises and falls within each step; what a fault keeps, reserves or holds outside comes on top."""
    peak, npu = peak_of(plan), f"NPU:{rank}"
    end, first = run.steps[-1][1], run.steps[0][0]
    rows: list[Sequence[object]] = []
    blocks: list[Sequence[object]] = []
    kept = 0
    pools: list[int] = []
    chance = Chance(rank)
    for number, (begin, stop) in enumerate(run.steps):
        for place, (name, share) in enumerate(memory.leaks if memory.leaking in (None, rank) else ()):
            size = round(share * peak)
            blocks.append(_block(name, size, begin + 1 + place, None, kept + size, npu))
            kept += size
        level = kept + round(memory.growth * peak) * number
        cached = _beyond(memory.cached + memory.cached_growth * number)
        reserved = round((peak + level) * (1.01 + cached))
        pools.append(reserved)
        for sample in range(_SAMPLES + 1):
            time = _sample_ns(begin, stop, sample)
            used = peak // 2 + _risen(peak // 2, _TOP - abs(sample - _TOP)) + level
            rows.append(("PTA", _stamp(time), used / MIB, reserved / MIB, used / MIB, 0, npu))
        if memory.busy == 1:
            blocks += _waxing(peak // 2, begin, stop, peak // 2 + level, npu)
        else:
            blocks += _passing(memory.busy, peak // 2 + level - kept, begin, stop, peak + level, npu, chance)
    samples = range(first, end, max((end - first) // 50, 1))
    held: list[Sequence[object]] = []
    for time in samples:
        step = max(sum(begin <= time for begin, _ in run.steps) - 1, 0)
        outside = round(_beyond(memory.outside + memory.outside_growth * step) * pools[step])
        rows.append(("APP", _stamp(time), "", (pools[step] + outside) / MIB, "", "", npu))
        held.append(("HCCL", _stamp(time), round(outside * 0.9) / KIB, npu))
    write_table(output / "memory_record.csv", MEMORY_RECORD, rows)
    write_table(output / "operator_memory.csv", OPERATOR_MEMORY, blocks)
    write_table(
        output / "npu_module_mem.csv", ("Component", "Timestamp(us)", "Total Reserved(KB)", "Device Type"), held
    )


def _sample_ns(begin: int, stop: int, sample: int) -> int:
    """When the memory of a step is sampled."""
    return begin + 1 + (stop - begin - 2) * sample // _SAMPLES


def _risen(moving: int, rises: int) -> int:
    """How many of the bytes that come and go within a step are there after so many of its `_TOP` rises."""
    return moving * rises // _TOP


def _waxing(moving: int, begin: int, stop: int, base: int, npu: str) -> list[Sequence[object]]:
    """
    The blocks by which memory rises sample by sample to the middle of a step, and falls as they are freed in turn.

    What was there before the step, `base` bytes, was allocated before the profile and has no rows.
    """
    found = []
    for rise in range(1, _TOP + 1):
        size, times = _risen(moving, rise) - _risen(moving, rise - 1), (rise, _SAMPLES + 1 - rise)
        at, until = (_sample_ns(begin, stop, sample) for sample in times)
        found.append(_block(_PASSING[rise % len(_PASSING)], size, at, until, base + _risen(moving, rise), npu))
    return found


def _passing(
    count: int, total: int, begin: int, stop: int, level: int, npu: str, chance: Chance
) -> list[Sequence[object]]:
    """Blocks of all sizes that come and go within a step, `total` bytes together."""
    sizes = chance.uniform(count) ** 3 + 0.01
    starts, lengths = chance.uniform(count), chance.uniform(count)
    found: list[tuple[int, Sequence[object]]] = []
    for place in range(count):
        size = max(round(total * float(sizes[place] / sizes.sum())) // 512 * 512, 512)
        at = begin + 10 + int((stop - begin - 20) * float(starts[place]) * 0.9)
        until = at + 1 + int((stop - 1 - at) * float(lengths[place]))
        found.append((at, _block(_PASSING[place % len(_PASSING)], size, at, until, level, npu)))
    return [block for _, block in sorted(found, key=lambda pair: pair[0])]


def _stamp(time_ns: int) -> str:
    return microseconds(EPOCH_NS + time_ns) + "\t"


def _block(name: str, size: int, begin: int, end: int | None, total: int, npu: str) -> Sequence[object]:
    times = ("", "", "", "") if end is None else (_stamp(end), _stamp(end), *(microseconds(end - begin),) * 2)
    return (name, str(size / KIB), _stamp(begin), *times, *(total / MIB,) * 3, "", "", "", 0, npu)
