"""Known defects planted alone, without noise: what each does to the programs of the ranks, and what names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from types import MappingProxyType

from memplan.simulator.faults.fault import Fault, Planting
from memplan.simulator.job_program import (
    Doing,
    Item,
    RankProgram,
    collective,
    computing_ns,
    scaled_kernels,
    spread_out,
)
from memplan.simulator.job_settings import FaultyJob, MemoryTrouble

_LEAST_LAG_NS = 2_000
"""Of a kernel that starts late: a launch."""
_EXPOSED = ("communication.exposed", "communication.waiting")


def _all(job: FaultyJob, change: Callable[[RankProgram], RankProgram]) -> FaultyJob:
    return replace(job, programs=tuple(change(program) for program in job.programs))


def _one(job: FaultyJob, change: Callable[[RankProgram], RankProgram], rank: int = 1) -> FaultyJob:
    chosen = min(rank, len(job.programs) - 1)
    programs = [change(program) if number == chosen else program for number, program in enumerate(job.programs)]
    return replace(job, programs=tuple(programs))


def with_memory(job: FaultyJob, memory: MemoryTrouble) -> FaultyJob:
    """`job` with other trouble with its memory."""
    return replace(job, settings=replace(job.settings, memory=memory))


def _host(name: str, count: int) -> Planting:
    def plant(job: FaultyJob, strength: float) -> FaultyJob:
        def change(program: RankProgram) -> RankProgram:
            item = Item(Doing.HOST, name, "", round(strength * computing_ns(program) / count))
            return drained(spread_out(program, item, count), count)

        return _all(job, change)

    return plant


def drained(program: RankProgram, count: int) -> RankProgram:
    """`program`, made so that nothing queues up where host work is put in: the device idles as long as that takes."""
    return spread_out(program, Item(Doing.SYNCHRONISE, "drained", "quiet", 0), count)


def _kernels(type_name: str, core: str, count: int, dtype: str = "") -> Planting:
    def plant(job: FaultyJob, strength: float) -> FaultyJob:
        def change(program: RankProgram) -> RankProgram:
            length = round(strength * computing_ns(program) / count)
            item = Item(Doing.KERNEL, type_name, type_name, length, core=core, dtype=dtype)
            return spread_out(program, item, count)

        return _all(job, change)

    return plant


def _synchronise(job: FaultyJob, strength: float) -> FaultyJob:
    def change(program: RankProgram) -> RankProgram:
        item = Item(Doing.SYNCHRONISE, "aten::item", "", round(strength * computing_ns(program) / 12))
        return spread_out(program, item, 12)

    return _all(job, change)


def _exposed(job: FaultyJob, strength: float) -> FaultyJob:
    def change(program: RankProgram) -> RankProgram:
        extra = collective("hcom_allGather__900_1_1", round(strength * computing_ns(program)))
        return (*program[:-1], extra, Item(Doing.AWAIT, "await", "", 0), program[-1])

    return _all(job, change)


def _not_overlapped(job: FaultyJob, strength: float) -> FaultyJob:
    def change(program: RankProgram) -> RankProgram:
        buckets = [item for item in program if item.doing is Doing.COLLECTIVE]
        length = round(strength * computing_ns(program) / max(len(buckets), 1))
        found: list[Item] = []
        for item in program:
            if item.doing is Doing.COLLECTIVE:
                found += [replace(item, duration_ns=length), Item(Doing.AWAIT, "await", "", 0)]
            else:
                found.append(item)
        return tuple(found)

    return _all(job, change)


def _small_packets(job: FaultyJob, strength: float) -> FaultyJob:
    """Buckets in packets of 100 KB, each with so much latency that all of what is added is exposed."""

    def change(program: RankProgram) -> RankProgram:
        extra = collective("hcom_allReduce__901_1_1", round(strength * computing_ns(program)), packet=100_000)
        return (*program[:-1], extra, Item(Doing.AWAIT, "await", "", 0), program[-1])

    return _all(job, change)


def _bubble(job: FaultyJob, strength: float) -> FaultyJob:
    half = len(job.programs) // 2

    def change(program: RankProgram, waits: bool) -> RankProgram:
        length = round(strength * computing_ns(program))
        moved = min(20_000, round(0.004 * computing_ns(program)))
        place = len(program) // 3
        await_it = Item(Doing.AWAIT, "await", "", 0)
        exchange = Item(Doing.EXCHANGE, "hcom_batchSendRecv__100_1_1", "hcom_batchSendRecv_", moved, packet=360_000)
        # The first stage has computed what the second waits for; both then do equal work.
        work = Item(Doing.KERNEL, "StageWork", "MatMul", length, core="AI_CORE")
        before = (exchange, await_it) if waits else (work, exchange, await_it)
        after = (*program[place:-1], work, program[-1]) if waits else program[place:]
        return (*program[:place], *before, *after)

    programs = tuple(change(program, rank >= half) for rank, program in enumerate(job.programs))
    return FaultyJob(programs, replace(job.settings, stages=2))


def _even_stages(job: FaultyJob, strength: float) -> FaultyJob:
    """The work of the stages of a pipeline without anybody waiting."""

    def change(program: RankProgram) -> RankProgram:
        work = Item(Doing.KERNEL, "StageWork", "MatMul", round(strength * computing_ns(program)), core="AI_CORE")
        return (*program[:-1], work, program[-1])

    return _all(job, change)


def _late_prefetch(job: FaultyJob, strength: float) -> FaultyJob:
    def change(program: RankProgram) -> RankProgram:
        item = Item(Doing.COPY, "MEMCPY_ASYNC", "host to device", round(strength * computing_ns(program) / 6))
        return spread_out(program, item, 6)

    return _all(job, change)


def _irregular(job: FaultyJob, strength: float) -> FaultyJob:
    def change(program: RankProgram) -> RankProgram:
        # A kernel of which there are many equals, some of them many times as long.
        length = round(0.05 * computing_ns(program) / 40)
        kernels = Item(Doing.KERNEL, "Irregular", "IrregularMul", length, core="AI_VECTOR_CORE", dtype="FLOAT")
        spread = spread_out(program, kernels, 40)
        extra = round(strength * computing_ns(program) / 10)
        return tuple(
            replace(item, duration_ns=item.duration_ns + extra)
            if item.type == "IrregularMul" and int(item.name.rpartition("_")[2]) % 4 == 1
            else item
            for item in spread
        )

    return _all(job, change)


def _experts(job: FaultyJob, strength: float) -> FaultyJob:
    programs = tuple(
        _with_experts(program, 0.1 + (strength if rank == 1 else 0.0)) for rank, program in enumerate(job.programs)
    )
    return replace(job, programs=programs)


def _with_experts(program: RankProgram, share: float) -> RankProgram:
    item = Item(Doing.KERNEL, "Experts", "GroupedMatmul", round(share * computing_ns(program) / 8), core="AI_CORE")
    return spread_out(program, item, 8)


def _dispatch(job: FaultyJob, strength: float) -> FaultyJob:
    def change(program: RankProgram) -> RankProgram:
        kernels = [place for place, item in enumerate(program) if item.doing is Doing.KERNEL]
        total = strength * computing_ns(program)
        # A lag shorter than what any queue takes would be nobody's.
        chosen = frozenset(kernels[:: max(ceil(len(kernels) * _LEAST_LAG_NS / total), 1)])
        late = round(total / len(chosen))
        return tuple(replace(item, late_ns=late) if place in chosen else item for place, item in enumerate(program))

    return _all(job, change)


def _host_bound(job: FaultyJob, strength: float) -> FaultyJob:
    """The host needs longer to launch than the device to run."""

    def change(program: RankProgram) -> RankProgram:
        kernels = [place for place, item in enumerate(program) if item.doing is Doing.KERNEL]
        chosen = frozenset(kernels[:: max(len(kernels) // 40, 1)])
        length = round(strength * computing_ns(program) / max(len(chosen), 1))
        found: list[Item] = []
        for place, item in enumerate(program):
            if place in chosen:
                found.append(Item(Doing.SYNCHRONISE, "drained", "quiet", 0))
                found.append(Item(Doing.HOST, "aten::view", "", length))
            found.append(item)
        return tuple(found)

    return _all(job, change)


def _slow_rank(job: FaultyJob, strength: float) -> FaultyJob:
    return _one(job, lambda program: scaled_kernels(program, 1 + strength))


_BARE = 0.05
"""Exposed communication of a job whose link is slow, as a share of its computing."""


def _slow_link(job: FaultyJob, strength: float) -> FaultyJob:
    settings = replace(job.settings, slow_link=1 + strength / _BARE)
    return replace(_not_overlapped(job, _BARE), settings=settings)


def _slow_hbm(job: FaultyJob, strength: float) -> FaultyJob:
    return _all(job, lambda program: scaled_kernels(program, 1 + 4 * strength, bound="hbm"))


def _clock(job: FaultyJob, strength: float) -> FaultyJob:
    return replace(job, settings=replace(job.settings, clock=1 / (1 + 1.5 * strength)))


def _between(job: FaultyJob, strength: float) -> FaultyJob:
    gap = round(strength * computing_ns(job.programs[0]))
    return replace(job, settings=replace(job.settings, gaps_ns=(gap,)))


def _leak(job: FaultyJob, strength: float) -> FaultyJob:
    return with_memory(job, MemoryTrouble(leaks=(("Leaky", strength),)))


def _cached(job: FaultyJob, strength: float) -> FaultyJob:
    return with_memory(job, MemoryTrouble(cached=0.1 + strength))


def _outside(job: FaultyJob, strength: float) -> FaultyJob:
    return with_memory(job, MemoryTrouble(outside=0.02 + strength))


_ROWS: tuple[tuple[str, str, tuple[str, ...], Planting, int], ...] = (
    ("slow-rank", "one rank computes slower", ("rank.slow",), _slow_rank, 2),
    ("expert-imbalance", "one rank has more tokens for its experts", ("rank.experts",), _experts, 2),
    ("slow-link", "one link is slow", ("link.slow",), _slow_link, 3),
    ("exposed-transfer", "a collective with nothing beside it", _EXPOSED, _exposed, 2),
    ("missing-overlap", "computing waits for every collective", _EXPOSED, _not_overlapped, 2),
    ("small-packets", "a collective in small packets", ("communication.small_packets",), _small_packets, 2),
    ("bubble", "the second pipeline stage waits for the first", ("pipeline.bubble",), _bubble, 2),
    ("late-prefetch", "copies from the host come late", ("copy.exposed",), _late_prefetch, 1),
    ("hbm-slowdown", "memory-bound kernels are slow", ("kernel.memory",), _slow_hbm, 1),
    ("clock-drop", "the clock drops", ("device.clock",), _clock, 1),
    ("aicpu", "ops on AI CPUs", ("kernel.aicpu",), _kernels("ArgSort", "AI_CPU", 8, "DOUBLE"), 1),
    ("format-conversion", "layouts are converted", ("kernel.format",), _kernels("TransData", "AI_VECTOR_CORE", 20), 1),
    ("irregular-kernels", "some runs of a kernel are slow", ("kernel.irregular",), _irregular, 1),
    ("host-gaps", "the host launches late", ("idle.host",), _host_bound, 1),
    ("synchronisation", "the host waits for the device", ("idle.synchronise",), _synchronise, 1),
    ("recompile", "ops are compiled in steps", ("idle.compile",), _host("AscendCL@aclopCompileAndExecute", 6), 1),
    ("dataloader", "the host waits for data", ("idle.dataloader",), _host("enumerate(DataLoader)#__next__", 1), 1),
    ("garbage", "Python collects garbage", ("idle.garbage",), _host("GC", 2), 1),
    ("checkpoint", "a checkpoint is saved within steps", ("idle.checkpoint",), _host("save_checkpoint", 1), 1),
    ("allocation", "memory is allocated in steps", ("idle.allocate",), _host("AscendCL@aclMallocMemInner", 5), 1),
    ("between-steps", "the host is busy between steps", ("idle.between",), _between, 1),
    ("dispatch", "kernels start late after their launch", ("idle.dispatch",), _dispatch, 1),
    ("leaked-tensor", "every step keeps a tensor", ("memory.growth",), _leak, 1),
    ("fragmented-pool", "the allocator reserves far more than it allocates", ("memory.fragmentation",), _cached, 1),
    ("outside-memory", "buffers outside of the allocator", ("memory.outside",), _outside, 1),
)
_WITHOUT: Mapping[str, Planting] = MappingProxyType(
    {
        "slow-link": lambda job, _: _not_overlapped(job, _BARE),
        # As many tokens as with the fault, spread evenly.
        "expert-imbalance": lambda job, strength: _all(
            job, lambda program: _with_experts(program, 0.1 + strength / len(job.programs))
        ),
        "bubble": _even_stages,
        "irregular-kernels": lambda job, _: _irregular(job, 0.0),
    }
)
PLAIN_FAULTS: Mapping[str, Fault] = MappingProxyType(
    {kind: Fault(words, found, plant, ranks, without=_WITHOUT.get(kind)) for kind, words, found, plant, ranks in _ROWS}
)
"""Every plain fault by its kind."""
