"""Parallel layouts of simulated jobs: which ranks compute what, and what they send each other for it."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.errors import InputError
from memplan.schema import Plan
from memplan.simulator.job_program import (
    Doing,
    Item,
    RankProgram,
    collective,
    computing_ns,
    program_of,
    scaled_kernels,
    spread_out,
    updates_weights,
)
from memplan.simulator.job_run import unplanned_times
from memplan.simulator.job_settings import FaultyJob, JobConditions, JobSettings, MemoryTrouble
from memplan.simulator.noise import Chance

LAYOUTS = ("data", "tensor", "pipeline", "expert")
"""All ranks run everything; pairs share each layer; two stages share the layers; ranks share the experts."""

_STAGES = 2
_MICRO_BATCHES = 24
_BUSY_BLOCKS = 60
_FEW_MEETINGS = 8
_SENT_NS, _SENT = 8_000, 0.004
"""What a pipeline's stages send each other takes, and at most as a share of what a micro-batch computes."""
_LAUNCHING, _PAUSE = 0.4, 0.001
"""Of a clean job: launches as a share of what they launch, and each pause of a host as a share of a step, at most."""
_SHORT_NS = 1_200_000
"""Steps so short that nobody reads a value in each: the device would idle for a launch, some 3 us, 0.25 % of them."""


def job_of(
    plan: Plan, layout: str, ranks: int, *, background: int | None = None, batches: int | None = None
) -> FaultyJob:
    """
    One step of `plan` by `ranks` ranks in one of `LAYOUTS`, without a fault.

    With `background`, a seed, machines are as unlike as real ones, and hosts do a little of everything that hosts do.
    `batches` are the micro-batches of a step of a pipeline. Raises `InputError` for a layout that is not known or does
    not fit the number of ranks.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout {layout!r:.20} is not known", remedy=f"write one of {', '.join(LAYOUTS)}")
    # A pipeline has micro-batches of its own.
    whole = program_of(plan, ranks, filled=layout != "pipeline")
    if layout == "data" or (layout == "expert" and ranks == 1):
        job = FaultyJob((whole,) * ranks, JobSettings())
    elif ranks % 2:
        raise InputError(f"{ranks} ranks have no {layout} layout", remedy="give an even number of ranks")
    elif layout == "tensor":
        programs = tuple(_sharing(whole, rank, ranks) for rank in range(ranks))
        job = FaultyJob(programs, JobSettings(tensor=2))
    elif layout == "expert":
        job = FaultyJob((_exchanging(whole, tuple(range(ranks))),) * ranks, JobSettings())
    else:
        programs = tuple(_stage(whole, rank, ranks, batches or _MICRO_BATCHES) for rank in range(ranks))
        # Halves of a few kernels each lie percents apart, which would be a fault of its own, and so would be kernels
        # made longer than the chip needs for them.
        even = min(map(computing_ns, programs))
        programs = tuple(scaled_kernels(program, even / computing_ns(program)) for program in programs)
        job = FaultyJob(programs, JobSettings(stages=_STAGES))
    return _with_short_pauses(job if background is None else _in_the_field(job, background))


def _with_short_pauses(job: FaultyJob) -> FaultyJob:
    """`job` whose hosts keep ahead of their devices, and whose pauses are a small share of a step however short."""
    length = max(map(computing_ns, job.programs))
    gaps = tuple(min(gap, round(_PAUSE * length)) for gap in job.settings.gaps_ns)
    return launched_in_time(replace(job, settings=replace(job.settings, gaps_ns=gaps)))


def launched_in_time(job: FaultyJob) -> FaultyJob:
    """`job` whose hosts launch all of its kernels in less than they take, as a graph that is launched whole does."""
    length = max(map(computing_ns, job.programs))
    launches = max(sum(item.doing is Doing.KERNEL for item in program) for program in job.programs)
    call_ns = min(job.settings.call_ns, round(_LAUNCHING * length / max(launches, 1)))
    return replace(job, settings=replace(job.settings, call_ns=call_ns))


def _in_the_field(job: FaultyJob, seed: int) -> FaultyJob:
    """
    `job` as it would be measured: 5 % of noise, ranks half a percent apart with clocks of their own, and busy hosts.

    Every step fetches data, reads the loss and collects a little garbage: less than a hundredth of it together.
    """
    chance = Chance(seed)
    ranks = len(job.programs)

    def among(low: float, high: float) -> tuple[float, ...]:
        return tuple(low + (high - low) * float(value) for value in chance.uniform(ranks))

    meets = sum(item.doing is Doing.AWAIT for item in job.programs[0])
    conditions = JobConditions(
        # Where ranks meet at every layer, what scatters is waited for each time: that alone would cost a hundredth.
        spread=0.05 if meets < _FEW_MEETINGS else 0.015,
        tail=0.002,
        launch_spread=0.5,
        unplanned=0.05,
        speeds=among(0.9975, 1.0025),
        skews_ns=tuple(round(value) for value in among(0, 3_000_000)),
        drifts=among(0.0, 1e-5),
        seed=seed,
    )
    memory = MemoryTrouble(cached=0.02 + 0.03 * among(0, 1)[0], outside=0.02, busy=_BUSY_BLOCKS)
    settings = replace(job.settings, call_ns=2500, conditions=conditions, memory=memory)
    job = _evened(job, conditions) if job.settings.stages > 1 else job
    return replace(job, programs=tuple(_with_host(program) for program in job.programs), settings=settings)


def _evened(job: FaultyJob, conditions: JobConditions) -> FaultyJob:
    """`job` whose stages take equally long as its ops really run: those of one type may all be off the plan."""
    times = unplanned_times(job.programs, conditions)
    lengths = [
        sum(item.duration_ns * times.get(item.type, 1.0) for item in program if item.doing is Doing.KERNEL)
        for program in job.programs
    ]
    even = sum(lengths) / len(lengths)
    programs = [scaled_kernels(program, even / own) for program, own in zip(job.programs, lengths, strict=True)]
    return replace(job, programs=tuple(programs))


def _with_host(program: RankProgram) -> RankProgram:
    length = computing_ns(program)
    fetch = Item(Doing.HOST, "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", "", length // 500)
    garbage = Item(Doing.HOST, "GC", "", length // 2000)
    busy = (fetch, *spread_out(program[:-1], garbage, 1))
    if length < _SHORT_NS:
        return (*busy, program[-1])
    loss = Item(Doing.SYNCHRONISE, "aten::item", "", min(15_000, round(_PAUSE * length)))
    clipped = Item(
        Doing.SYNCHRONISE, "AscendCL@aclrtSynchronizeStreamWithTimeout", "", min(10_000, round(_PAUSE * length))
    )
    return (*busy, clipped, program[-1], loss)


def phases(program: RankProgram) -> tuple[RankProgram, RankProgram, RankProgram]:
    """Forward, backward and update of a step, by the names of its ops; what is not told goes in halves."""
    kernels = [place for place, item in enumerate(program) if item.doing is Doing.KERNEL]
    named = [place for place in kernels if "grad" in program[place].name.casefold()]
    updates = [place for place in kernels if updates_weights(program[place].type)]
    first = named[0] if named else kernels[len(kernels) // 2]
    # What the last kernel needs it waits for; after it there is nothing that could wait.
    last = updates[0] if updates else kernels[-1]
    return program[:first], program[first:last], program[last:]


def _sharing(program: RankProgram, rank: int, ranks: int) -> RankProgram:
    """Pairs of ranks sum what each has of a layer after attention and after its MLP, and wait for it."""
    pair = (rank // 2 * 2, rank // 2 * 2 + 1)
    group = tuple(range(rank % 2, ranks, 2))
    summed = ("o_proj", "down_proj")
    count = sum(any(name in item.name for name in summed) for item in program) or 1
    transfer = round(0.003 * computing_ns(program) / count)
    found: list[Item] = []
    for item in program:
        found.append(replace(item, group=group) if item.doing is Doing.COLLECTIVE else item)
        if item.doing is Doing.KERNEL and any(name in item.name for name in summed):
            name = f"hcom_allReduce__2{len(found):04}_1_1"
            found += [collective(name, transfer, group=pair), Item(Doing.AWAIT, "await", "", 0, group=pair)]
    return tuple(found)


def _exchanging(program: RankProgram, everybody: tuple[int, ...]) -> RankProgram:
    """
    Tokens go to the ranks of their experts and back: an all-to-all before and after the experts of a layer.

    They have a communicator of their own, so that computing waits for them and not for the gradients beside them.
    """
    places = [
        place for place, item in enumerate(program) if item.doing is Doing.KERNEL and item.type == "GroupedMatmul"
    ]
    if not places:
        raise InputError("the plan has no experts", remedy="plan a model that has, or choose another layout")
    transfer = round(0.003 * computing_ns(program) / (2 * len(places)))
    chosen = set(places)
    found: list[Item] = []
    for place, item in enumerate(program):
        for side in ("before", "after"):
            if side == "after":
                found.append(item)
            if place in chosen:
                name = f"hcom_alltoallv__3{place:04}_{side == 'after':d}_1"
                found += [
                    collective(name, transfer, group=everybody),
                    Item(Doing.AWAIT, "await", "", 0, group=everybody),
                ]
    return tuple(found)


def _stage(program: RankProgram, rank: int, ranks: int, batches: int) -> RankProgram:
    """
    What one stage of a pipeline does: half of the layers, one micro-batch forward and one backward in turns.

    The schedule is Megatron's 1F1B: https://github.com/NVIDIA/Megatron-LM megatron/core/pipeline_parallel/schedules.py.
    """
    each = ranks // _STAGES
    stage, place = divmod(rank, each)
    line = tuple(number * each + place for number in range(_STAGES))
    forward, backward, update = (tuple(item for item in part if item.doing is Doing.KERNEL) for part in phases(program))
    sent_ns = min(_SENT_NS, round(_SENT * computing_ns((*forward, *backward)) / _STAGES))
    halves = (halved(forward), halved(backward)[::-1], halved(update))
    ahead, back, rest = (half[stage] for half in halves)
    warm = min(_STAGES - 1 - stage, batches)
    first, last = stage == 0, stage == _STAGES - 1
    number = 0

    def exchange(waits: bool) -> list[Item]:
        nonlocal number
        number += 1
        sent = Item(
            Doing.EXCHANGE,
            f"hcom_batchSendRecv__{number:04}_1_1",
            "hcom_batchSendRecv_",
            sent_ns,
            packet=360_000,
            group=line,
        )
        return [sent, Item(Doing.AWAIT, "await", "", 0, group=line)] if waits else [sent]

    def batch(part: RankProgram, which: int) -> list[Item]:
        return [replace(item, name=item.name.replace("micro_batch.0.", f"micro_batch.{which}.")) for item in part]

    found: list[Item] = []
    for which in range(warm):
        found += [] if first else exchange(True)
        found += batch(ahead, which)
        found += [] if last else exchange(False)
    found += [] if first or batches == warm else exchange(True)
    for which in range(warm, batches):
        found += batch(ahead, which)
        found += [] if last else exchange(True)
        found += batch(back, which - warm)
        found += [] if first else exchange(which + 1 < batches)
    for which in range(batches - warm, batches):
        found += [] if last else exchange(True)
        found += batch(back, which)
        found += [] if first else exchange(False)
    total = computing_ns(tuple(found))
    data = tuple(stage * each + one for one in range(each))
    reduce = collective(f"hcom_reduceScatter__4{stage}_1_1", round(0.004 * total), group=data)
    return (*found, reduce, Item(Doing.AWAIT, "await", "", 0), *rest)


def halved(part: RankProgram) -> tuple[RankProgram, RankProgram]:
    """`part` in two halves of about the same computing time, and the same kernels a layer."""
    total, done = computing_ns(part), 0
    for place, item in enumerate(part):
        done += item.duration_ns
        if 2 * done >= total:
            return part[: place + 1], part[place + 1 :]
    return part, ()
