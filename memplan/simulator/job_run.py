"""When every rank of a simulated job does what: hosts that run ahead, streams that wait, collectives that meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from memplan.simulator.faults import FaultyJob
from memplan.simulator.job_program import Doing, Item
from memplan.simulator.noise import Chance

_LAUNCH_NS = 400
_SPREAD = 0.03


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
    link: int = 0
    pending: int = 0
    steps: list[tuple[int, int]] = field(default_factory=list)


def run_job(job: FaultyJob, steps: int, chance: Chance) -> list[RankRun]:
    """
    Run `steps` steps of all ranks.

    Programs of all ranks meet in the same order of collectives; what lies between two of them runs rank by rank.
    Kernels scatter by a few percent; a clock that drops does so after a third of the steps' computing.
    """
    runs = [RankRun() for _ in job.programs]
    settings = job.settings
    for step in range(steps):
        slowed = 1 / settings.clock if settings.clock < 1 and step >= max(steps // 3, 1) else 1.0
        places = [0] * len(runs)
        begins = [max(run.host, run.stream) for run in runs]
        while True:
            for rank, run in enumerate(runs):
                places[rank] = _until_meeting(
                    job.programs[rank], places[rank], run, step, settings.call_ns, slowed, chance
                )
            meeting = [rank for rank, place in enumerate(places) if place < len(job.programs[rank])]
            if not meeting:
                break
            _meet(job, [(rank, runs[rank], job.programs[rank][places[rank]]) for rank in meeting], step)
            for rank in meeting:
                places[rank] += 1
        for run, begin in zip(runs, begins, strict=True):
            run.steps.append((begin, run.stream))
            run.host = max(run.host, run.stream) + settings.gap_ns
            run.stream = max(run.stream, run.host)
    return runs


def _until_meeting(
    program: Sequence[Item], place: int, run: RankRun, step: int, call_ns: int, slowed: float, chance: Chance
) -> int:
    noise = chance.spread(len(program) - place + 1)
    for index in range(place, len(program)):
        item = program[index]
        if item.doing in (Doing.COLLECTIVE, Doing.EXCHANGE):
            return index
        if item.doing is Doing.KERNEL:
            launch = run.host
            run.host += call_ns
            length = round(item.duration_ns * (1 + _SPREAD * float(noise[index - place])) * slowed)
            start = max(run.stream + 200, launch + _LAUNCH_NS) + item.late_ns
            if item.late_ns:
                launch = min(launch, run.stream)
            run.stream = start + length
            run.ran.append(Ran(item, step, start, run.stream, launch))
        elif item.doing is Doing.COPY:
            run.ran.append(Ran(item, step, run.stream, run.stream + item.duration_ns, run.host))
            run.stream += item.duration_ns
        elif item.doing is Doing.HOST:
            run.ran.append(Ran(item, step, run.host, run.host + item.duration_ns, -1))
            run.host += item.duration_ns
        elif item.doing is Doing.SYNCHRONISE:
            end = max(run.host, run.stream)
            if item.type != "quiet":
                run.ran.append(Ran(item, step, run.host, end, -1))
            run.host = end + item.duration_ns
        else:
            run.stream = max(run.stream, run.pending)
    return len(program)


def _meet(job: FaultyJob, who: Sequence[tuple[int, RankRun, Item]], step: int) -> None:
    """All ranks enter; bytes move when the last is there. A slow link slows a ring for everybody."""
    starts = []
    for _, run, _ in who:
        starts.append(max(run.stream, run.link, run.host + _LAUNCH_NS))
    ready = max(starts)
    for (_, run, item), start in zip(who, starts, strict=True):
        slow = job.settings.slow_link if item.doing is Doing.COLLECTIVE else 1.0
        transfer = round(item.duration_ns * slow)
        end = ready + transfer
        run.ran.append(Ran(item, step, start, end, run.host, transfer))
        run.host += job.settings.call_ns
        run.link = run.pending = end
