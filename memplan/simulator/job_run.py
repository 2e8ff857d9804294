"""When every rank of a simulated job does what: hosts that run ahead, streams that wait, collectives that meet."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.errors import InputError
from memplan.simulator.job_program import Doing, Item, RankProgram
from memplan.simulator.job_settings import FaultyJob, JobConditions, JobSettings
from memplan.simulator.noise import Chance

_LAUNCH_NS = 400


@dataclass(frozen=True, slots=True)
class Ran:
    """An item of step `step` as it ran, ns from the job's start; `launch_ns` is the host's launch, -1 of host work."""

    item: Item
    step: int
    start_ns: int
    end_ns: int
    launch_ns: int
    transfer_ns: int = 0


@dataclass(slots=True)
class RankRun:
    """What one rank did, in order of its program, and its clocks."""

    ran: list[Ran] = field(default_factory=list)
    host: int = 0
    stream: int = 0
    links: dict[tuple[int, ...], int] = field(default_factory=dict)
    copies: int = 0
    steps: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Pace:
    """How long a rank takes in a step beside what is planned: a factor for each item, and for each launch."""

    kernels: Floats
    launches: Floats
    slowed: float


def run_job(job: FaultyJob, steps: int, seed: int) -> list[RankRun]:
    """
    Run `steps` steps of all ranks; what is planned scatters by `seed` alike, whatever a fault adds to it.

    Ranks of a group meet in the same order of collectives; what lies between two of them runs rank by rank. Raises
    `InputError` for programs whose ranks wait for each other for ever.
    """
    runs = [RankRun() for _ in job.programs]
    settings = job.settings
    unplanned = unplanned_times(job.programs, settings.conditions)
    orders = {id(program): _order_of_draws(program) for program in job.programs}
    for step in range(steps):
        places = [0] * len(runs)
        paces = [
            _pace(settings, orders[id(program)], rank, step, steps, seed) for rank, program in enumerate(job.programs)
        ]
        begins = [max(run.host, run.stream) for run in runs]
        moving: Sequence[int] = range(len(runs))
        arrived: dict[int, Item] = {}
        while True:
            for rank in moving:
                program = job.programs[rank]
                places[rank] = _until_meeting(
                    program, places[rank], runs[rank], step, settings.call_ns, paces[rank], unplanned
                )
                if places[rank] < len(program):
                    arrived[rank] = program[places[rank]]
            if not arrived:
                break
            moving = _met(settings, runs, arrived, step)
            for rank in moving:
                del arrived[rank]
                places[rank] += 1
        for run, begin in zip(runs, begins, strict=True):
            run.steps.append((begin, run.stream))
            run.host = max(run.host, run.stream) + settings.gap_after(step)
            run.stream = max(run.stream, run.host)
    return runs


def shifted(run: RankRun, ahead_ns: int, drift: float) -> RankRun:
    """`run` by a clock that is `ahead_ns` ahead and gains `drift` of the time that passes."""
    if not ahead_ns and not drift:
        return run

    def by(time: int) -> int:
        return time if time < 0 else time + ahead_ns + int(time * drift)

    ran = [
        replace(one, start_ns=by(one.start_ns), end_ns=by(one.end_ns), launch_ns=by(one.launch_ns)) for one in run.ran
    ]
    return RankRun(ran=ran, steps=[(by(begin), by(end)) for begin, end in run.steps])


def unplanned_times(programs: Sequence[RankProgram], conditions: JobConditions) -> Mapping[str, float]:
    """How many times the planned time kernels of each type take."""
    if not conditions.unplanned:
        return {}
    types = {item.type for program in programs for item in program if item.op is not None}
    # A share between -1 and 1 that depends on the name and the job alone.
    share = {name: (zlib.crc32(f"{conditions.seed} {name}".encode()) % 2001 - 1000) / 1000 for name in types}
    return {name: 1 + conditions.unplanned * value for name, value in share.items()}


def _order_of_draws(program: RankProgram) -> Sequence[Int64s]:
    """
    Places of a program that draw their chance together: those of its planned ops that run for the first time, for the
    second time and so on, then all others. Whatever a fault puts in, planned ops draw what they draw without it.
    """
    times: dict[int, int] = {}
    found: list[list[int]] = []
    others: list[int] = []
    for place, item in enumerate(program):
        if item.op is None:
            others.append(place)
            continue
        time = times.get(item.op.index, 0)
        times[item.op.index] = time + 1
        if time == len(found):
            found.append([])
        found[time].append(place)
    return [np.array(places, dtype=np.int64) for places in (*found, others)]


def _drawn(order: Sequence[Int64s], draw: Callable[[int], Floats]) -> Floats:
    found = np.empty(sum(map(len, order)))
    for places in order:
        found[places] = draw(len(places))
    return found


def _pace(settings: JobSettings, order: Sequence[Int64s], rank: int, step: int, steps: int, seed: int) -> _Pace:
    conditions = settings.conditions
    kernels = 1 + conditions.spread * _drawn(order, Chance(seed, rank, step, 0).spread)
    launches = np.ones_like(kernels)
    if conditions.launch_spread:
        launches = 1 + conditions.launch_spread * _drawn(order, Chance(seed, rank, step, 1).spread)
    if conditions.tail:
        rare = _drawn(order, Chance(seed, rank, step, 2).uniform) < conditions.tail
        kernels = kernels * (1 + rare * _drawn(order, Chance(seed, rank, step, 3).uniform))
    speed = conditions.speeds[rank] if conditions.speeds else 1.0
    slowed = 1 / settings.clock_at(rank, step, steps)
    return _Pace(kernels * speed, launches, slowed)


def _until_meeting(
    program: Sequence[Item],
    place: int,
    run: RankRun,
    step: int,
    call_ns: int,
    pace: _Pace,
    unplanned: Mapping[str, float],
) -> int:
    for index in range(place, len(program)):
        item = program[index]
        if item.only is not None and step not in item.only:
            continue
        if item.doing in (Doing.COLLECTIVE, Doing.EXCHANGE):
            return index
        if item.doing is Doing.KERNEL:
            launch = run.host
            run.host += round(call_ns * float(pace.launches[index]))
            length = item.duration_ns * float(pace.kernels[index])
            # Memory and links have clocks of their own.
            length *= 1.0 if item.op is not None and item.op.bound in ("hbm", "link") else pace.slowed
            length *= unplanned.get(item.type, 1.0) if item.op is not None else 1.0
            start = max(run.stream + 200, launch + _LAUNCH_NS) + item.late_ns
            if item.late_ns:
                launch = min(launch, run.stream)
            run.stream = start + round(length)
            run.ran.append(Ran(item, step, start, run.stream, launch))
        elif item.doing is Doing.COPY:
            begin = max(run.copies, run.host) if item.beside else run.stream
            end = begin + item.duration_ns
            run.ran.append(Ran(item, step, begin, end, run.host))
            if item.beside:
                run.copies = end
            else:
                run.stream = end
        elif item.doing is Doing.HOST:
            if item.type != "quiet":
                run.ran.append(Ran(item, step, run.host, run.host + item.duration_ns, -1))
            run.host += item.duration_ns
        elif item.doing is Doing.SYNCHRONISE:
            end = max(run.host, run.stream)
            if item.type != "quiet":
                run.ran.append(Ran(item, step, run.host, end, -1))
            run.host = end + item.duration_ns
        elif item.type == "copy":
            run.stream = max(run.stream, run.copies)
        elif item.group:
            run.stream = max(run.stream, run.links.get(item.group, 0))
        else:
            run.stream = max(run.stream, *run.links.values(), 0)
    return len(program)


def _met(settings: JobSettings, runs: Sequence[RankRun], arrived: Mapping[int, Item], step: int) -> list[int]:
    """The ranks whose whole group has arrived, after they have met."""
    found: list[int] = []
    everybody = tuple(range(len(runs)))
    for rank in sorted(arrived):
        item = arrived[rank]
        group = item.group or everybody
        if rank != group[0] or any(other not in arrived or arrived[other].name != item.name for other in group):
            continue
        slow = settings.slow_link if 1 in group and item.doing is Doing.COLLECTIVE else 1.0
        slow = slow if item.packet >= settings.slow_from else 1.0
        _meet([(runs[other], arrived[other]) for other in group], step, settings.call_ns, slow)
        found.extend(group)
    if not found:
        raise InputError("ranks of the job wait for each other for ever", remedy="give another number of ranks")
    return found


def _meet(who: Sequence[tuple[RankRun, Item]], step: int, call_ns: int, slow: float) -> None:
    """All ranks enter; bytes move when the last is there. A slow link slows a ring for everybody."""
    starts = [max(run.stream, run.links.get(item.group, 0), run.host + _LAUNCH_NS) for run, item in who]
    ready = max(starts)
    for (run, item), start in zip(who, starts, strict=True):
        transfer = round(item.duration_ns * slow)
        end = ready + transfer
        run.ran.append(Ran(item, step, start, end, run.host, transfer))
        run.host += call_ns
        run.links[item.group] = end
